"""Take a folder for a run: may it be taken, who owns it while it is written, how is an earlier run removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from textattn.errors import ConfigError
from textattn.storage import locks
from textattn.storage.files import write_text
from textattn.storage.run_dir import (
    BEGIN_AGAIN,
    METRICS,
    OVERWRITE,
    OWN_FILES,
    OWN_FOLDERS,
    RESUME,
    RUNS,
    TAG,
    TAG_CONTENT,
    TRAINING_CONFIG,
    WANDB,
    RunDir,
    is_leftover,
    names_in,
)

DIRECTORY = "output.dir"
ELSEWHERE = "output.dir=runs/my-run"
TRACKED_FOLDER = r"(offline-)?run-\d{8}_\d{6}-"


@contextlib.contextmanager
def own(run: RunDir, doing: str) -> Iterator[locks.Owner | None]:
    """Own the directory of a run during the block, which may write to it; see `locks.owned`.

    Args:
        run: the run; its directory may be missing.
        doing: what is done with the run, as in "is being trained".

    Raises:
        ConfigError: another process owns it, it may not hold a run (see `check_place`), or it cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        with writable(run):
            check_place(run)
            hint = ("wait until that process has ended, or use another directory: ", ELSEWHERE)
            before = stack.enter_context(locks.owned(run.path, doing, hint, setting=DIRECTORY))
        yield before


def new_directory(parent: Path, ownership: contextlib.ExitStack) -> Path:
    """Make a directory that is named after the time, and that no other process has or gets.

    Args:
        parent: the folder to make it in.
        ownership: when it ends, the directory is removed if it is still empty.

    Raises:
        ConfigError: `parent` cannot be written to.
    """
    with writable(RunDir(parent)):
        folder, made = locks.make_new_folder(parent, datetime.now().strftime("%Y-%m-%dT%H-%M-%S"))
    ownership.callback(locks.remove_empty, made)
    return folder


def in_order(parent: Path) -> list[Path]:
    """The directories that `new_directory` has made, in the order in which they were made, and any others."""

    def key(path: Path) -> tuple[str, int]:
        time, number = re.fullmatch(r"(.*?T[\d-]{8})-(\d+)|(.*)", path.name, re.DOTALL).group(1, 2)  # type: ignore[union-attr]
        return time or path.name, int(number or 1)

    return sorted(parent.glob("*"), key=key)


def check_place(run: RunDir) -> None:
    """Check that a directory is one that runs may write to, whatever state its own run is in; changes nothing.

    Raises:
        ConfigError: the path is a file, the directory is not ours and contains other files, or one of the files or
            folders of the run is a symbolic link.
        OSError: the path leads nowhere.
    """
    path = run.path
    with contextlib.suppress(FileNotFoundError):
        path.stat()  # says what is wrong with a link to itself; mkdir would say that it exists
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file", ELSEWHERE, setting=DIRECTORY)
    if not _is_empty(path) and not run.is_ours():
        # Even with `overwrite`: a folder of another kind may contain its own README.md or config.json.
        what = (
            f"{path} contains a {TRAINING_CONFIG}, but it is not the directory of a run"
            if run.training_config.is_file()
            else f"{path} already contains files that are not a run"
        )
        raise ConfigError(f"{what}; nothing was changed", ELSEWHERE, setting=DIRECTORY)
    check_links(run)


def check_links(run: RunDir) -> None:
    """Check that the files of a run are in its directory, because a run writes nowhere else.

    Raises:
        ConfigError: one of them, or one of its folders, is a symbolic link.
    """
    if links := run.links():
        raise ConfigError(
            f"{links[0]} is a symbolic link, and a run writes only to files of its own; nothing was changed",
            ELSEWHERE,
            setting=DIRECTORY,
        )


