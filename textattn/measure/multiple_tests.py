"""Correction for several tests at once: of twenty true null hypotheses, one is expected to have p <= 0.05."""

from __future__ import annotations

from collections.abc import Sequence

# From this adjusted p-value down, a difference is called more than chance.
LEVEL = 0.05


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests (Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure").

    The chance that any true null hypothesis has an adjusted p-value of at most `LEVEL` is at most `LEVEL`, whatever the
    dependence between the tests.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
