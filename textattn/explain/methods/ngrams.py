"""Contributions of n-grams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import Attributions, Method, Need

if TYPE_CHECKING:
    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets


class Ngrams(Method):
    """What each token, as part of n-grams, adds to the label's logit rather than to the others' (their mean). Exact."""

    says = "what the n-grams it is part of add to the logit (exact)"
    needs = frozenset({Need.TORCH, Need.NGRAMS})
    place = 80
    in_default_audit = False

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """Looks up the weights of the n-grams; nothing runs through the encoder."""
        import torch

        from textattn.explain.gradients import gradient_session

        with gradient_session(forward, targets) as session:
            for batch in session.batches():
                shares = session.model.ngram_contributions(batch.input_ids, batch.mask)
                num_outputs = shares.shape[2]
                own = torch.nn.functional.one_hot(batch.labels, num_outputs).to(shares) if num_outputs > 1 else None
                if own is None:
                    direction = (2 * batch.labels - 1).to(shares)[:, None]
                elif targets.against is not None:
                    direction = own - torch.eye(num_outputs).to(shares)[targets.against]
                else:
                    direction = own if targets.output == "sigmoid" else own - (1 - own) / (num_outputs - 1)
                session.store(batch, shares * direction[:, None])
        return Attributions(session.scores)
