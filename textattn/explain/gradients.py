"""Explanations from gradients, in PyTorch.

Integrated gradients equal Captum's (tests), without importing it: that takes as long as the answer, most of it for
matplotlib. All methods are with respect to the log-odds of `textattn.explain.targets`, without dropout, and sum over
the embedding's dimensions, so that a token has one number with a sign: for the label or against it. What a token adds
to the logits as part of n-grams is an input like its embedding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.errors import ConfigError
from textattn.explain.targets import Targets
from textattn.inference.torch_session import TorchSession
from textattn.model.attention import WeightedPooling
from textattn.model.classifier import TextClassifier
from textattn.tokens.batches import collate, sorted_batches
from textattn.tokens.token_arrays import TokenArrays

# Tokens of a batch with its padding; integrated gradients run so many tokens at a time.
MAX_TOKENS = 16_384
# Integrated gradients: points of the Gauss-Legendre rule at first; doubled for texts whose sum is further than
# TOLERANCE from what it should be, at most to MOST_STEPS.
FIRST_STEPS = 16
MOST_STEPS = 512
TOLERANCE = 0.01
# Log-odds, in nats: smaller changes are not divided by.
LEAST_CHANGE = 0.05


_Inputs = tuple[Tensor, Tensor]
_Forward = Callable[[_Inputs, Tensor, Tensor], Tensor]


class Gradients(NamedTuple):
    """Scores of many texts."""

    scores: list[NDArray[np.float64]]
    """(tokens,) for each text"""
    completeness_error: NDArray[np.float64] | None
    """(rows,) integrated gradients: how far their sum is from the change of the log-odds, as a share of it"""


class _Batch(NamedTuple):
    rows: NDArray[np.int64]
    input_ids: Tensor
    """(batch, seq)"""
    mask: Tensor
    """(batch, seq)"""
    labels: Tensor
    """(batch,)"""


def gradient_x_input(session: TorchSession, tokens: TokenArrays, targets: Targets, pad_id: int) -> Gradients:
    """Gradient times embedding (Shrikumar et al. 2016)."""
    scores: dict[int, NDArray[np.float64]] = {}
    with _ready(session) as model:
        forward = _forward(model, targets)
        for batch in _batches(session, tokens, targets, pad_id, MAX_TOKENS):
            inputs = _inputs(model, batch)
            gradients = torch.autograd.grad(forward(inputs, batch.mask, batch.labels).sum(), inputs)
            _store(scores, batch, tuple(x * gradient for x, gradient in zip(inputs, gradients, strict=True)))
    return Gradients([scores[row] for row in range(len(tokens))], None)


def integrated_gradients(
    session: TorchSession, tokens: TokenArrays, targets: Targets, pad_id: int, unk_id: int
) -> Gradients:
    """Integrated gradients (Sundararajan et al. 2017) from the unknown token at every place.

    The unknown token stands for "some word": word dropout has shown it to the model in training. The scores of a text
    sum to how far its log-odds are from those of a text of unknown tokens; the number of steps doubles until they do.
    """
    scores: dict[int, NDArray[np.float64]] = {}
    errors = np.full(len(tokens), np.inf)
    with _ready(session) as model:
        forward = _forward(model, targets)
        steps, left = FIRST_STEPS, np.arange(len(tokens))
        while len(left):
            for batch in _batches(session, tokens, targets, pad_id, MAX_TOKENS // 4, left):
                inputs = _inputs(model, batch)
                # N-grams with an unknown token do not count.
                baseline = (
                    model.embedding(torch.full_like(batch.input_ids, unk_id)).detach(),
                    torch.zeros_like(inputs[1]),
                )
                given = _path_integral(forward, inputs, baseline, batch, steps)
                with torch.inference_mode():
                    change, start = (forward(x, batch.mask, batch.labels) for x in (inputs, baseline))
                    change = change - start
                missing = sum(part.flatten(1).sum(1) for part in given) - change
                errors[batch.rows] = (missing.abs() / change.abs().clamp(min=LEAST_CHANGE)).double().cpu().numpy()
                _store(scores, batch, given)
            left = left[errors[left] > TOLERANCE]
            steps *= 2
            if steps > MOST_STEPS:
                break
    return Gradients([scores[row] for row in range(len(tokens))], errors)


def _path_integral(
    forward: _Forward, inputs: _Inputs, baseline: _Inputs, batch: _Batch, steps: int
) -> tuple[Tensor, Tensor]:
    """(x - x') times the mean gradient between baseline x' and input x, by the Gauss-Legendre rule with `steps` points.

    Of the shape of the inputs (Sundararajan et al. 2017, eq. 1).
    """
    places, weights = np.polynomial.legendre.leggauss(steps)
    at_once = max(1, MAX_TOKENS // batch.mask.numel())
    change = [(x - start).detach() for x, start in zip(inputs, baseline, strict=True)]
    means = [torch.zeros_like(x) for x in change]
    for first in range(0, steps, at_once):
        place, weight = (torch.from_numpy(a[first : first + at_once] / 2).to(change[0]) for a in (places, weights))
        embeddings, contributions = (
            (start + (place + 0.5).view(-1, 1, 1, 1) * x).flatten(0, 1).requires_grad_()
            for start, x in zip(baseline, change, strict=True)
        )
        between = embeddings, contributions
        answers = forward(between, batch.mask.repeat(len(place), 1), batch.labels.repeat(len(place)))
        for mean, gradient in zip(means, torch.autograd.grad(answers.sum(), between), strict=True):
            mean += torch.tensordot(weight, gradient.view(len(place), *mean.shape), dims=1)
    return change[0] * means[0], change[1] * means[1]


def attention_x_gradient(session: TorchSession, tokens: TokenArrays, targets: Targets, pad_id: int) -> Gradients:
    """Attention weight times the gradient with respect to it, the states held fixed (Serrano & Smith 2019, section 4).

    Raises:
        ConfigError: the model has no attention weights of its own.
    """
    scores: dict[int, NDArray[np.float64]] = {}
    with _ready(session) as model:
        attention = weighted_pooling(model, "attention_x_gradient")
        for batch in _batches(session, tokens, targets, pad_id, MAX_TOKENS):
            with torch.no_grad():
                states = model.states(model.embedding(batch.input_ids), batch.mask)
                weights = attention.weigh(states.scored, batch.mask.bool())
                ngram_logits = model.ngram_contributions(batch.input_ids, batch.mask).sum(1)
            weights.requires_grad_()  # (batch, heads, seq)
            logits = model.classifier(attention.pool(states.pooled, weights, batch.mask.bool())) + ngram_logits
            (gradient,) = torch.autograd.grad(log_odds(logits, batch.labels, targets).sum(), weights)
            _store(scores, batch, ((weights * gradient).sum(1, keepdim=True).transpose(1, 2),))
    return Gradients([scores[row] for row in range(len(tokens))], None)


def ngrams(session: TorchSession, tokens: TokenArrays, targets: Targets, pad_id: int) -> Gradients:
    """What each token, as part of n-grams, adds to the label's logit rather than to the others' (their mean). Exact.

    Raises:
        ConfigError: the model has no n-grams.
    """
    if session.model.ngrams is None:
        raise ConfigError("ngrams: this model has no linear part (model.ngrams)", "--method gradient_x_input")
    scores: dict[int, NDArray[np.float64]] = {}
    with _ready(session) as model:
        for batch in _batches(session, tokens, targets, pad_id, MAX_TOKENS):
            shares = model.ngram_contributions(batch.input_ids, batch.mask)
            num_outputs = shares.shape[2]
            own = torch.nn.functional.one_hot(batch.labels, num_outputs).to(shares) if num_outputs > 1 else None
            if own is None:
                direction = (2 * batch.labels - 1).to(shares)[:, None]
            elif targets.against is not None:
                direction = own - torch.eye(num_outputs).to(shares)[targets.against]
            else:
                direction = own if targets.output == "sigmoid" else own - (1 - own) / (num_outputs - 1)
            _store(scores, batch, (shares * direction[:, None],))
    return Gradients([scores[row] for row in range(len(tokens))], None)


def weighted_pooling(model: TextClassifier, method: str) -> WeightedPooling:
    """The model's attention, if it has weights of its own.

    Raises:
        ConfigError: it pools with `max` or `last`.
    """
    if not isinstance(model.attention, WeightedPooling):
        name = model.architecture.attention
        raise ConfigError(f"{method}: this model has no attention weights, it pools with {name}", "--method occlusion")
    return model.attention


def log_odds(logits: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """`Targets.log_odds` in PyTorch: (batch, num_outputs), (batch,) -> (batch,)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * labels - 1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    if targets.against is not None:
        return own - logits[:, targets.against]
    if targets.output == "sigmoid":
        return own
    return own - logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)


