"""The run directory. Only this module knows the names of its files. Importing it is fast.

RUNDIR.TAG                                                                 written first; marks the directory as ours
config.json  model.safetensors  tokenizer.json  tokenizer_config.json      the model
model.onnx  model.int8.onnx                                                the model in the form that `predict` loads
checksums.json                                                             checksums of these files
training_config.yaml  environment.json  log.jsonl  trainer_state.json      how the model was trained
cross_validation.json                                                      the results of cross-validation
checkpoints/  start/                                                       the checkpoints of an unfinished run, and a
                                                                           copy of the model that it goes on from
reference.json                                                             figures of the validation split, for drift
metrics.json                                                               written last; marks the run as finished
predictions/<split>.parquet  attention/<split>.parquet                     predictions and attention weights
README.md  plots/  report.html                                             the model card with its plots; the report
tracking.json  tensorboard/  wandb/                                        data of experiment trackers
owner.lock  owner.json                                                     who writes to the run, while that is so

Only files of these names, in directories that are ours, are ever removed or replaced. `OWN_FILES` and `OWN_FOLDERS`
list the names, so a new file of a run must be added there. Symbolic links of these names are not written to.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.errors import InputError, Option
from textattn.storage import locks
from textattn.storage.checksums import CHECKSUMS, forget_checksums, write_checksums
from textattn.storage.files import TEMPORARY, read_json, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from textattn.storage.model_files import SavedConfig
    from textattn.storage.records import Environment, Folds, History

# Data are not looked for below it; there it is called `textattn.data.folders.RUN`.
TAG = "RUNDIR.TAG"
TAG_CONTENT = "A run of textattn, format 1. This file marks the folder as one that --overwrite may empty.\n"
OWNER = "A run of textattn,"
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
REFERENCE = "reference.json"
METRICS = "metrics.json"
SEEDS = "seeds.json"
STUDY = "study.db"
MODEL_CARD = "README.md"
REPORT = "report.html"
PREDICTIONS = "predictions"
ATTENTION = "attention"
CHECKPOINTS = "checkpoints"
START = "start"
PLOTS = "plots"
TRACKING = "tracking.json"
TENSORBOARD = "tensorboard"
WANDB = "wandb"
OWN_FILES = (
    CONFIG, WEIGHTS, ONNX, ONNX_INT8, TOKENIZER, TOKENIZER_CONFIG, TRAINING_CONFIG, ENVIRONMENT, LOG, TRAINER_STATE,
    METRICS, MODEL_CARD, REPORT, TRACKING, CROSS_VALIDATION, CHECKSUMS, REFERENCE,
)  # fmt: skip
# The files that predictions depend on. Their checksums are in checksums.json.
MODEL_FILES = (CONFIG, WEIGHTS, ONNX, ONNX_INT8, TOKENIZER, TOKENIZER_CONFIG)
# What a run needs of the model that it goes on from, to be resumed without it.
START_FILES = (CONFIG, TOKENIZER, TOKENIZER_CONFIG, TRAINING_CONFIG, ENVIRONMENT, WEIGHTS)
# The folders of a run, each with the names of its files.
OWN_FOLDERS = {
    PREDICTIONS: re.compile(r"(train|validation|test)\.parquet"),
    ATTENTION: re.compile(r"(train|validation|test)\.parquet"),
    CHECKPOINTS: re.compile(r"(step|best)-\d{9,}\.safetensors"),
    START: re.compile("|".join(map(re.escape, START_FILES))),
    PLOTS: re.compile(r"(training|confusion_matrix|labels|reliability|numbers)\.png"),
    TENSORBOARD: re.compile(r"events\.out\.tfevents\..+"),
    # It contains a folder for each run of the tool. These are found by the identifier in tracking.json.
    WANDB: re.compile(r"(?!)"),
}

RUNS = Path("runs")
OVERWRITE, RESUME = Option("overwrite", flag=True), Option("resume", flag=True)
BEGIN_AGAIN = (OVERWRITE, " begins again")


@dataclass(frozen=True)
class RunDir:
    """The directory of one run, whose files are written atomically and read as records."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    # Paths

    @property
    def training_config(self) -> Path:
        """The resolved config. Without this file a directory contains no run, even if it is ours."""
        return self.path / TRAINING_CONFIG

    @property
    def weights(self) -> Path:
        """The weights of the best model so far."""
        return self.path / WEIGHTS

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def start(self) -> Path | None:
        """The copy of the model that an unfinished run goes on from; None if there is no complete one."""
        path = self.path / START
        # The weights are written last.
        return path if (path / WEIGHTS).is_file() and not path.is_symlink() else None

    @property
    def plots(self) -> Path:
        """The folder of plots."""
        return self.path / PLOTS

    @property
    def model_card(self) -> Path:
        """The model card."""
        return self.path / MODEL_CARD

    @property
    def report(self) -> Path:
        """The report, one HTML page."""
        return self.path / REPORT

    @property
    def metrics_file(self) -> Path:
        """The path of metrics.json."""
        return self.path / METRICS

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / TENSORBOARD

    def predictions(self, split: str) -> Path:
        """The predictions for a split."""
        return self.path / PREDICTIONS / f"{split}.parquet"

    def attention(self, split: str) -> Path:
        """The attention weights for a split."""
        return self.path / ATTENTION / f"{split}.parquet"

    # Reading

    def is_run(self) -> bool:
        """Whether this directory contains a run of ours, finished or not."""
        return self.training_config.is_file() and self.is_ours()

    def is_ours(self) -> bool:
        """Whether textattn has made this directory.

        A training_config.yaml alone is no proof, because people copy it into their projects. Runs of earlier versions
        have no mark; they contain three files that fit together.
        """
        with contextlib.suppress(OSError, ValueError):
            if (self.path / TAG).read_text(encoding="utf-8").startswith(OWNER):
                return True
        with contextlib.suppress(InputError):
            environment, config = read_json(self.path / ENVIRONMENT), read_json(self.path / CONFIG)
            return (
                self.training_config.is_file()
                and isinstance(environment, dict)
                and {"textattn", "seed", "dataset"} <= environment.keys()
                and isinstance(config, dict)
                and config.get("model_type") == "textattn"
            )
        return False

    def is_finished(self) -> bool:
        """Whether this directory contains a finished run."""
        return self.metrics_file.is_file()

    def environment(self) -> Environment:
        """Read environment.json.

        Raises:
            InputError: the file is missing or damaged.
        """
        from textattn.storage.records import Environment

        path = self.path / ENVIRONMENT
        value = read_json(path)
        try:
            return Environment.from_json(value)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"damaged ({error!r})", BEGIN_AGAIN, place=str(path)) from None

    def folds(self) -> Folds:
        """Read cross_validation.json.

        Raises:
            InputError: the file is missing or damaged.
        """
        from textattn.storage.records import Folds

        path = self.path / CROSS_VALIDATION
        try:
            return Folds.from_json(read_json(path))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"damaged ({error!r})", BEGIN_AGAIN, place=str(path)) from None

    def best_metric(self) -> float | None:
        """Read the selection metric of the best checkpoint of a finished run."""
        value: float | None = read_json(self.path / TRAINER_STATE)["best_metric"]
        return value

    def metrics(self) -> dict[str, Any]:
        """Read metrics.json.

        Raises:
            InputError: the file is missing or damaged.
        """
        value = read_json(self.metrics_file)
        if not isinstance(value, dict):
            raise InputError("damaged (not a JSON object)", place=str(self.metrics_file))
        return value

    def tokenizer(self) -> bytes:
        """Read the content of tokenizer.json.

        Raises:
            InputError: the file is missing or cannot be read.
        """
        path = self.path / TOKENIZER
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(error.strerror or str(error), BEGIN_AGAIN, place=str(path)) from None

    def tracking(self) -> dict[str, str]:
        """Read tracking.json, the run's identifier in each experiment tracker; empty if it is missing or damaged."""
        with contextlib.suppress(InputError, TypeError, ValueError):
            return dict(read_json(self.path / TRACKING))
        return {}

    # Writing

    def write_training_config(self, content: str) -> None:
        """Write training_config.yaml; this must be the first file after `begin`: it makes the directory a run."""
        write_text(self.training_config, content)

    def write_tokenizer(self, files: Mapping[str, str]) -> None:
        """Write the files of the tokenizer, by name as `TextTokenizer.to_files` returns them."""
        forget_checksums(self.path)
        for name, content in files.items():
            write_text(self.path / name, content)

    def write_model_config(self, config: SavedConfig) -> None:
        """Write config.json."""
        forget_checksums(self.path)
        write_json(self.path / CONFIG, config.to_json())

    def write_environment(self, environment: Environment) -> None:
        """Write environment.json."""
        write_json(self.path / ENVIRONMENT, environment.to_json())

    def write_folds(self, folds: Folds) -> None:
        """Write cross_validation.json."""
        write_json(self.path / CROSS_VALIDATION, folds.to_json())

    def write_start(self, files: Mapping[str, bytes]) -> None:
        """Write the copy of the model that the run goes on from: contents of START_FILES by name."""
        (self.path / START).mkdir(exist_ok=True)
        for name in START_FILES:
            if name in files:
                write_bytes(self.path / START / name, files[name])

    def write_weights(self, content: bytes) -> None:
        """Write model.safetensors."""
        forget_checksums(self.path)
        write_bytes(self.weights, content)

    def seal(self) -> None:
        """Write checksums.json; this must follow the last of the files that predictions depend on."""
        write_checksums(self.path, MODEL_FILES)

    def write_log(self, entries: list[dict[str, Any]]) -> None:
        """Write log.jsonl, one evaluation per line."""
        write_text(self.path / LOG, "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries))

    def write_history(self, history: History) -> None:
        """Write trainer_state.json."""
        write_json(self.path / TRAINER_STATE, history.to_json())

    def write_tracking(self, ids: Mapping[str, str]) -> None:
        """Write tracking.json."""
        write_json(self.path / TRACKING, dict(ids))

    def write_card(self, content: str) -> None:
        """Write the model card."""
        write_text(self.model_card, content)

    def write_report(self, content: str) -> None:
        """Write the report."""
        write_text(self.report, content)

    def write_reference(self, reference: dict[str, Any]) -> None:
        """Write reference.json, which is counts and no reading for people."""
        write_text(self.path / REFERENCE, json.dumps(reference, allow_nan=False) + "\n")

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json; this must be the last file of a run, because it marks the run as finished."""
        write_json(self.metrics_file, metrics)

    # The directory itself

    def links(self) -> list[Path]:
        """The files and folders of the run that are symbolic links. To write to them would change other files."""
        paths = [self.path / name for name in (TAG, *locks.NAMES, *OWN_FILES, *OWN_FOLDERS)]
        for folder in OWN_FOLDERS:
            paths += self.files_in(folder)
        return [path for path in paths if path.is_symlink()]

    def remove_leftovers(self) -> None:
        """Remove temporary files that a killed process left, but only those of a run's files."""
        for path in [self.path / name for name in names_in(self.path) if is_leftover(name)]:
            path.unlink(missing_ok=True)
        for folder in OWN_FOLDERS:
            for path in self.files_in(folder):
                if path.suffix == TEMPORARY:
                    path.unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """Remove what only an unfinished run needs: the checkpoints, and the model that it goes on from."""
        for folder in (CHECKPOINTS, START):
            with contextlib.suppress(OSError):
                self.remove_folder(folder)

    def files_in(self, folder: str) -> list[Path]:
        """The files that runs have written to one of their folders, also unfinished ones; empty if it is a link."""
        path, pattern = self.path / folder, OWN_FOLDERS[folder]
        if path.is_symlink():
            return []
        return [
            path / name
            for name in sorted(names_in(path))
            if (pattern.fullmatch(name) or is_leftover(name, pattern)) and not (path / name).is_dir()
        ]

    def remove_folder(self, folder: str) -> None:
        """Remove the files that a run has written to a folder, and the folder if nothing else is in it."""
        path = self.path / folder
        for file in self.files_in(folder):
            file.unlink(missing_ok=True)
        if path.is_dir() and not path.is_symlink() and not names_in(path):
            path.rmdir()


def names_in(path: Path) -> set[str]:
    """The names of what is in a folder; empty if there is no such folder."""
    return {item.name for item in path.iterdir()} if path.is_dir() else set()


def is_leftover(name: str, pattern: re.Pattern[str] | None = None) -> bool:
    """Whether this is a temporary file that a killed process may have left while writing a file of a run.

    Args:
        name: the name of the file.
        pattern: the names of finished files in its folder; by default those in the run directory itself.
    """
    found = re.fullmatch(rf"\.(.+)\.[a-z0-9_]+{re.escape(TEMPORARY)}", name)
    if found is None:
        return False
    return found[1] in (*OWN_FILES, TAG) if pattern is None else pattern.fullmatch(found[1]) is not None
