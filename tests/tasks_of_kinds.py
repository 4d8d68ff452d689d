"""A task for each kind of output, and its loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.config.schema import TrainingConfig
from textattn.tasks import Binary, MultiLabel, SingleLabel, Task
from textattn.training.loss import Losses
from textattn.training.mean import Mean

KINDS: dict[str, type[Task]] = {"softmax": SingleLabel, "binary": Binary, "multi_label": MultiLabel}


def task(kind: str, num_labels: int = 3) -> Task:
    return KINDS[kind](list("abcdefgh"[: 2 if kind == "binary" else num_labels]))


def label_loss(kind: str, smoothing: float = 0.0, weights: Tensor | None = None) -> Callable[[Tensor, Tensor], Mean]:
    config = TrainingConfig(label_smoothing=smoothing)
    return Losses.from_config(config, task(kind), weights).of_labels


def class_weights(setting: object, labels: NDArray[np.integer], names: list[str]) -> Tensor | None:
    kind = MultiLabel if labels.ndim == 2 else SingleLabel
    weights = kind(names).class_weights(setting, labels)  # type: ignore[arg-type]
    return None if weights is None else torch.from_numpy(weights)
