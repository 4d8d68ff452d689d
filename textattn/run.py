"""The run directory: the only module that knows file names. Plain files, written atomically. Light to import.

config.json  model.safetensors  tokenizer.json  tokenizer_config.json    the model
training_config.yaml  environment.json  log.jsonl  trainer_state.json      how it came about
metrics.json                                                               written last: the run is finished
predictions/<split>.parquet  attention/<split>.parquet  README.md          what it says
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textattn.errors import ConfigError, InputError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TRAINING_CONFIG = "training_config.yaml"
ENVIRONMENT = "environment.json"
LOG = "log.jsonl"
TRAINER_STATE = "trainer_state.json"
METRICS = "metrics.json"
MODEL_CARD = "README.md"
PREDICTIONS = "predictions"
ATTENTION = "attention"
OWN_FILES = (
    CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json", TRAINING_CONFIG, ENVIRONMENT, LOG, TRAINER_STATE,
    METRICS, MODEL_CARD,
)  # fmt: skip
OWN_FOLDERS = (PREDICTIONS, ATTENTION)

RUNS = Path("runs")
FORMAT_VERSION = 1


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` when the block ends well, and leaves nothing behind when it does not."""
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


@dataclass(frozen=True)
class ModelConfig:
    """What config.json holds."""

    architecture: dict[str, Any]
    """Arguments of `textattn.model.classifier.Architecture`."""
    labels: list[str]
    """In the order of the outputs."""
    multi_label: bool
    output: str
    """softmax or sigmoid."""
    text_columns: list[str]
    """Columns the text stood in."""
    thresholds: list[float] | None = None
    """Multi-label: a label is given from this probability on."""

    def summary(self) -> str:
        """The parts of the model in a line."""
        a = self.architecture
        parts = [f"embedding {a['embedding_dim']}"]
        if a["encoder"] != "none":
            direction = "bidirectional" if a["bidirectional"] else "one direction"
            layers = f"{a['num_layers']} layer{'s' * (a['num_layers'] > 1)}"
            parts.append(f"{a['encoder'].upper()} {a['hidden_size']} ({direction}, {layers})")
        return ", ".join([*parts, f"{a['attention']} attention", self.output])

    def to_json(self) -> dict[str, Any]:
        """With Hugging Face's names where it has one."""
        return {
            "model_type": "textattn",
            "architectures": ["TextClassifier"],
            "format_version": FORMAT_VERSION,
            "problem_type": "multi_label_classification" if self.multi_label else "single_label_classification",
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "output": self.output,
            "text_columns": self.text_columns,
            "thresholds": self.thresholds,
            "architecture": self.architecture,
        }


def read_model_config(run: Path) -> ModelConfig:
    """config.json of a run.

    Raises:
        InputError: missing, damaged, of another kind of model, or written by a newer version.
    """
    path = run / CONFIG
    value = read_json(path)
    if not isinstance(value, dict) or value.get("model_type") != "textattn":
        raise InputError(f"{path}: not a textattn model (model_type must be 'textattn')")
    version = value.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version!r}, but this textattn reads up to {FORMAT_VERSION}",
            "pip install --upgrade textattn",
        )
    try:
        names = value["id2label"]
        config = ModelConfig(
            architecture=dict(value["architecture"]),
            labels=[str(names[str(i)]) for i in range(len(names))],
            multi_label=value["problem_type"] == "multi_label_classification",
            output=str(value["output"]),
            text_columns=[str(column) for column in value["text_columns"]],
            thresholds=None if value.get("thresholds") is None else [float(t) for t in value["thresholds"]],
        )
        outputs = config.architecture["num_outputs"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error!r})") from None
    expected = 1 if config.output == "sigmoid" and not config.multi_label else len(config.labels)
    if outputs != expected or len(config.thresholds or config.labels) != len(config.labels):
        raise InputError(
            f"{path}: damaged ({len(config.labels)} labels, {outputs} outputs"
            + (f", {len(config.thresholds)} thresholds)" if config.thresholds is not None else ")")
        )
    return config


