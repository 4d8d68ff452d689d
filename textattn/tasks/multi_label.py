"""Several labels a text, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError
from textattn.measure.metrics import choose_thresholds
from textattn.tasks.base import Floats, Labels, Probabilities, Task
from textattn.tasks.binary import sigmoid, smoothed_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


class MultiLabel(Task):
    """Any number of labels a text: a sigmoid for each. Labels are (rows, num_labels) of 0 and 1."""

    output = "sigmoid"
    multi_label = True
    default_metric = "micro_f1"

    def check_output(self, output: str | None) -> None:
        """Raises ConfigError for softmax, which gives exactly one label."""
        if output == "softmax":
            raise ConfigError(
                "model.output: softmax gives one label a text, but the data have several", "model.output=sigmoid"
            )

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """Binary cross-entropy of each label, (batch, num_labels)."""
        return smoothed_cross_entropy(logits.float(), labels.float(), label_smoothing, weights)

    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the logits of the labels given."""
        return (logits * labels).sum(dim=1)

    def balanced_weights(self, labels: Labels) -> Floats:
        """Negative cases for each positive one."""
        positive = self.counts(labels)
        negative = len(labels) - positive
        return np.where((positive > 0) & (negative > 0), negative / np.maximum(positive, 1), 1.0)

    def scaled_weights(self, weights: Floats, labels: Labels) -> Floats:
        """As they are: they weigh positive cases against negative ones of the same label."""
        return weights

    def choose_metric(self, setting: str | None) -> str:
        """See `Task`."""
        if setting == "balanced_accuracy":
            raise ConfigError(
                "training.metric: balanced_accuracy is not defined for multi-label data", "training.metric=macro_f1"
            )
        return super().choose_metric(setting)

    def strata(self, labels: Labels) -> list[NDArray[np.int64]]:
        """All rows in one group: combinations of labels are too many to balance."""
        return [np.arange(len(labels))]

    def probabilities(self, logits: Floats) -> Probabilities:
        """A sigmoid for each label; rows do not sum to 1."""
        return sigmoid(logits.astype(np.float64))

    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """The label's logit, or the difference of two labels' logits."""
        x = logits.astype(np.float64)
        target = x[np.arange(len(x)), targets]
        return np.asarray(target if against is None else target - x[:, against])

    def decide(self, probs: Floats, thresholds: Sequence[float] | None = None) -> Labels:
        """(rows, num_labels) 1 for each label that reaches its threshold."""
        limits = self.neutral_thresholds if thresholds is None else thresholds
        return (probs >= np.asarray(limits)).astype(np.uint8)

    def choose_thresholds(self, labels: Labels, probs: Floats) -> list[float]:
        """For each label the threshold of the highest F1."""
        return choose_thresholds(labels, probs)

    @property
    def neutral_thresholds(self) -> list[float]:
        """One half for each label."""
        return [0.5] * len(self.labels)

    def distance(self, p: Floats, q: Floats) -> Probabilities:
        """Mean of |p - q| over the labels, each of which is a distribution of its own."""
        return np.asarray(np.abs(p - q).mean(axis=-1))

    def counts(self, labels: Labels) -> NDArray[np.int64]:
        """See `Task`."""
        return np.asarray(labels.sum(axis=0, dtype=np.int64))

    def names(self, labels: Labels) -> list[list[str]]:
        """Any number of names a row."""
        return [[self.labels[i] for i in np.flatnonzero(row)] for row in labels]
