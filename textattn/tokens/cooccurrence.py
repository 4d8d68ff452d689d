"""Word vectors from how often words stand near each other in the run's own texts.

The positive pointwise mutual information of words and their neighbours, factorised by a truncated singular value
decomposition. Levy & Goldberg 2014 show that skip-gram with negative sampling factorises a shifted form of this matrix;
Levy, Goldberg & Dagan 2015 find the two equally good with the settings that are used here: weights that fall with the
distance, smoothed context counts, and the square root of the singular values. Counting and factorising take a fraction
of the time of skip-gram, and the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.schema import VectorsConfig
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.vectors import WordVectors

# Contexts are counted to this power, so that rare ones are not overrated (Levy et al. 2015, section 3.2).
SMOOTHING = 0.75
# Root mean square of the numbers of a vector, near that of skip-gram's on these texts.
SIZE = 0.25
POWER = 0.5
TEXTS_AT_ONCE = 2000
# Of the randomised decomposition (Halko et al. 2011): more directions than are kept, and passes that sharpen them.
OVERSAMPLES, POWER_ITERATIONS = 32, 3


def cooccurrence_vectors(
    config: VectorsConfig,
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    embedding_dim: int,
    seed: int,
    on_part: Callable[[int], None] | None = None,
) -> WordVectors:
    """The vectors of the words in `texts`, which are read whole, before truncation.

    Args:
        on_part: called with 1 when the words are counted and with 2 at the end.
    """
    counts = _count(_encoded(texts, tokenizer), tokenizer.vocab_size, config.window)
    if on_part is not None:
        on_part(1)
    found = np.asarray(counts.sum(axis=1)).ravel() > 0
    matrix = np.zeros((tokenizer.vocab_size, embedding_dim), np.float32)
    if found.any():
        vectors = _factorise(_information(counts[found][:, found]), embedding_dim, seed)
        matrix[found, : vectors.shape[1]] = vectors
    if on_part is not None:
        on_part(2)
    return WordVectors(matrix, found)


def _encoded(texts: Iterable[str], tokenizer: TextTokenizer) -> Iterator[list[NDArray[np.int32]]]:
    """The token ids of the texts, some thousand texts at a time."""
    iterator = iter(texts)
    while chunk := list(islice(iterator, TEXTS_AT_ONCE)):
        encodings = tokenizer.backend.encode_batch_fast(list(tokenizer.as_read(chunk)), add_special_tokens=False)
        yield [np.array(encoding.ids, np.int32) for encoding in encodings]


def _count(chunks: Iterable[list[NDArray[np.int32]]], vocab_size: int, window: int) -> Any:
    """(vocab_size, vocab_size) sparse: how often two words stand within `window` of each other, near ones for more."""
    from scipy.sparse import coo_matrix, csr_matrix

    total = csr_matrix((vocab_size, vocab_size), dtype=np.float32)
    for chunk in chunks:
        ids = np.concatenate([np.zeros(0, np.int32), *chunk])
        text = np.repeat(np.arange(len(chunk)), [len(one) for one in chunk])
        firsts, seconds, weights = [], [], []
        for distance in range(1, window + 1):
            same = text[distance:] == text[:-distance]
            firsts.append(ids[:-distance][same])
            seconds.append(ids[distance:][same])
            weights.append(np.full(len(firsts[-1]), (window + 1 - distance) / window, np.float32))
        pairs = coo_matrix(
            (np.concatenate(weights), (np.concatenate(firsts), np.concatenate(seconds))), total.shape
        ).tocsr()
        total = total + pairs
    return total + total.T


def _information(counts: Any) -> Any:
    """Positive pointwise mutual information of the counts, sparse."""
    from scipy.sparse import csr_matrix

    counts = counts.tocoo()
    words = np.asarray(counts.sum(axis=1), np.float64).ravel()
    contexts = words**SMOOTHING
    contexts /= contexts.sum()
    information = np.log(counts.data / words[counts.row] / contexts[counts.col])
    kept = information > 0
    return csr_matrix(
        (information[kept].astype(np.float32), (counts.row[kept], counts.col[kept])), counts.shape, dtype=np.float32
    )


def _factorise(matrix: Any, size: int, seed: int) -> NDArray[np.float32]:
    """(words, size): left singular vectors times the roots of the singular values."""
    size = min(size, matrix.shape[0])
    width = min(size + OVERSAMPLES, matrix.shape[0])
    basis = np.random.default_rng(seed).standard_normal((matrix.shape[0], width), dtype=np.float32)
    for _ in range(POWER_ITERATIONS):
        basis, _ = np.linalg.qr(matrix @ basis)
    # The matrix is nearly symmetric; its singular vectors are those of the small product.
    small = (matrix.T @ basis).T
    left, values, _ = np.linalg.svd(small, full_matrices=False)
    vectors = (basis @ left[:, :size]) * values[:size] ** POWER
    # The sign of a singular vector is arbitrary: fixed, so that libraries agree.
    vectors *= np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(size)] < 0, -1, 1)
    return np.asarray(vectors * (SIZE / np.sqrt(np.square(vectors).mean())), np.float32)
