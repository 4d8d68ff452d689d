"""What the versions before wrote, without the keys that came later: read as it was meant, and never called damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import unsealed
from inprocess import run as cli
from stopped_runs import Killed, Killer, outcome, settings, start, write_texts

from textattn.config import config_from_mapping
from textattn.data import chunks
from textattn.errors import ConfigError


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: without(inner, keys) for key, inner in value.items() if key not in keys}
    return [without(inner, keys) for inner in value] if isinstance(value, list) else value


def strip(file: Path, *keys: str) -> None:
    file.write_text(json.dumps(without(json.loads(file.read_text()), set(keys))))


@pytest.fixture(scope="module")
def old(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from before calibration, plots and several processes."""
    run = tmp_path_factory.mktemp("old") / "run"
    shutil.copytree(trained_run, run)
    unsealed(run)
    strip(run / "config.json", "temperature")
    strip(run / "metrics.json", "temperature", "reliability", "ece_uncalibrated", "plots")
    strip(run / "environment.json", "processes")
    config = (run / "training_config.yaml").read_text().splitlines()
    new = ("sampling", "calibration", "plots", "tracking")
    kept = [line for line in config if line.split(":")[0].strip() not in new]
    (run / "training_config.yaml").write_text(
        "\n".join(line.replace("  unlabelled: null", "  unlabelled_splits: []") for line in kept)
    )
    assert "unlabelled_splits" in (run / "training_config.yaml").read_text()
    return run


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "--model", "RUN", "a text"),
        ("explain", "--model", "RUN", "a text"),
        ("info", "--model", "RUN"),
        ("evaluate", "--model", "RUN"),
        ("audit", "--model", "RUN", "--examples", "5", "--methods", "attention"),
        ("compare", "RUN", "OTHER"),
        ("export", "--model", "RUN", "--bundle", "BUNDLE", "--overwrite"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_takes_an_older_run(
    command: tuple[str, ...], old: Path, trained_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(old, run)
    names = {"RUN": str(run), "OTHER": str(trained_run), "BUNDLE": str(tmp_path / "model.zip")}
    done = cli(*(names.get(word, word) for word in command))
    assert done.code == 0, done.err
    assert "Error" not in done.err


def test_an_older_stopped_run_goes_on(tmp_path: Path) -> None:
    data = write_texts(tmp_path / "texts.jsonl")
    expected = outcome(start(settings(data, tmp_path / "whole")))
    config = settings(data, tmp_path / "run")
    with pytest.raises(Killed):
        start(config, Killer(step=10))
    strip(tmp_path / "run" / "environment.json", "processes")
    assert outcome(start(config, resume=True)) == expected


def test_an_older_interrupted_prediction_goes_on(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_ROWS", 3)
    monkeypatch.setattr(chunks, "BATCH_ROWS", 3)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    good = "".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(7))
    source.write_text(good + json.dumps({"text": None}) + "\n")
    job = ("predict", "--model", trained_run, "-i", source, "-o", output)
    assert cli(*job).code == 3
    strip(tmp_path / "out.jsonl.partial" / "state.json", "min_score", "unsure")
    source.write_text(good + json.dumps({"text": "mended"}) + "\n")
    done = cli(*job, "--resume")
    assert done.code == 0, done.err
    assert "6 of them before" in done.err
    assert len(output.read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("older", "now"),
    [
        ({"path": "d", "unlabelled_splits": ["rest"]}, {"path": "d", "unlabelled": {"splits": ["rest"]}}),
        ({"path": "d", "unlabelled_splits": []}, {"path": "d"}),
        (
            {"files": {"train": "a.csv", "unlabelled": ["b.csv", "c.csv"]}},
            {"files": {"train": "a.csv"}, "unlabelled": {"path": ["b.csv", "c.csv"]}},
        ),
        ({"files": {"train": "a.csv", "unlabelled": None}, "unlabelled_splits": []}, {"files": {"train": "a.csv"}}),
    ],
)
def test_older_names_of_texts_without_labels(older: dict[str, Any], now: dict[str, Any]) -> None:
    assert config_from_mapping({"data": older}) == config_from_mapping({"data": now})


REMOVED = [
    ("model.pretraining.epochs", 0, 1),
    ("model.pretraining.path", None, "runs/other"),
    ("training.layer_decay", 1.0, 0.5),
    ("training.unfreezing", 0.0, 1.0),
    ("training.focal_gamma", 0.0, 2.0),
    ("training.state_diversity", 0.0, 0.5),
    ("training.virtual_adversarial", 0.0, 0.3),
    ("training.entropy_minimisation", 0.0, 0.1),
]


def setting(key: str, value: Any) -> dict[str, Any]:
    """The config of an earlier version that sets it."""
    values: Any = value
    for part in reversed(key.split(".")):
        values = {part: values}
    return {"data": {"path": "bundled:reviews"}, **values}


@pytest.mark.parametrize(("key", "off", "on"), REMOVED)
def test_a_removed_setting_may_be_off_and_its_use_is_refused_with_the_reason(key: str, off: Any, on: Any) -> None:
    assert config_from_mapping(setting(key, off)) == config_from_mapping({"data": {"path": "bundled:reviews"}})
    with pytest.raises(ConfigError) as caught:
        config_from_mapping(setting(key, on))
    assert f"{key}: this setting was removed: " in caught.value.message
    with pytest.raises(ConfigError) as caught:
        config_from_mapping({"data": {"path": "bundled:reviews"}}, [f"{key}={json.dumps(on)}"])
    assert f"{key}: this setting was removed: " in caught.value.message


def test_a_run_that_used_removed_settings_answers_and_is_evaluated(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    config = run / "training_config.yaml"
    added = "training:\n  focal_gamma: 2.0\n  layer_decay: 0.5\n"
    added = config.read_text().replace("training:\n", added).replace("model:\n", "model:\n  pretraining: {epochs: 3}\n")
    config.write_text(added)
    for command in (("predict", "a text"), ("evaluate",), ("info",)):
        done = cli(command[0], "--model", str(run), *command[1:])
        assert done.code == 0, done.err
