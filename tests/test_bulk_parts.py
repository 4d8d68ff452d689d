"""The parts of `predict --output`: one job owns them, and none is joined that is not as it was written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import bulk_jobs
import pytest
from bulk_jobs import ROWS, SCHEMA, bulk, content, files, read, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bulk_processes import start

from textattn.inference import partial
from textattn.storage import locks

here, small = bulk_jobs.here, bulk_jobs.small
FORMATS = ("csv", "tsv", "jsonl", "parquet", "txt")


def job_of(kind: str) -> tuple[str, ...]:
    return ("-i", "in.jsonl", "-o", f"out.{kind}")


def stop_before_joining(monkeypatch: pytest.MonkeyPatch, job: tuple[str, ...]) -> None:
    """A job that is killed when all rows are answered and nothing is joined yet."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(partial.Partial, "join", killed)
        assert bulk(*job).code == 130


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "a row less": lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[2]),
    "another part": lambda path: shutil.copy(path.with_name(path.name.replace("1", "0")), path),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-3] + b"?" + path.read_bytes()[-2:]),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_answered_again(kind: str, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", ROWS)
    assert bulk("-i", "in.jsonl", "-o", f"whole.{kind}").code == 0
    job = job_of(kind)
    stop_before_joining(monkeypatch, job)
    DAMAGE[damage](Path(f"out.{kind}.partial/000001.{kind}"))
    done = bulk(*job, "--resume")
    assert done.code == 0, done.err
    note = f"Note: out.{kind}.partial/000001.{kind} is missing or damaged; its 3 rows are answered again\n"
    assert done.err.count(note) == 1
    assert Path(f"out.{kind}").read_bytes() == Path(f"whole.{kind}").read_bytes()
    assert files() == sorted(["in.jsonl", f"out.{kind}", f"whole.{kind}"])


@pytest.mark.usefixtures("small")
def test_a_part_that_is_damaged_while_the_job_goes_on_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", ROWS)
    join = partial.Partial.join

    def damaged(self: partial.Partial, state: partial.State) -> None:
        part = self.folder / "000000.csv"
        part.write_bytes(part.read_bytes()[:-7])
        join(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(partial.Partial, "join", damaged)
        done = bulk(*job_of("csv"))
    assert done.code == 3
    assert done.err == (
        "Error: out.csv.partial/000000.csv: damaged since it was written; the answers were not put together\n"
        "Hint: the same command with --resume answers its rows again\n"
    )
    assert not Path("out.csv").exists()
    assert bulk(*job_of("csv"), "--resume").code == 0
    assert len(read("out.csv")) == len(ROWS)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "txt"])
