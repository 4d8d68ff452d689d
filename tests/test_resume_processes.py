"""Trainings that a signal stops, in this process and in others, and that go on from there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from inprocess import run as cli
from stopped_runs import Killer, outcome, settings, start, write_texts

from textattn.cli.progress import ConsoleReport

COMMAND = [sys.executable, "-m", "textattn", "train"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "texts.jsonl")


def spawn(folder: Path, config: dict[str, Any]) -> subprocess.Popen[str]:
    (folder / "config.yaml").write_text(json.dumps(config))
    return subprocess.Popen(
        [*COMMAND, str(folder / "config.yaml"), "--resume"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_sigkill_at_random_moments_of_real_processes(data: Path, tmp_path: Path) -> None:
    """scripts/kill_resume.py does it thirty times and longer."""
    slow = {"training": {"epochs": 25}}
    expected = outcome(start(settings(data, tmp_path / "whole", **slow)))
    config = settings(data, tmp_path / "run", **slow)
    chance = random.Random(1)
    for _ in range(2):
        with spawn(tmp_path, config) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("epoch "):
                    break
            time.sleep(chance.random() * 0.3)
            process.kill()
    with spawn(tmp_path, config) as process:
        assert process.wait(120) == 0
    assert outcome(tmp_path / "run") == expected


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def interrupted_at(err: str, run: Path) -> int:
    """The step that the message names, whose checkpoint is the newest."""
    step = int(err.split("interrupted at step ")[1].split()[0])
    newest = max((run / "checkpoints").glob("step-*"))
    assert int(newest.stem.removeprefix("step-")) == step
    return step


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_keeps_the_step_it_came_in(number: int, code: int, data: Path, tmp_path: Path) -> None:
    only_then = {"training": {"checkpoint_steps": None}}
    expected = outcome(start(settings(data, tmp_path / "whole", **only_then)))
    config = settings(data, tmp_path / "run", **only_then)
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    evaluations, evaluated = [], ConsoleReport.evaluated

    def stop(*arguments: Any) -> None:
        evaluated(*arguments)
        evaluations.append(arguments[1])
        if len(evaluations) == 3:
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConsoleReport, "evaluated", stop)
        stopped = cli("train", tmp_path / "config.yaml")
    assert stopped.code == code
    step = interrupted_at(stopped.err, tmp_path / "run")
    report = Killer()
    assert outcome(start(config, report, resume=True)) == expected
    assert report.steps[0] == step + 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_to_a_process_keeps_the_step_it_came_in(number: int, code: int, data: Path, tmp_path: Path) -> None:
    slow = {"training": {"epochs": 25, "checkpoint_steps": None}}
    expected = outcome(start(settings(data, tmp_path / "whole", **slow)))
    config = settings(data, tmp_path / "run", **slow)
    with spawn(tmp_path, config) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch "):
                break
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == code
    step = interrupted_at(rest, tmp_path / "run")
    report = Killer()
    assert outcome(start(config, report, resume=True)) == expected
    assert report.steps[0] == step + 1
