"""Tests of whether a model's attention matters: other weights in place of its own, with the states held fixed.

Jain & Wallace 2019 (permuted weights), Serrano & Smith 2019 (weights set to 0), and equal weights. In PyTorch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.explain.audit_measures import conicity, order_by
from textattn.explain.gradients import MAX_TOKENS, weighted_pooling
from textattn.inference.classifier import Classifier
from textattn.model.attention import uniform_weights
from textattn.model.classifier import TextClassifier
from textattn.tokens.batches import collate, sorted_batches
from textattn.tokens.token_arrays import TokenArrays

# Random permutations of the weights of each text (Jain & Wallace 2019 have 100; the median hardly moves).
PERMUTATIONS = 20


class AttentionChecks(NamedTuple):
    """Each (rows,)."""

    conicity: NDArray[np.float64]
    uniform: NDArray[np.float64]
    """(rows, labels) answers where every token has the same weight"""
    permuted: NDArray[np.float64]
    """Median total variation of the answer over random permutations of the weights (Jain & Wallace 2019, 4.2)"""
    top_weight_flips: NDArray[np.bool_]
    """Whether the answer is another when the largest weight is 0 and the others take it over (Serrano & Smith)"""
    random_weight_flips: NDArray[np.bool_]
    """The same with a random weight"""
    erased_until_flip: NDArray[np.float64]
    """Share of the weights, largest first, set to 0 until it changes; 1 where it never does"""
    random_erased_until_flip: NDArray[np.float64]
    """The same in random order"""


class _Text(NamedTuple):
    """What one text is made of when its weights are exchanged."""

    states: Tensor
    """(tokens, dim)"""
    weights: Tensor
    """(heads, tokens)"""
    ngram_logits: Tensor
    """(num_outputs,)"""


def check_attention(
    classifier: Classifier, tokens: TokenArrays, probs: NDArray[np.float64], seed: int
) -> AttentionChecks:
    """Exchanges the weights of every text.

    Args:
        probs: (rows, labels) the model's answers.

    Raises:
        ConfigError: the model has no attention weights of its own.
    """
    session = classifier.torch_session
    model = session.model
    weighted_pooling(model, "audit")  # or say that there are no weights
    rows: dict[int, tuple[object, ...]] = {}
    for indices in sorted_batches(tokens.lengths, MAX_TOKENS):
        input_ids, mask = (
            torch.from_numpy(array).to(session.device)
            for array in collate(tokens, indices, classifier.tokenizer.pad_id)
        )
        with torch.inference_mode():
            given = model.states(model.embedding(input_ids), mask)
            all_weights = model.head_weights(given, mask)
            ngram_logits = model.ngram_contributions(input_ids, mask).sum(1)
        assert all_weights is not None
        for row, states, weights, logits in zip(indices.tolist(), given.pooled, all_weights, ngram_logits, strict=True):
            length = int(tokens.lengths[row])
            text = _Text(states[:length], weights[:, :length], logits)
            rows[row] = _check_row(classifier, model, text, probs[row], np.random.default_rng([seed, row]))
    columns = list(zip(*(rows[row] for row in range(len(tokens))), strict=True))
    return AttentionChecks(*(np.array(column) for column in columns))


def _check_row(
    classifier: Classifier,
    model: TextClassifier,
    text: _Text,
    probs: NDArray[np.float64],
    generator: np.random.Generator,
) -> tuple[object, ...]:
    states, weights = text.states, text.weights
    normalized = weighted_pooling(model, "audit").normalized
    length = len(states)
    mask = torch.ones(1, length, dtype=torch.bool, device=states.device)
    uniform = uniform_weights(mask, states).expand(len(weights), -1)
    if not normalized:
        uniform = uniform * weights.sum(-1, keepdim=True)
    shuffles = [torch.from_numpy(generator.permutation(length)) for _ in range(PERMUTATIONS)]
    by_weight = order_by(weights.mean(0).double().cpu().numpy(), generator)
    at_random = generator.permutation(length)
    exchanged = [uniform, *(weights[:, order] for order in shuffles)]
    given = _answers(classifier, model, text, torch.stack(exchanged))
    difference = classifier.task.distance(given[1:], probs[None, :])
    flips = []
    for order in (by_weight, at_random):
        answers = classifier.task.top(_answers(classifier, model, text, _erased(weights, order, normalized)))
        flips.append(answers != classifier.task.top(probs))
    until = [(int(np.argmax(flip)) + 1) / length if flip.any() else 1.0 for flip in flips]
    first = [bool(flip[:1].any()) for flip in flips]
    return conicity(states.double().cpu().numpy()), given[0], float(np.median(difference)), *first, *until


def _erased(weights: Tensor, order: NDArray[np.int64], normalized: bool) -> Tensor:
    """(heads, tokens) -> (tokens - 1, heads, tokens): without the first 1, 2, … of the order; a sum of 1 stays."""
    length = weights.shape[1]
    place = torch.empty(length, dtype=torch.int64)
    place[torch.from_numpy(order)] = torch.arange(length)
    kept = place[None, :] >= torch.arange(1, length)[:, None]  # (tokens - 1, tokens)
    left = weights[None] * kept[:, None].to(weights)
    if not normalized:
        return left
    return left / left.sum(-1, keepdim=True).clamp(min=torch.finfo(left.dtype).tiny)


def _answers(classifier: Classifier, model: TextClassifier, text: _Text, weights: Tensor) -> NDArray[np.float64]:
    """Probabilities of one text, (n, labels), with each of the weights (n, heads, tokens)."""
    if not len(weights):
        return np.zeros((0, len(classifier.labels)))
    attention, states = weighted_pooling(model, "audit"), text.states
    found = []
    at_once = max(1, 8 * MAX_TOKENS // len(states))
    for first in range(0, len(weights), at_once):
        part = weights[first : first + at_once]
        many = states.expand(len(part), -1, -1)
        mask = torch.ones(many.shape[:2], dtype=torch.bool, device=states.device)
        with torch.inference_mode():
            logits = model.classifier(attention.pool(many, part, mask)).float() + text.ngram_logits
        found.append(logits.cpu().numpy())
    return classifier.logits_to_probabilities(np.concatenate(found))
