"""The answers of a run to one split: labels, probabilities and texts, from memory, from its files or computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.read import Split
from textattn.data.texts import Texts
from textattn.errors import ConfigError, InputError
from textattn.measure.compare import load_predictions
from textattn.measure.metrics import Labels
from textattn.measure.selective import Answers
from textattn.storage.run_dir import RunDir

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SplitAnswers:
    """The answers to the texts of a split, in its order."""

    split: str
    labels: list[str]
    truth: NDArray[Any]
    """(rows,) class ids, or (rows, labels) 0/1 for multi-label, or (rows,) numbers."""
    decided: NDArray[Any]
    """The predicted labels, in the same form."""
    probs: Floats
    """(rows, labels)"""
    texts: Texts
    places: Sequence[str] | None = None
    """Where each row stands, such as `tickets.csv:54`; None where that is not known."""

    @classmethod
    def of(cls, classifier: Classifier, split: Split, probs: Floats) -> SplitAnswers:
        """The answers to a split that was just predicted.

        Args:
            classifier: the model, whose thresholds decide.
            split: the rows.
            probs: (rows, labels)
        """
        decided = classifier.task.decide(probs, classifier.config.thresholds)
        return cls(split.name, classifier.labels, split.labels, decided, probs, split.texts, split.places())

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels."""
        return self.truth.ndim == 2

    @property
    def right(self) -> NDArray[np.bool_]:
        """(rows,) whether all labels of a text are right."""
        equal = self.truth == self.decided
        return np.asarray(equal.all(axis=1) if self.multi_label else equal)

    @property
    def scored(self) -> Answers:
        """The answers with their scores, for selective prediction."""
        return Answers.of(self.truth, self.decided, self.probs)

    def __len__(self) -> int:
        return len(self.truth)

    def names(self, labels: Labels, row: int) -> list[str]:
        """The names of the labels of a row of `truth` or `decided`."""
        own = labels[row]
        return [self.labels[int(own)]] if own.ndim == 0 else [self.labels[i] for i in np.flatnonzero(own)]

    def texts_of(self, rows: Sequence[int]) -> list[str]:
        """The texts of some rows, in the order of the rows."""
        return self.texts.take(np.asarray(rows, np.int64))[:]

    def where(self, row: int) -> str | None:
        """Where a row stands; None where that is not known."""
        return None if self.places is None else self.places[row]


def stored_answers(run: Path, split: str) -> SplitAnswers | None:
    """The answers in predictions/<split>.parquet of a run; None if there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    if not RunDir(run).predictions(split).is_file():
        return None
    found = load_predictions(run, split)
    lengths = [len(chunk) for chunk in found.texts.chunks]
    texts = Texts(found.texts, lengths)
    return SplitAnswers(split, found.labels, found.truth, found.decided, found.scores, texts, found.places)


def computed_answers(classifier: Classifier, split: str) -> SplitAnswers | None:
    """The answers of a model to a split of its own data, which are read again; None if that is not possible."""
    from textattn.inference.evaluation import read_labelled

    try:
        rows = read_labelled(classifier, None, split, {}).rows
    except (InputError, ConfigError):
        return None
    return SplitAnswers.of(classifier, rows, classifier.probabilities(classifier.tokenizer.encode(rows)))
