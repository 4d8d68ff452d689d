"""Which texts go into which batch, and padding them to a rectangle. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.tokens.token_arrays import TokenArrays

# Batches sorted together: long enough that neighbours have nearly the same length, short enough to stay random.
BATCHES_PER_BUCKET = 50


def shuffled_batches(
    lengths: NDArray[np.int64],
    batch_size: int,
    generator: np.random.Generator,
    max_tokens: int | None = None,
    balance: NDArray[np.integer[Any]] | None = None,
) -> list[NDArray[np.int64]]:
    """Every index exactly once, in random batches of texts of similar length.

    The order is shuffled, cut into buckets, sorted by length inside each bucket and cut into batches, which are
    shuffled again: little padding, and a file sorted by label is still mixed.

    Args:
        max_tokens: the most a batch may hold with its padding, if it holds more than one text; None: any number.
        balance: (num_texts,) the label of each, to get as many texts of each as of any other: those of rare labels
            several times, and some of frequent ones not at all.
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
    """As many indices as labels, in random order."""
    found = generator.permutation(np.unique(labels))
    drawn = []
    for i, label in enumerate(found):
        rows = np.flatnonzero(labels == label)
        places = len(labels) // len(found) + (i < len(labels) % len(found))
        # All of them once, then once again, so that no text comes twice more than another.
        drawn += [generator.permutation(rows) for _ in range(places // len(rows))]
        drawn.append(generator.permutation(rows)[: places % len(rows)])
    return generator.permutation(np.concatenate(drawn))


def _cut(
    bucket: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, max_tokens: int | None
) -> list[NDArray[np.int64]]:
    """Batches of a bucket sorted by length."""
    if max_tokens is None:
        return [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    batches, first = [], 0
    while first < len(bucket):
        # Tokens of the first 1, 2, … texts, with their padding: they only grow.
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
    """How many batches each epoch will have, with the generator that a seed gives."""
    if max_tokens is None:
        return [-(-len(lengths) // batch_size)] * epochs
    generator = np.random.default_rng(seed)
    return [len(shuffled_batches(lengths, batch_size, generator, max_tokens, balance)) for _ in range(epochs)]


def sorted_batches(lengths: NDArray[np.int64], max_tokens: int, batch_size: int = 256) -> list[NDArray[np.int64]]:
    """Every index exactly once, shortest texts first; a batch holds at most `max_tokens` tokens with its padding."""
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
