"""`predict --output … --resume`: an interrupted job goes on where it ended, and none but this job does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import bulk_jobs
import pytest
from bulk_jobs import ROWS, SCHEMA, bulk, content, files, read, spoilt, write
from inprocess import Result

# pytest looks for fixtures among the names of a file.
here, multi_label_run, small = bulk_jobs.here, bulk_jobs.multi_label_run, bulk_jobs.small


def interrupted(monkeypatch: pytest.MonkeyPatch, number: int, *job: str) -> Result:
    """Ctrl-C as the file number so and so has been written, but has not got its name yet."""
    calls = iter(range(1, number))

    def fsync(_: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        return bulk(*job)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("jsonl", "parquet"),
        pytest.param("csv", "csv", marks=pytest.mark.slow),
        pytest.param("parquet", "jsonl", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_between_any_two_writes_loses_nothing(monkeypatch: pytest.MonkeyPatch, source: str, target: str) -> None:
    write(f"in.{source}", ROWS, SCHEMA)
    assert bulk("-i", f"in.{source}", "-o", f"whole.{target}").code == 0
    whole = Path(f"whole.{target}").read_bytes()
    job = ("-i", f"in.{source}", "-o", f"out.{target}")
    for number in range(1, 20):
        done = interrupted(monkeypatch, number, *job)
        if done.code == 0:
            break
        assert (done.code, done.out) == (130, "")
        assert not Path(f"out.{target}").exists()
        # And once more, somewhere behind.
        assert interrupted(monkeypatch, 2, *job, "--resume").code in (0, 130)
        if not Path(f"out.{target}").exists():
            assert bulk(*job, "--resume").code == 0
        assert Path(f"out.{target}").read_bytes() == whole
        assert files() == sorted([f"in.{source}", f"out.{target}", f"whole.{target}"])
        Path(f"out.{target}").unlink()
    # Seven rows are three parts, each with its state, then the state that tells of the whole, and the whole.
    assert number == 9


def test_a_job_goes_on_after_chunks_in_which_every_row_was_bad(
    small: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(2)
    write("in.jsonl", [{"text": text} for text in (None, None, "a", "b", None, None, None, "c", "d", "e", "f")])
    job = ("-i", "in.jsonl", "--on-error", "skip")
    assert bulk(*job, "-o", "whole.csv").code == 0
    interrupted(monkeypatch, 6, *job, "-o", "out.csv")
    done = bulk(*job, "-o", "out.csv", "--resume")
    assert (done.code, done.err.count("; skipped\n")) == (0, 5)
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


def change_row(column: str, old: str, new: str) -> None:
    rows = read("in.csv")
    write("in.csv", [row | {column: new} if row[column] == old else row for row in rows])


@pytest.fixture
def half(small: Callable[[int], None]) -> tuple[str, ...]:
    """A job that ended at row 5."""
    small(2)
    spoilt("too few fields")
    job = ("-i", "in.csv", "-o", "out.csv")
    assert bulk(*job).code == 3
    Path("in.csv").write_bytes(Path("good.csv").read_bytes())
    return job


CHANGES: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "MULTI"], "model was '"),
    "runtime": (["--runtime", "torch"], "model was '"),
    "attention": (["--attention"], "attention was False"),
    "on_error": (["--on-error", "skip"], "on_error was 'stop'"),
    "text": (["--text-column", "id"], "text was ['text']"),
    "format": (["--output-format", "jsonl"], "format was 'csv'"),
    "input": (["-i", "good.csv"], "input was ['in.csv']"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_job_does_not_go_on_with_this_one(half: tuple[str, ...], multi_label_run: Path, name: str) -> None:
    more, message = CHANGES[name]
    before = content(".")
    done = bulk(*half, "--resume", *(str(multi_label_run) if word == "MULTI" else word for word in more))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: --resume: not the same job as in out.csv.partial: ")
    assert message in done.err and "; nothing was changed\n" in done.err
    assert done.err.endswith("Hint: --overwrite begins again\n")
    assert content(".") == before
    # The right one still does.
    assert bulk(*half, "--resume").code == 0


@pytest.mark.parametrize("change", ["a text", "a row less", "columns"])
def test_a_changed_input_does_not_go_on(half: tuple[str, ...], change: str) -> None:
    rows = read("in.csv")
    if change == "a text":
        change_row("text", "bad 2", "bad two")
    else:
        write("in.csv", rows[1:] if change == "a row less" else [row | {"new": "1"} for row in rows])
    before = content(".")
    done = bulk(*half, "--resume")
    assert done.code == 2
    assert "rows that were answered before have changed" in done.err or "columns was ['id', 'text']" in done.err
    assert content(".") == before
    assert bulk(*half, "--overwrite").code == 0
    assert len(read("out.csv")) == len(read("in.csv"))


def test_a_changed_cell_beside_the_text_does_not_go_on(half: tuple[str, ...]) -> None:
    change_row("id", "2", "changed")
    done = bulk(*half, "--resume")
    assert done.code == 2 or "changed" in Path("out.csv").read_text()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"settings": {}, "summary": {"x": 1}, "digest": "", "parts": 1}'])
def test_a_damaged_state_is_refused(half: tuple[str, ...], damage: str) -> None:
    Path("out.csv.partial/state.json").write_text(damage)
    done = bulk(*half, "--resume")
    assert done.code == 3
    assert done.err.startswith("Error: out.csv.partial/state.json: damaged (")
