"""Grades: labels in an order, from questions whether the grade is higher still."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

import textattn
from textattn.explain.gradients import log_odds
from textattn.explain.targets import Targets
from textattn.measure import grades
from textattn.tasks import Binary, Ordinal
from textattn.tasks.ordinal import EXPONENT

LOGITS = st.integers(2, 7).flatmap(
    lambda number: st.lists(
        st.lists(st.floats(-8, 8), min_size=number - 1, max_size=number - 1), min_size=1, max_size=6
    )
)


def task_of(logits: np.ndarray[Any, Any]) -> Ordinal:
    return Ordinal([str(i) for i in range(logits.shape[1] + 1)])


def reference(row: list[float], grade: int) -> float:
    """The probability of a grade, question by question."""
    p = 1.0
    for question in range(grade):
        p *= 1 / (1 + np.exp(-row[question]))
    return p if grade == len(row) else p * (1 - 1 / (1 + np.exp(-row[grade])))


@given(LOGITS)
def test_probabilities_follow_from_the_questions(rows: list[list[float]]) -> None:
    logits = np.array(rows)
    probs = task_of(logits).probabilities(logits)
    expected = [[reference(row, grade) for grade in range(len(row) + 1)] for row in rows]
    np.testing.assert_allclose(probs, expected, atol=1e-12)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)


@given(LOGITS, st.integers(0, 2**32 - 1))
def test_the_loss_is_the_negative_log_likelihood(rows: list[list[float]], seed: int) -> None:
    logits = np.array(rows)
    task = task_of(logits)
    labels = np.random.default_rng(seed).integers(0, len(task.labels), len(rows))
    losses = task.losses(torch.from_numpy(logits), torch.from_numpy(labels), 0.0, None).numpy()
    expected = -np.log(task.probabilities(logits)[np.arange(len(rows)), labels])
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


@given(LOGITS, st.integers(0, 2**32 - 1), st.booleans())
def test_log_odds_are_the_same_in_torch(rows: list[list[float]], seed: int, against: bool) -> None:
    logits = np.array(rows)
    task = task_of(logits)
    labels = np.random.default_rng(seed).integers(0, len(task.labels), len(rows))
    other = 0 if against else None
    targets = Targets(labels, task, other)
    found = log_odds(torch.from_numpy(logits), torch.from_numpy(labels), targets).numpy()
    np.testing.assert_allclose(found, task.log_odds(logits, labels, other), rtol=1e-4, atol=1e-4)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=9))
def test_two_grades_are_two_labels(values: list[float]) -> None:
    logits, names = np.array(values)[:, None], ["0", "1"]
    ordinal, binary = Ordinal(names), Binary(names)
    np.testing.assert_allclose(ordinal.probabilities(logits), binary.probabilities(logits), atol=1e-12)
    targets = np.arange(len(values)) % 2
    own = np.array([logits[i] @ row for i, row in enumerate(ordinal.directions(targets, None))])
    np.testing.assert_allclose(own, ordinal.log_odds(logits, targets, None), atol=1e-6)
    assert {ordinal.steps(target, other) for target, other in ((0, None), (1, None), (0, 1), (1, 0))} == {None}
    np.testing.assert_allclose(ordinal.directions(targets, None), binary.directions(targets, None))
    np.testing.assert_allclose(
        ordinal.log_odds(logits, targets, None), binary.log_odds(logits, targets, None), atol=1e-6
    )


@given(LOGITS)
def test_an_explanation_divides_the_questions_that_decide_about_the_grade(rows: list[list[float]]) -> None:
    """Those up to the grade; rather than another grade, those between the two."""
    logits = np.array(rows)
    task = task_of(logits)
    for target, against in itertools.permutations([*range(len(task.labels)), None], 2):
        if target is None:
            continue
        targets = np.full(len(rows), target)
        found = (logits * task.directions(targets, against)).sum(axis=1)
        for row, value in zip(rows, found, strict=True):
            if against is None:
                parts = [*row[:target], *(-z for z in row[target : target + 1])]
            else:
                parts = [z if target > against else -z for z in row[min(target, against) : max(target, against)]]
            assert value == pytest.approx(sum(parts) / len(parts), abs=1e-9)
        if task.steps(target, against) is None:
            np.testing.assert_allclose(found, task.log_odds(logits, targets, against), atol=1e-5)


@given(LOGITS)
def test_a_grade_that_is_more_probable_than_all_others_is_explained_by_a_positive_sum(rows: list[list[float]]) -> None:
    """Each of the factors of its probability is then above a half, so that the log-odds of each are positive."""
    logits = np.array(rows)
    task = task_of(logits)
    probs = task.probabilities(logits)
    for grade in range(len(task.labels)):
        sums = (logits * task.directions(np.full(len(rows), grade), None)).sum(axis=1)
        assert (sums[probs[:, grade] > 0.5] > 0).all()


def test_the_sum_does_not_contradict_the_answer() -> None:
    """With the question above the answer in the mean, the sum of this one was -1.3."""
    task, logits = Ordinal(["1", "2", "3"]), np.array([[-0.575, 3.2]])
    assert task.probabilities(logits)[0, 0] == pytest.approx(0.64, abs=0.001)
    assert (logits * task.directions(np.array([0]), None)).sum() == pytest.approx(0.575)


@given(LOGITS)
def test_the_answer_has_the_smallest_expected_cost(rows: list[list[float]]) -> None:
    logits = np.array(rows)
    task = task_of(logits)
    probs = task.probabilities(logits)
    steps = np.arange(len(task.labels))
    expected = (probs[:, None, :] * np.abs(steps[None, :, None] - steps) ** EXPONENT).sum(axis=2)
    chosen = expected[np.arange(len(rows)), task.decide(probs)]
    np.testing.assert_allclose(chosen, expected.min(axis=1), atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_metrics_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, decided = np.array(pairs).T
    assert grades.mean_absolute_error(truth, decided) == pytest.approx(mean_absolute_error(truth, decided))
    found = grades.quadratic_kappa(truth, decided, 5)
    if len(set(truth) | set(decided)) > 1:
        assert found == pytest.approx(cohen_kappa_score(truth, decided, labels=range(5), weights="quadratic"))
    else:
        assert np.isnan(found)


def write_stars(path: Path, names: tuple[str, ...] = ("1", "2", "3", "4", "5")) -> Path:
    generator = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(300):
            grade = i % len(names)
            words = (
                ["great"] * grade
                + ["awful"] * (len(names) - 1 - grade)
                + generator.choice(["a", "film", "b"], 4).tolist()
            )
            writer.writerow([" ".join(generator.permutation(words)), names[grade]])
    return path


SMALL = [
    *("recipe=plain", "model.embedding_dim=16", "model.hidden_size=16", "training.epochs=8", "training.batch_size=16"),
    *("training.learning_rate=1e-2", "tokenizer.min_frequency=1", "output.plots=false", "output.audit_examples=20"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stars")
    done = cli("train", write_stars(folder / "stars.csv"), "task=ordinal", *SMALL, f"output.dir={folder / 'run'}")
    assert done.code == 0, done.err
    return folder / "run"


def test_every_command_knows_grades(run: Path, tmp_path: Path) -> None:
    measured = json.loads((run / "metrics.json").read_text())["test"]
    assert measured["quadratic_kappa"] > 0.9
    assert measured["mae"] < 0.3
    assert len(json.loads((run / "config.json").read_text())["id2label"]) == 5
    evaluated = json.loads(cli("evaluate", "-m", run, "--json").out)
    assert evaluated["quadratic_kappa"] == measured["quadratic_kappa"]
    assert "quadratic_kappa" in cli("evaluate", "-m", run).out
    assert cli("evaluate", "-m", run, "--fail-under", "quadratic_kappa=0.99999").code in (0, 4)
    assert cli("evaluate", "-m", run, "--fail-under", "mae=0.0").code == (0 if measured["mae"] == 0 else 4)
    best = cli("predict", "-m", run, "great great great great film").out
    assert best.startswith("5\t")
    for command in (["words"], ["audit", "--examples", "10"], ["info"], ["report"], ["explain", "great awful film"]):
        done = cli(command[0], *(["-m", run] if command[0] != "report" else [run]), *command[1:])
        assert done.code == 0, (command, done.err)
    for method in ("occlusion", "gradient_x_input", "integrated_gradients", "attention", "lime"):
        done = cli("explain", "-m", run, "--method", method, "great awful film")
        assert done.code == 0, (method, done.err)
    assert cli("export", "-m", run, "--int8", "--split", "train", "--max-drop", "100").code == 0
    (tmp_path / "in.csv").write_text("text\ngreat great great great\nawful awful awful awful\n")
    assert cli("predict", "-m", run, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv").code == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["5", "1"]
    # The score is that of the grade that is named.
    assert all(float(row["score"]) == float(row[f"score:{row['label']}"]) for row in rows)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["great", "awful", "film", "a"]), min_size=1, max_size=8))
def test_contributions_add_up_for_every_grade(run: Path, words: list[str]) -> None:
    for runtime in ("onnx", "torch"):
        model = textattn.load(run, runtime=runtime)
        for target in model.labels:
            (found,) = model.explain(" ".join(words), target=target)
            total = found.total
            assert total is not None
            parts = sum(word.weight for word in found.words)
            assert total.bias + parts == pytest.approx(total.answer, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "end", "steps"),
    [
        (["--target", "1"], ", the log-odds of 1", None),
        (["--target", "2"], ", the mean log-odds of each step up to 2 and of stopping there", "up and stop"),
        (["--target", "4"], ", the mean log-odds of each step up to 4 and of stopping there", "up and stop"),
        (["--target", "5"], ", the mean log-odds of each step up to 5", "up"),
        (["--contrast", "5", "4"], ", the log-odds of 5 rather than 4", None),
        (["--contrast", "4", "5"], ", the log-odds of 4 rather than 5", None),
        (["--contrast", "4", "2"], ", the mean log-odds of each step from 2 up to 4", "up"),
        (["--contrast", "1", "3"], ", the mean log-odds against each step from 1 up to 3", "none up"),
    ],
)
def test_the_sum_says_what_it_is(run: Path, arguments: list[str], end: str, steps: str | None, tmp_path: Path) -> None:
    text = "great awful film"
    (line,) = [line for line in cli("explain", "-m", run, *arguments, text).out.splitlines() if " bias " in line]
    assert line.partition(", which calibration")[0].endswith(end)
    assert ("calibration" in line) == (steps is None)
    assert cli("explain", "-m", run, *arguments, text, "--html", tmp_path / "page.html").code == 0
    assert end in re.sub("</?bdi>", "", (tmp_path / "page.html").read_text())
    found = json.loads(cli("explain", "-m", run, *arguments, text, "--json").out)
    assert (found["sum"]["steps"], found["sum"]["is_log_odds"]) == (steps, steps is None)
    if steps is None and "--target" in arguments:
        odds = found["sum"]["answer"] / found["sum"]["temperature"]
        score = textattn.load(run).predict_proba([text])[0][int(arguments[1]) - 1]
        assert 1 / (1 + np.exp(-odds)) == pytest.approx(score, abs=1e-5)


def test_the_baseline_is_measured_alike(run: Path) -> None:
    done = cli("train", run / "training_config.yaml", "training.baseline=true", f"output.dir={run.parent / 'with'}")
    assert done.code == 0, done.err
    baseline = json.loads((run.parent / "with" / "metrics.json").read_text())["baseline"]
    assert baseline["test"]["quadratic_kappa"] > 0.5


@pytest.mark.parametrize("names", [("bad", "good", "ok"), ("b", "a", "c")])
def test_an_order_that_is_not_known_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    done = cli("check", write_stars(tmp_path / "x.csv", names), "task=ordinal", "--no-forecast")
    assert done.code == 2
    assert "the order of the labels" in done.err
    assert "Hint: data.label_names=[" in done.err


def test_names_in_their_order_are_an_order(tmp_path: Path) -> None:
    file = write_stars(tmp_path / "x.csv", ("0", "1", "2"))
    done = cli("check", file, "task=ordinal", "data.label_names=[bad, fair, good]", "--no-forecast")
    assert done.code == 0, done.err
    assert "logits" in done.out


def test_several_labels_a_text_are_no_grades(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a b", "label": [1, 2]}\n' * 9 + '{"text": "c", "label": [1]}\n' * 9)
    done = cli("check", tmp_path / "x.jsonl", "task=ordinal", "--no-forecast")
    assert done.code == 2
    assert "grades need one label a text" in done.err
