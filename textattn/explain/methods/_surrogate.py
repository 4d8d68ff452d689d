"""What LIME and KernelSHAP share as methods; `textattn.explain.surrogates` has the computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class Surrogate(Method):
    """A method that fits a linear model to the answers on random subsets of the words."""

    in_default_audit = False

    def captum_method(self, log_odds: Callable[[Tensor], Tensor]) -> Any:
        """Captum's implementation.

        Args:
            log_odds: (subsets, seq) token ids -> (subsets,)
        """
        raise NotImplementedError

    def cost(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """A forward pass for each subset."""
        from textattn.explain.surrogates import sampling_cost

        return sampling_cost(lengths)

    def attribute(
        self,
        forward: ForwardPass,
        targets: Targets,
        *,
        seed: int = 0,
        on_row: Callable[[int], None] | None = None,
    ) -> Attributions:
        """A forward pass for each subset, then a regression for each text."""
        from textattn.explain.surrogates import fit

        return Attributions.of_words(fit(self.captum_method, forward, targets, seed, on_row), forward.words)
