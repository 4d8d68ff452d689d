"""Auxiliary losses that make attention a better explanation. All are off by default."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textattn.config.schema import TrainingConfig
from textattn.model.attention import WeightedPooling
from textattn.model.classifier import Output, TextClassifier
from textattn.tasks import Task
from textattn.training.mean import Mean

# Exponent of the alignment target, between linear (1) and squared (2): the larger it is, the more the target favours
# the words that speak most clearly for the label.
SHARPNESS = 1.5


@dataclass(frozen=True)
class AttentionLosses:
    """The weight of each auxiliary loss; 0 turns it off."""

    alignment: float
    supervision: float
    tying: float
    task: Task

    @classmethod
    def from_config(cls, config: TrainingConfig, task: Task) -> AttentionLosses:
        """Read the weights from a config."""
        return cls(config.attention_alignment, config.attention_supervision, config.state_tying, task)

    def __call__(
        self, model: TextClassifier, output: Output, mask: Tensor, labels: Tensor, evidence: Tensor | None
    ) -> list[Mean]:
        """Compute the weighted auxiliary losses of a batch.

        Args:
            model: the model that is trained.
            output: the output of the model for this batch.
            mask: (batch, seq) attention mask.
            labels: the labels in the form that the task's loss takes.
            evidence: (batch, seq) True at tokens that people marked; None if the data have no evidence.
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
    """Cross-entropy between the attention and a target that shows which tokens speak for the true label.

    A token's target is max(0, dF / da_i) ** SHARPNESS, scaled to sum 1. F is the difference between the true label's
    logit and the mean of the other logits (multi-label: the sum of these differences over the given labels); a_i is the
    token's attention weight. If the pooled vector is a weighted sum, dF / da_i is the contribution of the token's value
    alone. The model's passages are applied to the target in the same way as to the attention. No gradient flows through
    the target.
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
        # The target must be reachable for attention that prefers some positions and is spread over passages.
        with torch.no_grad():
            total = vote.sum(dim=1, keepdim=True)
            uniform = mask / mask.sum(dim=1, keepdim=True)
            share = torch.where(total > 0, vote / total.clamp(min=1e-12), uniform)
            vote = model.passages(share.unsqueeze(1), mask).squeeze(1) * (total > 0)
    return _cross_entropy(output.attention_weights, vote)


def supervision_loss(attention_weights: Tensor, evidence: Tensor) -> Mean:
    """Cross-entropy between the attention and an equal share for each marked token (Mathew et al. 2021, HateXplain).

    Args:
        attention_weights: (batch, seq)
        evidence: (batch, seq) bool; texts without marked tokens are ignored.
    """
    return _cross_entropy(attention_weights, evidence.float())


def _cross_entropy(attention_weights: Tensor, target: Tensor) -> Mean:
    """Cross-entropy with a target of shape (batch, seq), scaled to sum 1 here: the mean over texts with a target."""
    total = target.sum(dim=1)
    target = target / total.clamp(min=1e-12)[:, None]
    # Softmax may underflow to 0, which has no logarithm.
    each = -(target * attention_weights.float().clamp(min=1e-9).log()).sum(dim=1)
    known = total > 0
    return Mean((each * known).sum(), known.sum().float())


def tying_loss(encoder_states: Tensor, embeddings: Tensor, mask: Tensor) -> Mean:
    """Mean squared distance between the states of each direction and the embedding of the token (Tutek & Šnajder 2020).

    Args:
        encoder_states: (batch, seq, directions * embedding_dim)
        embeddings: (batch, seq, embedding_dim)
        mask: (batch, seq) bool; True at tokens.
    """
    directions = encoder_states.shape[-1] // embeddings.shape[-1]
    distance = (encoder_states - embeddings.repeat(1, 1, directions)).square().sum(dim=-1)  # (batch, seq)
    return Mean(distance.masked_fill(~mask, 0).sum(), mask.sum().float())
