"""The n-grams of texts as a sparse matrix, with which the linear part is fitted outside the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.model.ngrams import MULTIPLIERS, PRIME
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Tokens that are counted at once, which bounds the memory that this takes beside its result.
TOKENS_AT_ONCE = 4_000_000
# With fewer training texts all n-grams are features; with more, only those that occur in at least two texts.
FEW = 100


@dataclass(frozen=True)
class NgramSpace:
    """Which bucket an n-gram falls into, as in `textattn.model.ngrams.NgramLinear`."""

    longest: int
    buckets: int
    unk_id: int

    def counts(self, tokens: TokenArrays) -> csr_matrix:
        """How often each bucket occurs in each text, (rows, buckets) float64. N-grams with an unknown token are left
        out."""
        from scipy.sparse import csr_matrix, vstack

        parts, first = [], 0
        while first < len(tokens):
            # At least one text, however long.
            end = int(np.searchsorted(tokens.starts, tokens.starts[first] + TOKENS_AT_ONCE, side="right")) - 1
            last = max(first + 1, end)
            rows, found = self._occurrences(
                tokens.ids[int(tokens.starts[first]) : int(tokens.starts[last])].astype(np.int64),
                np.repeat(np.arange(last - first), tokens.lengths[first:last]),
            )
            counted = csr_matrix((np.ones(len(rows)), (rows, found)), shape=(last - first, self.buckets))
            counted.sum_duplicates()
            parts.append(counted)
            first = last
        return vstack(parts, format="csr") if parts else csr_matrix((0, self.buckets))

    def _occurrences(self, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The row and the bucket of every n-gram.

        Args:
            ids: (tokens,) of some texts.
            rows: (tokens,) the text of each.
        """
        known = ids != self.unk_id
        of_rows, of_buckets = [], []
        for extra in range(min(self.longest, len(ids))):
            number = np.full(len(ids) - extra, extra, np.int64)
            inside = rows[extra:] == rows[: len(ids) - extra]
            for position in range(extra + 1):
                part = slice(extra - position, len(ids) - position)
                number += ids[part] * MULTIPLIERS[position]
                inside &= known[part]
            of_rows.append(rows[extra:][inside])
            of_buckets.append((number % PRIME % self.buckets)[inside])
        return np.concatenate(of_rows), np.concatenate(of_buckets)


@dataclass(frozen=True)
class Features:
    """The n-grams that a linear model has weights for, and how much an occurrence of each counts.

    The features are like a TF-IDF vector of length 1, but linear in the occurrences of n-grams, so that the model can
    add up one weight for each occurrence, and every token has its exact share of an answer:

        x_j = count_j * idf_j^p / sqrt(sum of idf^(2p) over all occurrences)

    Where no n-gram occurs twice, the vector has length 1. Which power p is best depends on the texts, see
    docs/results.md.
    """

    space: NgramSpace
    kept: NDArray[np.int64]
    """(features,) the buckets, in ascending order."""
    idf: NDArray[np.float64]
    """(features,) 1 + log((1 + texts) / (1 + texts with the n-gram)), as in scikit-learn."""
    power: float = 0.5
    """p"""

    @classmethod
    def of(cls, space: NgramSpace, counts: csr_matrix) -> Features:
        """Choose the features of training texts.

        Args:
            space: of the counts.
            counts: (rows, buckets), from `NgramSpace.counts`.
        """
        rows = counts.shape[0]
        texts = np.bincount(counts.indices, minlength=space.buckets)
        kept = np.flatnonzero(texts >= (1 if rows < FEW else 2))
        return cls(space, kept, 1 + np.log((1 + rows) / (1 + texts[kept])))

    @property
    def factors(self) -> NDArray[np.float64]:
        """(features,) idf^p, at least 1."""
        return np.asarray(self.idf**self.power)

    def matrix(self, counts: csr_matrix) -> csr_matrix:
        """(rows, buckets) counts -> (rows, features)."""
        from scipy.sparse import csr_matrix, diags

        chosen, factors = counts[:, self.kept], self.factors
        squares = chosen @ factors**2
        return csr_matrix(diags(1 / np.sqrt(np.where(squares > 0, squares, 1.0))) @ chosen @ diags(factors))
