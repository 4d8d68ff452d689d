"""The plot of a run that predicts numbers: predicted against true numbers, and the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.measure.plots import BLUE, GRAY, _tidy, picture
from textattn.measure.plots import NUMBERS as NUMBERS

# More texts than this are drawn at random.
MOST_POINTS = 3_000
BINS = 41


def draw_numbers(
    numbers: NDArray[np.floating[Any]], predicted: NDArray[np.floating[Any]], name: str, split: str, file: Path
) -> None:
    """Draw predicted over true numbers, and a histogram of the errors.

    Args:
        numbers: (rows,) the true ones.
        predicted: (rows,)
        name: what the numbers are.
        split: the split that they belong to.
        file: the PNG file.
    """
    shown = np.random.default_rng(0).permutation(len(numbers))[:MOST_POINTS]
    errors = predicted - numbers
    low, high = float(min(numbers.min(), predicted.min())), float(max(numbers.max(), predicted.max()))
    room = (high - low) * 0.03 or 1.0
    widest = float(np.abs(errors).max()) or 1.0
    with picture(file, (8.4, 4.2), name, split) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([low, high], [low, high], color=GRAY, linestyle="dashed", linewidth=1)
        left.scatter(numbers[shown], predicted[shown], s=9, color=BLUE, alpha=0.35, linewidths=0)
        left.set_xlim(low - room, high + room)
        left.set_ylim(low - room, high + room)
        left.set_aspect("equal")
        # A dollar sign in a name is no formula.
        left.set_xlabel(f"true {name}", parse_math=False)
        left.set_ylabel(f"predicted {name}", parse_math=False)
        left.set_title(f"{split}: {len(numbers):,} texts", fontsize=10)
        right.hist(errors, bins=np.linspace(-widest, widest, BINS), color="#a9c8e6", edgecolor=BLUE, linewidth=0.5)
        right.axvline(0, color=GRAY, linestyle="dashed", linewidth=1)
        right.set_xlabel("predicted less true")
        right.set_ylabel("texts")
        right.set_title(f"mean absolute error {np.abs(errors).mean():.4g}", fontsize=10)
        _tidy(left)
        _tidy(right)
