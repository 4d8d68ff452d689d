"""Locks on folders: whatever is written to has one owner, and others are told who that is.

The lock belongs to the process and is released by the system when the process ends, however it ends. A file beside it
says who the owner is; it may outlive a killed owner, so on its own it locks nothing. Both files are removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from textattn.errors import ConfigError, Hint, Part

if TYPE_CHECKING:
    from filelock import BaseFileLock as FileLock

LOCK = "owner.lock"
OWNER = "owner.json"
NAMES = (LOCK, OWNER)
# An owner that is just leaving is waited for.
SECONDS = 1.0


@dataclass(frozen=True)
class Owner:
    """The process that writes to a folder."""

    doing: str
    """What it does with the folder, as in "is being trained"."""
    process: int
    host: str
    since: str
    """The time at which it started, in ISO 8601 with the time zone."""

    def __str__(self) -> str:
        began = datetime.fromisoformat(self.since).astimezone()
        is_today = began.date() == datetime.now().astimezone().date()
        when = began.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")
        return f"process {self.process} on {self.host} since {when}"

    def is_on_this_host(self) -> bool:
        """Whether the process runs, or ran, on this machine."""
        return self.host == _host()


@contextlib.contextmanager
def owned(folder: Path, doing: str, hint: Hint, *, setting: Part | None = None) -> Iterator[Owner | None]:
    """Own a folder during the block. It is made if it is missing, and removed again if it is still empty at the end.

    Args:
        folder: the folder; the two files of the lock are made in it.
        doing: what is done with the folder, for those who want it too: "trained", "exported".
        hint: what they can do instead.
        setting: the setting or the option that names the folder.

    Yields:
        The owner before, if it was killed and therefore is still named in the folder.

    Raises:
        ConfigError: another process owns the folder.
        OSError: the folder cannot be written to.
    """
    lock, made = _acquire(folder)
    try:
        if lock is None:
            owner = read_owner(folder)
            who = f"being {owner.doing} by {owner}" if owner else "in use by another process"
            raise ConfigError(f"{folder} is {who}; nothing was changed", hint, setting=setting)
        try:
            before = read_owner(folder)
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            (folder / OWNER).write_text(json.dumps(asdict(Owner(doing, os.getpid(), _host(), now))), encoding="utf-8")
            yield before
        finally:
            _release(folder, lock)
    finally:
        remove_empty(made)


def _acquire(folder: Path) -> tuple[FileLock | None, list[Path]]:
    """The lock of a folder, None if another process has it; and the folders that were made for it."""
    import filelock

    until = time.monotonic() + SECONDS
    while True:
        try:
            made = make_folders(folder)
            lock = filelock.FileLock(folder / LOCK)
            lock.acquire(timeout=max(0.0, until - time.monotonic()), poll_interval=0.05)
            return lock, made
        except filelock.Timeout:
            return None, made
        except FileNotFoundError:  # removed in the meantime by an owner that left it empty
            if time.monotonic() > until:
                raise


def read_owner(folder: Path) -> Owner | None:
    """The owner that is named in a folder, who may have been killed since; None if there is none."""
    try:
        value = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        owner = Owner(str(value["doing"]), int(value["process"]), str(value["host"]), str(value["since"]))
        datetime.fromisoformat(owner.since)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return owner


def holder(folder: Path) -> Owner | None:
    """The process that owns a folder now, None if nobody does. Nothing is changed.

    On a file system whose locks cannot be tried, whoever is named in the folder is believed.
    """
    lock, owner = folder / LOCK, read_owner(folder)
    if not lock.is_file():
        return None
    import filelock

    trial = filelock.FileLock(lock)
    try:
        trial.acquire(timeout=0)
    except filelock.Timeout:
        return owner or Owner("used", 0, "another host", datetime.now().astimezone().isoformat(timespec="seconds"))
    except OSError:
        return owner
    trial.release()
    return None


def _release(folder: Path, lock: FileLock) -> None:
    # Both files are removed while the lock is held. Who has opened the lock in the meantime finds that it has no name
    # any more, and opens it anew.
    for name in (OWNER, LOCK):
        with contextlib.suppress(OSError):  # Windows does not remove a file that is open
            (folder / name).unlink(missing_ok=True)
    lock.release()
    if os.name == "nt":
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those it lies in; returns those that were missing, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def make_new_folder(parent: Path, name: str) -> tuple[Path, list[Path]]:
    """Make a folder that did not exist: of this name, or with -2, -3 and so on after it if the name is taken.

    Returns:
        The folder, and all folders that were made, the innermost first.
    """
    made = make_folders(parent)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder, [folder, *made]
        except FileExistsError:
            number += 1
        except FileNotFoundError:  # removed in the meantime by a process that left it empty
            made = make_folders(parent)


def remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made and are still empty, the innermost first."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _host() -> str:
    import socket

    return socket.gethostname()
