"""LIME."""

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

# How fast the weight of a subset falls with its cosine distance from the whole text (25 of 100 in the authors' code).
KERNEL_WIDTH = 0.25


class Lime(Method):
    """LIME (Ribeiro et al. 2016), by Captum: ridge regression on subsets of the words, weighted by their similarity
    to the whole text.
    """

    says = "weight in a linear model of nearby texts (LIME)"
    place = 60
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
        import torch
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime as CaptumLime

        from textattn.explain.surrogates import fit

        def similarity(_: Tensor, __: Tensor, subset: Tensor, **___: Any) -> Tensor:
            cosine = subset.float().mean().sqrt()  # of the subset with the vector of ones
            return torch.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2)

        def build(answers: Callable[[Tensor], Tensor]) -> Any:
            return CaptumLime(answers, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=similarity)

        return Attributions.of_words(fit(build, forward, targets, seed, on_row), forward.words)
