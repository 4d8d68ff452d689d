"""The forecast of `textattn check`: its form, its size, and that it leaves everything as it was."""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from inprocess import run as cli

import textattn
from textattn.checks.check import describe
from textattn.checks.forecast import forecast
from textattn.config import load_config
from textattn.report import Report
from textattn.runs.linear import fit_linear_part
from textattn.runs.prepare import prepare
from textattn.training.placement import choose_placement

STAGES = ["reading", "word_vectors", "training", "validating", "measuring", "explaining"]
# Long enough to be measured beside what a process does once.
LONGER = ["model.vectors.source=skipgram", "model.vectors.epochs=20", "training.epochs=8"]


def settings(*overrides: str) -> list[str]:
    """TINY, but for these."""
    keys = {override.partition("=")[0] for override in overrides}
    return [*(setting for setting in TINY if setting.partition("=")[0] not in keys), *overrides]


def of(*overrides: str) -> dict[str, Any]:
    """The forecast alone."""
    config = load_config("quickstart", settings(*overrides))
    return forecast(prepare(config, Report()), choose_placement(config.training), {"reading": 0.5}).to_json()


def test_its_form() -> None:
    done = cli("check", "quickstart", *TINY, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["forecast"]
    assert list(found["seconds_by_stage"]) == STAGES
    assert all(value >= 0 for value in found["seconds_by_stage"].values())
    assert found["seconds"] == pytest.approx(sum(found["seconds_by_stage"].values()))
    assert found["seconds_by_stage"]["word_vectors"] == 0  # they are random
    assert 100e6 < found["peak_memory_bytes"] < 16e9
    assert "peak_gpu_memory_bytes" not in found or torch.cuda.is_available()


@pytest.mark.parametrize("arguments", [("check",), ("train", "--dry-run")])
def test_how_it_is_shown(arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "quickstart", *TINY)
    (line,) = [line for line in done.out.splitlines() if line.startswith("about ")]
    # Which stages take half a second and are named is the machine's affair.
    part = r"\w+ \d+ s"
    assert re.fullmatch(rf"about \d+ seconds and \d+\.\d GB on this machine(: {part}(, {part})*)?", line)
    assert "word vectors" not in line


def test_it_can_be_left_out() -> None:
    done = cli("check", "quickstart", *TINY, "--no-forecast", "--json")
    assert json.loads(done.out)["forecast"] is None
    assert "about " not in cli("check", "quickstart", *TINY, "--no-forecast").out


@pytest.mark.slow
def test_it_is_near_what_the_run_takes(tmp_path: Path) -> None:
    """Generously: other processes share the processor of a test."""
    found = of(*LONGER)
    run = textattn.train("quickstart", settings(*LONGER, f"output.dir={tmp_path / 'run'}"))
    seconds = json.loads((run / "metrics.json").read_text())["seconds"]
    stages = found["seconds_by_stage"]
    assert seconds["training"] / 4 < stages["training"] < 4 * seconds["training"]
    assert seconds["total"] / 4 < found["seconds"] < 4 * seconds["total"]


def test_more_work_takes_longer() -> None:
    before, after = of(), of("training.epochs=300", "model.vectors.source=skipgram", "model.vectors.epochs=500")
    for stage in ("training", "validating", "word_vectors"):
        assert after["seconds_by_stage"][stage] > 5 * before["seconds_by_stage"][stage]
    limited = of("training.epochs=300", "training.max_steps=20")
    assert limited["seconds_by_stage"]["training"] < after["seconds_by_stage"]["training"] / 5


def test_what_is_cached_takes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTATTN_CACHE", str(tmp_path / "cache"))
    arguments = settings("model.vectors.source=skipgram", "training.max_steps=1", f"output.dir={tmp_path / 'run'}")
    config = load_config("quickstart", arguments)
    before = describe(config, Report())["forecast"]["seconds_by_stage"]
    assert before["word_vectors"] > 0
    textattn.train("quickstart", arguments)
    assert describe(config, Report())["forecast"]["seconds_by_stage"]["word_vectors"] == 0


@pytest.mark.parametrize("linear", ["first", "only"])
def test_a_linear_part_is_forecast_from_a_part_of_the_texts(linear: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def fit(data: Any, report: Report) -> Any:
        fitted.append(len(data.corpus.train))
        return fit_linear_part(data, report)

    monkeypatch.setattr("textattn.checks.linear_forecast.fit_linear_part", fit)
    monkeypatch.setattr("textattn.checks.linear_forecast.FEWEST", 60)
    whole = of(f"model.linear={linear}")
    assert len(fitted) == 1
    assert fitted[0] > 100
    fitted.clear()
    monkeypatch.setattr("textattn.checks.linear_forecast.WORK", 1)
    found = of(f"model.linear={linear}")
    assert fitted == [60]
    for stages in (whole["seconds_by_stage"], found["seconds_by_stage"]):
        assert stages["linear"] > 0
        assert ("training" in stages) == (linear == "first")
    folds = ["training.cross_validation=40", "data.validation_split=null", "data.validation_fraction=0.0"]
    assert of(f"model.linear={linear}", *folds)["seconds_by_stage"]["cross_validation"] > 0


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.evidence=evidence", "training.attention_supervision=0.5", "training.attention_alignment=0.5"],
        ["data.max_train_examples=6", "data.validation_split=null"],
        *(
            pytest.param(overrides, marks=pytest.mark.slow)
            for overrides in (
                ["model.attention=multi_head", "model.num_heads=2", "training.max_tokens_per_batch=300"],
                ["model.encoder=none", "model.anchor=none"],
                [
                    "model.anchor=none",
                    "output.audit_examples=0",
                    "output.attention_examples=0",
                    "output.prediction_splits=[]",
                ],
                ["training.batch_size=2000", "model.output=sigmoid", "training.class_weights=balanced"],
            )
        ),
    ],
)
def test_every_kind_of_training(overrides: list[str]) -> None:
    found = of("training.epochs=1", *overrides)
    assert 0 < found["seconds"] < 600
    assert ("validating" in found["seconds_by_stage"]) or "data.max_train_examples=6" in overrides


def test_several_labels_a_text(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        {"text": " ".join(generator.choice(["a", "b", "c", "d"], 9)), "label": ["x", "y"] if i % 3 else ["z"]}
        for i in range(90)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert of(f"data.path={tmp_path}")["seconds"] > 0


def test_nothing_is_left_behind_and_random_states_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = load_config("quickstart", settings(*LONGER))
    data = prepare(config, Report())
    content = {name: (split.fingerprint(), split.labels.copy()) for name, split in data.corpus.splits().items()}
    ids = {name: np.array(part.ids[:]) for name, part in data.tokens.items()}

    def states() -> tuple[Any, ...]:
        numpy = np.random.get_state()  # noqa: NPY002
        return random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist(), torch.get_num_threads()

    before = states()
    forecast(data, choose_placement(config.training), {})
    assert states() == before
    assert list(tmp_path.iterdir()) == []
    for name, split in data.corpus.splits().items():
        assert split.fingerprint() == content[name][0]
        assert np.array_equal(split.labels, content[name][1])
        assert np.array_equal(data.tokens[name].ids[:], ids[name])


def test_without_room_for_temporary_files_the_rest_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    shutil.rmtree(gone)
    done = cli("check", "quickstart", *TINY)
    assert done.code == 0, done.err
    assert "no forecast: " in done.err
    assert done.out.splitlines()[-1] == "The config is valid, the data look clean; nothing was trained."
