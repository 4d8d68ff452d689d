"""Temperature scaling: the number against a search of its own, where it goes, and `--min-score`, which relies on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import bulk_jobs
import numpy as np
import pytest
import torch
from bulk_jobs import bulk, read, write
from conftest import unsealed
from inprocess import run as cli
from torch.nn import functional

import textattn
from textattn.errors import InputError
from textattn.measure.calibration import LARGEST, fit_temperature
from textattn.measure.metrics import expected_calibration_error

here, multi_label_run = bulk_jobs.here, bulk_jobs.multi_label_run
GENERATOR = np.random.default_rng(0)
TEXTS = ["The film was a joy.", "Cold soup, rude waiter.", "a", "It was a day like any other.", "good bad good bad"]


def logits_and_labels(kind: str, rows: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the model's own probabilities, logits `sharpness` times too large."""
    x = GENERATOR.normal(0, 2, (rows, 1 if kind == "one output" else 4))
    if kind == "softmax":
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        labels = (p.cumsum(axis=1) < GENERATOR.random((rows, 1))).sum(axis=1)
    else:
        labels = (GENERATOR.random(x.shape) < 1 / (1 + np.exp(-x))).astype(np.int64)
        labels = labels[:, 0] if kind == "one output" else labels
    return (sharpness * x).astype(np.float32), labels


@pytest.mark.parametrize("kind", ["softmax", "one output", "several labels"])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_best_on_a_grid(kind: str, sharpness: float) -> None:
    logits, labels = logits_and_labels(kind, 400, sharpness)
    x, y = torch.tensor(logits).double(), torch.tensor(labels)

    def loss(temperature: float) -> float:
        if kind == "softmax":
            value = functional.cross_entropy(x / temperature, y, reduction="sum")
        else:
            value = functional.binary_cross_entropy_with_logits(
                x / temperature, y.reshape(x.shape).double(), reduction="sum"
            )
        return value.item() + np.log(temperature) ** 2 / 2

    grid = np.exp(np.arange(-1.5, 1.5, 0.001))
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(best, rel=2e-3)
    assert found == pytest.approx(sharpness, rel=0.35)  # what it was made with, as far as 400 rows tell


def test_probabilities_that_are_too_sure_become_right() -> None:
    logits, labels = logits_and_labels("softmax", 4000, 3.0)
    other, truth = logits_and_labels("softmax", 4000, 3.0)  # not fitted on

    def error(temperature: float) -> float:
        p = torch.tensor(other / temperature).softmax(-1).numpy()
        return expected_calibration_error(truth, p)

    assert error(1.0) > 0.15
    assert error(fit_temperature(logits, labels)) < 0.03


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_texts_that_are_all_right_or_all_wrong_leave_it_finite(rows: int) -> None:
    logits = np.tile(np.array([[4.0, -4.0]], np.float32), (rows, 1))
    right, wrong = (fit_temperature(logits, np.full(rows, label)) for label in (0, 1))
    assert 1 / LARGEST <= right < 1 < wrong <= LARGEST
    if rows == 1:  # one text says little
        assert right > 0.5


def edited(run: Path, to: Path, **values: Any) -> Path:
    shutil.copytree(run, to)
    config = json.loads((to / "config.json").read_text())
    (unsealed(to) / "config.json").write_text(json.dumps({**config, **values}))
    return to


def test_a_run_has_its_temperature_from_validation(trained_run: Path) -> None:
    model, metrics = textattn.load(trained_run), json.loads((trained_run / "metrics.json").read_text())
    assert model.config.temperature == metrics["temperature"] != 1
    for split in ("validation", "test"):
        measured = model.evaluate(split=split)
        assert measured["ece"] == pytest.approx(metrics[split]["ece"], abs=1e-6)
        by_itself = model.uncalibrated().evaluate(split=split)
        assert by_itself["ece"] == pytest.approx(metrics[split]["ece_uncalibrated"], abs=1e-6)
        assert by_itself["accuracy"] == measured["accuracy"]
    assert metrics["validation"]["log_loss"] < model.uncalibrated().evaluate(split="validation")["log_loss"]
    assert f"(temperature {metrics['temperature']:.3f}" in (trained_run / "README.md").read_text()


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_every_probability_is_of_the_logits_divided_by_it(trained_run: Path, tmp_path: Path, runtime: str) -> None:
    run = edited(trained_run, tmp_path / "run", temperature=2.5)
    model = textattn.load(run, runtime=runtime)
    logits = model.logits(model.tokenizer.encode(TEXTS))
    expected = torch.tensor(logits / 2.5).softmax(-1).numpy()
    np.testing.assert_allclose(model.predict_proba(TEXTS), expected, atol=1e-6)
    rows = [
        json.loads(line) for line in cli("predict", "-m", run, "--json", "--runtime", runtime, *TEXTS).out.splitlines()
    ]
    assert [row["score"] for row in rows] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-6)
    explained = model.explain(TEXTS)
    assert [e.prediction.score for e in explained] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-6)


