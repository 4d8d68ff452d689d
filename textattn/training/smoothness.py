"""Losses that need no labels: an answer stays what it is where the words are nearly the same, and it is a clear one.

Virtual adversarial training (Miyato, Dai & Goodfellow 2017) and entropy minimisation (Grandvalet & Bengio 2005);
Sachan, Zaheer & Salakhutdinov 2019 have both for texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from textattn.config.schema import TrainingConfig
from textattn.model.classifier import TextClassifier
from textattn.training.loss import LossKind, Mean

# The direction that changes the answer most is looked for so far away, as a share of how far the words are moved then.
PROBE = 0.1


@dataclass(frozen=True)
class SmoothnessLoss:
    """The sum of the losses that are on."""

    size: float
    """How far the words of a text are moved, all together, in lengths of a word's embedding; 0: not at all."""
    entropy: float
    """Weight of the entropy."""
    kind: LossKind

    @classmethod
    def from_config(cls, config: TrainingConfig, kind: LossKind) -> SmoothnessLoss | None:
        """None where all are off."""
        values = (config.virtual_adversarial, config.entropy_minimisation)
        return cls(*values, kind) if any(values) else None

    def __call__(self, model: TextClassifier, input_ids: Tensor, mask: Tensor, logits: Tensor) -> list[Mean]:
        """What to add to the loss.

        Args:
            input_ids, mask: (batch, seq)
            logits: (batch, num_outputs) what the model answers.
        """
        parts = []
        if self.entropy:
            each = entropy(logits, self.kind)
            parts.append(Mean(each.sum(), each.new_full((), len(each))).times(self.entropy))
        if self.size:
            each = virtual_adversarial_loss(model, input_ids, mask, logits, self.size, self.kind)
            parts.append(Mean(each.sum(), each.new_full((), len(each))))
        return parts

    def of_unlabelled(self, model: TextClassifier, input_ids: Tensor, mask: Tensor) -> list[Mean]:
        """The same where nobody has asked the model yet."""
        with torch.set_grad_enabled(self.entropy > 0):
            logits = model(input_ids, mask).logits
        return self(model, input_ids, mask, logits)


def virtual_adversarial_loss(
    model: TextClassifier, input_ids: Tensor, mask: Tensor, target: Tensor, size: float, kind: LossKind
) -> Tensor:
    """How much the answer changes when the words are moved in the direction that changes it most.

    KL(p || p of the moved words), equation 6 of Miyato et al. 2017, the direction by one step of the power iteration
    from a random one. The length of the step is measured in embeddings of this text (the root of their mean square), so
    that larger embeddings are no way out; Miyato et al. scale all embeddings instead, and their 5 is 0.31 here. N-grams
    stay as they are: only the network learns from this.

    Args:
        input_ids, mask: (batch, seq)
        target: (batch, num_outputs) logits of the answer to keep; no gradient flows through it.
        size: how far all words of a text are moved together, in lengths of an embedding.

    Returns:
        (batch,) in fp32.
    """
    target = target.detach()
    real = mask.bool().unsqueeze(-1)
    embeddings = model.embed(input_ids)
    words = embeddings.detach().float() * real
    length = (words.square().sum(dim=(1, 2)) / real.sum(dim=(1, 2))).sqrt()[:, None, None]
    ngram_logits = None
    if model.ngrams is not None:
        with torch.no_grad():
            ngram_logits = model.ngrams(input_ids, mask)

    def moved(embeddings: Tensor, direction: Tensor) -> Tensor:
        logits: Tensor = model.forward_from_embeddings(embeddings + direction, mask, ngram_logits).logits
        return divergence(target, logits, kind)

    probe = (PROBE * size * length * _unit(torch.randn_like(words) * real)).requires_grad_()
    (gradient,) = torch.autograd.grad(moved(embeddings.detach(), probe).sum(), probe)
    return moved(embeddings, size * length * _unit(gradient.float() * real))


def _unit(direction: Tensor) -> Tensor:
    """Each text's (seq, dim) with length 1; 0 stays 0."""
    return direction / direction.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-20)


def divergence(target: Tensor, logits: Tensor, kind: LossKind) -> Tensor:
    """KL of the answer that `logits` give from the one that `target` gives, (batch, num_outputs) -> (batch,).

    Several labels: the mean over them.
    """
    target, logits = target.float(), logits.float()
    if kind == "softmax":
        found = target.log_softmax(dim=-1)
        return (found.exp() * (found - logits.log_softmax(dim=-1))).sum(dim=-1)
    p = target.sigmoid()
    yes = functional.logsigmoid(target) - functional.logsigmoid(logits)
    no = functional.logsigmoid(-target) - functional.logsigmoid(-logits)
    return (p * yes + (1 - p) * no).mean(dim=-1)


def entropy(logits: Tensor, kind: LossKind) -> Tensor:
    """(batch, num_outputs) -> (batch,), in nats; several labels: the mean over them."""
    logits = logits.float()
    if kind == "softmax":
        found = logits.log_softmax(dim=-1)
        return -(found.exp() * found).sum(dim=-1)
    p = logits.sigmoid()
    return -(p * functional.logsigmoid(logits) + (1 - p) * functional.logsigmoid(-logits)).mean(dim=-1)
