"""Processes that share a study, are killed or told to stop, and go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from studies import outcome, search, summary, write_data, write_space

from textattn.cli.progress import ConsoleReport

BEGINS = re.compile(r"^Trial (\d+) \(\d+ of \d+\)(?: resumes)?: ", re.M)
SPACE = "training.learning_rate: {low: 1e-3, high: 1e-2, log: true}\nmodel.hidden_size: [8, 16]\n"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = write_data(tmp_path_factory.mktemp("data"))
    space = write_space(tmp_path_factory.mktemp("space"), SPACE)
    return [*data, "training.evaluations_per_epoch=2", "--space", str(space)]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two trials come to that nothing stops."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    assert search(folder, *words, "--trials", "2").code == 0
    return outcome(folder)


def spawn(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "textattn", "tune", "quickstart", "--dir", folder, *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_share_the_trials(words: list[str], tmp_path: Path) -> None:
    study = tmp_path / "study"
    with spawn(study, *words, "--trials", "6") as other:
        assert other.stderr is not None
        its = next(line for line in other.stderr if line.startswith("Trial 0 "))
        own = search(study, *words, "--trials", "6")
        its += other.stderr.read()
        assert (own.code, other.wait(60)) == (0, 0), own.err + its
    begun = [BEGINS.findall(err) for err in (own.err, its)]
    assert sorted(begun[0] + begun[1]) == [str(number) for number in range(6)]
    assert begun[0]
    assert begun[1]
    trials = summary(study)["trials"]
    assert [trial["trial"] for trial in trials] == list(range(6))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert len({str(trial["parameters"]) for trial in trials}) == 6
    assert list((study / ".processes").iterdir()) == []


@pytest.mark.slow
def test_a_trial_whose_process_was_killed_goes_on(words: list[str], whole: list[Any], tmp_path: Path) -> None:
    """And the study ends as one that was never stopped."""
    study = tmp_path / "study"
    with spawn(study, *words, "--trials", "2") as process:
        assert process.stderr is not None
        assert any(line.startswith("Trial 1 ") for line in process.stderr)
        assert any(line.startswith("epoch 1 ") for line in process.stderr)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    done = search(study, *words, "--trials", "2")
    assert done.code == 0, done.err
    assert BEGINS.findall(done.err) == ["1"]
    assert "Trial 1 (2 of 2) resumes: " in done.err
    # What was kept of it is not trained again.
    assert "epoch 0.5 " not in done.err
    assert outcome(study) == whole
    assert list((study / ".processes").iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_a_signal_leaves_the_trial_to_the_next_start(
    number: signal.Signals, code: int, words: list[str], whole: list[Any], tmp_path: Path
) -> None:
    study, evaluations, evaluated = tmp_path / "study", [], ConsoleReport.evaluated

    def stop(*arguments: Any) -> None:
        evaluated(*arguments)
        evaluations.append(arguments[1])
        if len(evaluations) == 11:  # the third of trial 1
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConsoleReport, "evaluated", stop)
        stopped = search(study, *words, "--trials", "2")
    assert (stopped.code, stopped.out) == (code, "")
    entries = summary(study)["trials"]
    assert [trial["state"] for trial in entries] == ["complete", "interrupted"]
    assert stopped.err.endswith(
        "Error: interrupted; 1 of 2 trials are done, the best config so far "
        f"(accuracy {entries[0]['value']:.4f}) is {study / 'best.yaml'}\nHint: the same command continues from there\n"
    )
    done = search(study, *words, "--trials", "2")
    assert done.code == 0
    assert BEGINS.findall(done.err) == ["1"]
    assert "epoch 1.5 " not in done.err
    assert outcome(study) == whole
