"""Slices: how good a model is on parts of a split, and where it is worse than elsewhere by more than chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from textattn.measure.intervals import wilson
from textattn.measure.metrics import Labels
from textattn.measure.multiple_tests import LEVEL, holm

Floats = NDArray[np.float64]
# A value with fewer texts than this is put together with other rare ones, which are not tested.
LEAST_TEXTS = 10
# Of a column with more values than this the most frequent ones are slices.
MOST_VALUES = 30
# Numbers with more different values than this are divided into ranges with about the same number of texts.
MOST_NUMBERS, RANGES = 12, 4


@dataclass(frozen=True)
class Slice:
    """The texts with one value of a column."""

    value: str
    count: int
    figure: float
    """The mean score of its texts; see `row_scores`."""
    low: float
    """Lower end of the 95 % interval of the figure."""
    high: float
    difference: float
    """The figure less that of all other texts."""
    p: float | None = None
    """Of a two-sided test against all other texts; None for rare values and for a single slice."""
    adjusted_p: float | None = None
    """The same after Holm's correction for all slices of a report."""

    @property
    def verdict(self) -> str:
        """`worse` or `better` than the other texts by more than chance after correction, or ""."""
        if self.adjusted_p is None or self.adjusted_p > LEVEL:
            return ""
        return "worse" if self.difference < 0 else "better"


@dataclass(frozen=True)
class Slicing:
    """A split divided by a column."""

    column: str
    slices: list[Slice]
    """Worst first; the rare values together come last."""
    num_rare: int = 0
    """How many values are in the last slice because they are rare."""


def row_scores(truth: Labels, decided: Labels) -> Floats:
    """How right the answer to each text is, (rows,): 0 or 1, or for multi-label the F1 of its labels.

    The F1 of a text compares the labels given with the true ones; if there are neither, it is 1.

    Args:
        truth: (rows,) class ids, or (rows, labels) 0/1.
        decided: the predicted labels, in the same form.
    """
    if truth.ndim == 1:
        return np.asarray(truth == decided, np.float64)
    hits = (truth & decided).sum(axis=1, dtype=np.int64)
    total = truth.sum(axis=1, dtype=np.int64) + decided.sum(axis=1, dtype=np.int64)
    return np.where(total == 0, 1.0, 2 * hits / np.maximum(total, 1))


def slice_by(column: str, values: Sequence[object], scores: Floats) -> Slicing:
    """Divide rows by a column and test each value against all other rows, without correction.

    Args:
        column: its name.
        values: (rows,) of any kind; None and "" are the value "(empty)".
        scores: (rows,) of `row_scores`, or other numbers of which larger ones are better.
    """
    names = _ranges(values) or [_name(value) for value in values]
    counts = Counter(names)
    frequent = [name for name, count in counts.most_common(MOST_VALUES) if count >= LEAST_TEXTS]
    rare = set(counts) - set(frequent)
    array = np.array(names, dtype=object)
    slices = [_slice(name, array == name, scores, tested=len(counts) > 1) for name in frequent]
    slices.sort(key=lambda one: (one.figure, -one.count, one.value))
    if rare:
        chosen = np.array([name in rare for name in names])
        name = next(iter(rare)) if len(rare) == 1 else f"{len(rare):,} other values"
        slices.append(_slice(name, chosen, scores, tested=False))
    return Slicing(column, slices, len(rare))


def corrected(slicings: Sequence[Slicing]) -> list[Slicing]:
    """The same with p-values adjusted over all slices of all columns that were tested."""
    adjusted = iter(holm([one.p for slicing in slicings for one in slicing.slices if one.p is not None]))
    return [
        replace(
            slicing,
            slices=[one if one.p is None else replace(one, adjusted_p=next(adjusted)) for one in slicing.slices],
        )
        for slicing in slicings
    ]


def _slice(name: str, chosen: NDArray[np.bool_], scores: Floats, *, tested: bool) -> Slice:
    own, others = scores[chosen], scores[~chosen]
    figure, count = float(own.mean()), len(own)
    difference = figure - float(others.mean()) if len(others) else 0.0
    low, high = interval(own)
    p = _p_value(own, others) if tested and len(others) else None
    return Slice(name, count, figure, low, high, difference, p)


def interval(scores: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean of scores: Wilson's for 0 and 1, for others by the normal distribution, for shares
    between 0 and 1."""
    figure = float(scores.mean())
    if _is_binary(scores):
        return wilson(figure, len(scores))
    half = 1.96 * float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else 1.0
    low, high = figure - half, figure + half
    is_share = scores.min() >= 0 and scores.max() <= 1
    return (max(0.0, low), min(1.0, high)) if is_share else (low, high)


def _p_value(own: Floats, others: Floats) -> float:
    """Fisher's exact test for 0 and 1, for others Welch's t-test; both two-sided."""
    from scipy.stats import fisher_exact, ttest_ind

    if _is_binary(own) and _is_binary(others):
        right, of_others = int(own.sum()), int(others.sum())
        return float(fisher_exact([[right, len(own) - right], [of_others, len(others) - of_others]])[1])
    if own.std() == others.std() == 0:
        return 1.0 if own[0] == others[0] else 0.0
    p = float(ttest_ind(own, others, equal_var=False).pvalue)
    return 1.0 if math.isnan(p) else p


def _is_binary(scores: Floats) -> bool:
    return bool(((scores == 0) | (scores == 1)).all())


def _name(value: object) -> str:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "(empty)"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _ranges(values: Sequence[object]) -> list[str] | None:
    """For numbers with many different values, the range of each row; None for other columns."""
    numbers = np.array([_number(value) for value in values], np.float64)
    known = numbers[~np.isnan(numbers)]
    filled = sum(_name(value) != "(empty)" for value in values)
    if len(known) < filled or len(np.unique(known)) <= MOST_NUMBERS:
        return None
    # Each range begins with a number that occurs, so that its name says exactly which numbers are in it.
    starts = np.unique(np.quantile(known, np.linspace(0, 1, RANGES + 1)[:-1], method="closest_observation"))
    place = np.searchsorted(starts, numbers, side="right") - 1
    names = []
    for i in range(len(starts)):
        inside = known[np.searchsorted(starts, known, side="right") - 1 == i]
        low, high = f"{inside.min():g}", f"{inside.max():g}"
        names.append(low if low == high else f"{low} to {high}")
    return ["(empty)" if math.isnan(number) else names[int(i)] for number, i in zip(numbers, place, strict=True)]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
