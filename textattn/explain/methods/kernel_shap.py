"""KernelSHAP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textattn.explain.methods._surrogate import Surrogate

if TYPE_CHECKING:
    from torch import Tensor


class KernelShap(Surrogate):
    """KernelSHAP (Lundberg & Lee 2017), by Captum: Shapley values of the words, estimated from subsets of them."""

    says = "Shapley value of the log-odds, estimated (KernelSHAP)"
    place = 70

    def captum_method(self, log_odds: Callable[[Tensor], Tensor]) -> Any:
        """See `Surrogate`."""
        from captum.attr import KernelShap as CaptumKernelShap

        return CaptumKernelShap(log_odds)
