"""Find a model by its name: a run directory or its alias, a bundle, a Hub repository. Importing this module is fast."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from textattn.errors import Hint, InputError, Option, shell_command
from textattn.storage.aliases import find_alias, read_aliases
from textattn.storage.hub import PREFIX, looks_like_a_path
from textattn.storage.run_dir import CONFIG, METRICS, ONNX, ONNX_INT8, OWN_FILES, RUNS, STUDY, WEIGHTS

MODEL = Option("model")
# runs/<name>/<time>/seed-<seed>
DEPTH_OF_RUNS = 3
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def is_model(path: Path) -> bool:
    """Whether a directory contains a model that can be loaded, even if its run is not finished."""
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in (WEIGHTS, ONNX, ONNX_INT8))


def finished_runs(root: Path = RUNS) -> list[Path]:
    """The finished runs under a folder; the one that finished last is the first."""
    found = [run for run in _runs(root, DEPTH_OF_RUNS) if is_model(run)]
    if root == RUNS:
        # The trials of a search are trained to be compared, not to be used.
        found = [run for run in found if not (run.parent.parent / STUDY).is_file()]
    return sorted(found, key=lambda run: (run / METRICS).stat().st_mtime_ns, reverse=True)


def newest_run(root: Path = RUNS) -> Path | None:
    """The run under `root` that finished last, or None if there is none."""
    return next(iter(finished_runs(root)), None)


def _runs(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return
    for name in folders:
        if (folder / name / METRICS).is_file():
            yield folder / name
        if depth > 1:
            yield from _runs(folder / name, depth - 1)


def given_name(name: str | None) -> str | None:
    """The model that a user named: by the argument, or else by $TEXTATTN_MODEL."""
    return name or os.environ.get("TEXTATTN_MODEL") or None


def find_model(name: str | None) -> Path:
    """Find the run directory or bundle of a model.

    Args:
        name: a run directory, the alias of a run, a bundle, or a Hub repository (`hf://user/name`,
            `user/name@revision`); the default is $TEXTATTN_MODEL or else the newest finished run under runs/. A name is
            asked of the Hub only in these two forms, and in the second only if it cannot be a path.

    Raises:
        InputError: there is no such model.
    """
    name = given_name(name)
    if name is None:
        newest = newest_run()
        if newest is None:
            raise InputError("no model is given, and there is no finished run under runs/", "textattn train quickstart")
        return newest
    if "\0" in name:
        raise InputError("a path must not contain the character NUL (\\0)", setting=MODEL)
    if name.startswith(PREFIX):
        return from_hub(name.removeprefix(PREFIX))
    path = Path(os.path.expanduser(name))  # noqa: PTH111 (Path.expanduser fails for unknown users)
    run = find_alias(name)
    if run is not None:
        return _of_alias(name, run)
    if is_model(path):
        return path
    if path.is_file():
        if not _is_bundle(path):
            raise InputError(
                f"{path} is a file, but not a textattn bundle", Option("model", str(path.parent)), setting=MODEL
            )
        return path
    if path.is_dir():
        raise _no_model(path)
    if path.exists():
        raise InputError(f"{path} is neither a folder nor a file", _instead(), setting=MODEL)
    repo_id, at, _ = name.partition("@")
    if looks_like_a_path(repo_id) or not REPOSITORY.fullmatch(repo_id):
        raise InputError(f"no such folder: {name}", _meant(name) or _instead(), setting=MODEL)
    if not at:
        there = Option("model", PREFIX + name)
        newest = newest_run()
        here: list[str | Option] = (
            [] if newest is None else [", ", Option("model", str(newest)), " is the newest run here"]
        )
        raise InputError(
            f"no such folder: {name}; a model on the Hub is named {PREFIX}{name}",
            [there, " asks the Hub", *here],
            setting=MODEL,
        )
    return from_hub(name)


def _of_alias(name: str, run: Path) -> Path:
    if not is_model(run):
        hint = shell_command("textattn runs name --remove {}", name)
        raise InputError(f"{name} is an alias of {run}, which contains no model any more", hint, setting=MODEL)
    return run


def _no_model(path: Path) -> InputError:
    newest = newest_run(path)
    if newest is not None:
        return InputError(f"{path} is not a run, but a folder of runs", Option("model", str(newest)), setting=MODEL)
    missing = [file for file in (CONFIG, WEIGHTS) if not (path / file).is_file()]
    return InputError(f"this folder contains no model ({' and '.join(missing)} missing)", place=str(path))


def _instead() -> Hint:
    """A hint that names the newest model, or how to train one if there is none."""
    newest = newest_run()
    return "textattn train quickstart" if newest is None else Option("model", str(newest))


def _meant(name: str) -> Option | None:
    """The alias that is nearly this name."""
    from difflib import get_close_matches

    near = get_close_matches(name, read_aliases(), n=1)
    return Option("model", near[0]) if near else None


def _is_bundle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def from_hub(name: str, more_files: tuple[str, ...] = ()) -> Path:
    """Read a model from the Hub into the cache of its client.

    Args:
        name: `user/name` or `user/name@revision`.
        more_files: patterns of files to read besides those of a run and bundles.

    Returns:
        The folder in the cache, or the bundle in it.

    Raises:
        InputError: the repository cannot be read, or is not a model of textattn.
    """
    repo_id, _, revision = name.partition("@")
    if not REPOSITORY.fullmatch(repo_id):
        raise InputError(
            f"a model on the Hub is named {PREFIX}user/name or {PREFIX}user/name@revision, got {PREFIX}{name}",
            setting=MODEL,
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    from textattn.storage.hub import first_line, offline_variable, tell

    try:
        wanted = [*OWN_FILES, "*.zip", *more_files]
        path = Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        variable = offline_variable()
        why, hint = first_line(error), _instead()
        if variable:
            why = f"{variable} is set"
        elif isinstance(error, RepositoryNotFoundError):
            why, hint = "there is no such repository, or it is private and you are not logged in", "hf auth login"
        elif isinstance(error, RevisionNotFoundError):
            why = f"it has no revision {revision}"
        raise InputError(f"{name} could not be read from the Hub: {why}", hint, setting=MODEL) from None
    bundles = list(path.glob("*.zip"))
    if not is_model(path) and len(bundles) != 1:
        raise InputError(f"{name} on the Hub is not a textattn model", setting=MODEL)
    tell("model", "model", repo_id, path.name)
    return path if is_model(path) else bundles[0]
