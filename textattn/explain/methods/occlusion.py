"""Occlusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class Occlusion(Method):
    """How far the log-odds fall when the word is deleted (leave-one-out; Li et al. 2016, "Understanding Neural
    Networks through Representation Erasure").
    """

    says = "fall of the log-odds without the word"
    place = 50

    def cost(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """A forward pass for each token."""
        return lengths**2

    def attribute(
        self, forward: ForwardPass, targets: Targets, *, on_row: Callable[[int], None] | None = None, **_: Any
    ) -> Attributions:
        """A forward pass for each word."""
        odds = targets.log_odds(forward.logits)
        falls = [
            odds[row] - targets.take([row] * len(logits)).log_odds(logits)
            for row, logits in enumerate(forward.without_each_word(on_row))
        ]
        return Attributions.of_words(falls, forward.words)
