"""`training.cross_validation`: all texts are learnt from, and folds of them say when to stop and how good it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import run as cli
from stopped_runs import Killer, settings, start

import textattn
from textattn.config import config_from_mapping
from textattn.cross_validation import folds_of
from textattn.errors import ConfigError


def config_of(number: int, **data: Any) -> Any:
    data = {"path": "d", "validation_fraction": 0.0, **data}
    return config_from_mapping({"data": data, "training": {"cross_validation": number}})


@given(st.lists(st.integers(0, 3), min_size=10, max_size=60), st.integers(2, 5))
def test_every_row_is_in_one_fold_and_labels_are_spread(labels: list[int], number: int) -> None:
    folds = folds_of(np.array(labels), config_of(number))
    assert sorted(np.concatenate(folds)) == list(range(len(labels)))
    counts = np.array([np.bincount(np.array(labels)[fold], minlength=4) for fold in folds])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_last_rows_stay_together() -> None:
    labels = np.repeat([0, 1], 20)
    folds = folds_of(labels, config_of(4, validation_rows="last"))
    for number, fold in enumerate(folds):
        first = 5 * number
        assert list(fold) == [*range(first, first + 5), *range(20 + first, 25 + first)]


def test_rows_with_several_labels() -> None:
    folds = folds_of(np.ones((11, 3), np.int64), config_of(3))
    assert sorted(map(len, folds)) == [3, 4, 4]


def test_too_few_rows() -> None:
    with pytest.raises(ConfigError, match="7 training rows are too few for 4 folds") as error:
        folds_of(np.arange(7) % 2, config_of(4))
    assert error.value.hint == "training.cross_validation=3"


WORDS = [f"{letter}{i}" for letter in "xyz" for i in range(30)]


def write(path: Path, rows: int, wrong: float = 0.0, several: bool = False) -> Path:
    """Texts with a word that decides, each with a word of its own by which it could be learnt by heart."""
    generator = np.random.default_rng(1)
    with path.open("w") as file:
        for row in range(rows):
            label = row % 2
            words = [*generator.choice(WORDS, 4), ["no", "yes"][label], f"row{row}"]
            given = 1 - label if generator.random() < wrong else label
            value: Any = str(given) if not several else [str(given), *(["third"] if "x3" in words else [])]
            file.write(json.dumps({"text": " ".join(words), "label": value}) + "\n")
    return path


def folds_settings(data: Path, run: Path, **sections: Any) -> dict[str, Any]:
    training = {"cross_validation": 4, "epochs": 6, "evaluations_per_epoch": 1, **sections.pop("training", {})}
    whole = settings(data, run, training=training, **sections)
    whole["data"]["validation_fraction"] = 0.0
    return whole


def of(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def test_stops_at_the_best_epoch_with_the_weights_of_then(tmp_path: Path) -> None:
    """With a constant rate these are the weights of a run of so many epochs."""
    data = write(tmp_path / "texts.jsonl", 48, wrong=0.3)
    constant = {"schedule": "constant", "warmup_ratio": 0.0, "learning_rate": 2e-2, "epochs": 9}
    run = start(folds_settings(data, tmp_path / "run", training=constant))
    found = of(run, "metrics.json")["cross_validation"]
    assert [epoch for epoch, _ in found["by_epoch"]] == list(range(1, 10))
    best = max(value for _, value in found["by_epoch"])
    assert found["epoch"] == next(epoch for epoch, value in found["by_epoch"] if value == best)
    assert 1 < found["epoch"] < 9, "the texts should be such that this shows something"
    assert found["accuracy"] == best
    state = of(run, "trainer_state.json")
    assert state["epoch"] == found["epoch"]
    assert state["global_step"] == found["epoch"] * 6
    assert len(state["log_history"]) == found["epoch"]

    as_long = {"epochs": int(found["epoch"]), "cross_validation": None}
    assert weights(start(folds_settings(data, tmp_path / "plain", training=constant | as_long))) == weights(run)


def test_the_rate_goes_as_if_it_trained_on(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 48, wrong=0.3)
    training = {"learning_rate": 2e-2, "epochs": 9, "schedule": "linear", "warmup_ratio": 0.0}
    run = start(folds_settings(data, tmp_path / "run", training=training))
    state = of(run, "trainer_state.json")
    steps, total = state["global_step"], 9 * 6
    assert steps < total
    last = state["log_history"][-1]["learning_rate"]
    assert last == pytest.approx(2e-2 * (1 - (steps - 1) / total))


def test_answers_are_of_models_that_have_not_learnt_the_text(tmp_path: Path) -> None:
    """Labels by chance can be learnt by heart only: training knows them, the folds do not."""
    chance = write(tmp_path / "chance.jsonl", 80, wrong=0.5)
    hard = {"learning_rate": 5e-2, "epochs": 25, "schedule": "constant"}
    model = {"dropout": {"words": 0.0, "embedding": 0.0, "recurrent": 0.0, "classifier": 0.0}}
    run = start(folds_settings(chance, tmp_path / "run", training=hard, model=model))
    found = of(run, "metrics.json")["cross_validation"]
    assert found["num_examples"] == 80
    assert max(value for _, value in found["by_epoch"]) < 0.7, "chance"
    by_heart = start(folds_settings(chance, tmp_path / "all", training=hard | {"cross_validation": None}, model=model))
    assert textattn.load(by_heart).evaluate(split="train")["accuracy"] > 0.95

    # And where there is something to learn, the folds know it.
    clear = write(tmp_path / "clear.jsonl", 80)
    run = start(folds_settings(clear, tmp_path / "clear", training=hard))
    assert of(run, "metrics.json")["cross_validation"]["accuracy"] > 0.95


def test_it_calibrates_and_the_card_says_where_it_stopped(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60, wrong=0.2)
    run = start(folds_settings(data, tmp_path / "run", training={"learning_rate": 3e-2}))
    metrics, config = of(run, "metrics.json"), of(run, "config.json")
    found = metrics["cross_validation"]
    assert found["temperature"] == config["temperature"] == metrics["temperature"] != 1.0
    assert found == of(run, "cross_validation.json")
    card = (run / "README.md").read_text()
    assert f"Training stopped after {found['epoch']:g} of 6 epochs, where the answers for 4 folds of the 60" in card
    shown = cli("info", "--model", run)
    assert f"cross-validation  accuracy {found['accuracy']:.4f}" in shown.out


def test_thresholds_of_several_labels(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60, wrong=0.1, several=True)
    run = start(folds_settings(data, tmp_path / "run", training={"learning_rate": 3e-2}))
    found = of(run, "metrics.json")["cross_validation"]
    assert found["headline"] == "micro_f1"
    assert of(run, "config.json")["thresholds"] == found["thresholds"] != [0.5, 0.5, 0.5]


def test_several_evaluations_in_an_epoch_of_folds_of_other_sizes(tmp_path: Path) -> None:
    """50 rows: folds train on 37 or 38, in batches of 3 on 13 steps, all on 17."""
    data = write(tmp_path / "texts.jsonl", 50)
    training = {"evaluations_per_epoch": 3, "epochs": 2, "batch_size": 3, "learning_rate": 2e-3}
    run = start(folds_settings(data, tmp_path / "run", training=training))
    found = of(run, "metrics.json")["cross_validation"]
    assert [epoch for epoch, _ in found["by_epoch"]] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    whole, part = divmod(round(found["epoch"] * 3), 3)
    assert of(run, "trainer_state.json")["global_step"] == 17 * whole + round(17 * part / 3)


def test_a_validation_split_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60)
    done = cli("train", data, "training.cross_validation=5", "recipe=plain", f"output.dir={tmp_path / 'run'}")
    assert done.code == 2
    assert "training.cross_validation: there is a validation split to stop by" in done.err
    assert "data.validation_fraction=0.0" in done.err
    assert not (tmp_path / "run").exists()
    for key in ("max_steps", "patience"):
        done = cli("check", data, "training.cross_validation=5", "data.validation_fraction=0.0", f"training.{key}=3")
        assert done.code == 2
        assert f"training.{key} does not go with training.cross_validation" in done.err


def test_the_command_line_tells_of_it_and_check_counts_its_time(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60)
    small = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=3", "recipe=plain"]
    folds = ["training.cross_validation=3", "data.validation_fraction=0.0"]
    quick = ["output.audit_examples=0", "output.plots=false"]
    done = cli("train", data, *small, *folds, *quick, f"output.dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    assert "Cross-validating 3 folds of 60 texts" in done.err
    assert "of 3 epochs; training stops there" in done.err
    assert "\ncross-validation: accuracy " in done.err
    checked = cli("check", data, *small, *folds, "--json")
    assert checked.code == 0, checked.err
    seconds = json.loads(checked.out)["forecast"]["seconds_by_stage"]
    assert seconds["cross_validation"] > 0


def test_an_interruption_among_the_folds_leaves_nothing(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60)

    class Stopped(Killer):
        def stage(self, text: str) -> None:
            if text.startswith("Cross-validating"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(folds_settings(data, tmp_path / "run"), Stopped())
    assert not (tmp_path / "run").exists()
