"""`textattn predict`: every way in gives the same answers, line N answers line N, and what goes wrong is said."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli

import textattn

TEXTS = ["The film was a joy.", "Cold soup, rude waiter.", "?", "Ein schönes Buch 😀", 'a, "quoted" b']


@pytest.fixture(scope="module")
def expected(trained_run: Path) -> list[tuple[str, float]]:
    """What the Python API says, one text at a time."""
    model = textattn.load(trained_run)
    return [(prediction.label, prediction.score) for text in TEXTS for prediction in model.predict(text)]


def answers(out: str) -> list[tuple[str, float]]:
    """Of --json lines."""
    return [(row["label"], row["score"]) for row in map(json.loads, out.splitlines())]


def same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> bool:
    return [label for label, _ in found] == [label for label, _ in expected] and [
        score for _, score in found
    ] == pytest.approx([score for _, score in expected], abs=1e-6)


def write(path: Path, texts: list[str]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts))
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "text"), *((i, text) for i, text in enumerate(texts))])
    else:
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def test_arguments(trained_run: Path, expected: list[tuple[str, float]]) -> None:
    done = cli("predict", "--model", trained_run, "--json", *TEXTS)
    assert same(answers(done.out), expected)
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == TEXTS
    assert (done.code, done.err) == (0, "")
    plain = cli("predict", "-m", trained_run, *TEXTS)
    assert plain.out.splitlines() == [f"{label}\t{score:.4f}" for label, score in expected]
    one = cli("predict", TEXTS[0], TEXTATTN_MODEL=str(trained_run))
    assert one.out == f"{expected[0][0]}\t{expected[0][1]:.4f}\n"


@pytest.mark.parametrize("arguments", [[], ["-"], ["--input", "-"]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_of_stdin(
    trained_run: Path, expected: list[tuple[str, float]], arguments: list[str], end: str, last: bool, mark: bytes
) -> None:
    """Windows line ends and byte order marks are no part of a text."""
    stdin = mark + end.join([*TEXTS, ""] if last else TEXTS).encode()
    done = cli("predict", "--model", trained_run, "--json", *arguments, stdin=stdin)
    assert same(answers(done.out), expected)
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == TEXTS


@pytest.mark.parametrize("name", ["texts.txt", "texts", "texts.csv", "texts.jsonl", "texts.parquet"])
def test_files(trained_run: Path, expected: list[tuple[str, float]], tmp_path: Path, name: str) -> None:
    write(tmp_path / name, TEXTS)
    done = cli("predict", "--model", trained_run, "--json", "--input", tmp_path / name)
    assert (done.code, done.err) == (0, "")
    assert same(answers(done.out), expected)


def test_another_column_of_a_file(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("review,stars\ngood,5\n")
    arguments = ("predict", "--model", trained_run, "--input", tmp_path / "a.csv")
    done = cli(*arguments)
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        f"Error: column 'text' not found in {tmp_path / 'a.csv'}; columns are: review, stars\n"
        "Hint: --text-column review\n"
    )
    assert cli(*arguments, "--text-column", "review").out == cli("predict", "--model", trained_run, "good").out


def test_the_most_probable_labels_in_order(trained_run: Path) -> None:
    model = textattn.load(trained_run)
    for text in TEXTS[:2]:
        scores = sorted(model.predict(text)[0].scores.items(), key=lambda item: -item[1])
        done = cli("predict", "--model", trained_run, "-k", "5", text)
        assert done.out == "\t".join(f"{label}\t{score:.4f}" for label, score in scores) + "\n"
        row = json.loads(cli("predict", "--model", trained_run, "--top-k", "2", "--json", text).out)
        assert [(s["label"], s["score"]) for s in row["scores"]] == scores
        assert (row["label"], row["score"]) == (scores[0][0], row["scores"][0]["score"])
    assert cli("predict", "--model", trained_run, "-k", "0", "x").code == 2


def test_a_text_that_begins_with_a_dash(trained_run: Path) -> None:
    assert cli("predict", "--model", trained_run, "--json", "--", "--dash").out.count('"text": "--dash"') == 1
    done = cli("predict", "--model", trained_run, "--dash")
    assert (done.code, done.out) == (2, "")
    assert "No such option: --dash" in done.err


def test_many_lines_and_a_huge_one(trained_run: Path) -> None:
    """More than one window of texts, more than one read; still line by line."""
    lines = [f"good film number {i}" for i in range(5000)]
    lines[17] = "bad " * 400_000
    done = cli("predict", "--model", trained_run, "--json", stdin="\n".join(lines).encode())
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == lines


@pytest.mark.parametrize("source", ["stdin", "file"])
def test_what_is_not_utf8_is_named_after_the_lines_before_it(trained_run: Path, tmp_path: Path, source: str) -> None:
    content = b"good\nbad\nna\xefve\ngood\n"
    if source == "file":
        (tmp_path / "bad.txt").write_bytes(content)
        done = cli("predict", "--model", trained_run, "--input", tmp_path / "bad.txt")
    else:
        done = cli("predict", "--model", trained_run, stdin=content)
    name = "stdin" if source == "stdin" else tmp_path / "bad.txt"
    assert done.code == 3
    assert done.err.splitlines()[0] == f"Error: {name}:3: byte 3 of the line is not UTF-8"
    assert done.out == cli("predict", "--model", trained_run, "good", "bad").out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "{tmp}/a.txt", "text"], 2, "Error: give either texts or --input, not both\n"),
        (["--input", "{tmp}/none.csv"], 3, "Error: {tmp}/none.csv: no such file\n"),
        (["--input", "{tmp}"], 3, "Error: {tmp}: Is a directory\n"),
        (["--input", "{tmp}/bad.jsonl"], 3, "Error: {tmp}/bad.jsonl:2: not JSON: "),
        (["--device", "gpu", "x"], 2, "Error: device: must be cpu, cuda, cuda:N, mps or auto, got 'gpu'\n"),
        (["\udcff"], 3, "Error: text 1 of the command line is not UTF-8\n"),
    ],
)
def test_wrong_input_is_refused(
    trained_run: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "a.txt").write_text("good\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n{"text": \n')
    words = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    done = cli("predict", "--model", trained_run, *words)
    assert done.code == code
    assert done.err.startswith(message.replace("{tmp}", str(tmp_path)))


def test_json_is_json_whatever_the_stream_can_say(trained_run: Path) -> None:
    done = cli("predict", "--model", trained_run, "--json", "café 😀", encoding="ascii")
    assert json.loads(done.out)["text"] == "café 😀"


def test_no_model_anywhere_names_the_command_that_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_run: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("predict", "good")
    assert (done.code, done.out) == (3, "")
    assert (
        done.err
        == "Error: no model is given, and there is no finished run under runs/\nHint: textattn train quickstart\n"
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained_run)
    assert cli("predict", "good").code == 0


def test_without_texts_on_a_terminal_the_usage_is_shown() -> None:
    """Not a wait for input that nobody knows of."""
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "textattn", "predict"],
        stdin=follower,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(follower)
    os.close(leader)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert 'textattn predict "Delicious food, friendly staff."' in done.stderr


def start(trained_run: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "textattn", "predict", "--model", str(trained_run), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **streams,
    )  # fmt: skip


def test_a_line_is_answered_before_the_next_is_sent_and_ctrl_c_ends_the_wait(trained_run: Path) -> None:
    import signal

    with start(trained_run, "--json") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for text in ("good", "?", "bad"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read().strip() == b""


def test_a_reader_that_has_seen_enough_ends_it_quietly(trained_run: Path) -> None:
    """`textattn predict < big.txt | head -1`"""
    with start(trained_run) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"good\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"good\n" * 1000)
        process.stdin.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


def test_a_missing_model_ends_it_while_the_producer_still_runs(tmp_path: Path) -> None:
    """The end of the process must not depend on that of its input."""
    read, write = os.pipe()
    os.write(write, b"good\n")
    done = subprocess.run(
        [sys.executable, "-m", "textattn", "predict", "--model", "nothing"],
        stdin=read, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    os.close(write)
    os.close(read)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: --model: no such folder: nothing\n")
