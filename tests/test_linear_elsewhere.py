"""`model.linear: first` and `only` with cross-validation and `--from`: the part is fitted anew to what is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import run as cli
from safetensors.numpy import load_file

import textattn
from textattn.config.load import load_config
from textattn.report import Report
from textattn.runs.linear import fit_again, fit_linear_part
from textattn.runs.prepare import prepare

SMALL = [
    "recipe=plain", "tokenizer.min_frequency=1", "model.embedding_dim=8", "model.hidden_size=8", "training.epochs=2",
    "training.batch_size=16", "output.audit_examples=0", "output.plots=false",
]  # fmt: skip
FOLDS = ["training.cross_validation=4", "data.validation_fraction=0.0"]


def write(path: Path, rows: int = 160, labels: tuple[str, ...] = ("bad", "fair", "good"), seed: int = 0) -> Path:
    """Texts whose label is one of their words, some of which are wrong, each with a word of its own."""
    generator = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        label = labels[row % len(labels)]
        words = [*generator.choice(["the", "film", "plot", "was", "and"], 5), label, f"row{seed}x{row}"]
        wrong = generator.random() < 0.2
        given = str(generator.choice(labels)) if wrong else label
        lines.append(json.dumps({"text": " ".join(generator.permutation(words)), "label": given, "by": row // 4}))
    path.write_text("\n".join(lines))
    return path


def data_of(path: Path, *settings: str) -> Any:
    return prepare(load_config(str(path), [*SMALL, *settings]), Report())


def metrics_of(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.parametrize("settings", [[], ["data.group=by"]])
def test_what_is_fitted_to_some_rows_has_not_seen_the_others(settings: list[str], tmp_path: Path) -> None:
    """Whatever labels the others have, the part is the same."""
    data = data_of(write(tmp_path / "data.jsonl"), "model.linear=first", *FOLDS, *settings)
    part = fit_linear_part(data, Report())
    rows = np.arange(40, len(data.corpus.train))
    found = fit_again(part, data, rows)
    assert found.out_of_fold is not None
    assert len(found.out_of_fold) == len(rows)
    data.corpus.train.labels[:40] = (data.corpus.train.labels[:40] + 1) % 3
    again = fit_again(part, data, rows)
    np.testing.assert_array_equal(found.model.weights, again.model.weights)
    np.testing.assert_array_equal(found.out_of_fold, again.out_of_fold)
    data.corpus.train.labels[40:] = (data.corpus.train.labels[40:] + 1) % 3
    assert not np.allclose(found.model.weights, fit_again(part, data, rows).model.weights)


def test_folds_measure_a_linear_model_that_has_not_seen_them(tmp_path: Path) -> None:
    """Labels at random cannot be predicted, so a model that has seen the texts would be better than chance."""
    path = write(tmp_path / "data.jsonl")
    generator = np.random.default_rng(5)
    rows = [json.loads(line) | {"label": str(generator.choice(["a", "b"]))} for line in path.read_text().splitlines()]
    path.write_text("\n".join(map(json.dumps, rows)))
    for linear in ("only", "first"):
        run = tmp_path / linear
        done = cli("train", path, *SMALL, *FOLDS, f"model.linear={linear}", f"output.dir={run}")
        assert done.code == 0, done.err
        assert metrics_of(run)["cross_validation"]["accuracy"] < 0.65


@pytest.mark.parametrize("linear", ["only", "first"])
def test_cross_validation(linear: str, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl")
    settings = [data, *SMALL, *FOLDS, f"model.linear={linear}"]
    for name in ("a", "b"):
        done = cli("train", *settings, f"output.dir={tmp_path / name}")
        assert done.code == 0, done.err
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    found = metrics_of(tmp_path / "a")["cross_validation"]
    assert 0.7 < found["accuracy"] < 0.95
    assert found["num_examples"] == 160
    epochs = [0.0] if linear == "only" else [0.0, 1.0, 2.0]
    assert [epoch for epoch, _ in found["by_epoch"]] == epochs
    card = (tmp_path / "a" / "README.md").read_text()
    if found["epoch"] == 0:
        # The network is not trained where it adds nothing.
        assert "The model is the linear model alone" in card
        (explained,) = textattn.load(tmp_path / "a").explain("the film was good")
        assert explained.total is not None
        assert explained.total.words == pytest.approx(0, abs=1e-6)
    note = {"only": "cross-validation: accuracy 0.", "first": "cross-validation: the best accuracy is 0."}[linear]
    assert note in done.err
    assert cli("check", *settings).code == 0


def test_the_strength_is_chosen_by_folds(tmp_path: Path) -> None:
    """With a fifth of the labels wrong, the weakest regularisation is not the best."""
    data = data_of(write(tmp_path / "data.jsonl"), "model.linear=only", *FOLDS)
    part = fit_linear_part(data, Report())
    assert part.facts["C"] < 100
    assert "validation" not in part.facts


# Going on


@pytest.mark.parametrize("linear", ["only", "first"])
def test_going_on_with_a_new_label(linear: str, tmp_path: Path) -> None:
    old = write(tmp_path / "old.jsonl")
    done = cli("train", old, *SMALL, f"model.linear={linear}", f"output.dir={tmp_path / 'old'}")
    assert done.code == 0, done.err
    new = write(tmp_path / "new.jsonl", 120, ("good", "odd"), seed=1)
    settings = [new, "--from", tmp_path / "old", "output.audit_examples=0"]
    done = cli("train", *settings, f"output.dir={tmp_path / 'new'}")
    assert done.code == 0, done.err
    model = textattn.load(tmp_path / "new")
    assert list(model.labels) == ["bad", "fair", "good", "odd"]
    answers = [model.predict(f"the plot was {word} and")[0].label for word in model.labels]
    assert answers == list(model.labels)
    before, after = (metrics_of(tmp_path / name)["linear"]["num_features"] for name in ("old", "new"))
    assert after > before
    assert "adds nothing" not in done.err
    assert cli("compare", tmp_path / "old", tmp_path / "new").code == 0
    assert cli("train", *settings, "--dry-run").code == 0
    for more in ([], ["--dry-run"]):
        done = cli("train", *settings, *more, "--linear-only")
        if linear == "only":
            assert done.code == 0, done.err
            continue
        said = f"--linear-only: {tmp_path / 'old'} has first, and training goes on with the same model"
        assert done.code == 2 and said in done.err, done.err
        assert "model.linear" not in done.err


@pytest.mark.parametrize("how", ["gone", "not replayed"])
def test_going_on_without_the_old_rows(how: str, tmp_path: Path) -> None:
    """A fitted part that cannot be fitted anew to all rows stays as it is; a linear model alone cannot go on."""
    old = write(tmp_path / "old.jsonl")
    for linear in ("first", "only"):
        assert cli("train", old, *SMALL, f"model.linear={linear}", f"output.dir={tmp_path / linear}").code == 0
    settings = ["start.replay=0.0"] if how == "not replayed" else []
    if how == "gone":
        old.unlink()
    new = write(tmp_path / "new.jsonl", 120, ("good", "odd"), seed=1)
    done = cli("train", new, "--from", tmp_path / "first", *settings, f"output.dir={tmp_path / 'new'}")
    assert done.code == 0, done.err
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "new"))
    np.testing.assert_array_equal(after["ngrams.places"], before["ngrams.places"])
    np.testing.assert_array_equal(after["ngrams.weights.weight"][:, :3], before["ngrams.weights.weight"])
    assert "linear" not in metrics_of(tmp_path / "new")
    assert cli("train", new, "--from", tmp_path / "first", *settings, "--dry-run").code == 0
    done = cli("train", new, "--from", tmp_path / "only", *settings)
    assert done.code == 2
    assert "start.model: the linear model is fitted to all rows at once, but those that" in done.err
    assert "Hint: train on the old and the new rows together, without --from" in done.err
