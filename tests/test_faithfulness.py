"""Each measure of an audit against the definition in its paper, written a second time with plain loops."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from textattn.explain.audit_measures import (
    FRACTIONS,
    LEAST_OVERLAP,
    STRONG,
    area,
    auprc,
    bootstrap,
    bootstrap_ratio,
    check_signs,
    comprehensiveness,
    conicity,
    f1,
    iou_precision_recall,
    jensen_shannon,
    kendall_tau,
    num_erased,
    order_by,
    spans_of,
    sufficiency,
    token_f1,
    top_overlap,
)
from textattn.tasks import MultiLabel, SingleLabel

# Few different values, so that ties are common; numbers that any spread of scores may have.
TIED = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, -0.5])
NUMBER = TIED | st.floats(-100, 100, allow_nan=False)
FLAGS = st.lists(st.booleans(), min_size=1, max_size=25)
PROBS = st.lists(st.floats(0, 1), min_size=1, max_size=6)
many = settings(max_examples=100, deadline=None)


def pairs(value: st.SearchStrategy[Any], most: int = 15) -> st.SearchStrategy[list[tuple[Any, Any]]]:
    """Two lists of one length."""
    return st.lists(st.tuples(value, value), min_size=1, max_size=most)


def columns(rows: Sequence[tuple[Any, Any]], kind: Any = np.float64) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = zip(*rows, strict=True)
    return np.array(first, kind), np.array(second, kind)


def close(found: float, expected: float) -> None:
    assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9), (found, expected)


# The papers' definitions.


def share_of(fraction: str, length: int) -> int:
    """The least whole number of tokens, not 0, that is at least that share: in exact arithmetic."""
    return next(count for count in range(1, length + 1) if count >= Fraction(fraction) * length)


def aopc(whole: float, others: Sequence[float]) -> float:
    """ERASER, section 4.2: the mean over the bins of p(y|x) - p(y|what is left of x)."""
    total = 0.0
    for other in others:
        total += whole - other
    return total / len(others)


def tau_b(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall 1945: concordant less discordant pairs over the root of the pairs not tied in a times those in b."""
    concordant = discordant = untied_a = untied_b = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
        concordant += int(x * y > 0)
        discordant += int(x * y < 0)
        untied_a += int(x != 0)
        untied_b += int(y != 0)
    if not untied_a or not untied_b:
        return math.nan
    return (concordant - discordant) / math.sqrt(untied_a * untied_b)


def runs(flags: Sequence[bool]) -> list[set[int]]:
    """The places of each run of True."""
    grouped = itertools.groupby(enumerate(flags), key=lambda item: bool(item[1]))
    return [{place for place, _ in group} for chosen, group in grouped if chosen]


def partial_match(truth: list[list[set[int]]], predicted: list[list[set[int]]], threshold: float) -> float:
    """eraserbenchmark's partial_match_score, `instance_macro` f1, over documents; spans are sets of places."""
    recalls, precisions = [], []
    for true_spans, predicted_spans in zip(truth, predicted, strict=True):
        found = 0
        for p in predicted_spans:
            best = 0.0
            for t in true_spans:
                best = max(best, len(p & t) / len(p | t))
            found += best >= threshold
        recalls.append(found / len(true_spans) if true_spans else 0)
        precisions.append(found / len(predicted_spans) if predicted_spans else 0)
    r, p = sum(recalls) / len(recalls), sum(precisions) / len(precisions)
    return 2 * r * p / (r + p) if r + p else 0


