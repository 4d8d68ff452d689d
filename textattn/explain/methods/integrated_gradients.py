"""Integrated gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textattn.explain.methods._base import BACKWARD_COST, Attributions, Method, Need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.gradients import Batch, GradientSession, Inputs
    from textattn.explain.targets import Targets

# Points of the Gauss-Legendre rule at first. They are doubled, at most to MOST_STEPS, for texts whose completeness
# error is above TOLERANCE.
FIRST_STEPS = 16
MOST_STEPS = 512
TOLERANCE = 0.01
# The completeness error is a share of the change of the log-odds, or of this if the change is smaller (nats).
LEAST_CHANGE = 0.05


class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan et al. 2017) from a baseline of unknown tokens.

    The unknown token stands for "some word": word dropout has shown it to the model in training. The scores of a text
    sum to the difference between its log-odds and those of the baseline; the number of steps doubles until they do.
    Equal to Captum's (tests), without importing Captum, which takes as long as the answer.
    """

    says = "share in the log-odds (integrated gradients)"
    needs = frozenset({Need.TORCH})
    place = 40

    def cost(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Two rounds of the first number of steps: most texts need no more."""
        return BACKWARD_COST * 2 * FIRST_STEPS * lengths

    def attribute(self, forward: ForwardPass, targets: Targets, **_: Any) -> Attributions:
        """Forward and backward passes at every step."""
        import numpy as np
        import torch

        from textattn.explain import gradients

        unk_id = forward.classifier.tokenizer.unk_id
        errors = np.full(len(forward.tokens), np.inf)
        with gradients.gradient_session(forward, targets) as session:
            steps, left = FIRST_STEPS, np.arange(len(forward.tokens))
            while len(left):
                for batch in session.batches(gradients.MAX_TOKENS // 4, left):
                    inputs = session.inputs(batch)
                    # N-grams with an unknown token do not count.
                    baseline = (
                        session.model.embedding(torch.full_like(batch.input_ids, unk_id)).detach(),
                        torch.zeros_like(inputs[1]),
                    )
                    given = _path_integral(session, inputs, baseline, batch, steps)
                    with torch.inference_mode():
                        change, start = (session.log_odds(x, batch) for x in (inputs, baseline))
                        change = change - start
                    missing = sum(part.flatten(1).sum(1) for part in given) - change
                    errors[batch.rows] = (missing.abs() / change.abs().clamp(min=LEAST_CHANGE)).double().cpu().numpy()
                    session.store(batch, *given)
                left = left[errors[left] > TOLERANCE]
                steps *= 2
                if steps > MOST_STEPS:
                    break
        return Attributions(session.scores, errors)


def _path_integral(
    session: GradientSession, inputs: Inputs, baseline: Inputs, batch: Batch, steps: int
) -> tuple[Tensor, Tensor]:
    """(x - x') times the mean gradient between baseline x' and input x, by the Gauss-Legendre rule with `steps` points.

    Of the shape of the inputs (Sundararajan et al. 2017, equation 1).
    """
    import numpy as np
    import torch

    from textattn.explain.gradients import MAX_TOKENS

    places, weights = np.polynomial.legendre.leggauss(steps)
    at_once = max(1, MAX_TOKENS // batch.mask.numel())
    change = [(x - start).detach() for x, start in zip(inputs, baseline, strict=True)]
    means = [torch.zeros_like(x) for x in change]
    for first in range(0, steps, at_once):
        place, weight = (torch.from_numpy(a[first : first + at_once] / 2).to(change[0]) for a in (places, weights))
        embeddings, contributions = (
            (start + (place + 0.5).view(-1, 1, 1, 1) * x).flatten(0, 1).requires_grad_()
            for start, x in zip(baseline, change, strict=True)
        )
        gradients = session.gradients((embeddings, contributions), batch.repeat(len(place)))
        for mean, gradient in zip(means, gradients, strict=True):
            mean += torch.tensordot(weight, gradient.view(len(place), *mean.shape), dims=1)
    return change[0] * means[0], change[1] * means[1]
