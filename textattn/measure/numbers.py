"""How far predicted numbers are from the true ones, and intervals that cover new ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.measure.metrics import BOOTSTRAP_SAMPLES
from textattn.storage.target import COVERAGE, Target

Numbers = NDArray[np.floating[Any]]
NUMBER_METRICS = ("mae", "rmse", "r2", "spearman")


def number_metric(name: str, numbers: Numbers, predicted: Numbers) -> float:
    """One of NUMBER_METRICS; nan where it is not defined.

    Args:
        name: `mae` (mean absolute error), `rmse` (root of the mean squared error), `r2` (1 less the share of the
            variance that is not explained) or `spearman` (rank correlation).
        numbers: (rows,) the true ones.
        predicted: (rows,)
    """
    errors = predicted - numbers
    if name == "mae":
        return float(np.abs(errors).mean())
    if name == "rmse":
        return float(np.sqrt((errors**2).mean()))
    if name == "r2":
        spread = float(((numbers - numbers.mean()) ** 2).sum())
        return 1 - float((errors**2).sum()) / spread if spread else math.nan
    if np.ptp(numbers) == 0 or np.ptp(predicted) == 0:
        return math.nan
    from scipy.stats import spearmanr

    return float(spearmanr(numbers, predicted).statistic)


def conformal_margin(numbers: Numbers, predicted: Numbers) -> float | None:
    """Half the width of intervals around predictions that cover `COVERAGE` of new numbers.

    Split conformal prediction (Lei et al. 2018, algorithm 2) with absolute residuals: if the rows were not trained on
    and new rows are like them, the coverage is at least `COVERAGE` on average over such rows, whatever the model.

    Args:
        numbers: (rows,) the true ones.
        predicted: (rows,)

    Returns:
        None if the rows are too few: 8 or less.
    """
    residuals = np.sort(np.abs(predicted - numbers))
    rank = math.ceil((len(residuals) + 1) * COVERAGE - 1e-9)
    return float(residuals[rank - 1]) if rank <= len(residuals) else None


def measure_numbers(
    numbers: Numbers, predicted: Numbers, target: Target, *, headline: str, seed: int = 0
) -> dict[str, Any]:
    """Compute all metrics of a split, as plain JSON values. A metric that is undefined is null.

    Args:
        numbers: (rows,) the true ones.
        predicted: (rows,)
        target: the mean that the model is compared with, and the margin of the intervals.
        headline: the metric that gets a 95 % bootstrap interval over rows.
        seed: of the bootstrap.
    """
    values = {name: number_metric(name, numbers, predicted) for name in NUMBER_METRICS}
    result: dict[str, Any] = {
        "num_examples": len(numbers),
        "headline": headline,
        **{name: value if math.isfinite(value) else None for name, value in values.items()},
        "median_absolute_error": float(np.median(np.abs(predicted - numbers))),
        "mean_baseline": {"prediction": target.mean, "mae": float(np.abs(numbers - target.mean).mean())},
        "interval": None,
    }
    if target.margin is not None:
        covered = np.abs(predicted - numbers) <= target.margin
        result["interval"] = {
            "wanted_coverage": COVERAGE,
            "coverage": float(covered.mean()),
            "margin": target.margin,
        }
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(BOOTSTRAP_SAMPLES):
        rows = generator.integers(0, len(numbers), len(numbers))
        found.append(number_metric(headline, numbers[rows], predicted[rows]))
    known = [value for value in found if math.isfinite(value)]
    low, high = np.percentile(known, [2.5, 97.5]) if known else (math.nan, math.nan)
    result["interval_95"] = {
        "metric": headline,
        "low": float(low) if known else None,
        "high": float(high) if known else None,
        "samples": BOOTSTRAP_SAMPLES,
    }
    return result
