"""Numbers: a Huber loss on standardised targets, intervals by split conformal prediction, contributions in units."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from scipy.stats import wilcoxon
from sklearn import metrics as sk

import textattn
from textattn.data.numbers import NumberColumn, one_number, strata_of
from textattn.errors import ConfigError, InputError
from textattn.explain.gradients import log_odds
from textattn.explain.targets import Targets
from textattn.measure.numbers import conformal_margin, measure_numbers, number_metric
from textattn.storage.target import Target
from textattn.tasks.regression import HUBER_DELTA, Regression

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40)
SMALL = (
    "task=regression", "recipe=plain", "tokenizer.min_frequency=1", "model.embedding_dim=12", "model.hidden_size=8",
    "training.epochs=8", "training.batch_size=8", "training.learning_rate=0.02", "training.precision=fp32",
    "output.audit_examples=0", "output.plots=false", "output.report=false",
)  # fmt: skip
WORDS = {"tiny": -10.0, "small": -4.0, "medium": 0.0, "large": 5.0, "huge": 12.0}


def task_of(numbers: list[float]) -> Regression:
    array = np.array(numbers)
    return Regression(["price"], Target(float(array.mean()), float(array.std()) or 1.0, array.min(), array.max()))


def write(file: Path, rows: list[tuple[str, object]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    return file


def rows_of(number: int, factor: float = 1.0, offset: float = 0.0) -> list[tuple[str, object]]:
    generator = np.random.default_rng(0)
    found: list[tuple[str, object]] = []
    for row in range(number):
        word = list(WORDS)[row % len(WORDS)]
        others = generator.choice(["a", "box", "of", "tea", "for", "you"], 4)
        found.append((" ".join([*others, word]), factor * (WORDS[word] + generator.normal(0, 0.5)) + offset))
    return found


# The task


@given(NUMBERS, st.integers(0, 2**32 - 1))
def test_the_loss_is_hubers(numbers: list[float], seed: int) -> None:
    assume(np.std(numbers) > 1e-6 * np.abs(numbers).max())  # otherwise they cannot be told apart
    task = task_of(numbers)
    logits = np.random.default_rng(seed).normal(0, 2, (len(numbers), 1))
    targets = task.encode(np.array(numbers))
    losses = task.losses(torch.from_numpy(logits), torch.from_numpy(targets), 0.0, None).numpy()
    expected = []
    for logit, number in zip(logits[:, 0], targets.astype(float), strict=True):
        error = abs(logit - number)
        expected.append(error**2 / 2 if error <= HUBER_DELTA else HUBER_DELTA * (error - HUBER_DELTA / 2))
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)
    # What the course of training shows is the same loss, where no limit of the training split applies.
    inside = Regression(["price"], Target(task.scale.mean, task.scale.std, -1e12, 1e12))
    shown = inside.validation_loss(np.array(numbers), inside.probabilities(logits))
    assert shown == pytest.approx(float(np.mean(expected)), rel=1e-3, abs=1e-5)


@given(NUMBERS)
def test_encoded_numbers_are_standardised_and_come_back(numbers: list[float]) -> None:
    assume(np.std(numbers) > 1e-3)
    task = task_of(numbers)
    encoded = task.encode(np.array(numbers))
    assert encoded.mean() == pytest.approx(0, abs=1e-3)
    assert encoded.std() == pytest.approx(1, abs=1e-3)
    back = task.probabilities(encoded[:, None])
    np.testing.assert_allclose(task.decide(back), numbers, atol=1e-5 * max(1.0, float(np.abs(numbers).max())))


@given(NUMBERS, st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_directions_lead_from_logits_to_the_answer(numbers: list[float], values: list[float]) -> None:
    task, logits = task_of(numbers), np.array(values)[:, None]
    targets = np.zeros(len(values), np.int64)
    answer = (logits * task.directions(targets, None)).sum(axis=1) + task.offset
    low, high = min(numbers), max(numbers)
    np.testing.assert_allclose(
        np.clip(answer, low, high), task.decide(task.probabilities(logits)), atol=1e-9 + 1e-9 * high
    )
    np.testing.assert_allclose(answer - task.offset, task.log_odds(logits, targets, None), atol=1e-6)
    np.testing.assert_allclose(-task.log_odds(logits, targets, None), task.log_odds(logits, targets + 1, None))
    for side in (targets, targets + 1):
        in_torch = log_odds(torch.from_numpy(logits), torch.from_numpy(side), Targets(side, task)).numpy()
        np.testing.assert_allclose(in_torch, task.log_odds(logits, side, None), rtol=1e-5, atol=1e-3)


@given(NUMBERS)
def test_an_answer_is_on_the_side_of_the_mean_that_it_speaks_for(numbers: list[float]) -> None:
    task = task_of(numbers)
    probs = np.array(numbers)[:, None]
    top = task.top(probs)
    strength = task.strength(probs, top)
    assert (strength >= 0).all()
    np.testing.assert_allclose(task.strength(probs, 1 - top), -strength)
    assert task.distance(probs, probs).max() == 0


# The figures


@given(NUMBERS, st.integers(0, 2**32 - 1))
def test_metrics_are_those_of_scikit_learn(numbers: list[float], seed: int) -> None:
    truth = np.array(numbers)
    assume(truth.std() > 1e-3)
    predicted = truth + np.random.default_rng(seed).normal(0, truth.std(), len(truth))
    assert number_metric("mae", truth, predicted) == pytest.approx(sk.mean_absolute_error(truth, predicted))
    assert number_metric("rmse", truth, predicted) == pytest.approx(math.sqrt(sk.mean_squared_error(truth, predicted)))
    assert number_metric("r2", truth, predicted) == pytest.approx(sk.r2_score(truth, predicted))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60))
@settings(deadline=None)
def test_intervals_cover_at_least_what_they_should(residuals: list[float]) -> None:
    # Each of the numbers is new once, and the others are the validation rows. Over all of them the coverage must hold:
    # this is what exchangeable rows guarantee.
    errors = np.array(residuals)
    covered = []
    for new in range(len(errors)):
        others = np.delete(errors, new)
        margin = conformal_margin(np.zeros(len(others)), others)
        assert (margin is None) == (len(others) < 9)
        covered.append(margin is None or abs(errors[new]) <= margin)
    assert np.mean(covered) >= 0.9 - 1e-9


def test_intervals_are_not_too_wide() -> None:
    errors = np.arange(1.0, 100.0)
    assert conformal_margin(np.zeros(99), errors) == 90.0


def test_measured_numbers_are_plain_json() -> None:
    target = Target(0.0, 1.0, -1.0, 1.0, 0.5)
    same = measure_numbers(np.ones(4), np.ones(4), target, headline="mae")
    json.dumps(same, allow_nan=False)
    assert same["r2"] is None
    assert same["spearman"] is None
    assert same["interval"]["coverage"] == 1.0
    assert same["mean_baseline"] == {"prediction": 0.0, "mae": 1.0}


# The data


@given(st.floats(-1e30, 1e30))
def test_every_number_is_read_as_it_is_written(number: float) -> None:
    column = NumberColumn(["price"])
    assert column.of(repr(number)) == column.of(number) == column.of(f" {number!r} ") == [number]


@given(st.one_of(st.booleans(), st.none(), st.text(), st.lists(st.floats(), max_size=2), st.floats()))
def test_anything_else_is_refused(value: Any) -> None:
    def is_number() -> bool:
        try:
            return abs(float(value)) <= 1e30 and "_" not in str(value) and str(value).isascii()
        except (TypeError, ValueError):
            return False

    assume(isinstance(value, bool) or not is_number())
    with pytest.raises(ValueError, match="expected a number"):
        NumberColumn(["price"]).of(value)


@pytest.mark.parametrize(("text", "right"), [("1,5", "1.5"), ("-12,25", "-12.25"), ("1,23,5", None)])
def test_numbers_with_commas_are_named_with_what_would_be_right(text: str, right: str | None, tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", [("a", 1.25), ("b", text), ("c", 2)])
    done = cli("check", data, "task=regression")
    assert done.code == 3
    assert f"{data}:3" in done.err
    assert f"'{text}'" in done.err
    assert right is None or f"write {right}" in done.err
    skipped = cli("check", data, "task=regression", "data.on_bad_row=skip", "--no-forecast")
    assert skipped.code == 0, skipped.err


TWO_DECIMALS = st.floats(-1e9, 1e9).map(lambda number: round(number, 2))


@given(st.lists(TWO_DECIMALS, min_size=2, max_size=30), st.sampled_from([".,", ",.", "  ,"[1:], "."]))
def test_the_style_of_a_column_is_recognised(numbers: list[float], separators: str) -> None:
    between, before = separators if len(separators) == 2 else ("", separators)
    between = between.strip()
    texts = []
    for number in numbers:
        whole, decimals = f"{number:,.2f}".split(".")
        texts.append(whole.replace(",", between) + before + decimals)
    column = NumberColumn.of_values(["price"], [*texts, "3", "n/a", "€ 5", ""])
    assert [column.of(text)[0] for text in texts] == numbers
    for text in ("n/a", "€ 5", ""):
        with pytest.raises(ValueError, match="expected a number"):
            column.of(text)


@pytest.mark.parametrize(
    ("values", "text", "number"),
    [
        # A number with two separators shows that the others have thousands as well.
        (["703.167", "1.021.081"], "703.167", 703167),
        (["1,234,567", "1,5"], "1,5", None),
        (["1.234,5", "7.200"], "7.200", 7200),
        # It may be one or the other: a point is taken for decimals, with a note, and a comma is not.
        (["1.234", "12.345"], "1.234", 1.234),
        (["1,234", "12,345"], "1,234", None),
        # Here it cannot.
        (["1021,081", "1,234"], "1,234", 1.234),
        (["1.5", "1,5"], "1,5", None),
        (["1.5", "703,167"], "703,167", 703167),
    ],
)
def test_what_separators_stand_for(values: list[str], text: str, number: float | None) -> None:
    column = NumberColumn.of_values(["price"], values)
    if number is None:
        with pytest.raises(ValueError, match="expected a number"):
            column.of(text)
    else:
        assert column.of(text) == [number]
        assert (column.note is not None) == ("," in "".join(values) or "." in "".join(values))


def test_a_cell_of_another_kind_spoils_no_other_cell(tmp_path: Path) -> None:
    rows: list[tuple[str, object]] = [(f"text {i}", f"{i},5") for i in range(60)]
    data = write(tmp_path / "x.csv", [*rows, ("odd", "€ 471890,47"), ("minus", "−3,5"), ("gaps", "703 167")])
    done = cli("check", data, "task=regression")
    assert done.code == 3
    assert "3 of 63 rows cannot be used" in done.err
    for right in ("write 471890.47", "write -3.5", "write 703167"):
        assert right in done.err


@pytest.mark.parametrize(
    ("typed", "number"),
    [("300.000", None), ("1,250", None), ("1,5", 1.5), ("-3", -3), ("1.250.000", 1250000), ("x", None)],
)
def test_a_typed_number_has_one_meaning(typed: str, number: float | None) -> None:
    assert one_number(typed) == number


def test_a_file_with_decimal_commas_trains_like_one_with_points(tmp_path: Path) -> None:
    rows = rows_of(80)
    plain = write(tmp_path / "plain.csv", [(text, f"{number:.2f}") for text, number in rows])
    commas = write(tmp_path / "commas.csv", [(text, f"{number:.2f}".replace(".", ",")) for text, number in rows])
    digests = []
    for data in (plain, commas):
        run = textattn.train(data, [*SMALL, "training.epochs=1", f"output.dir={tmp_path / data.stem}"])
        digests.append((run / "model.safetensors").read_bytes())
        assert textattn.load(run).evaluate()["mae"] >= 0
    assert digests[0] == digests[1]
    assert "1,5 is read as 1.5" in cli("check", commas, *SMALL, "--no-forecast").err


def test_missing_values_can_be_mapped_away(tmp_path: Path) -> None:
    rows: list[tuple[str, object]] = [*rows_of(60), ("unknown price", "n/a")]
    data = write(tmp_path / "x.csv", rows)
    done = cli("check", data, *SMALL, 'data.label_map={"n/a": null}', "--no-forecast")
    assert done.code == 0, done.err
    assert "left out 1 of 61 rows" in done.err


def test_a_single_number_cannot_be_learned(tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", [(f"text {i}", 3.5) for i in range(60)])
    done = cli("check", data, *SMALL)
    assert done.code == 3
    assert "only the number 3.5" in done.err


def test_a_column_of_numbers_is_recognised_and_the_hint_works(tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", rows_of(80))
    done = cli("check", data)
    assert done.code == 3
    assert "look like numbers" in done.err
    assert "Hint: task=regression" in done.err
    assert cli("check", data, "task=regression", "--no-forecast").code == 0


@pytest.mark.parametrize(
    "setting",
    [
        "training.class_weights=balanced", "training.sampling=balanced", "training.label_smoothing=0.1",
        "data.label_names=[a,b]", "data.label_separator=;", "model.output=softmax", "training.metric=accuracy",
        "data.label=[a,b]",
    ],
)  # fmt: skip
def test_settings_about_labels_are_refused(setting: str, tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", rows_of(60))
    done = cli("check", data, *SMALL, setting)
    assert done.code == 2, done.err
    assert setting.partition("=")[0] in done.err
    assert "this is a bug" not in done.err


@pytest.mark.parametrize("metric", ["rmse", "r2", "spearman", "mae"])
def test_metrics_of_numbers_are_for_numbers(metric: str, tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", [(f"text {i} {'ab'[i % 2]}", "ab"[i % 2]) for i in range(60)])
    done = cli("check", data, f"training.metric={metric}")
    assert done.code == 2
    assert "training.metric=accuracy" in done.err


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_strata_are_equal_parts_of_the_order(numbers: list[float]) -> None:
    strata = strata_of(np.array(numbers))
    counts = np.bincount(strata)
    assert counts.max() - counts.min() <= 1
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(strata[order]) >= 0).all()


def test_every_part_of_the_range_is_in_validation_and_test(tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", [(f"text {i}", i * 1.5) for i in range(400)])
    run = textattn.train(data, [*SMALL, "training.epochs=1", f"output.dir={tmp_path / 'run'}"])
    found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert found["test"]["num_examples"] == 80
    assert found["validation"]["num_examples"] == 30
    assert found["test"]["mean_baseline"]["mae"] == pytest.approx(150, rel=0.05)


# Whole runs


@pytest.fixture(scope="module")
def run(make_once: Any) -> Path:
    def make(folder: Path) -> None:
        data = write(folder / "x.csv", rows_of(240))
        done = cli("train", data, *SMALL, f"output.dir={folder / 'run'}")
        assert done.code == 0, done.err

    return Path(make_once("regression", make)) / "run"


def test_it_learns(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert metrics["mae"] < 1.5
    assert metrics["mean_baseline"]["mae"] > 5
    assert metrics["r2"] > 0.9


@pytest.mark.parametrize(("factor", "offset"), [(1000.0, -5e6), (0.001, 3.0)])
def test_the_unit_of_the_numbers_does_not_matter(run: Path, factor: float, offset: float, tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", rows_of(240, factor, offset))
    done = cli("train", data, *SMALL, f"output.dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    texts = [f"a box of {word} tea" for word in WORDS]
    plain, scaled = (textattn.load(path) for path in (run, tmp_path / "run"))
    for one, other in zip(plain.predict(texts), scaled.predict(texts), strict=True):
        assert other.score == pytest.approx(factor * one.score + offset, abs=abs(factor) * 0.1)
        assert one.low is not None
        assert other.low == pytest.approx(factor * one.low + offset, abs=abs(factor) * 0.1)
    explained = [model.explain(texts)[-1] for model in (plain, scaled)]
    np.testing.assert_allclose(np.array(explained[0].weights) * factor, explained[1].weights, atol=abs(factor) * 0.1)


def test_no_prediction_lies_outside_of_what_was_learned(run: Path) -> None:
    model = textattn.load(run)
    target = model.config.target
    assert target is not None
    (answer,) = model.predict(["huge huge huge huge huge huge huge"])
    assert answer.score <= target.maximum
    (explanation,) = model.explain(["huge huge huge huge huge huge huge"])
    assert explanation.total is not None
    if explanation.total.answer > target.maximum:
        assert "limited" in cli("explain", "--model", run, "huge huge huge huge huge huge huge").out


def test_a_damaged_scale_is_an_input_error(run: Path, tmp_path: Path) -> None:
    import shutil

    from conftest import unsealed

    for damage in ({"std": 0}, {"std": "x"}, {"mean": None}, {"margin": -1}, {"maximum": []}):
        copy = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(run, copy)
        unsealed(copy)
        config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
        config["target"] |= damage
        (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(InputError, match="damaged"):
            textattn.load(copy)


def test_a_contrast_is_refused_in_python_too(run: Path) -> None:
    with pytest.raises(ConfigError, match="number"):
        textattn.load(run).explain(["a box"], against="label")


def test_compare_uses_wilcoxons_test_and_is_antisymmetric(run: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from textattn.measure.compare import compare_runs

    data = json.loads((run / "environment.json").read_text(encoding="utf-8"))["dataset"]["source"]
    done = cli("train", data, *SMALL, "training.epochs=1", f"output.dir={tmp_path / 'weak'}")
    assert done.code == 0, done.err
    forth, back = (compare_runs(pair)["pairs"][0] for pair in ([run, tmp_path / "weak"], [tmp_path / "weak", run]))
    assert forth["difference"] == pytest.approx(-back["difference"])
    assert forth["difference"] > 0
    assert forth["better"] == back["better"] == str(run)
    errors = []
    for path in (run, tmp_path / "weak"):
        table = pq.read_table(path / "predictions" / "test.parquet").to_pydict()
        errors.append(np.abs(np.array(table["prediction"]) - np.array(table["label"])))
    assert forth["p"] == pytest.approx(wilcoxon(*errors).pvalue)
    assert forth["a_closer"] == back["b_closer"] == int((errors[0] < errors[1]).sum())


def test_the_same_bytes_again(run: Path, tmp_path: Path) -> None:
    data = json.loads((run / "environment.json").read_text(encoding="utf-8"))["dataset"]["source"]
    assert cli("train", data, *SMALL, f"output.dir={tmp_path / 'again'}").code == 0
    for name in ("model.safetensors", "model.onnx", "config.json"):
        assert (run / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_json_has_contributions_in_the_unit_of_the_numbers(run: Path) -> None:
    (explanation,) = textattn.load(run).explain(["a box of huge tea"])
    assert explanation.contributions is not None
    np.testing.assert_allclose(explanation.contributions["label"], explanation.weights)


def test_the_file_of_the_training_is_noted(run: Path) -> None:
    data = json.loads((run / "environment.json").read_text(encoding="utf-8"))["dataset"]["source"]
    done = cli("evaluate", data, "--model", run)
    assert done.code == 0, done.err
    assert "is the file that the model was trained on" in done.err
    assert "is the file" not in cli("evaluate", "--model", run).err


def test_going_on_with_numbers_in_another_unit_is_noted(run: Path, tmp_path: Path) -> None:
    own = ("output.audit_examples=0", "output.plots=false", "output.report=false", "training.epochs=1")
    for factor, is_noted in ((1.0, False), (1000.0, True)):
        data = write(
            tmp_path / f"{factor:g}.csv", [(f"{text} again", factor * float(str(n))) for text, n in rows_of(60)]
        )
        done = cli("train", data, "--from", run, *own, f"output.dir={tmp_path / f'run-{factor:g}'}")
        assert done.code == 0, done.err
        assert ("is the unit the same?" in done.err) == is_noted
