"""Whether erased texts are still like the texts that a model knows: MaSF (Madsen et al. 2024, arXiv 2310.07819).

An erased text that is unlike all others may change the answer because it is strange, and not because of the words that
it lacks. Its pooled vector is therefore compared with those of whole texts, feature by feature, without any assumption
about their distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textattn.inference.session import Floats

P = NDArray[np.float64]
# An erased text counts as an outlier up to this p-value.
REJECTED = 0.05


def simes(p_values: P) -> P:
    """Simes's combination of p-values over the last axis, which may depend on each other: min over i of p_(i) n / i."""
    n = p_values.shape[-1]
    return np.asarray((np.sort(p_values, axis=-1) * n / np.arange(1, n + 1)).min(axis=-1))


class Support:
    """The pooled vectors of whole texts, with which those of erased texts are compared.

    The p-values are those of the paper's first two levels: two-sided in each feature, Simes over the features, and the
    place of the result among those of the whole texts. They are conservative: never 0, and exact for whole texts.
    """

    def __init__(self, contexts: Floats) -> None:
        """Takes the vectors of whole texts, (texts, context_dim)."""
        self.contexts = contexts
        self._sorted = np.sort(contexts, axis=0)
        everyone = np.arange(len(contexts))
        self._statistics = self._statistic(contexts, everyone)
        self._in_order = np.sort(self._statistics)

    def __len__(self) -> int:
        return len(self.contexts)

    def p_values(self, contexts: Floats, sources: NDArray[np.int64]) -> P:
        """How probable a whole text is that is at least as unlike the others: (rows,).

        Args:
            contexts: (rows, context_dim) vectors of erased texts.
            sources: (rows,) which of the whole texts each of them was; it is compared with all but that one.
        """
        found = self._statistic(contexts, sources)
        as_small = np.searchsorted(self._in_order, found, side="right") - (self._statistics[sources] <= found)
        return np.asarray((1 + as_small) / len(self))

    def _statistic(self, contexts: Floats, sources: NDArray[np.int64]) -> P:
        own = self.contexts[sources]
        least = np.empty(contexts.shape)
        for feature, (known, values) in enumerate(zip(self._sorted.T, contexts.T, strict=True)):
            below = np.searchsorted(known, values, side="right") - (own[:, feature] <= values)
            above = len(known) - np.searchsorted(known, values, side="left") - (own[:, feature] >= values)
            least[:, feature] = np.minimum(below, above)
        return simes(np.minimum(2 * (1 + least) / len(self), 1))
