"""The pictures of a run: what is drawn, from metrics.json and log.jsonl alone, whatever the labels are called."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from inprocess import run as cli
from numpy.typing import NDArray
from PIL import Image

import textattn
from textattn.measure.metrics import compute_metrics, expected_calibration_error
from textattn.measure.plots import (
    CONFUSION,
    LABELS,
    MOST_LABELS,
    RELIABILITY,
    TRAINING,
    draw_confusion,
    draw_plots,
    draw_training,
    wilson,
)

BEST = {"metric_for_best_model": "accuracy", "best_metric": 0.8, "best_global_step": 10}


def measured(labels: int, rows: int = 400, names: list[str] | None = None) -> dict[str, Any]:
    generator = np.random.default_rng(labels)
    truth = generator.integers(0, labels, rows)
    logits = generator.normal(size=(rows, labels)) + 2 * np.eye(labels)[truth]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return compute_metrics(truth, probs, names or [f"label {n}" for n in range(labels)], headline="accuracy")


def log(evaluations: int, validation: bool = True) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [{"step": 10 * n, "epoch": n, "loss": 1 / n} for n in range(1, evaluations + 1)]
    return [e | ({"eval_accuracy": 1 - e["loss"] / 2} if validation else {}) for e in entries]


def pixels(file: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(file).convert("RGB")).astype(np.int64)


def has(file: Path, color: str) -> bool:
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((pixels(file) == wanted).all(axis=2).any())


def test_the_model_card_shows_the_pictures_of_the_run(trained_run: Path) -> None:
    card = (trained_run / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^!\[(.+)\]\((.+)\)$", card, re.MULTILINE)
    assert [link for _, link in shown] == [f"plots/{name}" for name in (TRAINING, CONFUSION, RELIABILITY)]
    for _, link in shown:
        with Image.open(trained_run / link) as picture:
            assert picture.format == "PNG"
            assert picture.info.keys() <= {"dpi"}, "no date, no version"
            assert 300 < picture.width < 900


def test_they_can_be_drawn_again_from_the_files_alone(trained_run: Path, tmp_path: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    entries = [json.loads(line) for line in (trained_run / "log.jsonl").read_text().splitlines()]
    assert draw_plots(metrics, entries, tmp_path) == metrics["plots"]
    for name in metrics["plots"]:
        assert (tmp_path / name).read_bytes() == (trained_run / "plots" / name).read_bytes()


def test_a_later_audit_keeps_the_pictures_in_the_card(trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    done = cli("audit", "--model", run, "--examples", "5", "--methods", "attention")
    assert done.code == 0, done.err
    assert (run / "README.md").read_text(encoding="utf-8").count("](plots/") == 3


def test_without_plots_there_are_none(tmp_path: Path) -> None:
    run = textattn.train(
        "quickstart", [*TINY, "training.epochs=1", "output.audit_examples=0", f"output.dir={tmp_path}/r"]
    )
    assert not (run / "plots").exists()
    assert "](plots/" not in (run / "README.md").read_text(encoding="utf-8")
    assert "plots" not in json.loads((run / "metrics.json").read_text())


def test_a_picture_that_fails_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textattn.measure.plots.draw_reliability", lambda *_: 1 / 0)
    tiny = [*TINY[:-1], "training.epochs=1", "output.audit_examples=0", f"output.dir={tmp_path}/r"]
    done = cli("train", "quickstart", *tiny)
    assert done.code == 0
    assert "Note: the plots could not be drawn (ZeroDivisionError: division by zero)" in done.err
    assert "](plots/" not in (tmp_path / "r" / "README.md").read_text(encoding="utf-8")


def test_several_labels_a_text_get_bars_instead_of_a_matrix(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    truth = (generator.random((300, 40)) < 0.2).astype(np.uint8)
    probs = np.clip(0.3 * truth + 0.6 * generator.random((300, 40)), 0, 1)
    split = compute_metrics(truth, probs, [f"l{n}" for n in range(40)], headline="micro_f1", thresholds=[0.5] * 40)
    assert sum(b["count"] for b in split["reliability"]) == 300 * 40
    assert draw_plots({"validation": split, "best": BEST}, log(2), tmp_path) == [TRAINING, LABELS, RELIABILITY]
    assert has(tmp_path / LABELS, "#e68a00"), "precision"
    assert has(tmp_path / LABELS, "#3477b8"), "recall"


# Confusion


def test_a_cell_is_as_dark_as_its_share_of_the_row(tmp_path: Path) -> None:
    from matplotlib import colormaps

    split = measured(2) | {"confusion_matrix": [[90, 10], [400, 600]]}
    draw_confusion(split, "test", tmp_path / CONFUSION)
    picture = pixels(tmp_path / CONFUSION).sum(axis=2)
    # Four large areas that are not white.
    values, counts = np.unique(picture, return_counts=True)
    cells = {value for value, count in zip(values, counts, strict=True) if count > picture.size / 40 and value < 765}
    assert len(cells) == 4
    expected = {int(sum(round(255 * c) for c in colormaps["Blues"](share)[:3])) for share in (0.9, 0.1, 0.4, 0.6)}
    assert all(min(abs(value - wanted) for wanted in expected) <= 6 for value in cells)


def test_of_many_labels_the_most_confused_are_drawn_and_the_rest_is_one(tmp_path: Path) -> None:
    number = 150
    matrix = np.diag(np.full(number, 10))
    matrix[140, 7] = 9
    split = measured(3) | {
        "confusion_matrix": matrix.tolist(),
        "per_class": {f"label {n}": {"support": 10} for n in range(number)},
    }
    from textattn.measure.plots import _most_confused

    names, counts = _most_confused([*split["per_class"]], matrix)
    assert len(names) == MOST_LABELS
    assert counts.sum() == matrix.sum()
    assert counts[names.index("label 140"), names.index("label 7")] == 9
    assert names[-1] == f"{number - MOST_LABELS + 1} others"
    draw_confusion(split, "test", tmp_path / CONFUSION)
    assert max(Image.open(tmp_path / CONFUSION).size) < 1500


@pytest.mark.parametrize(
    "names",
    [
        ["电影很好", "差评"],
        ["a very long name of a label, longer than any picture is wide, one", "a very long name of a label, two"],
        ["$x_$", "$\\frac{1}{$"],
        ["line\nbreak\ttab", "\x07 bell"],
        ["👩‍🚀", "عربي"],
        ["", " "],
    ],
)
def test_any_names_can_be_drawn_and_nothing_is_said(names: list[str], tmp_path: Path, recwarn: Any) -> None:
    metrics = {"test": measured(2, names=names), "best": BEST}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CONFUSION in draw_plots(metrics, log(1), tmp_path)
    for name in (TRAINING, CONFUSION, RELIABILITY):
        assert max(Image.open(tmp_path / name).size) < 1000
    # Nothing is cut off at an edge.
    picture = pixels(tmp_path / CONFUSION)
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edges == 255).all()


def test_names_are_told_apart_where_they_are_shortened_or_cannot_be_written() -> None:
    from textattn.measure.plots import _named

    long = [f"questions about the delivery of the order, part {n}" for n in range(20)]
    assert len(set(_named(long))) == 20
    assert max(map(len, _named(long))) <= 24
    assert _named(["\U000f0000", "ok"]) == ["0: \U000f0000", "1: ok"], "no font has this letter"


# Training and reliability


@pytest.mark.parametrize(("evaluations", "validation"), [(1, True), (1, False), (6, False), (300, True)])
def test_training_with_few_and_many_evaluations(evaluations: int, validation: bool, tmp_path: Path) -> None:
    draw_training(log(evaluations, validation), BEST, tmp_path / TRAINING)
    assert has(tmp_path / TRAINING, "#3477b8")
    # The metric has its own panel; one value alone lies under the star of the model that was kept.
    assert has(tmp_path / TRAINING, "#e68a00") == (validation and evaluations > 1)
    assert Image.open(tmp_path / TRAINING).height > 400 if validation else True


def test_the_bins_are_those_of_the_calibration_error() -> None:
    generator = np.random.default_rng(5)
    probs = generator.dirichlet([1, 1, 1], 500)
    labels = np.array([generator.choice(3, p=p) for p in probs])
    split = compute_metrics(labels, probs, ["a", "b", "c"], headline="accuracy")
    bins = split["reliability"]
    assert sum(b["count"] for b in bins) == 500
    error = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / 500
    assert error == pytest.approx(split["ece"])
    assert split["ece"] == pytest.approx(expected_calibration_error(labels, probs))
    # Each in a bin of its own, fifteenths wide, none below a third.
    numbers = [int(b["confidence"] * 15) for b in bins]
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 5


def test_wilsons_interval() -> None:
    # Wilson (1927) for 8 of 10, by hand from the formula.
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0.0, 1)[0] == 0
    assert wilson(1.0, 1)[1] == 1
