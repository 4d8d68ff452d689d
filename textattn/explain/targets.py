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
from textattn.tasks import Task


@dataclass(frozen=True)
class Targets:
    """The label explained for each of some texts."""

    labels: NDArray[np.int64]
    """(rows,) class ids"""
    task: Task
    """What the model answers."""
    against: int | None = None
    """Explain the label rather than this one; None: rather than all others."""

    def take(self, rows: NDArray[np.int64] | list[int]) -> Targets:
        """Those of some of the texts, in that order; a row may occur several times."""
        return replace(self, labels=self.labels[rows])

    def log_odds(self, logits: Floats) -> NDArray[np.float64]:
        """(rows, num_outputs) -> (rows,)."""
        return self.task.log_odds(logits, self.labels, self.against)

    def directions(self) -> NDArray[np.float64]:
        """What contributions to the logits are multiplied with, (rows, num_outputs); see `Task.directions`."""
        return self.task.directions(self.labels, self.against)
