"""`training.cross_validation`: all texts are learnt from, and folds of them say when to stop and how good it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from textattn.errors import ConfigError
from textattn.runs.folds import folds_of
from textattn.tasks import MultiLabel, SingleLabel

STRATA = SingleLabel(["a", "b", "c", "d"]).strata


def config_of(number: int, **data: Any) -> Any:
    data = {"path": "d", "validation_fraction": 0.0, **data}
    return config_from_mapping({"data": data, "training": {"cross_validation": number}})


@given(st.lists(st.integers(0, 3), min_size=10, max_size=60), st.integers(2, 5))
def test_every_row_is_in_one_fold_and_labels_are_spread(labels: list[int], number: int) -> None:
    folds = folds_of(STRATA(np.array(labels)), config_of(number))
    assert sorted(np.concatenate(folds)) == list(range(len(labels)))
    counts = np.array([np.bincount(np.array(labels)[fold], minlength=4) for fold in folds])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_last_rows_stay_together() -> None:
    labels = np.repeat([0, 1], 20)
    folds = folds_of(STRATA(labels), config_of(4, validation_rows="last"))
    for number, fold in enumerate(folds):
        first = 5 * number
        assert list(fold) == [*range(first, first + 5), *range(20 + first, 25 + first)]


def test_last_rows_stay_beside_those_of_the_other_labels() -> None:
    """Whatever their numbers: of two labels the rows at the same place are most likely of the same film."""
    labels = np.repeat([0, 1], [217, 183])
    for number, fold in enumerate(folds_of(STRATA(labels), config_of(5, validation_rows="last"))):
        for label in (0, 1):
            expected = np.array_split(np.flatnonzero(labels == label), 5)[number]
            assert list(fold[labels[fold] == label]) == list(expected)


def test_rows_with_several_labels() -> None:
    folds = folds_of(MultiLabel(["a", "b", "c"]).strata(np.ones((11, 3), np.int64)), config_of(3))
    assert sorted(map(len, folds)) == [3, 4, 4]


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


@pytest.mark.slow
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


def test_where_there_is_something_to_learn_the_folds_know_it(tmp_path: Path) -> None:
    clear = write(tmp_path / "clear.jsonl", 80)
    training = {"learning_rate": 5e-2, "epochs": 12, "schedule": "constant"}
    run = start(folds_settings(clear, tmp_path / "clear", training=training))
    assert of(run, "metrics.json")["cross_validation"]["accuracy"] > 0.95


def test_it_calibrates_and_the_card_says_where_it_stopped(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60, wrong=0.2)
    run = start(folds_settings(data, tmp_path / "run", training={"learning_rate": 3e-2}))
    metrics, config = of(run, "metrics.json"), of(run, "config.json")
    found = metrics["cross_validation"]
    assert found["temperature"] == config["temperature"] == metrics["temperature"] != 1.0
    assert found == of(run, "cross_validation.json")
    card = (run / "README.md").read_text()
    assert f"Training stopped after {found['epoch']:g} of 6 epochs, because the predictions of cross-validation" in card
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
    # None is set aside where it is not asked for, as a dry run shows.
    done = cli("check", data, "--no-forecast", "--json", "training.cross_validation=5", "recipe=plain")
    assert done.code == 0, done.err
    assert json.loads(done.out)["splits"].keys() == {"train"}
    fraction = "data.validation_fraction=0.2"
    done = cli("train", data, "training.cross_validation=5", fraction, "recipe=plain", f"output.dir={tmp_path / 'run'}")
    assert done.code == 2
    assert "training.cross_validation: cross-validation replaces the validation split, but there is one" in done.err
    assert "data.validation_fraction=0.0" in done.err
    assert not (tmp_path / "run").exists()
    for key in ("max_steps", "patience"):
        folds = ["training.cross_validation=5", "data.validation_fraction=0.0"]
        done = cli("check", data, "--no-forecast", *folds, f"training.{key}=3")
        assert done.code == 2
        assert f"training.{key} cannot be combined with training.cross_validation" in done.err


@pytest.mark.parametrize(("rows", "hint"), [(7, "=3"), (3, "=null")])
def test_too_few_rows_are_refused_before_anything_is_trained(tmp_path: Path, rows: int, hint: str) -> None:
    data = write(tmp_path / "texts.jsonl", rows)
    for command in (["check", data, "--no-forecast"], ["train", data, f"output.dir={tmp_path / 'run'}"]):
        done = cli(*command, "training.cross_validation=4", "data.validation_fraction=0.0", "recipe=plain")
        assert done.code == 2
        assert f"training.cross_validation: {rows} training rows are too few for 4 folds" in done.err
        assert f"training.cross_validation{hint}" in done.err
    assert not (tmp_path / "run").exists()


def test_what_a_teacher_labelled_is_learnt_from_and_not_counted(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60)
    teacher = start(settings(data, tmp_path / "teacher"))
    others = tmp_path / "unlabelled.jsonl"
    others.write_text("".join(json.dumps({"text": f"x{i % 30} y{i % 7}"}) + "\n" for i in range(40)))
    whole = folds_settings(data, tmp_path / "run")
    whole["data"] |= {"teacher": str(teacher), "unlabelled": {"path": str(others)}}
    run = start(whole)
    assert of(run, "environment.json")["dataset"]["num_pseudo_labelled"] == 40
    assert of(run, "metrics.json")["cross_validation"]["num_examples"] == 60


def test_a_metric_that_these_texts_do_not_define(tmp_path: Path) -> None:
    """Each text has both labels: no ranking of texts can be better than another."""
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": f"word{i} x", "label": ["a", "b"]}) + "\n" for i in range(20)))
    with pytest.raises(ConfigError, match="auroc is not defined for the predictions on these 20 texts") as error:
        start(folds_settings(data, tmp_path / "run", training={"metric": "auroc", "epochs": 1}))
    assert error.value.hint == "training.metric=micro_f1"
    assert not (tmp_path / "run").exists()


def test_without_a_test_split_the_folds_are_what_is_shown(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60)
    folds = ["training.cross_validation=2", "data.validation_fraction=0.0", "training.epochs=1", "recipe=plain"]
    quick = ["output.audit_examples=0", "output.plots=false", "model.embedding_dim=8", "model.hidden_size=8"]
    done = cli("train", data, *folds, *quick, f"output.dir={tmp_path / 'runs'}", "--seeds", "2")
    assert done.code == 0, done.err
    runs = sorted((tmp_path / "runs").glob("seed-*"))
    each = [of(run, "metrics.json")["cross_validation"]["accuracy"] for run in runs]
    summary = of(tmp_path / "runs", "seeds.json")
    assert summary["cross_validation"]["accuracy"]["values"] == each
    assert "cross_validation" in done.err
    card = (runs[0] / "README.md").read_text()
    assert "Nothing was measured" not in card


def test_its_progress_comes_to_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    class Counting(Killer):
        @contextmanager
        def progress(self, text: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
            yield lambda done: told.append((done, total)) if text == "Cross-validating" else None

    start(folds_settings(write(tmp_path / "texts.jsonl", 60), tmp_path / "run"), Counting())
    assert told == [(done, 24) for done in range(1, 25)]


def test_the_command_line_tells_of_it_and_check_counts_its_time(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", 60)
    small = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=3", "recipe=plain"]
    folds = ["training.cross_validation=3", "data.validation_fraction=0.0"]
    quick = ["output.audit_examples=0", "output.plots=false"]
    done = cli("train", data, *small, *folds, *quick, f"output.dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    assert "Cross-validating 3 folds of 60 texts" in done.err
    assert "of 3 epochs; training will stop after as many" in done.err
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
