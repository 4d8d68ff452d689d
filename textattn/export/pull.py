"""Copy a model from the Hugging Face Hub to a new directory, after it has been checked as every loaded model is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from textattn.errors import ConfigError, InputError, Option, shell_command
from textattn.export.push import plots_of
from textattn.inference.classifier import Classifier
from textattn.storage import run_folder
from textattn.storage.find_model import from_hub
from textattn.storage.hub import PREFIX
from textattn.storage.model_files import ModelFiles
from textattn.storage.run_dir import (
    MODEL_FILES,
    OWN_FILES,
    PLOTS,
    TAG,
    TAG_CONTENT,
    TRACKING,
    RunDir,
    names_in,
)

# Identifiers in the experiment trackers of somebody else are of no use here.
COPIED = tuple(name for name in OWN_FILES if name != TRACKING)
OVERWRITE = Option("overwrite", flag=True)


@dataclass(frozen=True)
class Pulled:
    """A model that has been copied."""

    path: Path
    commit: str | None
    """The commit on the Hub; None if the client does not say."""
    names: list[str]
    """Its files."""
    size: int
    """Bytes."""


def pull(name: str, folder: Path, *, overwrite: bool = False) -> Pulled:
    """Copy the model `user/name` or `user/name@revision` to a folder, which appears when it is complete.

    Args:
        folder: the directory; it must be missing or empty.
        overwrite: replace the run or model of textattn that is in it.

    Raises:
        ConfigError: the folder contains something, or cannot be written to.
        InputError: the model cannot be read, is damaged, or is none of textattn.
    """
    check_folder(folder, overwrite)
    repository = name.removeprefix(PREFIX)
    try:
        source = from_hub(repository, more_files=(f"{PLOTS}/*.png",))
    except InputError as error:  # without the option of other commands
        hint = "hf auth login" if error.hint == "hf auth login" else None
        raise InputError(error.problems[0].problem, hint) from None
    try:
        # Everything that a loaded model must fulfil: its files are there, fit together and are not damaged.
        Classifier.load(source)
    except InputError as error:
        # Nobody knows the model by its place in the cache.
        raise InputError(error.message.replace(str(source), PREFIX + repository)) from None
    files = ModelFiles(source)
    try:
        with _new_folder(folder, overwrite) as new:
            names = [item for item in COPIED if files.has(item)] + plots_of(files)
            for item in names:
                _copy(files, item, new / item)
            (new / TAG).write_text(TAG_CONTENT, encoding="utf-8")
            size = sum((new / item).stat().st_size for item in names)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}", _elsewhere(name)) from None
    commit = source.name if source.is_dir() else source.parent.name
    return Pulled(folder, commit if len(commit) == 40 else None, names, size)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check that a model may be copied to a folder; changes nothing.

    Raises:
        ConfigError: it may not.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not names_in(folder)):
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file; nothing was changed", _elsewhere(None))
    if not RunDir(folder).is_ours():
        what = "files that are not a model of textattn"
        raise ConfigError(f"{folder} contains {what}; nothing was changed", _elsewhere(None))
    if not overwrite:
        raise ConfigError(
            f"{folder} already contains a model; nothing was changed",
            (OVERWRITE, " replaces it, or name another folder"),
        )


def _elsewhere(name: str | None) -> str:
    return shell_command("textattn pull {} some/other/folder", name or "user/name")


def _copy(files: ModelFiles, name: str, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if name in MODEL_FILES:
        with files.view(name) as content:
            target.write_bytes(content)
    else:
        target.write_bytes(files.read(name))


@contextlib.contextmanager
def _new_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Provide a folder to fill. Its content becomes that of `folder` if the block succeeds, and is removed if not."""
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=parent))
    try:
        yield new
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)
        if not names_in(folder):
            if folder.is_dir():
                folder.rmdir()
            new.rename(folder)
        else:
            _replace(RunDir(folder), new)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _replace(run: RunDir, new: Path) -> None:
    """Put the files of `new` in the place of those of a run."""
    with run_folder.own(run, "replaced"):
        run_folder.begin(run, overwrite=True)
        (run.path / PLOTS).mkdir(exist_ok=True)
        # The config comes last: without it, the folder contains no model.
        for path in sorted(new.rglob("*"), key=lambda path: path.name == "config.json"):
            if path.is_file():
                path.replace(run.path / path.relative_to(new))
