"""One of two labels, from a single logit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from textattn.errors import ConfigError
from textattn.tasks.base import Floats, Labels, Probabilities, Question, Task
from textattn.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    from torch import Tensor


class Binary(SingleLabel):
    """One of two labels: a sigmoid over one logit, that of the second label. Labels are (rows,) of 0 and 1."""

    output = "sigmoid"

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    def check_output(self, output: str | None) -> None:
        """Raises ConfigError unless there are two labels."""
        if len(self.labels) != 2:
            raise ConfigError(
                f"sigmoid needs two labels or multi-label data, but there are {len(self.labels)} labels",
                "model.output=softmax",
                setting="model.output",
            )

    def outputs_from(self, old: Task, labels: Labels) -> tuple[Probabilities, Probabilities]:
        """See `Task`. There are no other labels."""
        return Task.outputs_from(self, old, labels)

    def as_softmax(self) -> Probabilities:
        """Half the logit for the second label, and half of it against the first."""
        return np.array([[-0.5], [0.5]])

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """Binary cross-entropy, (batch,)."""
        each = smoothed_cross_entropy(logits.float().squeeze(-1), labels.float(), label_smoothing, None)
        return each if weights is None else each * weights[labels]

    def questions(self, labels: Labels, weights: Floats | None) -> list[Question]:
        """Whether the label is the second one."""
        each = None if weights is None else weights[labels]
        return [Question(np.ones(len(labels), np.bool_), labels == 1, each)]

    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The logit, negated if the first label is true."""
        return logits[:, 0] * (2 * labels - 1)

    def probabilities(self, logits: Floats) -> Probabilities:
        """The probabilities of both labels, (rows, 2)."""
        p = sigmoid(logits.astype(np.float64))
        return np.concatenate([1 - p, p], axis=1)

    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """The logit of the target label. The only other label is the one to compare with, whatever `against`."""
        return np.asarray(logits.astype(np.float64)[:, 0] * (2 * targets - 1))

    def directions(self, targets: Labels, against: int | None) -> Probabilities:
        """1 for the second label, -1 for the first."""
        return np.asarray(2.0 * targets - 1)[:, None]


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, label_smoothing: float, positive_weights: Tensor | None
) -> Tensor:
    """Binary cross-entropy of each element, with targets moved towards 1/2. The result has the shape of `logits`."""
    from torch.nn import functional

    target = labels * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=positive_weights, reduction="none")


def sigmoid(x: Probabilities) -> Probabilities:
    """The logistic function, in a form that is numerically stable on both sides of zero."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))
