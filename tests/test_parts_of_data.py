"""Slices of a split: figures, intervals and tests by their definitions, and which differences are called real."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact, ttest_ind
from sklearn.metrics import f1_score

from textattn.measure.multiple_tests import holm
from textattn.measure.slices import corrected, row_scores, slice_by


@given(p_values=st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_step_by_step(p_values: list[float]) -> None:
    """For every level, the rejected hypotheses are those of the sequential definition."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2, 0.7):
        order = sorted(range(len(p_values)), key=lambda i: p_values[i])
        rejected = set()
        for rank, i in enumerate(order):
            if p_values[i] * (len(p_values) - rank) > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_scores_of_texts() -> None:
    assert row_scores(np.array([0, 1]), np.array([0, 0])).tolist() == [1, 0]
    generator = np.random.default_rng(0)
    truth, decided = (generator.integers(0, 2, (50, 4)).astype(np.uint8) for _ in range(2))
    truth[0] = decided[0] = 0
    expected = f1_score(truth[1:], decided[1:], average="samples", zero_division=0)
    found = row_scores(truth, decided)
    assert found[0] == 1
    assert found[1:].mean() == pytest.approx(expected)


def test_figures_intervals_and_tests_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    values = generator.choice(["app", "web", "phone"], 400).tolist()
    scores = (generator.random(400) < 0.8).astype(float)
    found = slice_by("channel", values, scores)
    assert [one.figure for one in found.slices] == sorted(one.figure for one in found.slices)
    for one in found.slices:
        inside = np.array(values) == one.value
        own, others = scores[inside], scores[~inside]
        assert (one.count, one.figure) == (len(own), pytest.approx(own.mean()))
        ci = binomtest(int(own.sum()), len(own)).proportion_ci(method="wilson")
        assert (one.low, one.high) == pytest.approx((ci.low, ci.high), abs=1e-6)
        table = [[own.sum(), len(own) - own.sum()], [others.sum(), len(others) - others.sum()]]
        assert one.p == pytest.approx(fisher_exact(table)[1])
        assert one.difference == pytest.approx(own.mean() - others.mean())
    graded = generator.random(400)
    for one in slice_by("channel", values, graded).slices:
        inside = np.array(values) == one.value
        assert one.p == pytest.approx(ttest_ind(graded[inside], graded[~inside], equal_var=False).pvalue)


def test_what_is_worse_is_found_and_chance_is_not() -> None:
    """Twenty values without any difference: without a correction some would be called worse; one really is."""
    generator = np.random.default_rng(3)
    values = [f"agent {i % 20:02d}" for i in range(2000)]
    scores = (generator.random(2000) < 0.9).astype(float)
    (same,) = corrected([slice_by("agent", values, scores)])
    assert min(one.p or 1 for one in same.slices) < 0.05
    assert {one.verdict for one in same.slices} == {""}
    scores[::20] = np.arange(100) % 2
    (found,) = corrected([slice_by("agent", values, scores)])
    assert [one.value for one in found.slices if one.verdict == "worse"] == ["agent 00"]
    assert found.slices[0].value == "agent 00"


def test_the_correction_is_for_all_columns_together() -> None:
    generator = np.random.default_rng(0)
    scores = (generator.random(300) < 0.7).astype(float)
    slicings = [slice_by(name, generator.integers(0, 3, 300).tolist(), scores) for name in "ab"]
    ps = [one.p for slicing in slicings for one in slicing.slices]
    found = [one.adjusted_p for slicing in corrected(slicings) for one in slicing.slices]
    assert len(ps) == 6
    assert found == pytest.approx(holm([p for p in ps if p is not None]))


def test_rare_values_stand_together_and_are_not_tested() -> None:
    values = ["a"] * 30 + ["b"] * 30 + ["c", "d", None, ""]
    found = slice_by("x", values, np.ones(64))
    assert [(one.value, one.count) for one in found.slices] == [("a", 30), ("b", 30), ("3 other values", 4)]
    assert found.slices[-1].p is None
    assert found.num_rare == 3


def test_many_numbers_are_divided_into_ranges_and_few_are_not() -> None:
    numbers = [float(i) for i in range(100)]
    found = slice_by("price", [str(n) for n in numbers], np.ones(100))
    assert sum(one.count for one in found.slices) == 100
    assert len(found.slices) == 4
    for one in found.slices:
        low, high = map(float, one.value.split(" to "))
        assert one.count == sum(low <= n <= high for n in numbers)
    stars = slice_by("stars", [i % 5 + 1 for i in range(100)], np.ones(100))
    assert {one.value for one in stars.slices} == set("12345")
    mixed = slice_by("code", [*map(str, range(60)), *["x"] * 40], np.ones(100))
    assert mixed.slices[0].value == "x"


def test_one_value_is_compared_with_nothing() -> None:
    (found,) = corrected([slice_by("x", ["same"] * 20, np.ones(20))])
    (one,) = found.slices
    assert (one.p, one.adjusted_p, one.verdict) == (None, None, "")
