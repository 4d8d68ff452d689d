"""What the JSON files of a run hold, as values with names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class SplitRecord:
    """A split of the data that a run was trained on."""

    num_examples: int
    sha256: str
    """`Split.fingerprint()`: of texts and labels in their order."""


@dataclass(frozen=True)
class DatasetRecord:
    """The data that a run was trained on."""

    source: str
    revision: str | None
    """Commit of a Hub data set."""
    notes: list[str]
    num_pseudo_labelled: int
    num_unlabelled: int
    unlabelled_sha256: list[str] | None
    """None in runs of earlier versions, which did not record it."""
    splits: dict[str, SplitRecord]


@dataclass(frozen=True)
class Environment:
    """environment.json: where and from what a run came about."""

    textattn: str
    python: str
    platform: str
    processors: int | None
    threads: int
    """Of torch, in each process."""
    processes: int
    packages: dict[str, str]
    command: str
    seed: int
    started: str
    """ISO 8601, UTC."""
    dataset: DatasetRecord
    word_vectors: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Environment:
        """What `to_json` gave, or an earlier version of it.

        Raises:
            KeyError, TypeError, AttributeError: it is something else.
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
        own = {"processes": 1} | {key: item for key, item in value.items() if key in _names(cls)}
        kept = {key: item for key, item in (older | dataset).items() if key in _names(DatasetRecord)}
        return cls(**own | {"dataset": DatasetRecord(**kept | {"splits": splits})})


def _names(record: type[Any]) -> set[str]:
    return {one.name for one in fields(record)}


@dataclass(frozen=True)
class History:
    """trainer_state.json, with the names that Hugging Face's Trainer has."""

    global_step: int
    max_steps: int
    epoch: float
    metric_for_best_model: str
    greater_is_better: bool
    best_metric: float | None
    """None without a validation split."""
    best_global_step: int
    num_input_tokens_seen: int
    """Real tokens, padding not counted."""
    train_runtime: float
    """Seconds of training, evaluation not counted."""
    train_tokens_per_second: float
    num_parameters: int
    device: str
    log_history: list[dict[str, Any]]
    """The lines of log.jsonl."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Folds:
    """cross_validation.json: how good the answers are for texts that the model had not learned from."""

    measured: dict[str, Any]
    """Metrics over all folds together, at the best epoch."""
    num_folds: int
    epoch: float
    """The epoch at which the answers were best; training stops after it."""
    by_epoch: list[list[float | None]]
    """Pairs of an epoch and the value of the metric after it."""
    temperature: float
    thresholds: list[float] | None

    def to_json(self) -> dict[str, Any]:
        """The metrics, and beside them the rest."""
        return self.measured | {one.name: getattr(self, one.name) for one in fields(self) if one.name != "measured"}

    @classmethod
    def from_json(cls, value: Any) -> Folds:
        """What `to_json` gave."""
        own = _names(cls) - {"measured"}
        # Multi-label metrics have thresholds too, the same ones: they keep their place.
        measured = {key: item for key, item in value.items() if key not in own - {"thresholds"}}
        return cls(measured=measured, **{name: value[name] for name in own})
