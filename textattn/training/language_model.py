"""Pretraining: the encoder learns to guess the next token of a text, and backwards the one before, without labels.

As in ULMFiT (Howard & Ruder 2018) it then goes on to learn the labels. Each direction has a projection of its own to
the size of the embeddings, which weigh the words as well as reading them (Press & Wolf 2017). Of the softmax over the
vocabulary only the right token and some drawn ones are computed, each corrected by how likely it is to be drawn (Jean
et al. 2015, eq. 8).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textattn.config.schema import TrainingConfig
from textattn.data.batches import collate, shuffled_batches, steps_of_epochs
from textattn.data.token_arrays import TokenArrays
from textattn.memory import give_back_memory, keep_freed_memory
from textattn.model.classifier import TextClassifier
from textattn.training.loop import check_finite, primitives_kept
from textattn.training.optimizer import AdamW, Placement, learning_rate_at

# Of which the loss that is told is a mean.
STEPS_OF_MEAN = 100


class PretrainingStep(NamedTuple):
    """After an optimiser step."""

    global_step: int
    total_steps: int
    loss: float
    """Nats a token, mean over the last steps; against the drawn tokens only."""


class LanguageModel(nn.Module):
    """The next token from the states of one direction, the token before from those of the other."""

    def __init__(self, model: TextClassifier) -> None:
        super().__init__()
        assert model.encoder is not None
        a = model.architecture
        self.embedding, self.encoder = model.embedding, model.encoder
        directions = 2 if a.bidirectional else 1
        self.projections = nn.ModuleList(nn.Linear(a.hidden_size, a.embedding_dim) for _ in range(directions))
        self.bias = nn.Parameter(torch.zeros(a.vocab_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, drawn: Tensor, log_q: Tensor) -> Tensor:
        """The mean loss of all guesses.

        Args:
            input_ids, attention_mask: (batch, seq) int64.
            drawn: (k,) the tokens to tell the right one from.
            log_q: (vocab_size,) the logarithm of how often each token is drawn.
        """
        # One look-up for all, for its gradient costs a matrix of the vocabulary.
        vectors = self.embedding(torch.cat([input_ids.flatten(), drawn]))
        embeddings = vectors[: input_ids.numel()].view(*input_ids.shape, -1)
        of_drawn = vectors[input_ids.numel() :]
        mask = attention_mask.bool()
        states = self.encoder(embeddings, mask)
        pairs = mask[:, 1:]  # those of two tokens that stand side by side
        size = states.shape[-1] // len(self.projections)
        total = self.bias.new_zeros(())
        for number, projection in enumerate(self.projections):
            of_direction = states[..., number * size : (number + 1) * size]
            if number == 0:
                reading, wanted, known = of_direction[:, :-1][pairs], input_ids[:, 1:][pairs], embeddings[:, 1:][pairs]
            else:
                reading, wanted, known = of_direction[:, 1:][pairs], input_ids[:, :-1][pairs], embeddings[:, :-1][pairs]
            guesses = projection(reading)
            right = (guesses * known).sum(-1) + (self.bias - log_q)[wanted]
            others = torch.addmm((self.bias - log_q)[drawn].to(guesses.dtype), guesses, of_drawn.to(guesses.dtype).t())
            others = others.to(self.bias.dtype).masked_fill(drawn == wanted.unsqueeze(1), -torch.inf)
            total = total + (torch.logaddexp(right, others.logsumexp(dim=1)) - right).sum()
        mean: Tensor = total / (pairs.sum() * len(self.projections)).clamp(min=1)
        return mean


def pretrain(
    model: TextClassifier,
    tokens: TokenArrays,
    settings: TrainingConfig,
    placement: Placement,
    *,
    negatives: int,
    pad_id: int,
    seed: int,
) -> Iterator[PretrainingStep]:
    """Trains the embedding and the encoder of `model` in place, step by step.

    Args:
        tokens: of the texts, with labels or without.
        settings: of which the batches, the learning rate, its schedule and the number of epochs count.
        negatives: tokens drawn for each batch.

    Raises:
        Diverged: the loss is not a finite number.
    """
    generator = np.random.default_rng(seed)
    lengths, device = tokens.lengths, placement.device
    steps = sum(steps_of_epochs(lengths, settings.batch_size, settings.max_tokens_per_batch, settings.epochs, seed))
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(primitives_kept(model, lengths, settings)))
    keep_freed_memory()
    language_model = LanguageModel(model).to(device)
    language_model.train()
    share = _shares(tokens, model.architecture.vocab_size)
    cumulated = np.cumsum(share)
    log_q = torch.from_numpy(np.log(np.maximum(share, 1e-12))).float().to(device)
    parameters = [p for p in language_model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=placement.dtype == torch.float16)
    step, losses = 0, list[float]()
    try:
        for _ in range(settings.epochs):
            for rows in shuffled_batches(lengths, settings.batch_size, generator, settings.max_tokens_per_batch):
                batch = (torch.from_numpy(array).to(device) for array in collate(tokens, rows, pad_id))
                places = np.searchsorted(cumulated, generator.random(negatives), side="right")
                drawn = torch.from_numpy(np.minimum(places, len(share) - 1)).to(device)
                with placement.autocast:
                    loss = language_model(*batch, drawn, log_q)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                if settings.max_grad_norm is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(step, steps, settings)
                scaler.step(optimizer)
                scaler.update()
                losses = [*losses[1 - STEPS_OF_MEAN :], loss.item()]
                step += 1
                check_finite(losses[-1:], step, learning_rate_at(step - 1, steps, settings), "model.pretraining")
                yield PretrainingStep(step, steps, sum(losses) / len(losses))
    finally:
        give_back_memory()


def _shares(tokens: TokenArrays, vocab_size: int) -> NDArray[np.float64]:
    """(vocab_size,) how often each token stands among all."""
    counts = np.zeros(vocab_size, np.int64)
    for first in range(0, len(tokens.ids), 1 << 22):
        counts += np.bincount(tokens.ids[first : first + (1 << 22)], minlength=vocab_size)
    return counts / max(int(counts.sum()), 1)
