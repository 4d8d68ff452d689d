"""Thresholds and curves of selective prediction, against their definitions written out in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from textattn.measure.selective import (
    TARGETS,
    Answers,
    at_threshold,
    aurc,
    choose_threshold,
    coverage_curve,
    selective,
    standing,
)

# Few different scores, so that ties are common.
ANSWERS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.7, 0.75, 0.9, 0.999999, 1.0]), st.booleans()), min_size=1
)


def of(pairs: list[tuple[float, bool]]) -> Answers:
    return Answers(np.array([score for score, _ in pairs]), np.array([right for _, right in pairs]))


@given(pairs=ANSWERS, target=st.sampled_from(TARGETS), least=st.integers(1, 5))
@settings(deadline=None)
def test_a_threshold_answers_as_many_as_any_that_keeps_the_target(
    pairs: list[tuple[float, bool]], target: float, least: int
) -> None:
    answers = of(pairs)
    found = choose_threshold(answers, target, least)
    # Every threshold that differs in what it answers is one of the scores.
    possible = []
    for limit in {score for score, _ in pairs}:
        kept = [right for score, right in pairs if score >= limit]
        if len(kept) >= least and sum(kept) >= target * len(kept) - 1e-9:
            possible.append(len(kept))
    assert (found is None) == (not possible)
    if found is not None:
        measured = at_threshold(answers, found)
        assert measured["answered"] == max(possible)
        assert measured["accuracy"] >= target - 1e-9
        assert (found == 0) == (measured["answered"] == len(pairs))


def test_a_threshold_is_short_and_between_two_scores() -> None:
    scores = np.array([0.9512345, 0.9498765, 0.2, 0.1])
    assert choose_threshold(Answers(scores, np.array([True, False, False, False])), 0.99, 1) == 0.95
    close = np.array([0.12345678901, 0.12345678900])
    found = choose_threshold(Answers(close, np.array([True, False])), 0.99, 1)
    assert found is not None
    assert close[1] < found <= close[0]


def test_too_few_answers_are_no_ground_for_a_threshold() -> None:
    answers = of([(0.9, True)] * 19 + [(0.5, False)] * 50)
    assert choose_threshold(answers, 0.9) is None
    assert choose_threshold(answers, 0.9, 19) == 0.7


def test_interval_is_wilsons() -> None:
    answers = of([(0.9, True)] * 40 + [(0.9, False)] * 3 + [(0.2, True)] * 20)
    found = at_threshold(answers, 0.5)
    expected = binomtest(40, 43).proportion_ci(method="wilson")
    assert found["interval_95"] == pytest.approx([expected.low, expected.high], abs=1e-6)
    assert (found["answered"], found["right"], found["total"]) == (43, 40, 63)
    assert found["coverage"] == pytest.approx(43 / 63)
    assert at_threshold(answers, 1.0)["accuracy"] is None


@given(pairs=ANSWERS)
@settings(deadline=None)
def test_the_curve_holds_points_of_thresholds_and_ends_with_all(pairs: list[tuple[float, bool]]) -> None:
    answers = of(pairs)
    possible = set()
    for limit in {score for score, _ in pairs}:
        kept = [right for score, right in pairs if score >= limit]
        possible.add((round(len(kept) / len(pairs), 9), round(sum(kept) / len(kept), 9)))
    curve = coverage_curve(answers)
    assert {(round(x, 9), round(y, 9)) for x, y in curve} <= possible
    assert curve[-1] == pytest.approx([1.0, sum(right for _, right in pairs) / len(pairs)])
    assert [x for x, _ in curve] == sorted({x for x, _ in curve})


def test_area_under_the_risk_coverage_curve() -> None:
    generator = np.random.default_rng(0)
    scores, right = generator.random(200), generator.random(200) < 0.7
    order = np.argsort(-scores)
    risks = [np.mean(~right[order[: i + 1]]) for i in range(200)]
    assert aurc(Answers(scores, right)) == pytest.approx(np.mean(risks))
    # With one score for all, there is only one risk.
    assert aurc(Answers(np.full(200, 0.5), right)) == pytest.approx(1 - right.mean())


def test_chosen_on_one_split_and_measured_on_the_other() -> None:
    generator = np.random.default_rng(1)
    splits = {}
    for name in ("validation", "test"):
        scores = generator.random(2000)
        splits[name] = Answers(scores, generator.random(2000) < scores)
    found = selective(("validation", splits["validation"]), ("test", splits["test"]))
    assert found is not None
    for entry in found["thresholds"]:
        assert entry["threshold"] == choose_threshold(splits["validation"], entry["target"])
        for name in ("validation", "test"):
            assert entry[name] == at_threshold(splits[name], entry["threshold"])
    assert found["curve"] == coverage_curve(splits["test"])
    alone = selective(("validation", splits["validation"]), None)
    assert alone is not None
    assert alone["curve"] == coverage_curve(splits["validation"])
    without = selective(None, ("test", splits["test"]))
    assert without is not None
    assert without["thresholds"] == []
    assert selective(None, None) is None


def test_answers_of_one_label_and_of_several() -> None:
    probs = np.array([[0.7, 0.3], [0.4, 0.6]])
    one = Answers.of(np.array([0, 0]), probs.argmax(axis=1), probs)
    assert one.scores.tolist() == [0.7, 0.6]
    assert one.right.tolist() == [True, False]
    truth = np.array([[1, 0], [0, 0]], np.uint8)
    several = Answers.of(truth, (probs >= 0.35).astype(np.uint8), probs)
    assert several.scores.tolist() == [0.7, 0.4, 0.6]
    assert several.right.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [([0.96, 0.99], "kept"), ([0.9, 0.97], "open"), ([0.8, 0.94], "missed"), (None, "unknown")],
)
def test_what_a_measurement_says_of_an_aim(interval: Any, expected: str) -> None:
    assert standing(0.95, {"interval_95": interval}) == expected
