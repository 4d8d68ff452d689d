"""Assigns texts to batches and pads the batches to rectangles. Needs numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.tokens.token_arrays import TokenArrays

# Number of batches that are sorted together: large enough that neighbours have nearly the same length, small enough
# that the order stays random.
BATCHES_PER_BUCKET = 50


def shuffled_batches(
    lengths: NDArray[np.int64],
    batch_size: int,
    generator: np.random.Generator,
    max_tokens: int | None = None,
    balance: NDArray[np.integer[Any]] | None = None,
) -> list[NDArray[np.int64]]:
    """Draw random batches of texts of similar length that contain every index exactly once.

    The indices are shuffled and cut into buckets, each bucket is sorted by length and cut into batches, and the batches
    are shuffled again. This needs little padding, and it mixes a file that is sorted by label.

    Args:
        lengths: (num_texts,) number of tokens of each text.
        batch_size: largest number of texts in a batch.
        generator: source of randomness.
        max_tokens: largest number of tokens in a batch of more than one text, including padding; None: no limit.
        balance: (num_texts,) label of each text. If given, every label is drawn equally often: texts with rare labels
            are repeated, and some with frequent labels are left out.
    """
    order = generator.permutation(len(lengths)) if balance is None else _balanced(balance, generator)
    batches = []
    bucket_size = batch_size * BATCHES_PER_BUCKET
    for first in range(0, len(order), bucket_size):
        bucket = order[first : first + bucket_size]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += _cut(bucket, lengths[bucket], batch_size, max_tokens)
    return [batches[i] for i in generator.permutation(len(batches))]


def _balanced(labels: NDArray[np.integer[Any]], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw as many indices as there are labels, each label equally often, in random order."""
    found = generator.permutation(np.unique(labels))
    drawn = []
    for i, label in enumerate(found):
        rows = np.flatnonzero(labels == label)
        draws = len(labels) // len(found) + (i < len(labels) % len(found))
        # Complete passes over the rows, then a part of one: how often two texts are drawn differs by at most one.
        drawn += [generator.permutation(rows) for _ in range(draws // len(rows))]
        drawn.append(generator.permutation(rows)[: draws % len(rows)])
    return generator.permutation(np.concatenate(drawn))


def _cut(
    bucket: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, max_tokens: int | None
) -> list[NDArray[np.int64]]:
    """Cut a bucket that is sorted by length into batches."""
    if max_tokens is None:
        return [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    batches, first = [], 0
    while first < len(bucket):
        # Tokens of batches of the first 1, 2, … texts, with padding: an increasing sequence.
        tokens = lengths[first : first + batch_size] * np.arange(1, len(bucket[first : first + batch_size]) + 1)
        size = max(1, int(np.searchsorted(tokens, max_tokens, side="right")))
        batches.append(bucket[first : first + size])
        first += size
    return batches


def steps_of_epochs(
    lengths: NDArray[np.int64],
    batch_size: int,
    max_tokens: int | None,
    epochs: int,
    seed: int,
    balance: NDArray[np.integer[Any]] | None = None,
) -> list[int]:
    """The number of batches of each epoch, for the generator that `seed` creates."""
    if max_tokens is None:
        return [-(-len(lengths) // batch_size)] * epochs
    generator = np.random.default_rng(seed)
    return [len(shuffled_batches(lengths, batch_size, generator, max_tokens, balance)) for _ in range(epochs)]


def sorted_batches(lengths: NDArray[np.int64], max_tokens: int, batch_size: int = 256) -> list[NDArray[np.int64]]:
    """Cut the texts into batches, shortest texts first.

    A batch of more than one text has at most `max_tokens` tokens, including padding.
    """
    order = np.argsort(lengths, kind="stable")
    batches, first = [], 0
    while first < len(order):
        size = min(batch_size, len(order) - first)
        while size > 1 and size * lengths[order[first + size - 1]] > max_tokens:
            size //= 2
        batches.append(order[first : first + size])
        first += size
    return batches


def collate(
    tokens: TokenArrays, indices: NDArray[np.int64], pad_id: int, seq: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """input_ids and attention_mask, both (batch, seq), padded to the longest text of the batch, or to `seq`."""
    lengths = tokens.starts[indices + 1] - tokens.starts[indices]
    attention_mask = np.arange(seq or lengths.max())[None, :] < lengths[:, None]  # (batch, seq)
    input_ids = np.full(attention_mask.shape, pad_id, dtype=np.int64)
    input_ids[attention_mask] = np.concatenate([tokens.ids[tokens.starts[i] : tokens.starts[i + 1]] for i in indices])
    return input_ids, attention_mask.astype(np.int64)