@contextlib.contextmanager
def _ready(session: TorchSession) -> Iterator[TextClassifier]:
    """The model, its weights without gradients, and cuDNN off: its LSTM has no backward pass outside of training."""
    model = session.model
    needed = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.backends.cudnn.flags(enabled=False):
        for parameter in needed:
            parameter.requires_grad_(False)
        try:
            yield model
        finally:
            for parameter in needed:
                parameter.requires_grad_()


def _forward(model: TextClassifier, targets: Targets) -> _Forward:
    def forward(inputs: _Inputs, mask: Tensor, labels: Tensor) -> Tensor:
        embeddings, contributions = inputs
        return log_odds(model.forward_from_embeddings(embeddings, mask, contributions.sum(1)).logits, labels, targets)

    return forward


def _inputs(model: TextClassifier, batch: _Batch) -> _Inputs:
    """Embeddings, (batch, seq, embedding_dim), and what the n-grams contribute, (batch, seq, num_outputs)."""
    with torch.no_grad():
        contributions = model.ngram_contributions(batch.input_ids, batch.mask)
        embeddings = model.embedding(batch.input_ids)
    return embeddings.requires_grad_(), contributions.requires_grad_()


def _batches(
    session: TorchSession,
    tokens: TokenArrays,
    targets: Targets,
    pad_id: int,
    max_tokens: int,
    rows: NDArray[np.int64] | None = None,
) -> Iterator[_Batch]:
    rows = np.arange(len(tokens)) if rows is None else rows
    for indices in sorted_batches(tokens.lengths[rows], max_tokens):
        chosen = rows[indices]
        input_ids, mask = (torch.from_numpy(a).to(session.device) for a in collate(tokens, chosen, pad_id))
        yield _Batch(chosen, input_ids, mask, torch.from_numpy(targets.labels[chosen]).to(session.device))


def _store(scores: dict[int, NDArray[np.float64]], batch: _Batch, given: tuple[Tensor, ...]) -> None:
    """given: (batch, seq, size) each; a token's score is the sum of all its numbers."""
    lengths = batch.mask.sum(1).tolist()
    total = sum(part.detach().double().sum(-1) for part in given)
    assert isinstance(total, Tensor)
    for row, length, values in zip(batch.rows.tolist(), lengths, total.cpu().numpy(), strict=True):
        scores[row] = values[:length]