def test_explanations_and_audit_are_of_the_network(trained_run: Path, tmp_path: Path) -> None:
    one, other = (edited(trained_run, tmp_path / str(t), temperature=t) for t in (1.0, 3.0))
    for method in ("attention", "occlusion", "gradient_x_input"):
        found = [textattn.load(run).explain(TEXTS, method=method) for run in (one, other)]
        assert [[w.weight for w in e.words] for e in found[0]] == [[w.weight for w in e.words] for e in found[1]]
    audits = [textattn.load(run).audit(examples=20, methods=["attention"]) for run in (one, other)]
    assert audits[0] == audits[1]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    small = ["model.embedding_dim=8", "model.hidden_size=8", "output.audit_examples=0"]
    plain = ["training.epochs=1", "training.calibration=none", f"output.dir={tmp_path / 'none'}"]
    without = textattn.train("quickstart", [*small, *plain])
    assert textattn.load(without).config.temperature == 1
    four = ["training.epochs=2", f"output.dir={tmp_path / 'four'}"]
    nothing = textattn.train("four_sentences", [*small[:2], *four])
    assert textattn.load(nothing).config.temperature == 1  # nothing to fit it on
    assert "calibrated" not in (without / "README.md").read_text() + (nothing / "README.md").read_text()


def test_models_from_before_have_none(trained_run: Path, tmp_path: Path) -> None:
    run = edited(trained_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["temperature"]
    (run / "config.json").write_text(json.dumps(config))
    model = textattn.load(run)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), model.uncalibrated().predict_proba(TEXTS))


@pytest.mark.parametrize("value", [0, -1.0, "NaN", "warm", [1.0], None])
def test_a_damaged_temperature_is_refused(trained_run: Path, tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"config\.json: damaged"):
        textattn.load(edited(trained_run, tmp_path / "run", temperature=value))


# predict --min-score


@pytest.fixture(scope="module")
def limit(trained_run: Path) -> float:
    """Between the scores of TEXTS."""
    scores = sorted(prediction.score for prediction in textattn.load(trained_run).predict(TEXTS))
    return round((scores[1] + scores[2]) / 2, 4)


def test_unsure_answers_are_not_given(trained_run: Path, limit: float) -> None:
    model = textattn.load(trained_run)
    predictions = model.predict(TEXTS)
    unsure = [prediction.score < limit for prediction in predictions]
    assert sum(unsure) == 2
    for prediction, without in zip(model.predict(TEXTS, min_score=limit), predictions, strict=True):
        assert prediction.labels == ([] if prediction.score < limit else [prediction.label])
        assert (prediction.label, prediction.scores) == (without.label, without.scores)
    done = cli("predict", "-m", trained_run, "--min-score", str(limit), *TEXTS)
    assert [line.split("\t")[0] == "?" for line in done.out.splitlines()] == unsure
    assert done.err == f"Note: 2 of 5 texts got no label: the most probable one has less than {limit:g}\n"
    rows = [
        json.loads(line)
        for line in cli("predict", "-m", trained_run, "--json", "--min-score", str(limit), *TEXTS).out.splitlines()
    ]
    assert [row["label"] is None for row in rows] == unsure
    assert [row["score"] for row in rows] == pytest.approx([p.score for p in predictions], abs=1e-6)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("every", [False, True])
def test_files_have_no_label_there(trained_run: Path, limit: float, target: str, every: bool) -> None:
    write("in.csv", [{"text": text} for text in TEXTS])
    limit = 1.0 if every else limit
    done = bulk("--model", trained_run, "-i", "in.csv", "-o", f"out.{target}", "--min-score", str(limit), "--json")
    predictions = textattn.load(trained_run).predict(TEXTS)
    expected = [prediction.label if prediction.score >= limit else None for prediction in predictions]
    rows = read(f"out.{target}")
    assert [row["label"] or None for row in rows] == expected
    assert [float(row["score"]) for row in rows] == pytest.approx([p.score for p in predictions], abs=1e-6)
    assert json.loads(done.out)["unsure"] == expected.count(None)
    again = bulk("--model", trained_run, "-i", "in.csv", "-o", f"out.{target}", "--min-score", "0.1", "--overwrite")
    assert again.code == 0


@pytest.mark.usefixtures("here")
def test_of_several_labels_those_are_given_that_are_probable_enough(multi_label_run: Path) -> None:
    model = textattn.load(multi_label_run)
    predictions = model.predict(TEXTS)
    given = sorted(p.scores[label] for p in predictions for label in p.labels)
    limit = given[len(given) // 2]
    for prediction, without in zip(model.predict(TEXTS, min_score=limit), predictions, strict=True):
        assert prediction.labels == [label for label in without.labels if without.scores[label] >= limit]
    write("in.csv", [{"text": text} for text in TEXTS])
    assert bulk("--model", multi_label_run, "-i", "in.csv", "-o", "out.jsonl", "--min-score", str(limit)).code == 0
    assert [row["labels"] for row in read("out.jsonl")] == [p.labels for p in model.predict(TEXTS, min_score=limit)]


@pytest.mark.parametrize("value", ["1.5", "-0.1", "high"])
def test_a_limit_is_a_probability(value: str) -> None:
    assert cli("predict", "--min-score", value, "a text").code == 2


def test_not_with_top_k() -> None:
    done = cli("predict", "--min-score", "0.8", "--top-k", "2", "a text")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: --top-k lists labels whatever their probability")


@pytest.mark.usefixtures("here")
def test_a_line_of_txt_has_a_question_mark_there(trained_run: Path, limit: float) -> None:
    Path("in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    assert bulk("--model", trained_run, "-i", "in.txt", "-o", "out.txt", "--min-score", str(limit)).code == 0
    predictions = textattn.load(trained_run).predict(TEXTS)
    lines = [line.split("\t")[0] for line in Path("out.txt").read_text().splitlines()]
    assert lines == [p.label if p.score >= limit else "?" for p in predictions]
