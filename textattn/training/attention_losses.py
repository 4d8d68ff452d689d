"""Losses beside that of the labels that make attention a better explanation. All are off by default."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textattn.config.schema import TrainingConfig
from textattn.model.attention import WeightedPooling
from textattn.model.classifier import Output, TextClassifier
from textattn.tasks import Task
from textattn.training.mean import Mean

# How much more a word counts that speaks for the label twice as clearly: between linear and squared, as a target.
SHARPNESS = 1.5


@dataclass(frozen=True)
class AttentionLosses:
    """The weight of each of these losses; 0 where it is off."""

    alignment: float
    supervision: float
    tying: float
    task: Task

    @classmethod
    def from_config(cls, config: TrainingConfig, task: Task) -> AttentionLosses:
        """The weights of a config."""
        return cls(config.attention_alignment, config.attention_supervision, config.state_tying, task)

    def __call__(
        self, model: TextClassifier, output: Output, mask: Tensor, labels: Tensor, evidence: Tensor | None
    ) -> list[Mean]:
        """What to add to the loss, each already weighted.

        Args:
            mask: (batch, seq)
            labels: as the labels' loss takes them.
            evidence: (batch, seq) True at tokens people marked; None without any.
        """
        mask = mask.bool()
        parts = []
        if self.alignment:
            parts.append(alignment_loss(model, output, mask, labels, self.task).times(self.alignment))
        if self.supervision and evidence is not None:
            parts.append(supervision_loss(output.attention_weights, evidence).times(self.supervision))
        if self.tying:
            states = output.encoder_states.float()
            parts.append(tying_loss(states, output.embeddings.float(), mask).times(self.tying))
        return parts


def alignment_loss(model: TextClassifier, output: Output, mask: Tensor, labels: Tensor, task: Task) -> Mean:
    """Cross-entropy of the attention with what its own values say of the true label.

    A token's target is max(0, dF / da_i) ** SHARPNESS, scaled to sum 1: F is how far the true label's logit is above
    the mean of the others (multi-label: the sum over the labels given), a_i the token's weight. Where the pooled vector
    is a weighted sum, dF / da_i is what the token's value alone would say. The model's passages apply to the target
    as to its attention. No gradient flows through the target.
    """
    assert isinstance(model.attention, WeightedPooling)
    assert output.head_weights is not None
    with torch.no_grad():
        values = output.hidden_states.detach().float()
        weights = output.head_weights.detach().float()
    with torch.enable_grad(), torch.autocast(values.device.type, enabled=False):
        weights.requires_grad_()
        logits = model.classifier(model.attention.pool(values, weights, mask))
        (gradient,) = torch.autograd.grad(task.true_label_margin(logits, labels).sum(), weights)
    vote = gradient.sum(dim=1).clamp(min=0).masked_fill(~mask, 0) ** SHARPNESS  # (batch, seq)
    if model.passages is not None:
        # What the votes come to where attention prefers some places, and lies on passages.
        with torch.no_grad():
            total = vote.sum(dim=1, keepdim=True)
            uniform = mask / mask.sum(dim=1, keepdim=True)
            share = torch.where(total > 0, vote / total.clamp(min=1e-12), uniform)
            vote = model.passages(share.unsqueeze(1), mask).squeeze(1) * (total > 0)
    return _cross_entropy(output.attention_weights, vote)


def supervision_loss(attention_weights: Tensor, evidence: Tensor) -> Mean:
    """Cross-entropy of the attention with an equal share for each marked token (Mathew et al. 2021, HateXplain).

    Args:
        attention_weights: (batch, seq)
        evidence: (batch, seq) bool; texts without any do not count.
    """
    return _cross_entropy(attention_weights, evidence.float())


def _cross_entropy(attention_weights: Tensor, target: Tensor) -> Mean:
    """Mean over the texts that have a target, (batch, seq) not yet scaled to sum 1."""
    total = target.sum(dim=1)
    target = target / total.clamp(min=1e-12)[:, None]
    # A weight that softmax has made 0 has no logarithm.
    each = -(target * attention_weights.float().clamp(min=1e-9).log()).sum(dim=1)
    known = total > 0
    return Mean((each * known).sum(), known.sum().float())


def tying_loss(encoder_states: Tensor, embeddings: Tensor, mask: Tensor) -> Mean:
    """Mean squared distance of a token's states, of each direction, from its embedding (Tutek & Šnajder 2020)."""
    directions = encoder_states.shape[-1] // embeddings.shape[-1]
    distance = (encoder_states - embeddings.repeat(1, 1, directions)).square().sum(dim=-1)  # (batch, seq)
    return Mean(distance.masked_fill(~mask, 0).sum(), mask.sum().float())
