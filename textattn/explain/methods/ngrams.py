"""Contributions of n-grams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method, Need

if TYPE_CHECKING:
    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class Ngrams(Method):
    """The part of `contributions` that comes from n-grams: the tokens of an n-gram share its weight equally. Exact."""

    says = "what the n-grams it is part of add to the answer (exact)"
    needs = frozenset({Need.ADDITIVE, Need.NGRAMS})
    place = 80
    in_default_audit = False

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """Takes them from the forward pass that gave the answer."""
        directions = targets.directions()
        ngrams = forward.contributions.ngrams
        assert ngrams is not None
        return Attributions([part @ direction for part, direction in zip(ngrams, directions, strict=True)])
