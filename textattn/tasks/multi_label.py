"""Any number of labels for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError
from textattn.measure.metrics import LABEL_METRICS, choose_thresholds
from textattn.tasks.base import Floats, Labels, Probabilities, Question, Task, entropy
from textattn.tasks.binary import sigmoid, smoothed_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


class MultiLabel(Task):
    """Any number of labels for each text: a sigmoid for each label. Labels are (rows, num_labels) of 0 and 1."""

    output = "sigmoid"
    multi_label = True
    answer = "several"
    kind = "multi-label data"
    default_metric = "micro_f1"
    metrics = tuple(name for name in LABEL_METRICS if name != "balanced_accuracy")

    def check_output(self, output: str | None) -> None:
        """Raises ConfigError for softmax, which predicts exactly one label."""
        if output == "softmax":
            raise ConfigError(
                "softmax predicts one label for each text, but texts of the data have several",
                "model.output=sigmoid",
                setting="model.output",
            )

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """Binary cross-entropy of each label, (batch, num_labels)."""
        return smoothed_cross_entropy(logits.float(), labels.float(), label_smoothing, weights)

    def questions(self, labels: Labels, weights: Floats | None) -> list[Question]:
        """Whether the text has the label."""
        asked, yes = np.ones(len(labels), np.bool_), labels == 1
        each = [None] * yes.shape[1] if weights is None else list(np.where(yes, weights, 1.0).T)
        return [Question(asked, yes[:, label], each[label]) for label in range(yes.shape[1])]

    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the logits of the true labels."""
        return (logits * labels).sum(dim=1)

    def balanced_weights(self, labels: Labels) -> Floats:
        """The number of negative cases for each positive case."""
        positive = self.counts(labels)
        negative = len(labels) - positive
        return np.where((positive > 0) & (negative > 0), negative / np.maximum(positive, 1), 1.0)

    def scaled_weights(self, weights: Floats, labels: Labels) -> Floats:
        """The given weights. They need no scaling, because each concerns the positive cases of its own label."""
        return weights

    def strata(self, labels: Labels) -> list[NDArray[np.int64]]:
        """All rows in one group, because there are too many combinations of labels to balance them."""
        return [np.arange(len(labels))]

    def probabilities(self, logits: Floats) -> Probabilities:
        """A sigmoid of each logit. Rows do not sum to 1."""
        return sigmoid(logits.astype(np.float64))

    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """The logit of the label, or the difference between the logits of two labels."""
        x = logits.astype(np.float64)
        target = x[np.arange(len(x)), targets]
        return np.asarray(target if against is None else target - x[:, against])

    def directions(self, targets: Labels, against: int | None) -> Probabilities:
        """1 for the label, and -1 for the one to compare with."""
        found = np.zeros((len(targets), len(self.labels)))
        found[np.arange(len(targets)), targets] = 1
        if against is not None:
            found[:, against] -= 1
        return found

    def decide(self, probs: Floats, thresholds: Sequence[float] | None = None) -> Labels:
        """(rows, num_labels), 1 for each label whose probability reaches its threshold."""
        limits = self.neutral_thresholds if thresholds is None else thresholds
        return (probs >= np.asarray(limits)).astype(np.uint8)

    def choose_thresholds(self, labels: Labels, probs: Floats) -> list[float]:
        """The threshold with the highest F1 of each label."""
        return choose_thresholds(labels, probs)

    @property
    def neutral_thresholds(self) -> list[float]:
        """One half for each label."""
        return [0.5] * len(self.labels)

    def distance(self, p: Floats, q: Floats) -> Probabilities:
        """The mean of |p - q| over the labels, because each label is a separate distribution."""
        return np.asarray(np.abs(p - q).mean(axis=-1))

    def uncertainty(self, probs: Floats) -> Probabilities:
        """The mean entropy of the labels, because each label is a question of its own."""
        return np.asarray((entropy(probs) + entropy(1 - np.asarray(probs, np.float64))).mean(axis=1))

    def counts(self, labels: Labels) -> NDArray[np.int64]:
        """See `Task`."""
        return np.asarray(labels.sum(axis=0, dtype=np.int64))

    def names(self, labels: Labels) -> list[list[str]]:
        """The names of the labels of each row."""
        return [[self.labels[i] for i in np.flatnonzero(row)] for row in labels]
