"""`predict --input … --output …`: several files, stdin and stdout, what Windows writes, and outputs in the way."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
from collections.abc import Callable
from pathlib import Path

import bulk_jobs
import pytest
from bulk_jobs import FORMATS, ROWS, SCHEMA, answered, bulk, content, expected, files, read, write

from textattn.inference.classifier import Classifier

# pytest looks for fixtures among the names of a file.
here, model, small = bulk_jobs.here, bulk_jobs.model, bulk_jobs.small


# Several files, stdin, stdout


@pytest.mark.usefixtures("small")
def test_several_files_are_answered_in_order_and_named(model: Classifier) -> None:
    Path("in").mkdir()
    for name, first in (("b", 4), ("a", 0), ("c", 9)):
        rows = [{"text": f"good {i}", "id": str(i)} for i in range(first, first + 4)]
        # The order of the columns may differ.
        write(f"in/{name}.csv", [dict(reversed(row.items())) for row in rows] if name == "b" else rows)
    texts = [f"good {i}" for i in (*range(8), *range(9, 13))]
    for arguments in (["-i", "in/*.csv"], ["-i", "in/a.csv", "-i", "in/[b-c].csv"]):
        for target in ("csv", "jsonl", "parquet"):
            assert bulk(*arguments, "-o", f"out.{target}", "--overwrite").code == 0
            found = read(f"out.{target}")
            assert [row["text"] for row in found] == texts
            assert [row["id"] for row in found] == [text[5:] for text in texts]
            assert [row["file"] for row in found] == [f"in/{name}.csv" for name in "abc" for _ in range(4)]
            assert answered(found) == expected(model.predict(texts))
    assert bulk("-i", "in/c.csv", "-i", "in/a.csv", "-o", "out.jsonl", "-f").code == 0
    assert [row["text"] for row in read("out.jsonl")] == texts[8:] + texts[:4]
    # A name is a name first, whatever it looks like.
    Path("in/a.csv").rename("in/[b].csv")
    assert bulk("-i", "in/[b].csv", "-o", "out.jsonl", "-f").code == 0
    assert [row["text"] for row in read("out.jsonl")] == texts[:4]
    write("in/d.csv", [{"text": "x", "other": "y"}])
    done = bulk("-i", "in/*.csv", "-o", "new.csv")
    assert done.code == 3
    assert done.err.startswith("Error: in/d.csv: columns text, other, but in/[b].csv has text, id\n")
    done = bulk("-i", "out/*.csv", "-o", "new.csv")
    assert (done.code, done.err) == (3, "Error: out/*.csv: no such file\n")
    assert files() == ["in", "out.csv", "out.jsonl", "out.parquet"]


@pytest.mark.parametrize("source", FORMATS)
def test_stdin_and_stdout_stand_for_files(small: Callable[[int], None], source: str) -> None:
    rows = [row for row in ROWS if "\n" not in row["text"]]
    write(f"in.{source}", rows, SCHEMA)
    assert bulk("-i", f"in.{source}", "-o", "out.csv").code == 0
    kept = Path("out.csv").read_text("utf-8")
    piped = Path(f"in.{source}").read_bytes()
    form = [] if source == "txt" else ["--input-format", source]
    done = bulk("-i", "-", *form, "-o", "-", "--output-format", "csv", stdin=piped)
    assert (done.code, done.out.splitlines()) == (0, kept.splitlines())
    assert re.fullmatch(r"6 rows answered in \d+\.\d s\n", done.err)
    done = bulk("-i", f"in.{source}", "-o", "-", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert bulk("-i", f"in.{source}", "-o", "out.jsonl").code == 0
    assert [json.loads(line) for line in done.out.split("\n")[:-1]] == read("out.jsonl")


@pytest.mark.parametrize("more", [["-o", "out.csv"], ["-o", "-"], []])
def test_a_bad_row_of_stdin_is_named_as_such(more: list[str]) -> None:
    done = bulk("-i", "-", "--input-format", "csv", *more, stdin=b"id,text\n1,good\n2\n")
    assert done.code == 3
    assert done.err.startswith("Error: stdin:3: 1 field, but the header has 2 (id, text)\n")


@pytest.mark.parametrize(
    ("kind", "stdin", "message"),
    [
        ("csv", b"", "stdin: empty file; expected a header line with the column names"),
        ("csv", b"id,id\n1,2\n", "stdin:1: a column name stands twice in the header: id, id"),
        (
            "csv",
            b"text\n" + b"gro\xc3\xb6\n" * 9999 + b"na\xefve\n",
            "stdin:10001: byte 3 of the line (0xef) is not utf-8",
        ),
        ("jsonl", b"", "stdin: no rows; expected one JSON object a line"),
        ("jsonl", b"{\n", "stdin:1: not JSON: "),
        ("parquet", b"PK", "stdin: not a parquet file"),
    ],
)
def test_what_is_wrong_with_stdin_is_said_of_stdin(kind: str, stdin: bytes, message: str) -> None:
    done = bulk("-i", "-", "--input-format", kind, "-o", "out.csv", stdin=stdin)
    assert done.code == 3
    assert done.err.startswith(f"Error: {message}")


@pytest.mark.parametrize("source", ["txt", "csv", "tsv", "jsonl"])
@pytest.mark.parametrize(
    ("encoding", "mark", "end"),
    [("cp1252", b"", b"\n"), ("utf-8", b"\xef\xbb\xbf", b"\r\n"), ("utf-8", b"", b"\r\n"), ("utf-16", b"", b"\n")],
    ids=["cp1252", "Windows UTF-8", "Windows", "UTF-16"],
)
def test_what_windows_writes_is_read(source: str, encoding: str, mark: bytes, end: bytes) -> None:
    texts = ["naïve", "café – good", "-", "end"]
    write(f"in.{source}", [{"text": text, "id": str(i)} for i, text in enumerate(texts)], encoding=encoding)
    raw = Path(f"in.{source}").read_bytes()
    if encoding == "utf-8":
        raw = mark + raw.replace(b"\r\n", b"\n").replace(b"\n", end)
    Path(f"in.{source}").write_bytes(raw)
    assert bulk("-i", f"in.{source}", "-o", "out.jsonl", "--encoding", encoding).code == 0
    assert [row["text"] for row in read("out.jsonl")] == texts
    if source != "txt":
        assert list(read("out.jsonl")[0])[:2] == ["text", "id"]


# Refused


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        ("-o a.docx", 2, "--output: a.docx has none of the suffixes .txt, .csv, ", "--output"),
        ("-o a", 2, "--output: a has none of the suffixes .txt, .csv, ", "--output-format jsonl"),
        ("-o - --output-format parquet", 2, "--output -: parquet needs a file", "--output answers.parquet"),
        ("-o a.csv --output-format x", 2, "--output-format: must be one of txt, csv, ", ""),
        ("-o a.csv --on-error go", 2, "--on-error: must be stop or skip, got 'go'", "--on-error skip"),
        ("-o - --resume", 2, "--resume needs a file that was written to", ""),
        ("-o folder --output-format csv", 2, "--output: folder is a folder", "--output folder/predictions.csv"),
        ("-o old.csv", 2, "--output: old.csv exists; nothing was changed", "--overwrite"),
        ("-o old.csv --resume", 2, "--output: old.csv exists; nothing was changed", "--overwrite"),
        ("-o half.csv", 2, "half.csv.partial: an interrupted run is there; nothing was changed", "--resume continues"),
        ("-o half.csv", 2, "half.csv.partial: an interrupted run is there; nothing was changed", "--overwrite begins"),
        ("-o a.csv --text-column x", 3, "column 'x' not found in in.csv; columns are: text, id", "--text-column text"),
        ("-o a.csv --encoding latin-99", 3, "unknown encoding 'latin-99'", "--encoding utf-8"),
        ("-o a.csv -i old.csv -f --encoding utf-8", 3,
         "old.csv:2: byte 3 of the line (0xef) is not utf-8", "--encoding cp1252"),
        ("--attention", 2, "--attention needs --output", ""),
        ("--resume", 2, "--resume needs --output", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_nothing_is_changed(
    small: Callable[[int], None], arguments: str, code: int, message: str, hint: str
) -> None:
    small(1)
    write("in.csv", [{"text": "good", "id": 1}, {"text": "bad", "id": 2}])
    Path("folder").mkdir()
    Path("old.csv").write_text("text,id\nnaïve,1\n", encoding="cp1252")
    Path("half.csv.partial").mkdir()
    Path("half.csv.partial/state.json").write_text("{}")
    before = content(".")
    source = [] if "-i" in arguments else ["-i", "in.csv"]
    done = bulk(*source, *arguments.split())
    assert (done.code, done.out) == (code, "")
    first, second = done.err.splitlines()
    assert first.startswith(f"Error: {message}")
    assert second.startswith("Hint: ") and hint in second
    assert content(".") == before
    assert not Path("a.csv").exists() and not Path("a.csv.partial").exists()


def test_overwrite_replaces_what_is_there() -> None:
    write("in.csv", [{"text": "good"}])
    Path("new/deep").mkdir(parents=True)
    for path in ("old.csv", "half.csv"):
        Path(path).write_text("old\n")
    Path("half.csv.partial").mkdir()
    Path("half.csv.partial/state.json").write_text("{}")
    Path("half.csv.partial/000000.csv").write_text("old\n")
    assert bulk("-i", "in.csv", "-o", "folder/that/is/new/out.csv").code == 0
    for path in ("old.csv", "half.csv"):
        assert bulk("-i", "in.csv", "-o", path, "--overwrite").code == 0
        assert content(".")[path] == content(".")["folder/that/is/new/out.csv"]
    assert not Path("half.csv.partial").exists()
    # But not the input, by whatever name.
    Path("link.csv").symlink_to("in.csv")
    done = bulk("-i", "in.csv", "-o", "link.csv", "-f")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --output: link.csv is the input; nothing was changed")
    assert list(read("in.csv")[0]) == ["text"]


def test_a_link_stays_and_the_file_it_leads_to_gets_the_rows() -> None:
    write("in.csv", [{"text": "good"}])
    Path("store").mkdir()
    Path("store/real.csv").write_text("old\n")
    Path("out.csv").symlink_to("store/real.csv")
    done = bulk("-i", "in.csv", "-o", "out.csv")
    assert done.err == "Error: --output: out.csv exists; nothing was changed\nHint: --overwrite\n"
    assert bulk("-i", "in.csv", "-o", "out.csv", "-f").code == 0
    assert Path("out.csv").readlink() == Path("store/real.csv")
    assert [row["text"] for row in read("store/real.csv")] == ["good"]
    assert (files(), list(content("store"))) == (["in.csv", "out.csv", "store"], ["store/real.csv"])
    Path("new.csv").symlink_to("store/new.csv")
    assert bulk("-i", "in.csv", "-o", "new.csv").code == 0
    assert content("store")["store/new.csv"] == content("store")["store/real.csv"]


def test_a_pipe_gets_the_rows_and_stays_a_pipe() -> None:
    write("in.csv", [{"text": "good"}, {"text": "bad"}])
    assert bulk("-i", "in.csv", "-o", "file.csv").code == 0
    os.mkfifo("pipe.csv")
    # Both ends are held, so that neither side waits for the other.
    reader = os.open("pipe.csv", os.O_RDWR | os.O_NONBLOCK)
    try:
        assert bulk("-i", "in.csv", "-o", "pipe.csv").code == 0
        assert os.read(reader, 100_000) == Path("file.csv").read_bytes()
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(Path("pipe.csv").stat().st_mode)
    assert files() == ["file.csv", "in.csv", "pipe.csv"]
    Path("pipe.parquet").symlink_to("pipe.csv")
    done = bulk("-i", "in.csv", "-o", "pipe.parquet")
    assert done.err.splitlines()[0] == "Error: --output pipe.parquet: parquet needs a file"
    done = bulk("-i", "in.csv", "-o", "pipe.csv", "--resume")
    assert done.err.splitlines()[0] == "Error: --resume needs a file that was written to"


def test_a_terminal_as_output_is_written_to() -> None:
    """A device that the test made itself."""
    write("in.csv", [{"text": "good"}])
    controller, device = pty.openpty()
    try:
        name = os.ttyname(device)
        assert bulk("-i", "in.csv", "-o", name, "--output-format", "csv", "-f").code == 0
        assert os.read(controller, 10_000).startswith(b"text,label,score")
        assert stat.S_ISCHR(Path(name).stat().st_mode)
    finally:
        os.close(controller)
        os.close(device)


def test_an_open_file_is_written_to_and_not_replaced() -> None:
    write("in.csv", [{"text": "good"}])
    with Path("log.txt").open("ab") as log:
        log.write(b"before\n")
        log.flush()
        name = f"/proc/{os.getpid()}/fd/{log.fileno()}"
        assert bulk("-i", "in.csv", "-o", name, "--output-format", "txt").code == 0
        log.write(b"after\n")
    lines = Path("log.txt").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "after", 3)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(mode: int) -> None:
    write("in.csv", [{"text": "good"}])
    Path("mine.csv").write_text("old\n")
    Path("mine.csv").chmod(mode)
    assert bulk("-i", "in.csv", "-o", "mine.csv", "-f").code == 0
    assert stat.S_IMODE(Path("mine.csv").stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_is_replaced_keeps_its_owner() -> None:
    write("in.csv", [{"text": "good"}])
    Path("theirs.csv").write_text("old\n")
    os.chown("theirs.csv", 12345, 23456)
    assert bulk("-i", "in.csv", "-o", "theirs.csv", "-f").code == 0
    assert (Path("theirs.csv").stat().st_uid, Path("theirs.csv").stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("output", ["file/out.csv", "/proc/out.csv", "taken.csv"])
def test_an_output_that_cannot_be_written_is_the_users_to_mend(output: str) -> None:
    write("in.csv", [{"text": "good"}])
    Path("file").write_text("a file, no folder")
    Path("taken.csv.partial").write_text("precious")
    done = bulk("-i", "in.csv", "-o", output)
    assert "this is a bug" not in done.err
    assert done.code == 2


def test_a_folder_that_is_not_ours_is_left_alone() -> None:
    write("in.csv", [{"text": "good"}])
    Path("out.csv.partial").mkdir()
    Path("out.csv.partial/thesis.md").write_text("precious")
    bulk("-i", "in.csv", "-o", "out.csv")
    assert Path("out.csv.partial/thesis.md").read_text() == "precious"
