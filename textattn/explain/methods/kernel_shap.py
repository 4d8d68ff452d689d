"""KernelSHAP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textattn.explain.methods._base import Attributions, Method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class KernelShap(Method):
    """KernelSHAP (Lundberg & Lee 2017), by Captum: Shapley values of the words, estimated from subsets of them."""

    says = "Shapley value of the log-odds, estimated (KernelSHAP)"
    place = 70
    in_default_audit = False

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
        from captum.attr import KernelShap as CaptumKernelShap

        from textattn.explain.surrogates import fit

        return Attributions.of_words(fit(CaptumKernelShap, forward, targets, seed, on_row), forward.words)
