"""From logits and class ids to one number to minimise, and from logits to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from textattn.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]
LossKind = Literal["softmax", "binary", "multi_label"]


def build_loss(kind: LossKind, label_smoothing: float, weights: Tensor | None) -> Loss:
    """A function of logits (batch, num_outputs) and labels, in fp32, mean over the batch.

    Args:
        kind: `softmax`: labels (batch,), cross-entropy. `binary`: labels (batch,) 0 or 1 and one logit. `multi_label`:
            labels (batch, num_labels) 0/1, mean binary cross-entropy over the labels.
        weights: (num_labels,) weight of each label (for multi-label: of its positive cases).
    """

    def softmax(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), labels, weight=weights, label_smoothing=label_smoothing)

    def binary(logits: Tensor, labels: Tensor) -> Tensor:
        target = labels.float() * (1 - label_smoothing) + label_smoothing / 2
        each = functional.binary_cross_entropy_with_logits(logits.float().squeeze(-1), target, reduction="none")
        if weights is None:
            return each.mean()
        weight = weights[labels]
        return (each * weight).sum() / weight.sum()

    def multi_label(logits: Tensor, labels: Tensor) -> Tensor:
        target = labels.float() * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=weights)

    return {"softmax": softmax, "binary": binary, "multi_label": multi_label}[kind]


def label_weights(
    setting: Literal["balanced"] | Mapping[str, float] | None, labels: NDArray[np.integer[Any]], names: Sequence[str]
) -> Tensor | None:
    """`training.class_weights` as a vector (num_labels,), or None where every row weighs the same.

    `balanced` is rows / (labels * rows of the label), as in scikit-learn; for multi-label, negatives / positives. A
    label that no row or every row has weighs 1.

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
    return torch.tensor([setting[name] for name in names], dtype=torch.float32)
