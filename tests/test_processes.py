"""Several processes under torchrun: the training of one, and what becomes of it when one of them ends."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inprocess import run as cli
from stopped_runs import merged, outcome, settings, start, write_texts

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
# Noise is another in each process; without it there is nothing left to differ.
EXACT: dict[str, Any] = {
    "model": {"dropout": {"words": 0.0, "embedding": 0.0, "recurrent": 0.0, "classifier": 0.0}},
    # 48 texts to train on: neither 5 nor the 3 left over are a multiple of 2, nor 5 of 3.
    "training": {"precision": "fp32", "epochs": 2, "batch_size": 5, "checkpoint_steps": None},
}
RANDOM = {"vectors": {"source": "random"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "batches of 47 texts and of 1": {"training": {"batch_size": 47}},
    "as many tokens": {"training": {"max_tokens_per_batch": 50}},
    "weights for labels": {"training": {"class_weights": {"False": 1.0, "True": 3.5}, "label_smoothing": 0.1}},
    "one output": {"model": {"output": "sigmoid"}, "training": {"class_weights": "balanced"}},
    "balanced": {"training": {"sampling": "balanced"}},
    "faithful": {
        "model": {"anchor": "states", "attention": "multi_head", "num_heads": 2},
        "training": {"attention_alignment": 0.3, "state_tying": 0.01},
    },
    "n-grams": {"model": {"ngrams": 2, "ngram_buckets": 512, **RANDOM}},
    "several labels": {"data": {"label": "labels"}, "training": {"class_weights": "balanced"}},
    "people's evidence": {"data": {"evidence": "spans"}, "training": {"attention_supervision": 0.5}},
    "frozen": {"model": {"vectors": {"source": "skipgram", "epochs": 1, "freeze": True}, "encoder": "gru"}},
    "stopping early": {"training": {"epochs": 12, "patience": 2}},
    "no attention": {"model": {"attention": "max", "encoder": "none", **RANDOM}},
    "self-attention": {"model": {"attention": "self_attention", "num_heads": 2, "num_layers": 2, **RANDOM}},
    "passages": {"model": {"attention": "mlp", "attention_window": 3, "attention_position": True, **RANDOM},
        # The probabilities themselves, and not only which is the largest.
        "training": {"metric": "log_loss"},
    },
}  # fmt: skip
QUICK = ["as usual", "faithful"]
OTHERS = [name for name in VARIANTS if name not in QUICK]
OF_THREE = ["as usual", "batches of 47 texts and of 1", "faithful", "people's evidence"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_texts(tmp_path_factory.mktemp("data") / "texts.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["labels"] = [name for name in "abc" if name in row["text"]]
        # Not every text has evidence, and not every share of a batch has a text with some.
        row["spans"] = [[m.start(), m.end()] for m in re.finditer("[a-d]", row["text"])] if i % 4 == 0 else []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configs(data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    return {
        name: merged(settings(data, folder / name), merged(EXACT, variant)) for name, variant in VARIANTS.items()
    }  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}


Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a variant that one process trained."""
    folder = tmp_path_factory.mktemp("alone")
    every = configs(data, folder)
    return functools.cache(lambda variant: start(every[variant]))


def run_together(number: int, variants: list[str], data: Path, folder: Path) -> Path:
    every = configs(data, folder)
    (folder / "configs.json").write_text(json.dumps([every[name] for name in variants]))
    script = str(Path(__file__).with_name("train_together.py"))
    command = [*TORCHRUN, "--nproc-per-node", str(number), script, str(folder / "configs.json")]
    subprocess.run(command, check=True, env=environment(), timeout=300)
    return folder


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a variant that two processes trained; one start of them trains all that are quick or all others."""
    folder = tmp_path_factory.mktemp("two")
    trained = functools.cache(lambda quick: run_together(2, QUICK if quick else OTHERS, data, folder))
    return lambda variant: trained(variant in QUICK) / variant


@pytest.fixture(scope="module")
def three(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a variant that three processes trained."""
    folder = run_together(3, OF_THREE, data, tmp_path_factory.mktemp("three"))
    return lambda variant: folder / variant


def losses_and_metrics(run: Path) -> tuple[list[float], list[float]]:
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (metric,) = {key for entry in log for key in entry if key.startswith("eval_") and key != "eval_loss"}
    return [entry["loss"] for entry in log], [entry[metric] for entry in log]


