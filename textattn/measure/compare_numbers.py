"""Compares two models that predict numbers, on the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.measure.metrics import BOOTSTRAP_SAMPLES
from textattn.measure.numbers import number_metric

if TYPE_CHECKING:
    from textattn.measure.compare import Predictions


def compare_number_pair(a: Predictions, b: Predictions, metric: str, examples: int, seed: int) -> dict[str, Any]:
    """An entry of `pairs` in `compare_runs`, for numbers.

    `difference` is b minus a, and `interval_95` its percentile interval when the same resampled texts are used for both
    (paired bootstrap). `p` is of Wilcoxon's two-sided signed-rank test of the absolute errors of the same texts.
    `a_closer` and `b_closer` count the texts where the prediction of one is closer to the truth.
    """
    from scipy.stats import wilcoxon

    errors_a, errors_b = (np.abs(one.decided - one.truth) for one in (a, b))
    generator = np.random.default_rng(seed)

    def value(one: Predictions, rows: Any) -> float:
        return number_metric(metric, one.truth[rows], one.decided[rows])

    differences = []
    for _ in range(BOOTSTRAP_SAMPLES):
        rows = generator.integers(0, len(errors_a), len(errors_a))
        differences.append(value(b, rows) - value(a, rows))
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    everything = slice(None)
    is_equal = bool((errors_a == errors_b).all())
    closer = {"a_closer": errors_a < errors_b, "b_closer": errors_b < errors_a}
    return {
        "a": str(a.run),
        "b": str(b.run),
        "difference": value(b, everything) - value(a, everything),
        "interval_95": [float(low), float(high)],
        "p": 1.0 if is_equal else float(wilcoxon(errors_a, errors_b).pvalue),
        **{name: int(rows.sum()) for name, rows in closer.items()},
        "examples": {
            name: _examples(a, b, np.where(rows, np.abs(errors_a - errors_b), 0.0), examples)
            for name, rows in closer.items()
        },
    }


def _examples(a: Predictions, b: Predictions, gains: NDArray[np.float64], number: int) -> Sequence[dict[str, Any]]:
    """The texts with the largest gains."""
    rows = [int(row) for row in np.argsort(-gains, kind="stable")[:number] if gains[row] > 0]
    return [
        {
            "row": row,
            "text": a.texts[row].as_py(),
            "number": float(a.truth[row]),
            "a": float(a.decided[row]),
            "b": float(b.decided[row]),
        }
        for row in rows
    ]
