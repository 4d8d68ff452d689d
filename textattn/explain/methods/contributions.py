"""Contributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method, Need

if TYPE_CHECKING:
    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class Contributions(Method):
    """The part of the answer that comes from each token: attention weight times value times the last layer, and the
    token's share in the n-grams (`TextClassifier.contributions`).

    Exact: with the bias, the contributions add up to the answer. See `Task.directions` for what is added up.
    """

    says = "its part of the answer; the parts and the bias add up to it"
    needs = frozenset({Need.ADDITIVE})
    place = 5

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """Takes them from the forward pass that gave the answer."""
        directions = targets.directions()
        parts = zip(forward.contributions.total, directions, strict=True)
        return Attributions([part @ direction for part, direction in parts])