def area_under_precision_recall(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """A point for each threshold, from (recall 0, precision 1) on, joined by straight lines."""
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        chosen = [flag for score, flag in zip(scores, truth, strict=True) if score >= threshold]
        points.append((sum(chosen) / sum(truth), sum(chosen) / len(chosen)))
    return sum((r2 - r1) * (p1 + p2) / 2 for (r1, p1), (r2, p2) in itertools.pairwise(points))


def kullback_leibler(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def mean_cosine_with_mean(states: list[list[float]]) -> float:
    """Mohankumar et al. 2020, eq. 5; 0 for a vector without a direction."""
    mean = [sum(column) / len(states) for column in zip(*states, strict=True)]
    cosines = []
    for state in states:
        norms = math.sqrt(sum(x * x for x in state)) * math.sqrt(sum(x * x for x in mean))
        cosines.append(sum(x * y for x, y in zip(state, mean, strict=True)) / norms if norms else 0.0)
    return sum(cosines) / len(cosines)


# Erasure.


def test_the_shares_are_those_of_eraser() -> None:
    assert FRACTIONS == (0.01, 0.05, 0.1, 0.2, 0.5)
    assert LEAST_OVERLAP == 0.5


@pytest.mark.parametrize("fraction", ["0.01", "0.05", "0.1", "0.2", "0.5", "0.75", "1"])
def test_a_share_of_the_tokens_is_rounded_up_and_at_least_one(fraction: str) -> None:
    for length in range(1, 301):
        assert num_erased(float(fraction), length) == share_of(fraction, length), length
    assert num_erased(0.07, 100) == 7  # 0.07 * 100 is a little more than that


@many
@given(whole=st.floats(0, 1), others=PROBS)
def test_comprehensiveness_and_sufficiency_are_mean_falls(whole: float, others: list[float]) -> None:
    close(comprehensiveness(whole, others), aopc(whole, others))
    close(sufficiency(whole, others), aopc(whole, others))


@many
@given(scores=st.lists(NUMBER, min_size=1, max_size=30), seed=st.integers(0, 2**32))
def test_an_order_has_every_token_once_and_never_a_higher_score_later(scores: list[float], seed: int) -> None:
    order = order_by(np.array(scores), np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(scores)))
    ordered = [scores[place] for place in order]
    assert ordered == sorted(scores, reverse=True)


def test_equal_scores_come_in_every_order_alike() -> None:
    generator = np.random.default_rng(0)
    found = Counter(tuple(order_by(np.array([1.0, 2.0, 1.0, 1.0]), generator).tolist()) for _ in range(3000))
    assert {order[0] for order in found} == {1}
    assert len(found) == 6
    assert all(400 < count < 600 for count in found.values())  # 500 are expected, with a deviation of 20


@many
@given(probs=st.lists(st.floats(0, 1), min_size=1, max_size=12), extra=st.integers(0, 9))
def test_the_area_under_a_curve_is_scipys(probs: list[float], extra: int) -> None:
    counts = [0, *range(1 + extra, len(probs) + extra)]
    length = counts[-1] + extra + 1
    close(area(counts, probs, length), float(trapezoid(probs, [count / length for count in counts])))


def test_the_area_is_between_nothing_and_everything() -> None:
    close(area([0, 5, 10], [0.8, 0.8, 0.8], 10), 0.8)
    close(area([0, 1, 10], [1.0, 0.0, 0.0], 10), 0.05)
    close(area([0, 1, 1, 2], [1.0, 0.0, 0.0, 0.0], 2), 0.25)  # a share that is the same token again


# Signs.


@many
@given(rows=pairs(NUMBER))
def test_signs_are_counted_one_token_after_the_other(rows: list[tuple[float, float]]) -> None:
    counts = Counter[str]()
    strongest = max(abs(score) for score, _ in rows)
    for score, fall in rows:
        if abs(score) < STRONG * strongest or score == 0:
            continue
        side = "supporting" if score > 0 else "opposing"
        counts[side] += 1
        counts[f"{side}_right"] += score * fall > 0 or (score > 0) == (fall > 0) != (fall < 0)
    found = check_signs(*columns(rows))._asdict()
    assert found == {name: counts[name] for name in found}


def test_weak_scores_have_no_sign() -> None:
    scores = np.array([2.0, 0.2, 0.19, -0.19, -0.2, 0.0])
    assert check_signs(scores, np.array([1.0, -1, 1, -1, -1, 1])) == (2, 1, 1, 1)
    assert check_signs(np.zeros(3), np.ones(3)) == (0, 0, 0, 0)


# Overlap.


@many
@given(data=st.data(), length=st.integers(1, 40))
def test_the_overlap_is_that_of_sets(data: st.DataObject, length: int) -> None:
    a, b = (data.draw(st.permutations(range(length))) for _ in range(2))
    count = share_of("0.1", length)
    close(top_overlap(np.array(a), np.array(b), 0.1), len(set(a[:count]) & set(b[:count])) / count)
    assert top_overlap(np.array(a), np.array(a), 0.1) == 1


# Distances.


@many
@given(rows=pairs(st.floats(0, 1)), multi_label=st.booleans())
def test_the_distance_of_two_answers(rows: list[tuple[float, float]], multi_label: bool) -> None:
    p, q = columns(rows)
    names = [str(i) for i in range(len(rows))]
    task = MultiLabel(names) if multi_label else SingleLabel(names)
    differences = sum(abs(x - y) for x, y in rows)
    expected = differences / len(rows) if multi_label else differences / 2
    close(float(task.distance(p, q)), expected)
    many_rows = task.distance(np.stack([p, q, p]), q[None, :])
    assert many_rows.tolist() == pytest.approx([expected, 0, expected], abs=1e-9)


def test_the_distance_is_1_where_nothing_is_shared() -> None:
    assert SingleLabel(["a", "b", "c"]).distance(np.array([1.0, 0, 0]), np.array([0, 0.4, 0.6])) == pytest.approx(1)


@many
@given(rows=pairs(NUMBER) | pairs(TIED) | pairs(st.just(0.0), 3))
def test_kendall_tau_counts_pairs(rows: list[tuple[float, float]]) -> None:
    a, b = columns(rows)
    expected, found = tau_b(a.tolist(), b.tolist()), kendall_tau(a, b)
    if math.isnan(expected):
        assert math.isnan(found)
    else:
        close(found, expected)
        close(kendall_tau(b, a), expected)
        close(kendall_tau(-a, b), -expected)


def test_kendall_tau_says_nothing_of_one_token_or_of_equal_scores() -> None:
    assert math.isnan(kendall_tau(np.array([1.0]), np.array([2.0])))
    assert math.isnan(kendall_tau(np.zeros(4), np.arange(4.0)))
    assert math.isnan(kendall_tau(np.arange(4.0), np.full(4, 0.25)))
    assert kendall_tau(np.arange(4.0), np.array([0, 2, 1, 3.0])) == pytest.approx(4 / 6)


@many
@given(rows=pairs(st.integers(0, 5)))
def test_jensen_shannon_is_the_mean_divergence_from_the_middle(rows: list[tuple[int, int]]) -> None:
    p, q = columns([*rows, (1, 1)])  # so that neither is all zeros
    p, q = p / p.sum(), q / q.sum()
    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    expected = (kullback_leibler(p.tolist(), middle) + kullback_leibler(q.tolist(), middle)) / 2
    close(jensen_shannon(p, q), expected)
    close(jensen_shannon(q, p), expected)
    assert -1e-12 <= expected <= math.log(2)


def test_jensen_shannon_is_ln_2_at_most() -> None:
    close(jensen_shannon(np.array([0.5, 0.5, 0]), np.array([0, 0, 1.0])), math.log(2))
    close(jensen_shannon(np.array([0.3, 0.7]), np.array([0.3, 0.7])), 0)


@many
@given(st.integers(1, 4).flatmap(lambda dim: st.lists(st.lists(st.integers(-9, 9), min_size=dim, max_size=dim), min_size=1, max_size=8)))  # noqa: E501  # fmt: skip
def test_conicity_is_the_mean_cosine_with_the_mean(states: list[list[float]]) -> None:
    close(conicity(np.array(states, np.float64)), mean_cosine_with_mean(states))


def test_conicity_is_1_where_all_point_one_way_and_0_around_a_circle() -> None:
    close(conicity(np.outer([1.0, 2, 0.5], [3.0, -1, 2])), 1)
    close(conicity(np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])), 0)
    close(conicity(np.array([[1.0, 0], [0, 1]])), math.sqrt(0.5))