def test_rows_that_are_lost_in_joining_are_missed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from textattn.data.formats import format_named

    write("in.jsonl", ROWS)
    form = format_named(kind)
    assert form is not None
    join = type(form).join
    with monkeypatch.context() as patch:
        patch.setattr(type(form), "join", lambda self, parts, *rest: join(self, parts[:-1], *rest))
        done = bulk(*job_of(kind))
    assert done.code == 3
    assert "6 rows were put together, but 7 were answered" in done.err
    assert not Path(f"out.{kind}").exists()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_killed_at_any_removal_is_completed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", ROWS)
    assert bulk("-i", "in.jsonl", "-o", f"whole.{kind}").code == 0
    job, unlink = job_of(kind), os.unlink
    killed = 0
    for number in range(4):
        left = number

        def stops(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            if path.parent.name.endswith(".partial") and path.name not in locks.NAMES and path.suffix != ".tmp":
                if not left:
                    raise KeyboardInterrupt
                left -= 1
            if not missing_ok or path.exists():
                unlink(path)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", stops)
            killed += bulk(*job).code == 130
        assert Path(f"out.{kind}.partial/state.json").exists()
        done = bulk(*job, "--resume")
        assert done.code == 0, done.err
        assert Path(f"out.{kind}").read_bytes() == Path(f"whole.{kind}").read_bytes()
        assert files() == sorted(["in.jsonl", f"out.{kind}", f"whole.{kind}"])
        Path(f"out.{kind}").unlink()
    assert killed == 4  # three parts, then the state


# The state


@pytest.fixture
def half(small: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A job that is answered and not joined."""
    small(3)
    write("in.jsonl", ROWS)
    stop_before_joining(monkeypatch, job_of("csv"))
    return job_of("csv")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**9), st.just(10**30), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
PLACES = st.sampled_from(
    [
        ("settings",), ("summary",), ("summary", "rows"), ("summary", "problems"), ("summary", "tokens"), ("parts",),
        ("parts", 0), ("parts", 1, "rows"), ("parts", 1, "read"), ("parts", 1, "written"), ("joined",),
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=PLACES, value=VALUES)
def test_any_value_in_the_state_is_refused_or_makes_no_difference(
    place: tuple[str | int, ...], value: object, half: tuple[str, ...]
) -> None:
    shutil.rmtree("copy", ignore_errors=True)
    shutil.copytree("out.csv.partial", "copy")
    Path("out.csv").unlink(missing_ok=True)
    path = Path("out.csv.partial/state.json")
    state = json.loads(path.read_text())
    inner = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(state))
    done = bulk(*half, "--resume")
    assert done.code in (0, 2, 3), done.err
    if done.code == 0:
        assert [row["id"] for row in read("out.csv")] == [
            str(row["id"]) if row["id"] is not None else "" for row in ROWS
        ]
    else:
        assert not Path("out.csv").exists()
    shutil.rmtree("out.csv.partial", ignore_errors=True)
    shutil.move("copy", "out.csv.partial")


def test_a_state_of_an_earlier_version_is_begun_again(half: tuple[str, ...]) -> None:
    path = Path("out.csv.partial/state.json")
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"digest": state["parts"][-1]["read"], "parts": 10**9}))
    done = bulk(*half, "--resume")
    assert done.code == 0
    assert "is of an earlier version, which kept no digests; all rows are answered again" in done.err
    assert len(read("out.csv")) == len(ROWS)


# One owner


@pytest.mark.parametrize("more", [(), ("--resume",), ("--overwrite",)])
def test_a_second_job_is_refused_and_changes_nothing(more: tuple[str, ...], half: tuple[str, ...]) -> None:
    with locks.owned(Path("out.csv.partial"), "written", "wait"):
        before = content(".")
        done = bulk(*half, *more)
        assert (done.code, done.out) == (2, "")
        assert f"Error: --output: out.csv.partial is being written by process {os.getpid()} on " in done.err
        assert done.err.endswith(
            "; nothing was changed\nHint: wait until that process has ended, or use --output another-name\n"
        )
        assert content(".") == before
    assert bulk(*half, "--resume").code == 0


OFFSETS = [0.0, 0.7, *(pytest.param(offset, marks=pytest.mark.slow) for offset in (0.1, 0.3, 0.5, 1.0, 1.5, 2.0))]


@pytest.mark.parametrize("offset", OFFSETS)
def test_of_two_jobs_onto_one_output_exactly_one_answers(offset: float) -> None:
    for name in ("a", "b"):
        write(f"{name}.csv", [{"id": i, "text": f"{name} good {i}"} for i in range(4000)])
    jobs = []
    for name in ("a", "b"):
        words = ("-i", f"{name}.csv", "-o", "out.csv", "--overwrite")
        jobs.append(start(20, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        if name == "a":
            time.sleep(offset)
    said = [job.communicate()[1].decode() for job in jobs]
    codes = [job.returncode for job in jobs]
    owners = {row["text"][0] for row in read("out.csv")}
    assert len(read("out.csv")) == 4000
    assert len(owners) == 1
    # One was refused; or it came when the other one had ended, and replaced its whole answer.
    assert sorted(codes) == [0, 2] or codes == [0, 0]
    if codes != [0, 0]:
        assert f"process {jobs[codes.index(0)].pid} on " in said[codes.index(2)]
        assert owners == {"ab"[codes.index(0)]}
    assert files() == ["a.csv", "b.csv", "out.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.9, 1.1, 1.3, 1.5, 1.7, 1.9])
def test_a_killed_job_is_owned_by_nobody(seconds: float) -> None:
    write("in.csv", [{"id": i, "text": f"good {i}"} for i in range(4000)])
    assert bulk("-i", "in.csv", "-o", "whole.csv").code == 0
    job = ("-i", "in.csv", "-o", "out.csv")
    killed = start(20, *job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    if not Path("out.csv").exists():
        again = start(20, *job, "--resume", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert again.wait() == 0
    ids = [row["id"] for row in read("out.csv")]
    assert ids == [str(i) for i in range(4000)]


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_named_with_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", ROWS, SCHEMA)
    fsync, left = os.fsync, 4

    def full(number: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(28, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = bulk(*job_of("csv"))
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(
        "Error: out.csv.partial: cannot be written (No space left on device); 3 rows answered before are kept there\n"
        "Hint: free some space there, then run the same command with --resume\n"
    )
    assert bulk(*job_of("csv"), "--resume").code == 0
    assert len(read("out.csv")) == len(ROWS)
