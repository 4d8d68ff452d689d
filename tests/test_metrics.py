"""Metrics against scikit-learn, and against loops where scikit-learn has none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from textattn.measure.metrics import (
    GREATER_IS_BETTER,
    LABEL_METRICS,
    bootstrap_interval,
    brier,
    choose_thresholds,
    compute_metrics,
    decide,
    expected_calibration_error,
    log_loss,
    select_metric,
)

pytestmark = pytest.mark.filterwarnings("error")
ROWS = 200
NAMES = ["low", "middle", "high", "rare"]


def single(num_labels: int, seed: int = 0, skill: float = 1.5) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of unequal frequency and probabilities that know something about them."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(num_labels, ROWS, p=np.arange(num_labels, 0, -1) / np.arange(num_labels + 1).sum())
    logits = generator.normal(size=(ROWS, num_labels)) + skill * np.eye(num_labels)[labels]
    exponentials = np.exp(logits)
    return labels.astype(np.int64), exponentials / exponentials.sum(axis=1, keepdims=True)


def several(num_labels: int = 3, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    labels = (generator.random((ROWS, num_labels)) < np.linspace(0.1, 0.6, num_labels)).astype(np.uint8)
    return labels, 1 / (1 + np.exp(-generator.normal(2.0 * labels - 1, 1)))


@pytest.mark.parametrize("num_labels", [2, 4])
def test_single_label_metrics_are_those_of_scikit_learn(num_labels: int) -> None:
    labels, probs = single(num_labels)
    decided = probs.argmax(axis=1)
    names = NAMES[:num_labels]
    result = compute_metrics(labels, probs, names, headline="accuracy")
    one_hot = np.eye(num_labels)[labels]
    average_precision = [sk.average_precision_score(one_hot[:, i], probs[:, i]) for i in range(num_labels)]
    expected = {
        "num_examples": ROWS,
        "headline": "accuracy",
        "accuracy": sk.accuracy_score(labels, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, decided),
        **{f"{how}_precision": sk.precision_score(labels, decided, average=how) for how in ("macro", "micro")},
        **{f"{how}_recall": sk.recall_score(labels, decided, average=how) for how in ("macro", "micro")},
        **{f"{how}_f1": sk.f1_score(labels, decided, average=how) for how in ("macro", "micro")},
        "auroc": sk.roc_auc_score(labels, probs[:, 1])
        if num_labels == 2
        else sk.roc_auc_score(labels, probs, multi_class="ovr"),
        "average_precision": np.mean(average_precision),
        "log_loss": sk.log_loss(labels, probs),
        "brier": sum(sk.brier_score_loss(one_hot[:, i], probs[:, i]) for i in range(num_labels)),
    }
    for name, value in expected.items():
        assert result[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), name
    assert result["confusion_matrix"] == sk.confusion_matrix(labels, decided).tolist()
    report = sk.classification_report(labels, decided, target_names=names, output_dict=True)
    for i, name in enumerate(names):
        assert result["per_class"][name] == pytest.approx(
            {
                "precision": report[name]["precision"],
                "recall": report[name]["recall"],
                "f1": report[name]["f1-score"],
                "support": report[name]["support"],
                "average_precision": average_precision[i],
            }
        )
    frequent = np.bincount(labels).argmax()
    assert result["majority_class"] == {
        "label": names[frequent],
        "accuracy": pytest.approx((labels == frequent).mean()),
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_multi_label_metrics_are_those_of_scikit_learn() -> None:
    labels, probs = several()
    thresholds = [0.3, 0.5, 0.7]
    decided = probs >= thresholds
    result = compute_metrics(labels, probs, NAMES[:3], headline="micro_f1", thresholds=thresholds)
    expected = {
        "accuracy": sk.accuracy_score(labels, decided),  # all labels of a row right
        "macro_f1": sk.f1_score(labels, decided, average="macro"),
        "micro_f1": sk.f1_score(labels, decided, average="micro"),
        "micro_precision": sk.precision_score(labels, decided, average="micro"),
        "macro_recall": sk.recall_score(labels, decided, average="macro"),
        "auroc": sk.roc_auc_score(labels, probs, average="macro"),
        "average_precision": sk.average_precision_score(labels, probs, average="macro"),
        "log_loss": np.mean([sk.log_loss(labels[:, i], probs[:, i]) for i in range(3)]),
        "brier": np.mean([sk.brier_score_loss(labels[:, i], probs[:, i]) for i in range(3)]),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert result["thresholds"] == thresholds
    assert result["headline"] == result["interval_95"]["metric"] == "micro_f1"
    assert not {"balanced_accuracy", "confusion_matrix"} & set(result)
    top = int(labels.sum(axis=0).argmax())
    always = np.eye(3, dtype=int)[[top] * ROWS]
    assert result["majority_class"] == {
        "label": NAMES[top],
        "micro_f1": pytest.approx(sk.f1_score(labels, always, average="micro")),
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


# Those are computed by the task, and tested with it.
@pytest.mark.parametrize("name", LABEL_METRICS)
@pytest.mark.parametrize("num_labels", [2, 4])
def test_the_metric_to_select_by_is_the_one_reported(name: str, num_labels: int) -> None:
    labels, probs = single(num_labels)
    reported = compute_metrics(labels, probs, NAMES[:num_labels], headline="accuracy")[name]
    assert select_metric(name, labels, probs) == pytest.approx(reported, rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "micro_f1", "auroc", "log_loss"])
def test_multi_label_selection_uses_the_best_thresholds(name: str) -> None:
    labels, probs = several()
    thresholds = choose_thresholds(labels, probs)
    reported = compute_metrics(labels, probs, NAMES[:3], headline="micro_f1", thresholds=thresholds)[name]
    assert select_metric(name, labels, probs) == pytest.approx(reported, rel=1e-12)


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_better_is_the_direction_of_perfect_answers(name: str) -> None:
    labels, _ = single(3)
    good, bad = (np.full((ROWS, 3), 0.01) + 0.97 * np.eye(3)[answer] for answer in (labels, (labels + 1) % 3))
    difference = select_metric(name, labels, good) - select_metric(name, labels, bad)
    assert (difference > 0) == GREATER_IS_BETTER[name]


def test_log_loss_stays_finite_for_certain_mistakes() -> None:
    certain = np.array([[1.0, 0.0]], dtype=np.float32)
    assert log_loss(np.array([1]), certain) == pytest.approx(-math.log(1e-12))
    assert log_loss(np.array([0]), certain) == pytest.approx(0, abs=1e-11)
    assert log_loss(np.array([[0, 1]]), certain) == pytest.approx(-math.log(1e-12), rel=1e-4)


def test_brier_of_two_classes_is_summed_over_both() -> None:
    assert brier(np.array([0]), np.array([[0.7, 0.3]])) == pytest.approx(0.3**2 + 0.3**2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_error_equals_a_loop_over_bins(multi_label: bool) -> None:
    labels, probs = several() if multi_label else single(3)
    pairs = (
        [(float(p), float(t)) for p, t in zip(probs.ravel(), labels.ravel(), strict=True)]
        if multi_label
        else [(float(max(p)), float(p[t] == max(p))) for p, t in zip(probs, labels, strict=True)]
    )
    error = 0.0
    for number in range(15):
        inside = [(p, right) for p, right in pairs if number / 15 <= p < (number + 1) / 15]
        if inside:
            confidence, accuracy = np.mean([p for p, _ in inside]), np.mean([right for _, right in inside])
            error += len(inside) / len(pairs) * abs(accuracy - confidence)
    assert expected_calibration_error(labels, probs) == pytest.approx(error)


def test_calibration_error_of_certain_answers_is_their_error_rate() -> None:
    certain = np.eye(2)[[0, 0, 0, 1]]
    assert expected_calibration_error(np.array([0, 0, 1, 1]), certain) == 0.25


def test_bootstrap_interval_is_seeded_and_holds_the_binomial_one() -> None:
    labels, probs = single(2)
    decided = decide(probs, None)
    interval = bootstrap_interval("accuracy", labels, decided, 2, seed=1)
    assert interval == bootstrap_interval("accuracy", labels, decided, 2, seed=1)
    assert interval != bootstrap_interval("accuracy", labels, decided, 2, seed=2)
    accuracy = (labels == decided).mean()
    half_width = 1.96 * math.sqrt(accuracy * (1 - accuracy) / ROWS)
    assert interval == pytest.approx((accuracy - half_width, accuracy + half_width), abs=0.01)
    assert bootstrap_interval("accuracy", labels, labels, 2, seed=1) == (1.0, 1.0)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "micro_f1"])
def test_bootstrap_interval_surrounds_its_metric(metric: str) -> None:
    labels, probs = single(3)
    result = compute_metrics(labels, probs, NAMES[:3], headline=metric, seed=3)
    low, high = bootstrap_interval(metric, labels, decide(probs, None), 3, seed=3)
    assert result["interval_95"] == {"metric": metric, "low": low, "high": high, "samples": 1000}
    assert low < result[metric] < high
    assert 0.05 < high - low < 0.25


@pytest.mark.parametrize(
    ("asked", "given"), [("auroc", "accuracy"), ("log_loss", "accuracy"), ("macro_f1", "macro_f1")]
)
def test_the_headline_is_a_metric_of_decisions(asked: str, given: str) -> None:
    result = compute_metrics(*single(2), ["no", "yes"], headline=asked)
    assert result["headline"] == result["interval_95"]["metric"] == given


scores = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=1, max_size=25)


@settings(deadline=None, max_examples=200)
@given(scores, st.sampled_from([np.float32, np.float64]))
def test_thresholds_reach_the_best_f1_there_is(rows: list[tuple[bool, int]], dtype: type[np.floating]) -> None:
    """By brute force: every cut between different probabilities; many are equal here."""
    truth = np.array([[yes] for yes, _ in rows], dtype=np.uint8)
    probs = np.array([[score / 12] for _, score in rows], dtype=dtype)
    (threshold,) = choose_thresholds(truth, probs)
    if not truth.any():
        assert threshold == 0.5
        return
    cuts = [*np.unique(probs).tolist(), 2.0]
    best = max(f1_of(truth, probs >= cut) for cut in cuts)
    reached = f1_of(truth, decide(probs, [threshold]))
    assert reached == pytest.approx(best, abs=1e-12)
    assert 0 <= threshold <= 1


def f1_of(truth: NDArray[np.uint8], said: NDArray[np.integer] | NDArray[np.bool_]) -> float:
    return float(2 * (truth * said).sum() / (truth.sum() + said.sum()))


def test_thresholds_lie_half_way_between_neighbours() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0]], dtype=np.uint8)
    probs = np.array([[0.9, 0.2], [0.5, 0.8], [0.3, 0.4]])
    assert choose_thresholds(truth, probs) == pytest.approx([0.4, 0.6])


def test_decisions_are_the_largest_probability_or_all_above_their_threshold() -> None:
    probs = np.array([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    assert decide(probs, None).tolist() == [1, 0]
    assert decide(probs, [0.4, 0.5, 0.1]).tolist() == [[0, 1, 1], [1, 0, 1]]


def test_a_class_without_rows_is_null_and_not_a_warning() -> None:
    labels, probs = single(3)
    probs = np.concatenate([probs * 0.9, np.full((ROWS, 1), 0.1)], axis=1)
    result = compute_metrics(labels, probs, NAMES, headline="balanced_accuracy")
    assert result["per_class"]["rare"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
        "average_precision": None,
    }
    decided = probs.argmax(axis=1)
    assert result["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, decided))
    one_hot = np.eye(3)[labels]  # the three that occur
    areas = [sk.roc_auc_score(one_hot[:, i], probs[:, i]) for i in range(3)]
    assert result["auroc"] == pytest.approx(np.mean(areas))
    assert [sum(row) for row in result["confusion_matrix"]][3] == 0


@pytest.mark.parametrize("num_labels", [2, 3])
@pytest.mark.parametrize("only", [0, 1])
def test_rows_of_one_class_only_have_no_auroc(num_labels: int, only: int) -> None:
    _, probs = single(num_labels)
    labels = np.full(ROWS, only)
    result = compute_metrics(labels, probs, NAMES[:num_labels], headline="accuracy")
    assert result["auroc"] is None
    assert math.isnan(select_metric("auroc", labels, probs))
    assert result["accuracy"] == pytest.approx((probs.argmax(axis=1) == only).mean())
    assert result["log_loss"] == pytest.approx(-np.log(probs[:, only]).mean())
    assert result["majority_class"] == {"label": NAMES[only], "accuracy": 1.0}
    json.dumps(result, allow_nan=False)


def test_multi_label_rows_without_any_label_are_no_warning() -> None:
    labels, probs = np.zeros((5, 3), np.uint8), np.full((5, 3), 0.2)
    result = compute_metrics(labels, probs, NAMES[:3], headline="micro_f1", thresholds=[0.5] * 3)
    assert (result["auroc"], result["average_precision"], result["micro_f1"]) == (None, None, 0.0)
    assert result["accuracy"] == 1.0  # every row is right
    json.dumps(result, allow_nan=False)


def test_one_row_is_enough() -> None:
    result = compute_metrics(np.array([1]), np.array([[0.4, 0.6]], np.float32), ["no", "yes"], headline="macro_f1")
    assert (result["accuracy"], result["auroc"], result["confusion_matrix"]) == (1.0, None, [[0, 0], [0, 1]])
    json.dumps(result, allow_nan=False)
