"""Attention times gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method, Need

if TYPE_CHECKING:
    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class AttentionXGradient(Method):
    """Attention weight times the gradient with respect to it, the states held fixed (Serrano & Smith 2019, section 4).

    For several heads: the sum over the heads.
    """

    says = "attention times the gradient of the log-odds"
    needs = frozenset({Need.NETWORK, Need.TORCH, Need.ATTENTION_WEIGHTS})
    place = 20

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """One forward and one backward pass, the latter through the pooling and the classifier layer only."""
        import torch

        from textattn.explain.gradients import gradient_session, weighted_pooling

        with gradient_session(forward, targets) as session:
            model = session.model
            attention = weighted_pooling(model, self.name)
            for batch in session.batches():
                with torch.no_grad():
                    states = model.states(model.embedding(batch.input_ids), batch.mask)
                    weights = model.head_weights(states, batch.mask)
                    ngram_logits = model.ngram_contributions(batch.input_ids, batch.mask).sum(1)
                assert weights is not None
                weights.requires_grad_()  # (batch, heads, seq)
                logits = model.classifier(attention.pool(states.pooled, weights, batch.mask.bool())) + ngram_logits
                (gradient,) = torch.autograd.grad(session.log_odds_of(logits, batch).sum(), weights)
                session.store(batch, (weights * gradient).sum(1, keepdim=True).transpose(1, 2))
        return Attributions(session.scores)