@pytest.mark.parametrize("variant", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_two_processes_have_the_losses_and_metrics_of_one(variant: str, alone: Runs, two: Runs) -> None:
    compare(alone(variant), two(variant))


@pytest.mark.slow
@pytest.mark.parametrize("variant", OF_THREE)
def test_three_processes_have_the_losses_and_metrics_of_one(variant: str, alone: Runs, three: Runs) -> None:
    compare(alone(variant), three(variant))


NUMBERS = [(2, "two"), pytest.param(3, "three", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("number", "name"), NUMBERS)
def test_every_text_is_trained_on_by_one_process_an_epoch(
    number: int, name: str, request: pytest.FixtureRequest
) -> None:
    runs: Runs = request.getfixturevalue(name)
    run = runs("as usual")
    steps = [json.loads(run.with_name(f"as usual.rows-{rank}").read_text()) for rank in range(number)]
    assert len({len(of_process) for of_process in steps}) == 1
    half = len(steps[0]) // 2  # of two epochs
    for epoch in (slice(half), slice(half, None)):
        rows = [row for of_process in steps for step in of_process[epoch] for row in step]
        assert sorted(rows) == list(range(48))
    assert max(len(step) for of_process in steps for step in of_process) == -(-5 // number)


def compare(alone: Path, together: Path) -> None:
    losses, metrics = losses_and_metrics(alone)
    assert len(losses) >= 3
    assert losses_and_metrics(together)[0] == pytest.approx(losses, abs=1e-5)
    assert losses_and_metrics(together)[1] == pytest.approx(metrics, abs=1e-6)
    one, several = outcome(alone), outcome(together)
    assert several["files"] == one["files"]
    assert several["metrics"]["validation"]["log_loss"] == pytest.approx(
        one["metrics"]["validation"]["log_loss"], abs=1e-5
    )
    assert several["metrics"]["validation"]["num_examples"] == one["metrics"]["validation"]["num_examples"]
    seen = [json.loads((run / "trainer_state.json").read_text())["num_input_tokens_seen"] for run in (alone, together)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("number", "name"), [(1, "alone"), *NUMBERS])
def test_the_number_of_processes_is_written_down(number: int, name: str, request: pytest.FixtureRequest) -> None:
    runs: Runs = request.getfixturevalue(name)
    assert json.loads((runs("as usual") / "environment.json").read_text())["processes"] == number


# One of them ends.


def spawn(folder: Path, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", str(restarts), "-m", "textattn", "train", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=folder,
    )  # fmt: skip


def write_config(folder: Path, config: dict[str, Any]) -> str:
    (folder / "config.yaml").write_text(json.dumps(config))
    return str(folder / "config.yaml")


def process_of(parent: int, rank: int) -> int:
    """The one that torchrun started with this rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            started_by = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if started_by == parent and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except (OSError, ValueError):
            continue
    raise AssertionError(f"no process {rank} of {parent}")


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for found in process.stderr:
        if found.startswith(line):
            return
    raise AssertionError(f"ended without {line!r}")


@pytest.fixture(scope="module")
def long() -> dict[str, Any]:
    # With dropout: each process draws its own, and again the same after a restart.
    return {"training": {"epochs": 8, "checkpoint_steps": 5}}


@pytest.fixture(scope="module")
def whole(data: Path, long: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    with spawn(folder, write_config(folder, settings(data, folder / "run", **long))) as process:
        assert process.communicate(timeout=120)[0].splitlines() == [str(folder / "run")]
    return outcome(folder / "run")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_restarts_bring_a_killed_process_back(data: Path, long: Any, whole: Any, tmp_path: Path) -> None:
    config = write_config(tmp_path, settings(data, tmp_path / "run", **long))
    with spawn(tmp_path, config, "--resume", restarts=1) as process:
        wait_for("epoch 1 ", process)
        os.kill(process_of(process.pid, 0), signal.SIGKILL)  # the one that writes
        err = process.communicate(timeout=120)[1]
        assert process.returncode == 0, err
    assert "Error: process 1 of 2: another process of this training has ended\nHint: " in err
    assert "training resumes after step" in err
    assert outcome(tmp_path / "run") == whole


@pytest.mark.slow
def test_ctrl_c_keeps_the_step_in_which_all_stop(data: Path, long: Any, whole: Any, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, settings(data, tmp_path / "run", **merged(long, {"training": {"checkpoint_steps": None}}))
    )
    with spawn(tmp_path, config) as process:
        wait_for("epoch 1 ", process)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 1  # torchrun's own
    said = re.findall(r"^Error: interrupted at step (\d+) of", err, re.MULTILINE)
    assert len(said) == 1
    assert err.count("[rank") == 0  # no tracebacks of theirs
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert newest.stem == f"step-{int(said[0]):09d}"
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry | {"seconds": 0} for entry in log] == [entry | {"seconds": 0} for entry in whole["log"][: len(log)]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training.epoch=3"], "Error: override 'training.epoch=3': training.epoch: unknown key; did you mean"),
        pytest.param(
            ["training.learning_rate=1e30", "training.max_grad_norm=null"], "Error: the loss is ",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_what_all_of_them_meet_is_said_once(arguments: list[str], message: str, data: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, settings(data, tmp_path / "run"))
    with spawn(tmp_path, config, *arguments) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert err.count("Error: ") - err.count("ChildFailedError: ") == 1, err
    assert err.count(message) == 1, err
    assert "[rank" not in err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_dry_run_needs_no_others(rank: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MASTER_ADDR": "127.0.0.1",
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }.items():
        monkeypatch.setenv(name, value)
    done = cli("train", write_config(tmp_path, settings(data, tmp_path / "run")), "--dry-run")
    assert done.code == 0, done.err
    assert ("nothing was trained" in done.out) == (rank == 0)


def test_a_search_is_not_started_by_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    done = cli("tune", "quickstart", "--dir", tmp_path / "study")
    assert done.code == 2
    assert "Error: textattn tune does not run under torchrun; " in done.err
    assert not (tmp_path / "study").exists()
