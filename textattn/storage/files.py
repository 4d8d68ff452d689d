"""Write files atomically and where they belong, and read JSON files with errors that name the file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from textattn.errors import ConfigError, InputError, Option
from textattn.storage.reading import parse_json, read_regular

TEMPORARY = ".tmp"
# Bytes of a JSON file of a run. The history in trainer_state.json grows with the number of evaluations.
LARGEST_RECORD = 2**28
# The open files of a process by their numbers. They are streams even where they lead to an ordinary file: that file is
# held open by whoever started us, and would not notice that another one has its name.
OPEN_FILES = re.compile(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Provide a temporary path to write to, which replaces `path` if the block succeeds and is removed if it fails.

    A link is followed: the file that it leads to is replaced. A stream (see `is_stream`) is not replaced; the content
    is copied to it when it is complete.
    """
    import shutil
    import tempfile

    stream, target = is_stream(path), target_of(path)
    if not stream:
        target.parent.mkdir(parents=True, exist_ok=True)
    # A stream may stand where no file can be made, or where none should be, such as /dev.
    folder = None if stream else target.parent
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.", suffix=TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if stream:
            with temporary.open("rb") as source, open_stream(path) as file:
                shutil.copyfileobj(source, file)
        else:
            replace_file(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(complete: Path, path: Path) -> None:
    """Give a complete file the name `path`, on the same disk.

    The permissions and, where we may, the owner of a file that is replaced are kept; a new file has those of an
    ordinary file. A link is followed.
    """
    target = target_of(path)
    with complete.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        before = target.stat()
    except FileNotFoundError:
        # Temporary files are private, but a model should have the permissions of an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        complete.chmod(0o666 & ~umask)
    else:
        mode = stat.S_IMODE(before.st_mode)
        if not _give(complete, before):
            # Our group is another one and gets only what everybody has.
            mode = mode & ~0o070 | (mode & 0o007) << 3
        complete.chmod(mode)
    complete.replace(target)


def _give(file: Path, owned: os.stat_result) -> bool:
    """Give a file the owner and group of another one; says whether at least the group is the same now."""
    now = file.stat()
    if (now.st_uid, now.st_gid) == (owned.st_uid, owned.st_gid) or not hasattr(os, "chown"):
        return True
    # Only root can give a file away, but its owner may choose among the groups that the owner is in.
    for user in (owned.st_uid, -1):
        with contextlib.suppress(OSError):
            os.chown(file, user, owned.st_gid)
            return True
    return False


def target_of(path: Path) -> Path:
    """The file that a path leads to when all links are followed; it need not exist."""
    return Path(os.path.realpath(path))


def is_stream(path: Path) -> bool:
    """Whether a path leads to what can be written to but not replaced: a pipe, a device, an open file of a process."""
    try:
        mode = path.stat().st_mode
    except OSError:  # writing to it will say what is wrong
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or OPEN_FILES.fullmatch(str(path)) is not None


def open_stream(path: Path) -> BinaryIO:
    """Open a stream to write to. It must exist, and what an open file already contains stays.

    Raises:
        OSError: it cannot be opened, or it is a disk.
    """
    if stat.S_ISBLK(path.stat().st_mode):
        raise PermissionError(errno.EPERM, "it is a disk", str(path))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)), "wb")


def check_new(path: Path, overwrite: bool, option: Option) -> None:
    """Check that no file is replaced unasked. A stream is written to and not replaced, so it may be there.

    Args:
        option: the option that names the file.

    Raises:
        ConfigError: the file exists and `overwrite` is not set.
    """
    if path.exists() and not overwrite and not is_stream(path):
        raise ConfigError(f"{path} exists; nothing was changed", Option("overwrite", flag=True), setting=option)


@contextlib.contextmanager
def writing(path: Path, remedy: Option) -> Iterator[None]:
    """Raises ConfigError where a file that the user named cannot be written; `remedy` is the option with another."""
    try:
        yield
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror or error}"
        raise ConfigError(problem, remedy, setting=Option(remedy.name)) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a text file atomically in UTF-8, without changing line endings."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: the value contains NaN or infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or damaged, or contains a number that is not finite.
    """
    try:
        return parse_json(read_regular(path, LARGEST_RECORD))
    except FileNotFoundError:
        raise InputError("no such file", place=str(path)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"damaged ({error})", place=str(path)) from None
