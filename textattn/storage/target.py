"""The numbers that a regression model predicts: their unit of measurement inside the network, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Share of new numbers that an interval should cover.
COVERAGE = 0.9


@dataclass(frozen=True)
class Target:
    """The scale of the numbers in the training split, and how far predictions are usually from the truth.

    All values are in the unit of the data.
    """

    mean: float
    """Of the training split. The network predicts how many standard deviations a number lies above it."""
    std: float
    """Of the training split; positive."""
    minimum: float
    """The smallest number of the training split. No smaller one is predicted."""
    maximum: float
    """The largest number of the training split. No larger one is predicted."""
    margin: float | None = None
    """Half the width of the intervals that cover `COVERAGE` of new numbers. None: there were too few validation
    rows."""

    @property
    def decimals(self) -> int:
        """Digits after the decimal point with which a number is shown: a hundredth of the standard deviation."""
        return max(0, 2 - math.floor(math.log10(self.std)))

    def to_json(self) -> dict[str, float | None]:
        """The entry `target` of config.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Target:
        """Read the entry of config.json.

        Raises:
            KeyError, TypeError, ValueError: it is damaged.
        """
        margin = value["margin"]
        mean, std, minimum, maximum = (float(value[name]) for name in ("mean", "std", "minimum", "maximum"))
        found = cls(mean, std, minimum, maximum, None if margin is None else float(margin))
        numbers = [found.mean, found.std, found.minimum, found.maximum, found.margin or 0.0]
        if not all(map(math.isfinite, numbers)) or found.std <= 0 or (found.margin or 0.0) < 0:
            raise ValueError(f"target {dict(value)!r}")
        return found
