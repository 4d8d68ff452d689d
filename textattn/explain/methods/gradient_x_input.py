"""Gradient times input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method, Need

if TYPE_CHECKING:
    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class GradientXInput(Method):
    """Embedding times the gradient with respect to it, summed over its dimensions (Shrikumar et al. 2016)."""

    says = "embedding times the gradient of the log-odds"
    needs = frozenset({Need.TORCH})
    place = 30

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """One forward and one backward pass."""
        from textattn.explain.gradients import gradient_session

        with gradient_session(forward, targets) as session:
            for batch in session.batches():
                inputs = session.inputs(batch)
                gradients = session.gradients(inputs, batch)
                session.store(batch, *(x * gradient for x, gradient in zip(inputs, gradients, strict=True)))
        return Attributions(session.scores)