def check(run: RunDir, overwrite: bool) -> None:
    """Check whether a new run may write to a directory; changes nothing.

    Raises:
        ConfigError: as for `check_place`, the directory contains a run and `overwrite` is not set, or it cannot be
            accessed.
    """
    with writable(run):
        check_place(run)
        if overwrite or _is_empty(run.path):
            return
        if not run.training_config.is_file():
            # The rest is not ours if a process was killed before it wrote the first file of a run.
            if any((run.path / name).exists() for name in OWN_FILES) or any(map(run.files_in, OWN_FOLDERS)):
                raise ConfigError(
                    f"{run} already contains parts of a run; nothing was changed", BEGIN_AGAIN, setting=DIRECTORY
                )
        elif run.is_finished():
            raise ConfigError(
                f"{run} already contains a finished run; nothing was changed",
                (OVERWRITE, ", or another output.dir=…"),
                setting=DIRECTORY,
            )
        else:
            raise ConfigError(
                f"{run} already contains an unfinished run; nothing was changed",
                (RESUME, " continues it, ", OVERWRITE, " begins again"),
                setting=DIRECTORY,
            )


def begin(run: RunDir, overwrite: bool) -> None:
    """Create an empty run directory; the files of an earlier run are removed only with `overwrite`.

    Raises:
        ConfigError: as for `check`, or the directory cannot be written to.
    """
    import tempfile

    with writable(run):
        check(run, overwrite)
        run.path.mkdir(parents=True, exist_ok=True)
        _remove_files(run)
        with tempfile.TemporaryFile(dir=run.path):
            pass


def remove(run: RunDir) -> list[str]:
    """Remove a run and its directory; also the directory that textattn made for runs of this config, if it is empty.

    Returns:
        The names of files in the directory that are not of the run; they are left, and so is the directory.

    Raises:
        ConfigError: another process owns the run, or one of its files is a symbolic link.
        OSError: something cannot be removed.
    """
    hint = "wait until that process has ended"
    with locks.owned(run.path, "removed", hint):
        check_links(run)
        _remove_files(run)
        others = sorted(names_in(run.path) - {TAG, *locks.NAMES})
        # The mark goes last, so that a partly removed run remains ours.
        (run.path / TAG).unlink(missing_ok=True)
    path = run.path.absolute()
    locks.remove_empty([path, path.parent] if path.parent.parent.name == RUNS.name else [path])
    return others


def _remove_files(run: RunDir) -> None:
    # The mark is written before anything is removed, so that a partly removed run remains ours.
    write_text(run.path / TAG, TAG_CONTENT)
    # metrics.json is removed first, so that a partly removed run does not look finished. training_config.yaml, which
    # makes the directory a run, is removed last.
    (run.path / METRICS).unlink(missing_ok=True)
    _remove_tracked_folders(run)  # while tracking.json still names them
    for name in OWN_FILES:
        if name != TRAINING_CONFIG:
            (run.path / name).unlink(missing_ok=True)
    for name in OWN_FOLDERS:
        run.remove_folder(name)
    run.training_config.unlink(missing_ok=True)
    run.remove_leftovers()


@contextlib.contextmanager
def writable(run: RunDir) -> Iterator[None]:
    """Turn an error of the operating system about the directory into one that the user can act on."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{run} cannot be written: {error.strerror or error}", "output.dir=/some/other/folder", setting=DIRECTORY
        ) from None


def _is_empty(path: Path) -> bool:
    """Whether nothing is there but what a process may have left that was killed before the first file of a run."""
    return all(name in (TAG, *locks.NAMES) or is_leftover(name) for name in names_in(path))


def _remove_tracked_folders(run: RunDir) -> None:
    """Remove what Weights & Biases has written to wandb/ for this run, and the links to it."""
    import shutil

    folder, tracked = run.path / WANDB, run.tracking().get("wandb")
    if tracked is None or folder.is_symlink():
        return
    named = re.compile(TRACKED_FOLDER + re.escape(str(tracked)))
    names = names_in(folder)
    removed = {name for name in names if named.fullmatch(name) and not (folder / name).is_symlink()}
    for name in removed:
        shutil.rmtree(folder / name, ignore_errors=True)
    for link in [folder / name for name in names if (folder / name).is_symlink()]:
        if removed & set(link.readlink().parts):
            link.unlink(missing_ok=True)
