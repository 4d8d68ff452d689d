"""Interruptions: signals at every stage, streams that are closed or full, and --resume after them.

Each ends with its code and a message that says what was kept, and leaves an earlier run as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bad_input
import pytest
from bad_input import SECONDS, Case, alarm, check, contents, copy
from inprocess import run as cli
from stopped_runs import Killed, Killer

from textattn.config import load_config
from textattn.runs.train import train

world = bad_input.world
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
FOREVER = "training.epochs=3000"
LATER = "the same command with --resume output.dir=runs/new continues from there"
AGAIN = "the same command again, with --overwrite where output.dir is given"
# Ends of pipes that nothing is written to.
HELD: list[int] = []
VECTORS = "model.vectors.source=file model.vectors.path=pipe"


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the user's folder, to work in."""
    copy(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def when(reached: Callable[[], bool], number: int) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which this process gets the signal as soon as the command has come so far."""

    @contextlib.contextmanager
    def sending() -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                if reached():
                    os.kill(os.getpid(), number)
                    return
                time.sleep(0.001)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            while HELD:
                os.close(HELD.pop())

    return sending


def exists(name: str) -> Callable[[], bool]:
    return lambda: Path(name).exists()


def read_from(pipe: str) -> Callable[[], bool]:
    """Whether somebody waits for what comes out of a pipe; then nothing comes."""

    def reached() -> bool:
        try:
            HELD.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads it, or there is no such pipe yet
            return False
        return True

    return reached


def stopped(
    name: str, command: str, reached: Callable[[], bool], error: str, hint: str | None, leaves: str
) -> list[Case]:
    """The same for both signals."""
    return [
        Case(f"{signal.Signals(number).name} {name}", {"pipe": os.mkfifo}, command, code, error, hint,
             within=when(reached, number), leaves=leaves)
        for number, code in SIGNALS
    ]  # fmt: skip


MEASURING = "train mine.yaml data.path=bundled:reviews training.batch_size=32 output.audit_examples=500"
INTERRUPTED = [
    *stopped("while reading", f"train mine.yaml {FOREVER}", exists("runs/new/owner.json"),
             "interrupted before the run was complete", AGAIN, "runs/new"),
    *stopped("while training", f"train mine.yaml {FOREVER}", exists("runs/new/log.jsonl"),
             "interrupted at step *** of ***; the best model so far (accuracy *** at step ***) is in runs/new", LATER,
             "runs/new"),
    *stopped("while measuring", MEASURING, exists("runs/new/model.onnx"),
             "interrupted while measuring the model; training is complete, and the best model is in runs/new",
             "textattn evaluate --model runs/new", "runs/new"),
]  # fmt: skip


@pytest.mark.parametrize("case", INTERRUPTED, ids=lambda case: case.name)
def test_a_signal(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)
    left = {path.name for path in (tmp_path / "runs/new").rglob("*")}
    assert "metrics.json" not in left
    assert not [name for name in left if name.endswith(".tmp")]
    if "reading" in case.name:
        assert left == set()
    else:
        assert cli("predict", "--model", "runs/new", "fine").code == 0


# Going on


def stop(place: Path) -> None:
    """An unfinished run with two checkpoints in runs/new, as SIGKILL leaves it."""
    config = load_config("mine.yaml", ["training.epochs=3", "training.checkpoint_steps=2"])
    with pytest.raises(Killed):
        train(config, report=Killer(step=7))
    assert len(list(place.glob("runs/new/checkpoints/step-*"))) == 2


def resume(*words: str) -> tuple[int, str, str]:
    return cli("train", "mine.yaml", "training.epochs=3", "training.checkpoint_steps=2", "--resume", *words)


def test_resume_goes_on(place: Path) -> None:
    stop(place)
    before = contents(place, "runs/new")
    code, out, err = resume()
    assert (code, out) == (0, "runs/new\n")
    assert "training resumes after step 6 of 9" in err
    assert contents(place, "runs/new") == before
    assert not (place / "runs/new/checkpoints").exists()


@pytest.mark.parametrize(
    ("damaged", "note"), [(1, "training resumes after step 4 of 9"), (2, "so training starts again")]
)
def test_resume_past_damaged_checkpoints(damaged: int, note: str, place: Path) -> None:
    stop(place)
    for path in sorted(place.glob("runs/new/checkpoints/step-*"), reverse=True)[:damaged]:
        path.write_bytes(path.read_bytes()[:1000])
    code, out, err = resume()
    assert (code, out) == (0, "runs/new\n")
    assert err.count("damaged (") == damaged
    assert note in err
    assert (place / "runs/new/metrics.json").is_file()


def test_resume_of_a_finished_run_changes_nothing(place: Path) -> None:
    before = contents(place)
    done = cli("train", "mine.yaml", "output.dir=runs/earlier", "--resume")
    assert (done.code, done.out) == (0, "runs/earlier\n")
    assert done.err.endswith("runs/earlier is finished; there is nothing to resume\n")
    assert contents(place) == before


def test_resume_where_there_is_nothing_begins(place: Path) -> None:
    code, out, err = resume()
    assert (code, out) == (0, "runs/new\n")
    assert "there is no run to resume in runs/new, so a new run starts" in err


def test_predicting_to_a_file_stopped_and_gone_on_with(place: Path) -> None:
    (place / "many.csv").write_text("text\n" + "".join(f"fine food {i}\n" for i in range(30_000)))
    before = contents(place, "out.csv.partial")
    words = ["predict", "--model", "runs/earlier", "--input", "many.csv", "--output", "out.csv"]
    with alarm(), when(exists("out.csv.partial/000001.csv"), signal.SIGINT)():
        done = cli(*words)
    assert (done.code, done.out) == (130, "")
    assert "what is answered is kept in out.csv.partial, and --resume goes on from there" in done.err
    assert contents(place, "out.csv.partial") == before
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "Error: out.csv.partial: an interrupted run is there; nothing was changed\n"
        "Hint: --resume continues it, --overwrite begins again\n"
    )
    done = cli(*words, "--resume")
    assert done.code == 0
    assert len((place / "out.csv").read_text().splitlines()) == 30_001
    assert not (place / "out.csv.partial").exists()


# Processes


def process(*words: str, **how: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "textattn", *words], text=True, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUTF8": "1"}, **how,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


def test_sigkill_while_training_leaves_what_goes_on(place: Path) -> None:
    before = contents(place, "runs/new")
    with process("train", "mine.yaml", FOREVER, "training.checkpoint_steps=1", stdout=subprocess.PIPE) as killed:
        assert killed.stderr is not None
        for line in killed.stderr:
            if line.startswith("epoch 2 "):
                break
        killed.kill()
        assert killed.wait(SECONDS) == -signal.SIGKILL
    assert contents(place, "runs/new") == before
    assert not (place / "runs/new/metrics.json").exists()
    done = cli("train", "mine.yaml")
    assert done.code == 2
    assert "runs/new already contains an unfinished run; nothing was changed" in done.err
    # So many epochs take too long: it is enough that it goes on from where it was killed.
    report = Killer(step=1)
    with pytest.raises(Killed):
        train(load_config("mine.yaml", [FOREVER, "training.checkpoint_steps=1"]), resume=True, report=report)
    assert report.steps[0] > 3


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_waiting_for_texts(number: int, code: int, place: Path) -> None:
    before = contents(place)
    words = ("predict", "--model", "runs/earlier")
    with process(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdin is not None and waiting.stdout is not None and waiting.stderr is not None
        waiting.stdin.write("fine\n")
        waiting.stdin.flush()
        assert re.fullmatch(r"(neg|pos)\t0\.\d{4}\n", waiting.stdout.readline())
        waiting.send_signal(number)
        # Nothing is to be tidied up: SIGTERM ends it as it ends any process, which a shell calls 143.
        assert waiting.wait(SECONDS) == (code if number == signal.SIGINT else -number)
        assert "Traceback" not in waiting.stderr.read()
        assert waiting.stdout.read() == ""
    assert contents(place) == before


COMMANDS = {
    "predict": ["predict", "--model", "runs/earlier", "fine"],
    "explain": ["explain", "--model", "runs/earlier", "fine"],
    "info": ["info", "--model", "runs/earlier"],
    "schema": ["schema"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_seen_enough(command: str, place: Path) -> None:
    before = contents(place)
    reading, writing = os.pipe()
    os.close(reading)
    with process(*COMMANDS[command], stdin=subprocess.DEVNULL, stdout=writing) as done:
        os.close(writing)
        assert done.stderr is not None
        assert (done.wait(SECONDS), done.stderr.read()) == (1, "")
    assert contents(place) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_stdout(command: str, place: Path) -> None:
    before = contents(place)
    with (
        Path("/dev/full").open("w") as full,
        process(*COMMANDS[command], stdin=subprocess.DEVNULL, stdout=full) as done,
    ):
        assert done.stderr is not None
        said = "Error: the disk is full\nHint: free some space, or write to another disk\n"
        assert (done.wait(SECONDS), done.stderr.read()) == (1, said)
    assert contents(place) == before


def test_stdin_that_is_closed(place: Path) -> None:
    before = contents(place)
    with process("predict", "--model", "runs/earlier", stdout=subprocess.PIPE, preexec_fn=lambda: os.close(0)) as done:
        assert done.stdout is not None and done.stderr is not None
        assert (done.wait(SECONDS), done.stdout.read()) == (2, "")
        assert done.stderr.read().startswith("Usage: textattn predict ")
    assert contents(place) == before


# Twice, and where nothing can be said


def interrupted_twice(seed: int) -> tuple[int, str]:
    """A training that gets Ctrl-C twice at random; its exit code and what it says."""
    chance = random.Random(seed)
    with process("train", "mine.yaml", FOREVER, stdout=subprocess.DEVNULL) as training:
        time.sleep(0.3 + 6 * chance.random())
        for pause in (0.0, chance.choice([0.001, 0.02, 0.3]) * chance.random()):
            time.sleep(pause)
            training.send_signal(signal.SIGINT)
        assert training.stderr is not None
        said = training.stderr.read()
        return training.wait(SECONDS), said


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_ctrl_c_twice_is_ctrl_c(seed: int, place: Path) -> None:
    code, said = interrupted_twice(seed)
    assert code == 130, said
    assert "Traceback" not in said and "ignored" not in said and "bug" not in said
    assert not list(place.glob("runs/new/owner.*"))
    # It goes on, or begins if nothing of it was written; so many epochs take too long.
    with pytest.raises(Killed):
        train(load_config("mine.yaml", [FOREVER]), resume=True, report=Killer(evaluation=1))


@pytest.mark.parametrize("stderr", ["full", "closed", "a pipe that nobody reads"])
def test_what_cannot_be_said_does_not_end_a_training(stderr: str, place: Path) -> None:
    end = {"full": "2>/dev/full", "closed": "2>&-", "a pipe that nobody reads": "2> >(exit 0)"}[stderr]
    command = f"sleep 0.2; exec {shlex.quote(sys.executable)} -m textattn train mine.yaml {end}"
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, timeout=SECONDS * 2, check=False)
    assert (done.returncode, done.stdout) == (0, b"runs/new\n")
    assert (place / "runs/new/metrics.json").exists()


def test_too_little_memory_is_not_called_a_bug(place: Path) -> None:
    rows = "text,label\n" + "".join(f"{'word ' * 2000}{i},{i % 2}\n" for i in range(3000))
    (place / "long.csv").write_text(rows)
    words = [sys.executable, "-m", "textattn", "predict", "--model", "runs/earlier", "-i", "long.csv"]
    command = f"ulimit -v 600000; exec {shlex.join(words)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=SECONDS * 2, check=False)
    if done.returncode:  # it depends on the libraries how much is too little
        assert "bug" not in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object: Cannot allocate memory"),
    ],
)
def test_a_shortage_of_memory_is_told_as_one(error: Exception, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("textattn.runs.train.prepare", fails)
    done = cli("train", "mine.yaml")
    assert done.code == 1
    assert "Error: there is not enough memory" in done.err and "Hint: " in done.err
    assert "bug" not in done.err


def test_no_folder_for_temporary_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr("textattn.runs.train.prepare", fails)
    done = cli("train", "mine.yaml")
    assert done.code == 1
    assert done.err.endswith(
        "Error: no folder for temporary files can be written to (tried ['/tmp', '/var/tmp'])\n"
        "Hint: name one that can: export TMPDIR=/some/folder\n"
    )
