"""`predict --input … --output …`: a bad row is named and ends the job, or is left out; long texts are counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import bulk_jobs
import pytest
from bulk_jobs import BAD_ROWS, GOOD, bulk, read, spoilt, write

from textattn.inference.classifier import Classifier

# pytest looks for fixtures among the names of a file.
here, model, small = bulk_jobs.here, bulk_jobs.model, bulk_jobs.small


@pytest.mark.parametrize("target", ["csv", "parquet"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_ends_the_job_and_once_mended_it_goes_on(
    small: Callable[[int], None], name: str, target: str
) -> None:
    small(2)
    kind, number, message = spoilt(name)
    job = ("-i", f"in.{kind}", "-o", f"out.{target}")
    for arguments in ((), ("--resume",)):
        done = bulk(*job, *arguments)
        assert (done.code, done.out) == (3, "")
        first, second = done.err.splitlines()
        assert first.startswith(f"Error: in.{kind}:{number}: {message}")
        for word in ("--resume", f"4 rows are answered in out.{target}.partial", "--on-error skip"):
            assert word in second
        assert not Path(f"out.{target}").exists()
        parts = sorted(Path(f"out.{target}.partial").glob(f"0*.{target}"))
        assert [part.name for part in parts] == [f"000000.{target}", f"000001.{target}"]
    Path(f"in.{kind}").write_bytes(Path(f"good.{kind}").read_bytes())
    done = bulk(*job, "--resume", "--json")
    assert done.code == 0
    summary = json.loads(done.out)
    assert 0 <= summary.pop("seconds") < 60
    assert summary == {
        "output": f"out.{target}", "rows": 7, "skipped": 0, "truncated": 0, "unsure": 0, "tokens": 14, "resumed": 4,
        "unreadable": 0, "unknown": 0,
    }  # fmt: skip
    assert re.fullmatch(rf"7 rows answered, 4 of them before in \d+\.\d s: out\.{target}\n", done.err)
    assert not Path(f"out.{target}.partial").exists()
    assert bulk("-i", f"good.{kind}", "-o", f"undisturbed.{target}").code == 0
    assert Path(f"out.{target}").read_bytes() == Path(f"undisturbed.{target}").read_bytes()


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_left_out_and_listed_where_wanted(small: Callable[[int], None], name: str) -> None:
    small(2)
    kind, number, message = spoilt(name)
    done = bulk("-i", f"in.{kind}", "-o", "out.jsonl", "--on-error", "skip", "--json")
    assert done.code == 0
    assert {"rows": 6, "skipped": 1}.items() <= json.loads(done.out).items()
    warning, end = done.err.splitlines()
    assert warning.startswith(f"Warning: in.{kind}:{number}: {message}") and warning.endswith("; skipped")
    assert end.startswith("6 rows answered, 1 skipped in ")
    assert [row["text"] for row in read("out.jsonl")] == [text for text in GOOD if text != "good 5"]


def test_many_bad_rows_are_counted_and_the_first_are_listed() -> None:
    write("in.jsonl", [{"text": None if i % 2 else "good"} for i in range(1, 3001)])
    done = bulk("-i", "in.jsonl", "-o", "out.csv", "--on-error", "skip", COLUMNS="80")
    lines = done.err.splitlines()
    assert lines[:10] == [
        f"Warning: in.jsonl:{i}: column 'text' is empty; expected a text; skipped" for i in range(1, 20, 2)
    ]
    assert lines[10] == "Warning: … and 1,490 more"
    assert lines[11].startswith("1,500 rows answered, 1,500 skipped in ")
    assert max(map(len, lines)) <= 80
    assert len(read("out.csv")) == 1500


def test_texts_that_are_too_long_are_counted(model: Classifier) -> None:
    longest = model.tokenizer.max_length
    write("in.txt", [{"text": "good " * length} for length in (longest, longest + 1, 500)])
    done = bulk("-i", "in.txt", "-o", "out.csv", "--json")
    assert {"truncated": 2, "tokens": 3 * longest}.items() <= json.loads(done.out).items()
    assert done.err.startswith(f"Note: 2 of 3 texts are longer than the {longest} tokens ")
