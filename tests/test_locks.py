"""A run has one owner while it is written: whoever comes second changes nothing and is told who that is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import bad_input
import pytest
from bad_input import contents, copy
from inprocess import run as cli
from stopped_runs import Killed, Killer

from textattn.config import load_config
from textattn.errors import ConfigError
from textattn.runs.train import train
from textattn.storage import locks, run_folder
from textattn.storage.run_dir import RunDir

world = bad_input.world
FOREVER = ("training.epochs=30000", "training.checkpoint_steps=1")
SECONDS = 60.0


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the user's folder, to work in."""
    copy(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wait_for(path: str) -> None:
    until = time.monotonic() + SECONDS
    while not Path(path).exists():
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.01)


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "textattn", "--quiet", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            yield started
        finally:
            started.kill()


def owner_of(run: str) -> locks.Owner:
    found = locks.read_owner(Path(run))
    assert found is not None
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("more", [(), ("--resume",), ("--overwrite",)])
def test_a_run_in_training_is_left_to_its_owner(more: tuple[str, ...], place: Path) -> None:
    with process("train", "mine.yaml", *FOREVER) as first:
        wait_for("runs/new/owner.json")
        os.kill(first.pid, signal.SIGSTOP)  # so that nothing changes meanwhile
        before = files_of(place)
        done = cli("train", "mine.yaml", *more)
        since = datetime.fromisoformat(owner_of("runs/new").since).strftime("%H:%M")
        said = f"runs/new is being trained by process {first.pid} on {socket.gethostname()} since {since}"
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith(
            f"Error: output.dir: {said}; nothing was changed\n"
            "Hint: wait until that process has ended, or use another directory: output.dir=runs/my-run\n"
        )
        # Refused before its data are read.
        assert "Reading" not in done.err
        assert files_of(place) == before
    # The owner is dead, and its directory is free.
    assert Path("runs/new/owner.json").exists()
    assert cli("train", "mine.yaml", *more).code == 0
    assert not list(Path("runs/new").glob("owner.*"))


def test_a_run_in_training_is_read_but_not_written(place: Path) -> None:
    with process("train", "mine.yaml", *FOREVER, "output.dir=runs/earlier", "--overwrite") as first:
        wait_for("runs/earlier/checkpoints")
        wait_for("runs/earlier/model.safetensors")
        assert cli("predict", "--model", "runs/earlier", "fine").code == 0
        assert cli("info", "--model", "runs/earlier").code == 0
        done = cli("export", "--model", "runs/earlier")
        assert done.code == 2
        assert f"runs/earlier is being trained by process {first.pid} on " in done.err
        assert not Path("runs/earlier/model.onnx").exists()


def test_an_audit_of_a_run_that_is_written_to_is_shown_and_not_kept(place: Path) -> None:
    before = Path("runs/earlier/metrics.json").read_bytes()
    with locks.owned(Path("runs/earlier"), "exported", "wait"):
        done = cli("audit", "--model", "runs/earlier", "--split", "validation", "--examples", "2")
    assert done.code == 0, done.err
    assert f"could not be kept in runs/earlier: runs/earlier is being exported by process {os.getpid()} on" in done.err
    assert Path("runs/earlier/metrics.json").read_bytes() == before
    assert cli("audit", "--model", "runs/earlier", "--split", "validation", "--examples", "2").code == 0
    assert Path("runs/earlier/metrics.json").read_bytes() != before


def test_an_owner_on_another_machine_is_named_with_its_day(place: Path) -> None:
    with locks.owned(Path("runs/new"), "trained", "wait"):
        record = json.loads(Path("runs/new/owner.json").read_text())
        record |= {"host": "node17", "process": 4, "since": "2024-02-29T22:15:00+00:00"}
        Path("runs/new/owner.json").write_text(json.dumps(record))
        done = cli("train", "mine.yaml")
    assert done.code == 2
    day = datetime.fromisoformat(record["since"]).astimezone().strftime("%Y-%m-%d %H:%M")
    assert f"runs/new is being trained by process 4 on node17 since {day}; nothing was changed" in done.err


def test_a_dead_owner_on_another_machine_is_mentioned(place: Path) -> None:
    with pytest.raises(Killed):
        train(load_config("mine.yaml", ["training.epochs=3"]), report=Killer(step=4))
    record = {"doing": "trained", "process": 4, "host": "node17", "since": "2024-02-29T22:15:00+00:00"}
    Path("runs/new/owner.json").write_text(json.dumps(record))
    report = Killer()
    train(load_config("mine.yaml", ["training.epochs=3"]), resume=True, report=report)
    assert re.fullmatch(
        r"runs/new was last written to by process 4 on node17 since .*, which has ended", report.notes[0]
    )
    assert (Path("runs/new/metrics.json")).exists() and not Path("runs/new/owner.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": 1}', '{"doing": 1, "process": "x"}', "\x00\xff"])
