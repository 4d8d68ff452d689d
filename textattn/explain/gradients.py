"""What the methods that use gradients share: the model in PyTorch, its inputs in batches, and the log-odds of targets.

Gradients are with respect to the log-odds of `textattn.explain.targets`, without dropout. The inputs are the embeddings
and what each token adds to the logits as part of n-grams. A token's score is the sum over all its numbers, so that it
is one number with a sign: for the label or against it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.errors import ConfigError, Option
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.targets import Targets
from textattn.model.attention import WeightedPooling
from textattn.model.classifier import TextClassifier
from textattn.tokens.batches import collate, sorted_batches
from textattn.training.slices import one_thread

# Tokens of a batch with its padding; bounds memory.
MAX_TOKENS = 16_384

Inputs = tuple[Tensor, Tensor]
"""Embeddings, (batch, seq, embedding_dim), and what the n-grams contribute, (batch, seq, num_outputs)."""


class Batch(NamedTuple):
    """Some of the texts, padded."""

    rows: NDArray[np.int64]
    """(batch,) which texts they are."""
    input_ids: Tensor
    """(batch, seq)"""
    mask: Tensor
    """(batch, seq)"""
    labels: Tensor
    """(batch,) the label to explain."""

    def repeat(self, times: int) -> Batch:
        """All texts so many times, one copy of the whole batch after the other."""
        return Batch(
            np.tile(self.rows, times), self.input_ids.repeat(times, 1), self.mask.repeat(times, 1),
            self.labels.repeat(times),
        )  # fmt: skip


class GradientSession:
    """Texts and targets, ready for gradients. `gradient_session` opens one."""

    def __init__(self, model: TextClassifier, device: torch.device, forward: ForwardPass, targets: Targets) -> None:
        self.model = model
        self.device = device
        self.forward = forward
        self.targets = targets
        self._scores: dict[int, NDArray[np.float64]] = {}

    def batches(self, max_tokens: int | None = None, rows: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """The texts in batches of similar length.

        Args:
            max_tokens: of a batch with its padding; default MAX_TOKENS.
            rows: which texts; default: all.
        """
        tokens = self.forward.tokens
        rows = np.arange(len(tokens)) if rows is None else rows
        for indices in sorted_batches(tokens.lengths[rows], max_tokens or MAX_TOKENS):
            chosen = rows[indices]
            pad_id = self.forward.classifier.tokenizer.pad_id
            input_ids, mask = (torch.from_numpy(a).to(self.device) for a in collate(tokens, chosen, pad_id))
            labels = torch.from_numpy(self.targets.labels[chosen]).to(self.device)
            yield Batch(chosen, input_ids, mask, labels)

    def inputs(self, batch: Batch) -> Inputs:
        """The inputs of a batch, which ask for gradients."""
        with torch.no_grad():
            contributions = self.model.ngram_contributions(batch.input_ids, batch.mask)
            embeddings = self.model.embedding(batch.input_ids)
        return embeddings.requires_grad_(), contributions.requires_grad_()

    def log_odds(self, inputs: Inputs, batch: Batch) -> Tensor:
        """(batch,) the log-odds of the batch's targets, of any inputs."""
        embeddings, contributions = inputs
        logits = self.model.forward_from_embeddings(embeddings, batch.mask, contributions.sum(1)).logits
        return self.log_odds_of(logits, batch)

    def log_odds_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """(batch, num_outputs) -> (batch,)."""
        return log_odds(logits, batch.labels, self.targets)

    def gradients(self, inputs: Inputs, batch: Batch) -> tuple[Tensor, ...]:
        """Gradients of the log-odds with respect to the inputs, in their shapes."""
        return torch.autograd.grad(self.log_odds(inputs, batch).sum(), inputs)

    def store(self, batch: Batch, *parts: Tensor) -> None:
        """Keeps scores of a batch: of each token the sum over the last dimension of all parts, (batch, seq, size)."""
        lengths = batch.mask.sum(1).tolist()
        total = sum(part.detach().double().sum(-1) for part in parts)
        assert isinstance(total, Tensor)
        for row, length, values in zip(batch.rows.tolist(), lengths, total.cpu().numpy(), strict=True):
            self._scores[row] = values[:length]

    @property
    def scores(self) -> list[NDArray[np.float64]]:
        """(tokens,) for each text, in order; every text must have been stored."""
        return [self._scores[row] for row in range(len(self.forward))]


@contextlib.contextmanager
def gradient_session(forward: ForwardPass, targets: Targets) -> Iterator[GradientSession]:
    """Opens the model for gradients with respect to its inputs; restores its parameters at the end.

    Meanwhile the parameters ask for no gradients, and cuDNN is off, because its LSTM has no backward pass outside of
    training. Torch computes on one thread: on an idle machine that is as fast for a recurrent model, and on a busy one
    several threads that wait for one another at every time step are many times slower.

    Raises:
        InputError: the model has no weights that PyTorch could load.
    """
    session = forward.classifier.torch_session
    model = session.model
    needed = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.backends.cudnn.flags(enabled=False), one_thread():
        for parameter in needed:
            parameter.requires_grad_(False)
        try:
            yield GradientSession(model, session.device, forward, targets)
        finally:
            for parameter in needed:
                parameter.requires_grad_()


def weighted_pooling(model: TextClassifier, method: str) -> WeightedPooling:
    """The model's attention, if it has weights of its own.

    Raises:
        ConfigError: it pools with `max` or `last`.
    """
    if not isinstance(model.attention, WeightedPooling):
        name = model.architecture.attention
        raise ConfigError(
            f"{method}: this model has no attention weights, it pools with {name}", Option("method", "occlusion")
        )
    return model.attention


def log_odds(logits: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """`Targets.log_odds` in PyTorch: (batch, num_outputs), (batch,) -> (batch,)."""
    logits = logits.float()
    if targets.task.output == "ordinal":
        return _log_odds_of_grades(logits, labels, targets.against)
    if targets.task.output == "number":
        units = torch.from_numpy(targets.task.directions(labels.cpu().numpy(), None)).to(logits)
        return (logits * units).sum(1)
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * labels - 1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    if targets.against is not None:
        return own - logits[:, targets.against]
    if targets.task.output == "sigmoid":
        return own
    return own - logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)


def _log_odds_of_grades(logits: Tensor, labels: Tensor, against: int | None) -> Tensor:
    """As `Ordinal.log_odds`, from sums of log-sigmoids."""
    reached = torch.nn.functional.pad(torch.nn.functional.logsigmoid(logits).cumsum(1), (1, 0))
    ends = torch.nn.functional.pad(torch.nn.functional.logsigmoid(-logits), (0, 1))
    log_probs = reached + ends
    own = log_probs.gather(1, labels[:, None]).squeeze(1)
    if against is not None:
        return own - log_probs[:, against]
    return own - log_probs.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
