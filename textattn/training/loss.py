"""Combine the losses of a batch into the number that is minimised, exactly for any number of processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textattn.config.schema import TrainingConfig
from textattn.model.classifier import Output, TextClassifier
from textattn.tasks import Task
from textattn.training.attention_losses import AttentionLosses
from textattn.training.mean import Mean


@dataclass(frozen=True)
class Losses:
    """The losses that are minimised: the loss of the labels and the auxiliary losses of the attention."""

    task: Task
    label_smoothing: float
    weights: Tensor | None
    """(num_labels,) weight of each label, on the device of the model."""
    attention: AttentionLosses

    @classmethod
    def from_config(cls, config: TrainingConfig, task: Task, weights: Tensor | None) -> Losses:
        """Create the losses that a config specifies."""
        return cls(task, config.label_smoothing, weights, AttentionLosses.from_config(config, task))

    def __call__(
        self, model: TextClassifier, output: Output, mask: Tensor, labels: Tensor, evidence: Tensor | None
    ) -> list[Mean]:
        """Compute the weighted parts of the loss of a batch.

        Args:
            model: the model that is trained.
            output: the output of the model for this batch.
            mask: (batch, seq) attention mask.
            labels: (batch,) or (batch, num_labels), as the task takes them.
            evidence: (batch, seq) True at tokens that people marked; None if the data have no evidence.
        """
        return [self.of_labels(output.logits, labels), *self.attention(model, output, mask, labels, evidence)]

    def of_labels(self, logits: Tensor, labels: Tensor) -> Mean:
        """The loss of the labels: a mean over the rows, or with multi-label data over the rows and labels."""
        each = self.task.losses(logits, labels, self.label_smoothing, self.weights)
        return Mean(each.sum(), each.new_full((), each.numel()))


def class_weights(config: TrainingConfig, task: Task, labels: object, device: torch.device) -> Tensor | None:
    """Compute the weights of `training.class_weights` for these labels: (num_labels,) on `device`, or None."""
    weights = task.class_weights(config.class_weights, labels)  # type: ignore[arg-type]
    return None if weights is None else torch.from_numpy(weights).to(device)
