"""A mean that several processes can compute together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean as a sum and a count, so that processes can combine the parts of a batch that each of them has."""

    total: Tensor
    """A scalar in fp32, with its gradient."""
    count: Tensor
    """The divisor, a number of rows or tokens. If it is 0, the mean is 0."""

    def value(self) -> Tensor:
        """The mean over the part of this process."""
        return self.total / self.count.clamp(min=1e-12)

    def times(self, weight: float) -> Mean:
        """This mean multiplied by `weight`."""
        return Mean(weight * self.total, self.count)

    def of_nothing(self) -> Mean:
        """A mean that does not count. Its gradient is 0, but exists for every parameter that this mean depends on."""
        return Mean(0 * self.total, 0 * self.count)
