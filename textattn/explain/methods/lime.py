"""LIME."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textattn.explain.methods._surrogate import Surrogate

if TYPE_CHECKING:
    from torch import Tensor

# How fast the weight of a subset falls with its cosine distance from the whole text (25 of 100 in the authors' code).
KERNEL_WIDTH = 0.25


class Lime(Surrogate):
    """LIME (Ribeiro et al. 2016), by Captum: ridge regression on subsets of the words, weighted by their similarity
    to the whole text.
    """

    says = "weight in a linear model of nearby texts (LIME)"
    place = 60

    def captum_method(self, log_odds: Callable[[Tensor], Tensor]) -> Any:
        """See `Surrogate`."""
        import torch
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime as CaptumLime

        def similarity(_: Tensor, __: Tensor, subset: Tensor, **___: Any) -> Tensor:
            cosine = subset.float().mean().sqrt()  # of the subset with the vector of ones
            return torch.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2)

        return CaptumLime(log_odds, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=similarity)
