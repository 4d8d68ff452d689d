"""The content of the JSON files of a run, as dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class SplitRecord:
    """A split of the data that a run was trained on."""

    num_examples: int
    sha256: str
    """`Split.fingerprint()`, the hash of the texts and labels in their order."""


@dataclass(frozen=True)
class DatasetRecord:
    """The data that a run was trained on."""

    source: str
    revision: str | None
    """The commit of a data set from the Hub."""
    notes: list[str]
    num_pseudo_labelled: int
    num_unlabelled: int
    unlabelled_sha256: list[str] | None
    """None in runs of earlier versions, which did not record these hashes."""
    splits: dict[str, SplitRecord]


@dataclass(frozen=True)
class StartRecord:
    """The finished model that a run went on from."""

    model: str
    """Its name as it was given."""
    fingerprint: str
    """`Classifier.fingerprint()` with torch as the runtime: the hash of its files."""
    ancestors: list[str]
    """The fingerprints of the models that this model went on from itself, the newest first."""
    labels: list[str]
    num_new_tokens: int
    """The number of words that were added to its vocabulary."""
    rows: dict[str, int] | None
    """`Corpus.joined`; None if its data were not read again."""
    data: dict[str, Any] | None
    """`EarlierData.to_json()`; None if its data were not read again."""

    @classmethod
    def from_json(cls, value: Any) -> StartRecord | None:
        """Read the entry `from` of environment.json; None if there is none.

        Raises:
            TypeError, AttributeError: the value is not such an entry.
        """
        return None if value is None else cls(**{key: item for key, item in value.items() if key in _names(cls)})


@dataclass(frozen=True)
class Environment:
    """The content of environment.json: the software, the machine and the data of a run."""

    textattn: str
    python: str
    platform: str
    processors: int | None
    threads: int
    """The number of torch's threads in each process."""
    processes: int
    packages: dict[str, str]
    command: str
    seed: int
    started: str
    """ISO 8601, UTC."""
    dataset: DatasetRecord
    word_vectors: dict[str, Any]
    directory: str | None = None
    """The working directory, from which relative paths of the config start. None in runs of earlier versions."""
    settings: dict[str, Any] | None = None
    """The settings that the config and the command gave, by dotted name; None in runs of earlier versions."""
    start: StartRecord | None = None
    """The model that the run went on from, `from` in the file; None for a run that started anew."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        value = asdict(self)
        start = value.pop("start")
        return value if start is None else value | {"from": start}

    @classmethod
    def from_json(cls, value: Any) -> Environment:
        """Read the result of `to_json`, also of earlier versions.

        Raises:
            KeyError, TypeError, AttributeError: the value is not an environment.
        """
        dataset = value["dataset"]
        splits = {name: SplitRecord(**split) for name, split in dataset["splits"].items()}
        older: dict[str, Any] = {
            "unlabelled_sha256": None,
            "num_pseudo_labelled": 0,
            "num_unlabelled": 0,
            "notes": [],
            "revision": None,
        }
        known = {"processes": 1} | {key: item for key, item in value.items() if key in _names(cls)}
        kept = {key: item for key, item in (older | dataset).items() if key in _names(DatasetRecord)}
        start = StartRecord.from_json(value.get("from"))
        return cls(**known | {"dataset": DatasetRecord(**kept | {"splits": splits}), "start": start})


def _names(record: type[Any]) -> set[str]:
    return {one.name for one in fields(record)}


@dataclass(frozen=True)
class History:
    """The content of trainer_state.json, with the names that Hugging Face's Trainer uses."""

    global_step: int
    max_steps: int
    epoch: float
    metric_for_best_model: str
    greater_is_better: bool
    best_metric: float | None
    """None without a validation split."""
    best_global_step: int
    num_input_tokens_seen: int
    """The number of tokens without padding."""
    train_runtime: float
    """Seconds of training, without evaluation."""
    train_tokens_per_second: float
    num_parameters: int
    device: str
    log_history: list[dict[str, Any]]
    """The lines of log.jsonl."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Folds:
    """The content of cross_validation.json: metrics on texts that the predicting models had not been trained on."""

    measured: dict[str, Any]
    """Metrics over all folds together, at the best epoch."""
    num_folds: int
    epoch: float
    """The epoch with the best predictions; training on all texts stops after it."""
    by_epoch: list[list[float | None]]
    """Pairs of an epoch and the value of the selection metric after it."""
    temperature: float
    thresholds: list[float] | None
    margin: float | None = None
    """Half the width of the intervals of numbers, see `Target`."""

    def to_json(self) -> dict[str, Any]:
        """The metrics and the other fields in one JSON object."""
        return self.measured | {one.name: getattr(self, one.name) for one in fields(self) if one.name != "measured"}

    @classmethod
    def from_json(cls, value: Any) -> Folds:
        """Read the result of `to_json`."""
        others = _names(cls) - {"measured"}
        # The metrics of multi-label models also contain the thresholds, so these stay among the metrics.
        measured = {key: item for key, item in value.items() if key not in others - {"thresholds"}}
        return cls(measured=measured, **{name: value[name] for name in others if name != "margin" or name in value})
