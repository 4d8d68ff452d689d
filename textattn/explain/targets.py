"""What is explained: how strongly the model says one label, or one label rather than another, as a single number.

The number is the log-odds, in nats. For one label among several (softmax) it is log(p / (1 - p)), which is the label's
logit less the log-sum-exp of the other logits; for a label of its own (sigmoid) it is the logit. For A rather than B it
is the difference of their logits: log(p_A / p_B), or where each label is its own the difference of their log-odds.
Unlike a probability it does not saturate, and unlike a bare logit under softmax it does not move when the same number
is added to all of them. It is the network's, before calibration: that changes its scale, and no answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from textattn.inference.session import Floats


@dataclass(frozen=True)
class Targets:
    """The label explained for each of some texts."""

    labels: NDArray[np.int64]
    """(rows,) class ids"""
    against: int | None = None
    """Explain the label rather than this one; None: rather than all others."""
    output: str = "softmax"
    """`softmax` or `sigmoid`, as in config.json."""

    def take(self, rows: NDArray[np.int64] | list[int]) -> Targets:
        """Those of some of the texts, in that order; a row may occur several times."""
        return replace(self, labels=self.labels[rows])

    def direction(self, num_outputs: int) -> NDArray[np.float64]:
        """What contributions to the logits are multiplied with, (rows, num_outputs).

        For one of two labels, or for a label of its own, the sum over all tokens and the bias is then `log_odds`. For
        one of several labels it is the label's logit less the mean of the other logits, which unlike the log-odds is
        linear in the logits; rather than a single other label: less the logit of that label.
        """
        rows = np.arange(len(self.labels))
        if num_outputs == 1:  # one output: the logit of the second of two labels
            return np.asarray(2.0 * self.labels - 1)[:, None]
        own = np.zeros((len(rows), num_outputs))
        own[rows, self.labels] = 1
        if self.against is not None:
            own[:, self.against] -= 1
            return own
        return own if self.output == "sigmoid" else np.asarray(own - (1 - own) / (num_outputs - 1))

    def log_odds(self, logits: Floats) -> NDArray[np.float64]:
        """(rows, num_outputs) -> (rows,)."""
        x = logits.astype(np.float64)
        if x.shape[1] == 1:  # one output: the logit of the second of two labels
            return np.asarray(x[:, 0] * (2 * self.labels - 1))
        rows = np.arange(len(x))
        own = x[rows, self.labels]
        if self.against is not None:
            return np.asarray(own - x[:, self.against])
        if self.output == "sigmoid":
            return own
        x[rows, self.labels] = -np.inf
        top = x.max(axis=1)
        return np.asarray(own - top - np.log(np.exp(x - top[:, None]).sum(axis=1)))