# Agreement with evidence.


@many
@given(flags=FLAGS)
def test_spans_are_the_runs(flags: list[bool]) -> None:
    spans = spans_of(np.array(flags))
    assert [set(range(first, last)) for first, last in spans] == runs(flags)


@many
@given(rows=pairs(st.booleans(), 25))
def test_token_f1_is_that_of_sets(rows: list[tuple[bool, bool]]) -> None:
    chosen, evidence = columns(rows, np.bool_)
    a, b = set(np.flatnonzero(chosen).tolist()), set(np.flatnonzero(evidence).tolist())
    close(token_f1(chosen, evidence), 2 * len(a & b) / (len(a) + len(b)) if a or b else 0)


@many
@given(rows=st.floats(0, 1) | st.just(0.0), other=st.floats(0, 1) | st.just(0.0))
def test_f1_is_the_harmonic_mean(rows: float, other: float) -> None:
    close(f1(rows, other), 0 if rows == 0 or other == 0 else 1 / ((1 / rows + 1 / other) / 2))


@many
@given(documents=st.lists(pairs(st.booleans(), 20), min_size=1, max_size=5))
def test_iou_f1_is_that_of_eraserbenchmark(documents: list[list[tuple[bool, bool]]]) -> None:
    both = [columns(rows, np.bool_) for rows in documents]
    expected = partial_match([runs(e.tolist()) for _, e in both], [runs(c.tolist()) for c, _ in both], 0.5)
    shares = [iou_precision_recall(chosen, evidence) for chosen, evidence in both]
    close(f1(*(float(np.mean(share)) for share in zip(*shares, strict=True))), expected)


