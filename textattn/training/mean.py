"""A mean that several processes can compute together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean that is not divided yet, so that processes with a part of a batch each can compute that of all."""

    total: Tensor
    """A number in fp32, with its gradient."""
    count: Tensor
    """What to divide by: rows or tokens. Where it is 0, so is the mean."""

    def value(self) -> Tensor:
        """The mean of what this process has."""
        return self.total / self.count.clamp(min=1e-12)

    def times(self, weight: float) -> Mean:
        """The mean `weight` times as large."""
        return Mean(weight * self.total, self.count)

    def of_nothing(self) -> Mean:
        """One that does not count, with a gradient of 0 for all that this one depends on."""
        return Mean(0 * self.total, 0 * self.count)
