"""Attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method, Need

if TYPE_CHECKING:
    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class Attention(Method):
    """The weight with which the state of each token enters the pooled vector (mean over heads)."""

    says = "share of the attention"
    signed = False
    needs = frozenset({Need.NETWORK})
    place = 10

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """Takes the weights from the forward pass that gave the answer."""
        return Attributions([weights.astype("float64") for weights in forward.attention_weights])