@pytest.mark.parametrize(
    ("chosen", "evidence", "expected"),
    [
        ("0110", "0110", (1, 1)),
        ("0110", "0111", (1, 1)),  # 2/3
        ("0100", "0110", (1, 1)),  # exactly one half
        ("0100", "0111", (0, 0)),  # 1/3
        ("1100110", "1100000", (0.5, 1)),
        ("1100000", "1100110", (1, 0.5)),
        ("1111111", "1101111", (1, 0.5)),  # one span over two: it matches the longer one, 4/7
        ("0000", "0110", (0, 0)),
        ("0110", "0000", (0, 0)),
        ("0000", "0000", (0, 0)),
        ("1", "1", (1, 1)),
    ],
)
def test_a_span_matches_from_half_an_overlap_on(chosen: str, evidence: str, expected: tuple[float, float]) -> None:
    masks = [np.array([flag == "1" for flag in flags]) for flags in (chosen, evidence)]
    assert iou_precision_recall(*masks) == expected


@many
@given(rows=st.lists(st.tuples(NUMBER, st.booleans()) | st.tuples(TIED, st.booleans()), min_size=1, max_size=20))
def test_auprc_is_the_area_of_trapezoids(rows: list[tuple[float, bool]]) -> None:
    scores, evidence = np.array([score for score, _ in rows]), np.array([flag for _, flag in rows])
    if not evidence.any():
        assert math.isnan(auprc(scores, evidence))
        return
    close(auprc(scores, evidence), area_under_precision_recall(scores.tolist(), evidence.tolist()))


def test_auprc_of_known_cases() -> None:
    evidence = np.array([True, False, False, True])
    close(auprc(np.array([0.9, 0.1, 0.2, 0.8]), evidence), 1)
    close(auprc(np.zeros(4), evidence), 0.75)  # one step from (0, 1) to (1, 1/2)
    close(auprc(np.array([0.3]), np.array([True])), 1)


# Intervals.


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-5, 5) | st.just(math.nan), max_size=20), seed=st.integers(0, 99))
def test_a_mean_and_its_interval_are_of_the_values_that_are_numbers(values: list[float], seed: int) -> None:
    known = [value for value in values if not math.isnan(value)]
    found = bootstrap(values, seed)
    if not known:
        assert found is None
        return
    assert found is not None
    close(found.mean, math.fsum(known) / len(known))
    assert found.num_texts == len(known)
    assert min(known) - 1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= max(known) + 1e-9
    assert bootstrap(values, seed) == found


@pytest.mark.parametrize("size", [60, 400])
def test_the_interval_of_a_ratio_is_that_of_the_delta_method(size: int) -> None:
    generator = np.random.default_rng(4)
    wholes = generator.uniform(5, 15, size)
    parts = 0.4 * wholes + generator.normal(0, 1, size)
    found = bootstrap_ratio(parts, wholes)
    assert found is not None
    ratio = math.fsum(parts) / math.fsum(wholes)
    close(found.mean, ratio)
    assert found.num_texts == size
    error = float(np.std(parts - ratio * wholes)) / math.sqrt(size) / float(np.mean(wholes))
    assert ratio - found.low == pytest.approx(1.96 * error, rel=0.12)
    assert found.high - ratio == pytest.approx(1.96 * error, rel=0.12)


def test_a_ratio_to_nothing_is_none() -> None:
    assert bootstrap_ratio([1.0, 2.0], [0.0, 0.0]) is None
    assert bootstrap_ratio([1.0, 2.0], [-3.0, 1.0]) is None
    found = bootstrap_ratio([1.0, 0.0], [2.0, 0.0])
    assert found is not None
    assert (found.mean, found.num_texts) == (0.5, 1)
    assert found.low == found.high == 0.5  # resamples without the one text that counts are no ratio


@pytest.mark.parametrize("size", [50, 400])
def test_the_interval_is_that_of_the_central_limit(size: int) -> None:
    values = np.random.default_rng(1).normal(3, 2, size)
    found = bootstrap(values)
    assert found is not None
    error = values.std() / math.sqrt(size)
    assert found.mean - found.low == pytest.approx(1.96 * error, rel=0.1)
    assert found.high - found.mean == pytest.approx(1.96 * error, rel=0.1)


def test_an_interval_of_equal_values_or_of_one_has_no_width() -> None:
    for values in ([0.25] * 30, [0.25]):
        found = bootstrap(values)
        assert found is not None
        assert astuple(found) == (0.25, 0.25, 0.25, len(values))


def test_the_interval_holds_the_mean_of_the_population_about_19_times_in_20() -> None:
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(50):
        found = bootstrap(generator.exponential(1, 40))
        assert found is not None
        held += found.low <= 1 <= found.high
    assert 41 <= held < 50  # 47 are expected of values so skewed, with a deviation of 1.7
