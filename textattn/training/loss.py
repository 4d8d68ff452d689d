"""From logits and class ids to one number to minimise, and from logits to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from textattn.errors import ConfigError

LossKind = Literal["softmax", "binary", "multi_label"]


@dataclass(frozen=True)
class Mean:
    """A mean not yet divided, so that the parts of a batch that several processes hold give that of the whole."""

    total: Tensor
    """A number in fp32, with its gradient."""
    count: Tensor
    """What to divide by: rows or tokens. Where it is 0, so is the mean."""

    def value(self) -> Tensor:
        """The mean of what is here."""
        return self.total / self.count.clamp(min=1e-12)

    def times(self, weight: float) -> Mean:
        """The mean `weight` times as large."""
        return Mean(weight * self.total, self.count)

    def of_nothing(self) -> Mean:
        """One that does not count, with a gradient of 0 for all that this one depends on."""
        return Mean(0 * self.total, 0 * self.count)


Loss = Callable[[Tensor, Tensor], Mean]


def build_loss(kind: LossKind, label_smoothing: float, weights: Tensor | None) -> Loss:
    """A function of logits (batch, num_outputs) and labels; a mean over the rows of the batch, each with its weight.

    It is not divided by the weights in the batch, as torch would: that would take from a rare label, which few batches
    hold, most of what its weight gives it.

    Args:
        kind: `softmax`: labels (batch,), cross-entropy. `binary`: labels (batch,) 0 or 1 and one logit. `multi_label`:
            labels (batch, num_labels) 0/1, mean binary cross-entropy over the labels.
        weights: (num_labels,) weight of each label (for multi-label: of its positive cases).
    """

    def softmax(logits: Tensor, labels: Tensor) -> Mean:
        logits = logits.float()
        each = functional.cross_entropy(
            logits, labels, weight=weights, label_smoothing=label_smoothing, reduction="none"
        )
        return Mean(each.sum(), each.new_full((), len(each)))

    def binary(logits: Tensor, labels: Tensor) -> Mean:
        each = _binary_cross_entropy(logits.float().squeeze(-1), labels.float(), None)
        if weights is not None:
            each = each * weights[labels]
        return Mean(each.sum(), each.new_full((), len(each)))

    def multi_label(logits: Tensor, labels: Tensor) -> Mean:
        each = _binary_cross_entropy(logits.float(), labels.float(), weights)
        return Mean(each.sum(), each.new_full((), each.numel()))

    def _binary_cross_entropy(logits: Tensor, labels: Tensor, positive_weights: Tensor | None) -> Tensor:
        target = labels * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits, target, pos_weight=positive_weights, reduction="none"
        )

    return {"softmax": softmax, "binary": binary, "multi_label": multi_label}[kind]


def label_weights(
    setting: Literal["balanced"] | Mapping[str, float] | None, labels: NDArray[np.integer[Any]], names: Sequence[str]
) -> Tensor | None:
    """`training.class_weights` as a vector (num_labels,), or None where every row weighs the same.

    `balanced` is rows / (labels * rows of the label), as in scikit-learn; for multi-label, negatives / positives. A
    label that no row or every row has weighs 1. Weights of one label a row are scaled to a mean of 1 over the rows.

    Raises:
        ConfigError: a weight is given for a label that does not exist, or one is missing.
    """
    if setting is None:
        return None
    if setting == "balanced":
        if labels.ndim == 2:
            positive = labels.sum(axis=0, dtype=np.int64)
            share, counts = len(labels) - positive, positive
        else:
            counts = np.bincount(labels, minlength=len(names))
            share = np.full(len(names), len(labels) / np.count_nonzero(counts))
        # There is nothing to balance where one side is empty.
        weights = np.where((counts > 0) & (share > 0), share / np.maximum(counts, 1), 1.0)
        return torch.tensor(weights, dtype=torch.float32)
    wrong = sorted(set(setting) ^ set(names))
    if wrong:
        raise ConfigError(
            f"training.class_weights: give one weight for each of the labels {', '.join(names)}; "
            f"missing or unknown: {', '.join(wrong)}",
            "training.class_weights=balanced",
        )
    weights = np.array([setting[name] for name in names], np.float64)
    return torch.tensor(weights if labels.ndim == 2 else weights / weights[labels].mean(), dtype=torch.float32)