def check_dir(path: Path, overwrite: bool) -> None:
    """Refuses a directory a run must not write to; changes nothing.

    Raises:
        ConfigError: it is a file, holds a run and `overwrite` is not given, or holds something else.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"output.dir: {path} is a file", "output.dir=runs/my-run")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not is_run(path):
        # A folder of something else may hold a README.md or config.json of its own.
        raise ConfigError(
            f"output.dir: {path} already holds files that are no run; nothing was changed", "output.dir=runs/my-run"
        )
    if not overwrite:
        kind = "a finished run" if is_finished(path) else "a run"
        raise ConfigError(
            f"output.dir: {path} already holds {kind}; nothing was changed", "--overwrite, or another output.dir=…"
        )


def prepare_dir(path: Path, overwrite: bool) -> None:
    """Makes `path` an empty run directory; what a run left there before is removed only with `overwrite`.

    Raises:
        ConfigError: as `check_dir`, or the directory cannot be written.
    """
    try:
        check_dir(path, overwrite)
        # metrics.json goes first: a run half removed must not look finished. What marks it as a run goes last.
        for name in (METRICS, *(name for name in OWN_FILES if name != TRAINING_CONFIG)):
            (path / name).unlink(missing_ok=True)
        for folder in OWN_FOLDERS:
            shutil.rmtree(path / folder, ignore_errors=True)
        (path / TRAINING_CONFIG).unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(
            f"output.dir: {path} cannot be written: {error.strerror or error}", "output.dir=/some/other/folder"
        ) from None


def is_run(path: Path) -> bool:
    """Whether training wrote to this directory, finished or not."""
    return (path / TRAINING_CONFIG).is_file()


def is_finished(run: Path) -> bool:
    """Whether training went through to the metrics."""
    return (run / METRICS).is_file()


def is_model(path: Path) -> bool:
    """Whether a directory holds a model that can be loaded, finished or not."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def newest_run(root: Path = RUNS) -> Path | None:
    """The run under `root` that finished last."""
    finished = [path.parent for path in root.glob(f"*/{METRICS}")] + [
        path.parent for path in root.glob(f"*/*/{METRICS}")
    ]
    finished = [run for run in finished if is_model(run)]
    return max(finished, key=lambda run: (run / METRICS).stat().st_mtime_ns, default=None)


def find_model(name: str | None) -> Path:
    """The directory of a model: `name`, else $TEXTATTN_MODEL, else the newest finished run under runs/.

    A name that is no directory here is taken for a Hub repository, `user/name` or `user/name@revision`.

    Raises:
        InputError: there is none.
    """
    name = name or os.environ.get("TEXTATTN_MODEL") or None
    if name is None:
        newest = newest_run()
        if newest is None:
            raise InputError("no model: there is no finished run under runs/", "textattn train quickstart")
        return newest
    path = Path(name)
    if is_model(path):
        return path
    if path.is_file():
        raise InputError(f"--model: {path} is a file, not a run directory", f"--model {path.parent}")
    if path.is_dir():
        newest = newest_run(path)
        if newest is not None:
            return newest
        missing = [file for file in (CONFIG, WEIGHTS) if not (path / file).is_file()]
        raise InputError(f"{path}: no model in this folder ({' and '.join(missing)} missing)")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    repo_id, _, revision = name.removeprefix("hf://").partition("@")
    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise InputError(f"--model: no such folder: {name}", "textattn info --model runs/NAME/TIME")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=list(OWN_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise InputError(
            f"--model: {name!r} is neither a folder here nor could it be read from the Hub: {first}"
        ) from None
    if not is_model(path):
        raise InputError(f"--model: {name!r} on the Hub is not a textattn model")
    return path


def check_labels(run: Path, labels: list[str], metadata: Mapping[str, str] | None) -> None:
    """Refuses a config.json whose labels are not those the weights were trained with.

    Raises:
        InputError: they differ.
    """
    stored = (metadata or {}).get("labels")
    if stored is not None and json.loads(stored) != labels:
        raise InputError(
            f"{run / CONFIG}: the labels are {', '.join(labels)}, "
            f"but {WEIGHTS} was trained with {', '.join(json.loads(stored))}"
        )


def metadata_for_weights(labels: list[str]) -> Mapping[str, str]:
    """Goes into the safetensors header: the labels stay with the weights even if config.json is lost or mixed up."""
    # One entry only: safetensors writes several in an order that changes from process to process, and so the bytes.
    return {"labels": json.dumps(labels, ensure_ascii=False)}
