"""Labels, columns and texts of strangers: a terminal shows them and obeys nothing; a pipe gets every character."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MakeOnce
from damaged_models import train
from inprocess import run as cli

# Writes to the clipboard, clears the screen in two ways, and turns the direction of writing round.
STEERING = "\x1b]52;c;eA==\x07\x1b[2J\x9b2J\u202e"
SHOWN = "␛]52;c;eA==␇␛[2J\ufffd2J\ufffd"
# The second line of the first would be the answer to the second text.
LABELS = ("bad\nHint: good\t0.9999", f"good{STEERING}")
# What we send to a terminal ourselves: colours, and the lines of a progress bar.
OWN = re.compile(r"\x1b\[[\d;]*m|\x1b\[[012]?K|\x1b\[1A|\x1b\[\?25[lh]|\r")


@pytest.fixture(scope="module")
def run(make_once: MakeOnce) -> Path:
    return make_once("steering-labels", lambda folder: train(folder / "x", labels=LABELS)) / "x" / "run"


def on_terminal(*arguments: str | Path) -> str:
    """What a command prints on a terminal, stdout and stderr, without what steers it on our behalf."""
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"}
    command = [sys.executable, "-m", "textattn", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    received = b""
    while select.select([leader], [], [], 120)[0]:
        try:
            received += os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
    process.wait(60)
    os.close(leader)
    return OWN.sub("", received.decode())


def obeyed(text: str) -> set[str]:
    """The characters that a terminal would obey or not show."""
    return {c for c in text if (ord(c) < 32 and c not in "\n\t") or 126 < ord(c) < 160 or c == "\u202e"}


@pytest.mark.parametrize(
    "command", ["predict x", "predict -k 2 x", "explain x", "info", "words --split train", "evaluate data.jsonl"]
)
def test_a_label_cannot_steer_the_terminal(run: Path, command: str) -> None:
    name, *rest = command.split()
    data = [str(run.parent / word) if word == "data.jsonl" else word for word in rest]
    text = on_terminal(name, "--model", run, *data)
    assert SHOWN in text or "bad\\nHint: good" in text
    assert obeyed(text) == set()
    assert not re.search("^Hint", text, re.MULTILINE)


def test_check_and_the_progress_of_training_show_labels_as_they_are(run: Path, tmp_path: Path) -> None:
    data = f"data.path={run.parent / 'data.jsonl'}"
    checked = on_terminal("check", "quickstart", data, "--no-forecast")
    trained = on_terminal("train", run / "training_config.yaml", data, f"output.dir={tmp_path / STEERING}")
    for text in (checked, trained):
        assert SHOWN in text
        assert obeyed(text) == set()


def test_an_error_shows_names_and_its_further_lines_stand_apart(run: Path) -> None:
    text = on_terminal("explain", "--model", run, "--target", "x", "good food")
    assert obeyed(text) == set()
    assert f"Error: unknown label 'x'; labels are: bad\n  Hint: good\t0.9999, good{SHOWN}\n" in text


def test_json_on_a_terminal_is_the_same_json(run: Path) -> None:
    text = on_terminal("predict", "--model", run, "--json", "-k", "2", "good food")
    assert obeyed(text) == set()
    answer = json.loads(text[text.index("{") :])
    assert {score["label"] for score in answer["scores"]} == set(LABELS)


def test_a_file_on_a_terminal_is_shown_too(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"text,{STEERING}\ngood food,1\n")
    text = on_terminal("predict", "--model", run, "-i", tmp_path / "in.csv", "-o", "-", "--output-format", "csv")
    assert f"text,{SHOWN},label,score" in text
    assert obeyed(text) == set()


def test_a_row_of_a_table_is_one_line_in_a_pipe_too(run: Path) -> None:
    rows = cli("info", "--model", run).out.split("\n")
    assert [row for row in rows if row.startswith("labels")] == [f"labels      bad\\nHint: good\t0.9999, {LABELS[1]}"]
    measured = cli("evaluate", "--model", run, run.parent / "data.jsonl").out.split("\n")
    # In the table of labels, and in the confusion matrix.
    assert sum(row.lstrip().startswith("bad\\nHint: good\t0.9999 ") for row in measured) == 3


def test_a_pipe_gets_every_character_and_one_line_for_each_text(run: Path, tmp_path: Path) -> None:
    texts = ["good food", "fine lovely", "awful stale"]
    answers = [
        json.loads(line)["label"] for line in cli("predict", "--model", run, "--json", *texts).out.split("\n")[:-1]
    ]
    assert set(answers) <= set(LABELS)
    done = cli("predict", "--model", run, *texts)
    first, others = LABELS[0].replace("\n", "\\n"), LABELS[1:]
    lines = done.out.split("\n")
    assert len(lines) == len(texts) + 1
    assert [line.rpartition("\t")[0] for line in lines[:-1]] == [
        first if label == LABELS[0] else others[0] for label in answers
    ]
    both = cli("predict", "--model", run, "-k", "2", *texts).out.split("\n")
    assert len(both) == len(texts) + 1
    assert all(first in line and others[0] in line for line in both[:-1])
    (tmp_path / "in.txt").write_text("\n".join(texts))
    assert cli("predict", "--model", run, "-i", tmp_path / "in.txt", "-o", tmp_path / "out.txt").code == 0
    assert (tmp_path / "out.txt").read_text() == done.out
