"""One label for each text, out of two or more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from textattn.tasks.base import Floats, Labels, Probabilities, Question, Task

if TYPE_CHECKING:
    from torch import Tensor


class SingleLabel(Task):
    """One label for each text: a softmax over one logit for each label. Labels are (rows,) class ids."""

    output: ClassVar[Literal["softmax", "sigmoid", "ordinal", "number"]] = "softmax"

    def check_output(self, output: str | None) -> None:
        """Softmax fits every number of labels."""

    def outputs_from(self, old: Task, labels: Labels) -> tuple[Probabilities, Probabilities]:
        """See `Task`. A new label begins as the mean of the old ones: nothing speaks for it or against it.

        A single logit of two labels becomes two logits, whose softmax is the same.
        """
        weights = old.as_softmax() if isinstance(old, SingleLabel) else None
        if weights is None:
            return super().outputs_from(old, labels)
        number = len(old.labels)
        new = np.tile(weights.mean(axis=0), (len(self.labels) - number, 1))
        counts = self.counts(labels)
        bias = np.log(counts + 0.5) - np.log(counts[:number] + 0.5).mean()
        bias[:number] = 0
        return np.concatenate([weights, new]), bias

    def as_softmax(self) -> Probabilities | None:
        """Weights (num_labels, num_outputs) that turn the logits into some whose softmax is the same; None if there are
        none."""
        return np.eye(len(self.labels))

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """Cross-entropy, (batch,)."""
        from torch.nn import functional

        return functional.cross_entropy(
            logits.float(), labels, weight=weights, label_smoothing=label_smoothing, reduction="none"
        )

    def questions(self, labels: Labels, weights: Floats | None) -> list[Question]:
        """Whether the label is this one rather than any other."""
        asked, each = np.ones(len(labels), np.bool_), None if weights is None else weights[labels]
        return [Question(asked, labels == label, each) for label in range(len(self.labels))]

    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `Task`."""
        true = logits.gather(1, labels[:, None]).squeeze(1)
        return true - (logits.sum(dim=1) - true) / (logits.shape[1] - 1)

    def balanced_weights(self, labels: Labels) -> Floats:
        """rows / (labels that occur * rows of the label), as in scikit-learn."""
        counts = self.counts(labels)
        share = len(labels) / np.count_nonzero(counts)
        return np.where(counts > 0, share / np.maximum(counts, 1), 1.0)

    def scaled_weights(self, weights: Floats, labels: Labels) -> Floats:
        """The weights, scaled to a mean of 1 over the rows."""
        return np.asarray(weights / weights[labels].mean())

    def strata(self, labels: Labels) -> list[NDArray[np.int64]]:
        """The rows of each label."""
        return [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def probabilities(self, logits: Floats) -> Probabilities:
        """The softmax of the logits."""
        x = logits.astype(np.float64)
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """log(p / (1 - p)), the logit minus the log-sum-exp of the others; or the difference between two logits."""
        x = logits.astype(np.float64)
        rows = np.arange(len(x))
        target = x[rows, targets]
        if against is not None:
            return np.asarray(target - x[:, against])
        x[rows, targets] = -np.inf
        top = x.max(axis=1)
        return np.asarray(target - top - np.log(np.exp(x - top[:, None]).sum(axis=1)))

    def directions(self, targets: Labels, against: int | None) -> Probabilities:
        """1 for the label, and -1 for the other label or its equal parts for all other labels."""
        found = (
            np.zeros((len(targets), len(self.labels)))
            if against is not None
            else np.full((len(targets), len(self.labels)), -1 / (len(self.labels) - 1))
        )
        found[np.arange(len(targets)), targets] = 1
        if against is not None:
            found[:, against] -= 1
        return found

    def decide(self, probs: Floats, thresholds: Sequence[float] | None = None) -> Labels:
        """The top label of each row, (rows,)."""
        return self.top(probs)

    def distance(self, p: Floats, q: Floats) -> Probabilities:
        """The total variation distance: half the sum of |p - q| over the labels."""
        return np.asarray(np.abs(p - q).sum(axis=-1) / 2)

    def counts(self, labels: Labels) -> NDArray[np.int64]:
        """See `Task`."""
        return np.bincount(labels, minlength=len(self.labels))

    def names(self, labels: Labels) -> list[list[str]]:
        """The name of the label of each row."""
        return [[self.labels[label]] for label in labels]
