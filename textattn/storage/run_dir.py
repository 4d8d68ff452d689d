"""The run directory: the only module that knows file names. Plain files, written atomically. Light to import:
what only writing needs is imported there.

config.json  model.safetensors  tokenizer.json  tokenizer_config.json    the model
model.onnx  model.int8.onnx                                                what predict loads
training_config.yaml  environment.json  log.jsonl  trainer_state.json      how it came about
checkpoints/                                                               while it trains, to go on from
metrics.json                                                               written last: the run is finished
predictions/<split>.parquet  attention/<split>.parquet  README.md          what it says
plots/                                                                     the same as pictures
tracking.json  tensorboard/  wandb/                                        for those who look elsewhere
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textattn.errors import ConfigError, InputError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
ONNX_INT8 = "model.int8.onnx"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TRAINING_CONFIG = "training_config.yaml"
ENVIRONMENT = "environment.json"
LOG = "log.jsonl"
TRAINER_STATE = "trainer_state.json"
CROSS_VALIDATION = "cross_validation.json"
METRICS = "metrics.json"
SEEDS = "seeds.json"
STUDY = "study.db"
MODEL_CARD = "README.md"
PREDICTIONS = "predictions"
ATTENTION = "attention"
CHECKPOINTS = "checkpoints"
PLOTS = "plots"
TRACKING = "tracking.json"
TENSORBOARD = "tensorboard"
WANDB = "wandb"
OWN_FILES = (
    CONFIG, WEIGHTS, ONNX, ONNX_INT8, TOKENIZER, TOKENIZER_CONFIG, TRAINING_CONFIG, ENVIRONMENT, LOG, TRAINER_STATE,
    METRICS, MODEL_CARD, TRACKING, CROSS_VALIDATION,
)  # fmt: skip
OWN_FOLDERS = (PREDICTIONS, ATTENTION, CHECKPOINTS, PLOTS, TENSORBOARD, WANDB)

RUNS = Path("runs")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` when the block ends well, and leaves nothing behind when it does not."""
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; a model is as readable as any other file of its owner.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Atomically, UTF-8, line ends as given."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Atomically; NaN is an error, because it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_log(run: Path, entries: list[dict[str, Any]]) -> None:
    """log.jsonl, one evaluation a line."""
    write_text(run / LOG, "".join(json.dumps(entry) + "\n" for entry in entries))


def remove_leftovers(run: Path) -> None:
    """Files that a killed process was writing; only of names that are a run's."""
    for folder in (run, *(run / name for name in OWN_FOLDERS)):
        for path in folder.glob(".*.tmp"):
            if folder != run or _is_leftover(path):
                path.unlink(missing_ok=True)


def _is_leftover(path: Path) -> bool:
    """Whether a killed process may have been writing that file of a run."""
    return path.suffix == ".tmp" and path.name.startswith(tuple(f".{name}." for name in OWN_FILES))


def read_json(path: Path) -> Any:
    """The value in a file.

    Raises:
        InputError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error})") from None


def check_dir(path: Path, overwrite: bool) -> None:
    """Refuses a directory a run must not write to; changes nothing.

    Raises:
        ConfigError: it is a file, holds a run and `overwrite` is not given, or holds something else; or the system does
            not let us look.
    """
    with _writable(path):
        _check_dir(path, overwrite)


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """What the system has against `path` is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"output.dir: {path} cannot be written: {error.strerror or error}", "output.dir=/some/other/folder"
        ) from None


def _check_dir(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"output.dir: {path} is a file", "output.dir=runs/my-run")
    # The first file of a run may be half written, and the process killed then.
    if not path.is_dir() or all(map(_is_leftover, path.iterdir())):
        return
    if not is_run(path):
        # A folder of something else may hold a README.md or config.json of its own.
        raise ConfigError(
            f"output.dir: {path} already holds files that are no run; nothing was changed", "output.dir=runs/my-run"
        )
    if not overwrite:
        if is_finished(path):
            raise ConfigError(
                f"output.dir: {path} already holds a finished run; nothing was changed",
                "--overwrite, or another output.dir=…",
            )
        raise ConfigError(
            f"output.dir: {path} already holds an unfinished run; nothing was changed",
            "--resume goes on with it, --overwrite begins again",
        )


def prepare_dir(path: Path, overwrite: bool) -> None:
    """Makes `path` an empty run directory; what a run left there before is removed only with `overwrite`.

    Raises:
        ConfigError: as `check_dir`, or the directory cannot be written.
    """
    import shutil
    import tempfile

    with _writable(path):
        check_dir(path, overwrite)
        # metrics.json goes first: a run half removed must not look finished. What marks it as a run goes last.
        for name in (METRICS, *(name for name in OWN_FILES if name != TRAINING_CONFIG)):
            (path / name).unlink(missing_ok=True)
        for folder in OWN_FOLDERS:
            shutil.rmtree(path / folder, ignore_errors=True)
        (path / TRAINING_CONFIG).unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with tempfile.TemporaryFile(dir=path):
            pass


def is_run(path: Path) -> bool:
    """Whether training wrote to this directory, finished or not."""
    return (path / TRAINING_CONFIG).is_file()


def is_finished(run: Path) -> bool:
    """Whether training went through to the metrics."""
    return (run / METRICS).is_file()
