"""The run directory. Only this module knows the names of its files. Importing it is fast.

config.json  model.safetensors  tokenizer.json  tokenizer_config.json      the model
model.onnx  model.int8.onnx                                                the model in the form that `predict` loads
training_config.yaml  environment.json  log.jsonl  trainer_state.json      how the model was trained
cross_validation.json                                                      the results of cross-validation
checkpoints/                                                               the checkpoints of an unfinished run
metrics.json                                                               written last; marks the run as finished
predictions/<split>.parquet  attention/<split>.parquet                     predictions and attention weights
README.md  plots/                                                          the model card and its plots
tracking.json  tensorboard/  wandb/                                        data of experiment trackers
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.errors import ConfigError, InputError, Option
from textattn.storage.files import TEMPORARY, read_json, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from textattn.storage.model_files import SavedConfig
    from textattn.storage.records import Environment, Folds, History

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
        """The resolved config. The presence of this file marks a directory as a run."""
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
    def plots(self) -> Path:
        """The folder of plots."""
        return self.path / PLOTS

    @property
    def model_card(self) -> Path:
        """The model card."""
        return self.path / MODEL_CARD

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
        """Whether this directory contains a run, finished or not."""
        return self.training_config.is_file()

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
        """Read the content of tokenizer.json."""
        return (self.path / TOKENIZER).read_bytes()

    def tracking(self) -> dict[str, str]:
        """Read tracking.json, the run's identifier in each experiment tracker; empty if it is missing or damaged."""
        with contextlib.suppress(InputError, TypeError, ValueError):
            return dict(read_json(self.path / TRACKING))
        return {}

    # Writing

    def write_training_config(self, content: str) -> None:
        """Write training_config.yaml; this must be the first file of a run, because it marks the directory as a run."""
        write_text(self.training_config, content)

    def write_tokenizer(self, files: Mapping[str, str]) -> None:
        """Write the files of the tokenizer, by name as `TextTokenizer.to_files` returns them."""
        for name, content in files.items():
            write_text(self.path / name, content)

    def write_model_config(self, config: SavedConfig) -> None:
        """Write config.json."""
        write_json(self.path / CONFIG, config.to_json())

    def write_environment(self, environment: Environment) -> None:
        """Write environment.json."""
        write_json(self.path / ENVIRONMENT, environment.to_json())

    def write_folds(self, folds: Folds) -> None:
        """Write cross_validation.json."""
        write_json(self.path / CROSS_VALIDATION, folds.to_json())

    def write_weights(self, content: bytes) -> None:
        """Write model.safetensors."""
        write_bytes(self.weights, content)

    def write_log(self, entries: list[dict[str, Any]]) -> None:
        """Write log.jsonl, one evaluation per line."""
        write_text(self.path / LOG, "".join(json.dumps(entry) + "\n" for entry in entries))

    def write_history(self, history: History) -> None:
        """Write trainer_state.json."""
        write_json(self.path / TRAINER_STATE, history.to_json())

    def write_tracking(self, ids: Mapping[str, str]) -> None:
        """Write tracking.json."""
        write_json(self.path / TRACKING, dict(ids))

    def write_card(self, content: str) -> None:
        """Write the model card."""
        write_text(self.model_card, content)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json; this must be the last file of a run, because it marks the run as finished."""
        write_json(self.metrics_file, metrics)

    # The directory itself

    def check(self, overwrite: bool) -> None:
        """Check whether a run may write to this directory; changes nothing.

        Raises:
            ConfigError: the path is a file, the directory contains a run and `overwrite` is not set, it contains other
                files, or it cannot be accessed.
        """
        with self._writable():
            self._check(overwrite)

    def begin(self, overwrite: bool) -> None:
        """Create an empty run directory; the files of an earlier run are removed only with `overwrite`.

        Raises:
            ConfigError: as for `check`, or the directory cannot be written to.
        """
        import shutil
        import tempfile

        with self._writable():
            self.check(overwrite)
            # metrics.json is removed first, so that a partly removed run does not look finished. training_config.yaml,
            # which marks the directory as a run, is removed last.
            for name in (METRICS, *(name for name in OWN_FILES if name != TRAINING_CONFIG)):
                (self.path / name).unlink(missing_ok=True)
            for folder in OWN_FOLDERS:
                shutil.rmtree(self.path / folder, ignore_errors=True)
            self.training_config.unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
            self.remove_leftovers()
            with tempfile.TemporaryFile(dir=self.path):
                pass

    def remove_leftovers(self) -> None:
        """Remove temporary files that a killed process left, but only those of a run's files."""
        for folder in (self.path, *(self.path / name for name in OWN_FOLDERS)):
            for path in folder.glob(f".*{TEMPORARY}"):
                if folder != self.path or _is_leftover(path):
                    path.unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints."""
        import shutil

        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """Turn an error of the operating system into one that the user can act on."""
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror or error}",
                "output.dir=/some/other/folder",
                setting="output.dir",
            ) from None

    def _check(self, overwrite: bool) -> None:
        path = self.path
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file", "output.dir=runs/my-run", setting="output.dir")
        # A process may have been killed while it was writing the first file of a run.
        if not path.is_dir() or all(map(_is_leftover, path.iterdir())):
            return
        if not self.is_run():
            # Even with `overwrite`: a folder of another kind may contain its own README.md or config.json.
            raise ConfigError(
                f"{path} already contains files that are not a run; nothing was changed",
                "output.dir=runs/my-run",
                setting="output.dir",
            )
        if not overwrite:
            if self.is_finished():
                raise ConfigError(
                    f"{path} already contains a finished run; nothing was changed",
                    (OVERWRITE, ", or another output.dir=…"),
                    setting="output.dir",
                )
            raise ConfigError(
                f"{path} already contains an unfinished run; nothing was changed",
                (RESUME, " continues it, ", OVERWRITE, " begins again"),
                setting="output.dir",
            )


def _is_leftover(path: Path) -> bool:
    """Whether this is a temporary file that a killed process may have left while writing a run's file."""
    return path.suffix == TEMPORARY and path.name.startswith(tuple(f".{name}." for name in OWN_FILES))
