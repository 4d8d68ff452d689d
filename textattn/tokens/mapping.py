"""Vectors for the words that a file of vectors does not have: those of the run's own texts, mapped onto the file's.

Words that have both kinds of vectors teach a linear map between them (Mikolov et al. 2013), by ridge regression. Words
count by the logarithm of how often they occur: what few texts say about a rare word is mostly chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.tokens.vectors import WordVectors

# Measured on SST-2 by the vectors of a third of the words that were held out (docs/results.md). As a share of the mean
# of the diagonal, so that it suits vectors of any length.
RIDGE = 0.1
# With fewer words in common there is nothing to learn the map from.
FEWEST_IN_COMMON = 20


def fill_missing(vectors: WordVectors, own: WordVectors, counts: NDArray[np.integer[Any]]) -> WordVectors:
    """The vectors, with those of the run's own texts for words that have none.

    Args:
        vectors: (vocab_size, dim) from elsewhere.
        own: (vocab_size, any size) learned from the texts of the run.
        counts: (vocab_size,) how often each word occurs.
    """
    shared, missing = vectors.found & own.found, ~vectors.found & own.found
    if shared.sum() < FEWEST_IN_COMMON or not missing.any():
        return vectors
    inputs, weights = _with_constant(own.matrix[shared]), np.log1p(counts[shared].astype(np.float64))
    if not weights.any():
        return vectors
    weighted = inputs * (weights / weights.mean())[:, None]
    covariance = weighted.T @ inputs
    size = len(covariance) - 1
    # The constant is not held back.
    covariance[np.arange(size), np.arange(size)] += RIDGE * np.trace(covariance) / (size + 1)
    map_of = np.linalg.lstsq(covariance, weighted.T @ vectors.matrix[shared].astype(np.float64), rcond=None)[0]
    matrix = vectors.matrix.copy()
    matrix[missing] = _with_constant(own.matrix[missing]) @ map_of
    return WordVectors(matrix, vectors.found | missing)


def _with_constant(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.concatenate([matrix.astype(np.float64), np.ones((len(matrix), 1))], axis=1)
