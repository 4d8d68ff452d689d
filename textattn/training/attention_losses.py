"""Losses beside the labels' own that make attention an explanation worth showing. All off unless the config says so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textattn.config.schema import TrainingConfig
from textattn.model.attention import WeightedPooling
from textattn.model.classifier import Output, TextClassifier
from textattn.training.loss import LossKind, Mean

# How much more a word counts that speaks for the label twice as clearly: between linear and squared, as a target.
SHARPNESS = 1.5


@dataclass(frozen=True)
class FaithfulnessLoss:
    """The weighted sum of the losses that are on."""

    alignment: float
    supervision: float
    tying: float
    kind: LossKind

    @classmethod
    def from_config(cls, config: TrainingConfig, kind: LossKind) -> FaithfulnessLoss | None:
        """None where all are off."""
        weights = (
            config.attention_alignment, config.attention_supervision, config.state_tying
        )  # fmt: skip
        return cls(*weights, kind) if any(weights) else None

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
            parts.append(alignment_loss(model, output, mask, labels, self.kind).times(self.alignment))
        if self.supervision and evidence is not None:
            parts.append(supervision_loss(output.attention_weights, evidence).times(self.supervision))
        if self.tying:
            states = output.encoder_states.float()
            parts.append(tying_loss(states, output.embeddings.float(), mask).times(self.tying))
        return parts


def alignment_loss(model: TextClassifier, output: Output, mask: Tensor, labels: Tensor, kind: LossKind) -> Mean:
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
        (gradient,) = torch.autograd.grad(_for_the_label(logits, labels, kind).sum(), weights)
    vote = gradient.sum(dim=1).clamp(min=0).masked_fill(~mask, 0) ** SHARPNESS  # (batch, seq)
    if model.passages is not None:
        # What the votes come to where attention prefers some places, and lies on passages.
        with torch.no_grad():
            total = vote.sum(dim=1, keepdim=True)
            uniform = mask / mask.sum(dim=1, keepdim=True)
            share = torch.where(total > 0, vote / total.clamp(min=1e-12), uniform)
            vote = model.passages(share.unsqueeze(1), mask).squeeze(1) * (total > 0)
    return _cross_entropy(output.attention_weights, vote)


def _for_the_label(logits: Tensor, labels: Tensor, kind: LossKind) -> Tensor:
    """(batch, num_outputs) -> (batch,)."""
    if kind == "binary":
        return logits[:, 0] * (2 * labels - 1)
    if kind == "multi_label":
        return (logits * labels).sum(dim=1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return own - (logits.sum(dim=1) - own) / (logits.shape[1] - 1)


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