def test_an_owner_that_cannot_be_read_is_still_an_owner(content: str, tmp_path: Path) -> None:
    with locks.owned(tmp_path / "run", "trained", "wait"):
        (tmp_path / "run" / "owner.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(ConfigError, match="run is in use by another process; nothing was changed"):
            locks.owned(tmp_path / "run", "trained", "wait").__enter__()


def test_a_training_that_comes_to_nothing_leaves_no_folder(place: Path) -> None:
    before = contents(place)
    assert cli("train", "nothing.csv", "output.dir=a/b/c").code != 0
    assert cli("train", "mine.yaml", "output.dir=a/b/c", "data.text=missing").code == 3
    assert contents(place) == before


def test_many_threads_that_want_one_folder_take_turns(tmp_path: Path) -> None:
    """A folder that is removed at the end of each turn is the hardest to own."""
    inside, most, turns = [], 0, []

    def work() -> None:
        nonlocal most
        for _ in range(20):
            with contextlib.suppress(ConfigError), locks.owned(tmp_path / "a" / "run", "trained", "wait"):
                inside.append(1)
                most = max(most, len(inside))
                time.sleep(0.001)
                inside.pop()
                turns.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(turns) > 20
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# Default directories


class Stopped(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5)


def test_runs_of_the_same_second_get_directories_of_their_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "datetime", Stopped)
    Path("free.yaml").write_text(Path("mine.yaml").read_text().replace("  dir: runs/new\n", ""))
    found = [cli("train", "free.yaml", f"seed={seed}").out.strip() for seed in range(3)]
    assert found == [f"runs/free/2026-01-02T03-04-05{end}" for end in ("", "-2", "-3")]
    assert len({Path(run, "model.safetensors").read_bytes() for run in found}) == 3
    # The newest is the last one that was made, also where -10 comes after -9.
    for number in range(4, 11):
        Path(found[0]).rename(f"runs/free/2026-01-02T03-04-05-{number}") if number == 10 else None
    done = cli("train", "free.yaml", "seed=0", "--resume")
    assert done.out == "runs/free/2026-01-02T03-04-05-10\n"


def test_threads_that_want_a_new_folder_get_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "datetime", Stopped)
    found: list[Path] = []

    def work() -> None:
        for _ in range(10):
            with contextlib.ExitStack() as ownership:
                folder = run_folder.new_directory(tmp_path / "runs" / "x", ownership)
                assert not list(folder.iterdir())
                with run_folder.own(RunDir(folder), "trained"):
                    (folder / "mine").touch()
                found.append(folder)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 50


@pytest.mark.slow
def test_six_trainings_at_once_are_six_runs(place: Path) -> None:
    Path("free.yaml").write_text(Path("mine.yaml").read_text().replace("  dir: runs/new\n", ""))
    command = [sys.executable, "-m", "textattn", "-q", "train", "free.yaml"]
    started = [subprocess.Popen([*command, f"seed={seed}"], stdout=subprocess.PIPE, text=True) for seed in range(6)]
    found = {process.communicate()[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 6
    assert len(found) == 6
    assert all(Path(run, "metrics.json").exists() for run in found)


@pytest.mark.slow
def test_of_two_trainings_into_one_directory_one_wins(place: Path) -> None:
    command = [sys.executable, "-m", "textattn", "-q", "train", "mine.yaml"]
    started = [
        subprocess.Popen([*command, f"seed={seed}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in (1, 2)
    ]
    said = [process.communicate() for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0, 2], said
    winner = codes.index(0)
    assert said[winner][0] == "runs/new\n"
    assert "runs/new is being trained by" in said[1 - winner][1] or "already contains a finished" in said[1 - winner][1]
    assert json.loads(Path("runs/new/environment.json").read_text())["seed"] == (1, 2)[winner]


# Files of the model that an unfinished run needs


@pytest.mark.parametrize("damage", ["missing", "empty", "other"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_file_that_is_needed_later_is_missed_at_once(name: str, damage: str, place: Path) -> None:
    config = ["training.epochs=3", "training.checkpoint_steps=1"]
    with pytest.raises(Killed):
        train(load_config("mine.yaml", config), report=Killer(step=4))
    path = Path("runs/new", name)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:  # it can be read, and is not that of this run
        changed = json.loads(whole)
        match name:
            case "tokenizer.json":
                changed["normalizer"] = None
            case "tokenizer_config.json":
                changed["model_max_length"] += 1
            case _:
                changed["id2label"] = {"0": "pos", "1": "neg"}
        path.write_text(json.dumps(changed))
    before = files_of(place)
    done = cli("train", "mine.yaml", *config, "--resume")
    assert (done.code, done.out) == (2 if (name, damage) == ("tokenizer.json", "other") else 3, "")
    assert "bug" not in done.err and "training resumes" not in done.err
    if done.code == 3:
        assert f"Error: runs/new/{name}: " in done.err
        assert done.err.endswith("Hint: put the file back from a copy; or --overwrite begins again\n")
        assert damage == "other" or "Reading" not in done.err
    assert files_of(place) == before
    path.write_bytes(whole)
    assert cli("train", "mine.yaml", *config, "--resume").code == 0


def test_a_signal_releases_the_directory(place: Path) -> None:
    with process("train", "mine.yaml", *FOREVER) as first:
        wait_for("runs/new/log.jsonl")
        first.send_signal(signal.SIGINT)
        assert first.wait(SECONDS) == 130
    assert not list(Path("runs/new").glob("owner.*"))
