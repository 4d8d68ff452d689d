"""`textattn label`: an answer is saved at once and once, on a terminal and from a pipe, and can be trained on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, MakeOnce
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from terminals import OnTerminal

import textattn
from textattn.data.files import open_file
from textattn.data.formats import ReadOptions
from textattn.data.label_file import LabelFile, LabelledRow
from textattn.errors import InputError, TextattnError

TEXTS = [f"text {number} of the pool" for number in range(12)]
Rows = list[list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a pool, as the working directory."""
    monkeypatch.chdir(tmp_path)
    write_pool(TEXTS)
    return tmp_path


def write_pool(texts: Sequence[str], name: str = "pool.csv") -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([number, text] for number, text in enumerate(texts))])


def saved(name: str = "pool.labelled.csv") -> Rows:
    """The rows of a csv file without the header."""
    with Path(name).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[-1] == "label"
    return rows


def answer(*lines: str, options: str = "--labels neg,pos", pool: str = "pool.csv") -> Any:
    stdin = "".join(f"{line}\n" for line in lines).encode()
    return cli("label", pool, *options.split(), stdin=stdin)


# From a pipe


def test_every_kind_of_answer(folder: Path) -> None:
    done = answer("1", "pos", "POS", "s", "n meh", "3", "u", "what", "neg", "?", "q", "1")
    assert done.code == 0, done.err
    labels = ["neg", "pos", "pos", "meh", "neg"]
    assert saved() == [[text, label] for text, label in zip(TEXTS[:3] + TEXTS[4:6], labels, strict=True)]
    assert "New label: meh" in done.out
    assert "'what' is no label here; n what makes it one." in done.out
    assert "5 labelled, 1 skipped; the pool has 12 rows" in done.out
    assert done.err.startswith("5 labelled now, 5 in all: pool.labelled.csv\n")


def test_it_goes_on_where_it_stopped(folder: Path) -> None:
    """Skipped texts come again, at the place they have in the order; labels that were typed are still there."""
    assert answer("1", "s", "n meh").code == 0
    done = answer("meh", "3", "q")
    assert "[1] neg  [2] pos  [3] meh" in done.out
    assert saved() == [[TEXTS[0], "neg"], [TEXTS[2], "meh"], [TEXTS[1], "meh"], [TEXTS[3], "meh"]]
    everything = answer(*["1"] * 20)
    assert sorted(text for text, _ in saved()) == sorted(TEXTS)
    assert everything.err.startswith("No text is left\n8 labelled now, 12 in all")
    assert answer().err.startswith("No text is left\n0 labelled now, 12 in all")


def test_undo_goes_back_over_saved_and_skipped_answers(folder: Path) -> None:
    done = answer("1", "s", "2", "u", "u", "u", "u", "2", "q")
    assert saved() == [[TEXTS[0], "pos"]]
    assert "There is nothing to undo in this session." in done.out
    answer("u", "q")
    assert saved() == [[TEXTS[0], "pos"]], "what an earlier session saved stays"


def test_equal_texts_are_asked_once_and_rows_without_text_not_at_all(folder: Path) -> None:
    write_pool(["twice", "once", "twice", "", "  "])
    done = answer("1", "2", "1")
    assert saved() == [["twice", "neg"], ["once", "pos"]]
    assert "Warning: pool.csv:5: column 'text' is empty; expected a text; left out" in done.err


def test_random_is_the_same_order_every_time_whatever_that_of_the_file(folder: Path) -> None:
    orders = []
    for texts in (TEXTS, TEXTS[::-1]):
        write_pool(texts)
        answer(*["x"] * 12, options="--labels x,y --order random")
        orders.append([text for text, _ in saved()])
        Path("pool.labelled.csv").unlink()
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(TEXTS)
    assert orders[0] not in (TEXTS, TEXTS[::-1])


def test_labels_of_one_character_are_their_own_keys(folder: Path) -> None:
    answer("5", "1", "4", options="--labels 5,4,3,2,1")
    assert [label for _, label in saved()] == ["5", "1", "4"]


def test_more_labels_than_keys_are_given_by_name(folder: Path) -> None:
    names = [f"label{number}" for number in range(60)]
    answer("label59", "n label58", "1", options=f"--labels {','.join(names)}")
    assert [label for _, label in saved()] == ["label59", "label58", "label0"]


def test_several_labels_are_toggled(folder: Path) -> None:
    done = answer("a", "b", "", "a c", "a", "", "", "n dd", "", options="--labels a,b,c --multi-label")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in Path("pool.labelled.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [["a", "b"], ["c"], [], ["dd"]]
    answer("a", "b", "", "", options="--labels a,b --multi-label -o several.csv")
    assert saved("several.csv") == [[TEXTS[0], "a;b"], [TEXTS[1], ""]]


def test_numbers_are_typed(folder: Path) -> None:
    done = answer("1.5", "x", "-2", "1e-3", "nan", "u", "0,25", options="--numbers")
    assert [label for _, label in saved()] == ["1.5", "-2", "0.25"]
    assert "'x' is no number." in done.out
    assert "'nan' is no number." in done.out


def test_several_columns_stay_several(folder: Path) -> None:
    Path("pool.jsonl").write_text('{"a": "left\\tx", "b": "right"}\n{"a": "only"}\n', encoding="utf-8")
    done = answer("x", "y", options="--labels x,y --text-column a --text-column b", pool="pool.jsonl")
    assert saved() == [["left x", "right", "x"], ["only", "", "y"]]
    assert "textattn train pool.labelled.csv 'data.text=[a,b]'" in done.err


def test_a_text_may_hold_anything(folder: Path) -> None:
    texts = ['"quoted", with ; and \t', "two\nlines", "a\r\nb\rc", "=1+1", "é 日本語 😀", "x" * 10_000, "nul \0"]
    lines = [json.dumps({"text": text}) for text in texts]
    Path("pool.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for _ in range(2):  # and is recognised when it goes on
        answer(*["x", "y"] * 4, options="--labels x,y", pool="pool.jsonl")
    expected = [text.replace("\0", "\ufffd") for text in texts]
    assert [text for text, _ in saved()] == expected


# What is trained on


@pytest.mark.parametrize(
    ("options", "more"),
    [("--labels neg,pos", []), ("--labels neg,pos -o l.jsonl", []), ("--labels neg,pos --multi-label", []),
     ("--labels neg,pos --multi-label -o l.csv", ["data.label_separator=;"])],
)  # fmt: skip
def test_it_ends_as_a_file_that_train_takes(folder: Path, options: str, more: list[str]) -> None:
    write_pool([f"{'good' if number % 2 else 'bad'} text {number}" for number in range(40)])
    lines = ["1", "", "2", "1", ""] if "multi" in options else ["1", "2"]
    done = answer(*lines * 20, options=options)
    command = done.err.rpartition("To train on them:\n  textattn train ")[2].split()
    file = command[0]
    assert [word.strip("'") for word in command[1:]] == more
    trained = cli("train", file, *more, *TINY[1:], "training.epochs=1", "output.audit_examples=0", "output.dir=run")
    assert trained.code == 0, trained.err
    model = textattn.load("run")
    assert model.labels == ["neg", "pos"]
    assert model.task.multi_label == ("multi" in options)


# With a model


@pytest.fixture(scope="module")
def several(make_once: MakeOnce) -> Path:
    """A run whose texts have several labels."""

    def make(folder: Path) -> None:
        words = ("red", "green", "blue")
        rows = [[word for bit, word in enumerate(words) if number >> bit & 1] for number in range(64)]
        lines = [json.dumps({"text": f"{' '.join(row)} thing {i}", "label": row}) for i, row in enumerate(rows)]
        (folder / "train.jsonl").write_text("\n".join(lines))
        done = cli("train", folder / "train.jsonl", *TINY[1:], "training.epochs=8", f"output.dir={folder / 'run'}")
        assert done.code == 0, done.err

    return make_once("label-several", make) / "run"


def test_the_guess_of_a_model_is_shown_and_accepted(folder: Path, trained_run: Path) -> None:
    texts = ["Delicious food, friendly staff.", "The soup was cold and awful."]
    write_pool(texts)
    done = answer("", "", options=f"--model {trained_run} --order file")
    lines = cli("predict", "--model", trained_run, *texts).out.splitlines()
    assert saved() == [[text, line.split("\t")[0]] for text, line in zip(texts, lines, strict=True)]
    explained = cli("explain", "--model", trained_run, "--words", "0", texts[0]).out.split("\n\nTrust")[0]
    assert explained.strip() in done.out


def test_the_most_useful_come_first(folder: Path, trained_run: Path) -> None:
    texts = [f"{['good', 'bad'][number % 2]} meal number {number}" for number in range(30)]
    write_pool(texts)
    answer(*[""] * 30, options=f"--model {trained_run}")
    chosen = cli("predict", "-m", trained_run, "-i", "pool.csv", "--most-useful", "100", "-o", "next.csv")
    assert chosen.code == 0, chosen.err
    with Path("next.csv").open(encoding="utf-8", newline="") as file:
        expected = [row["text"] for row in csv.DictReader(file)]
    assert [text for text, _ in saved()] == expected
    assert expected != texts


def test_the_guess_of_several_labels_can_be_changed(folder: Path, several: Path) -> None:
    write_pool(["red and blue", "green", "blue"])
    guesses = [line.split("\t")[0] for line in cli("predict", "-m", several, "-i", "pool.csv").out.splitlines()]
    answer("", "2", "", "q", options=f"--model {several} --order file")
    rows = [json.loads(line)["label"] for line in Path("pool.labelled.jsonl").read_text().splitlines()]
    labels = textattn.load(several).labels
    assert rows[0] == [name for name in guesses[0].split(",") if name]
    changed = set(filter(None, guesses[1].split(","))) ^ {labels[1]}
    assert rows[1] == [label for label in labels if label in changed]


# On a terminal


def test_keys_need_no_enter_and_the_terminal_is_as_before(folder: Path) -> None:
    with OnTerminal("label", "pool.csv", "--labels", "neg,pos", cwd=folder) as terminal:
        terminal.expect("[1] neg  [2] pos")
        assert "A key gives the label with that key." in terminal.shown
        terminal.type("2")
        terminal.expect("1 labelled;")
        terminal.expect("[2] pos")
        assert saved() == [[TEXTS[0], "pos"]]
        terminal.type("\x1b[A\x1bOP1")  # an arrow and F1 change nothing
        terminal.expect("2 labelled;")
        terminal.type("\r")
        terminal.expect("There is no guess to accept")
        terminal.type("nmeX\x7fh\r")  # faster than the terminal can be asked to edit the line
        terminal.expect("New label: meh")
        terminal.expect("3 labelled;")
        terminal.type("u")
        terminal.expect("2 labelled;")
        terminal.type("n")
        terminal.expect("label: ")
        terminal.type("meX\x7fh\r")
        terminal.expect("3 labelled;")
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.settings() == terminal.before
    assert saved() == [[TEXTS[0], "pos"], [TEXTS[1], "neg"], [TEXTS[2], "meh"]]
    assert "3 labelled now, 3 in all: pool.labelled.csv" in terminal.shown


@pytest.mark.parametrize(("how", "code"), [("\x03", 130), ("\x04", 0), ("TERM", -1)])
def test_it_can_be_left_at_any_time(folder: Path, how: str, code: int) -> None:
    with OnTerminal("label", "pool.csv", "--labels", "neg,pos", cwd=folder) as terminal:
        terminal.expect("[2] pos")
        terminal.type("1")
        terminal.expect("1 labelled;")
        terminal.expect("[2] pos")
        if how == "TERM":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.type(how)
        assert terminal.end() == (143 if how == "TERM" else code)
        assert terminal.settings() == terminal.before
    assert "1 labelled now, 1 in all: pool.labelled.csv" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert saved() == [[TEXTS[0], "neg"]]
    assert {path.name for path in folder.iterdir()} == {"pool.csv", "pool.labelled.csv"}


def test_several_labels_and_the_guess_on_a_terminal(folder: Path, several: Path) -> None:
    write_pool(["red and blue"])
    with OnTerminal("label", "pool.csv", "--model", several, cwd=folder) as terminal:
        terminal.expect("Enter saves:")
        assert "contributions: why" in terminal.shown
        terminal.type("111")
        terminal.expect("Enter saves:")
        terminal.expect("Enter saves:")
        terminal.expect("Enter saves:")
        terminal.type("\r")
        assert terminal.end() == 0
    assert len(Path("pool.labelled.jsonl").read_text().splitlines()) == 1


def test_numbers_are_typed_with_enter_on_a_terminal(folder: Path) -> None:
    with OnTerminal("label", "pool.csv", "--numbers", cwd=folder) as terminal:
        terminal.expect("> ")
        terminal.type("12\r")
        terminal.expect("1 labelled;")
        terminal.type("u\r")
        terminal.expect("0 labelled;")
        terminal.type("3.5\rq\r")
        assert terminal.end() == 0
        assert terminal.settings() == terminal.before
    assert saved() == [[TEXTS[0], "3.5"]]


def test_a_long_text_is_folded_and_f_shows_it(folder: Path) -> None:
    write_pool([" ".join(f"word{number}" for number in range(2000))])
    with OnTerminal("label", "pool.csv", "--labels", "neg,pos", cwd=folder, lines=20) as terminal:
        shown = terminal.expect("[1] neg")
        assert "words, f shows them …]" in shown
        assert "word0 " in shown
        assert "word1999" in shown
        assert "word1000 " not in shown
        assert len(shown) < 80 * 20
        terminal.type("f")
        assert "word1000 " in terminal.expect("[1] neg")
        terminal.type("q")
        assert terminal.end() == 0


def test_texts_and_labels_cannot_steer_the_terminal(folder: Path) -> None:
    steering = "\x1b]52;c;eA==\x07\x1b[2J\u202e"
    Path("pool.jsonl").write_text(json.dumps({"text": f"text {steering}"}), encoding="utf-8")
    with OnTerminal("label", "pool.jsonl", "--labels", f"a{steering},b", cwd=folder) as terminal:
        terminal.expect("[b] b")
        terminal.type("1")
        terminal.end()
    for sequence in ("\x1b]52", "\x1b[2J", "\x07", "\u202e"):
        assert sequence.encode() not in terminal.raw
    assert saved() == [[f"text {steering}", f"a{steering}"]]


# Nothing is lost


def test_a_killed_session_has_lost_nothing(folder: Path) -> None:
    command = [sys.executable, "-m", "textattn", "label", "pool.csv", "--labels", "neg,pos"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(5):
            process.stdin.write(b"2\n")
            shown = b""
            while f"{number + 1} labelled".encode() not in shown:
                shown += process.stdout.read(4096)
        process.kill()
    assert saved() == [[text, "pos"] for text in TEXTS[:5]]
    done = answer("1", "q")
    assert done.code == 0, done.err
    assert saved() == [*([text, "pos"] for text in TEXTS[:5]), [TEXTS[5], "neg"]]
    assert {path.name for path in folder.iterdir()} == {"pool.csv", "pool.labelled.csv"}


def test_two_sessions_do_not_write_to_one_file(folder: Path) -> None:
    command = [sys.executable, "-m", "textattn", "label", "pool.csv", "--labels", "neg,pos"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not Path("pool.labelled.csv.lock/owner.json").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        done = answer("1")
        assert (done.code, "is being written by process" in done.err) == (2, True)
        process.kill()


def test_a_full_disk_is_said_and_what_was_saved_stays(folder: Path) -> None:
    write_pool([f"{number} {'x' * 300}" for number in range(20)])
    script = f"ulimit -f 2; exec {sys.executable} -m textattn label pool.csv --labels neg,pos"
    done = subprocess.run(["bash", "-c", script], input=b"1\n" * 20, capture_output=True, env=os.environ, check=False)
    error = done.stderr.decode()
    assert done.returncode == 1, error
    assert "Error: pool.labelled.csv: cannot be written (File too large); what was labelled before is kept" in error
    before = saved()
    assert before
    assert len(before) < 20
    answer("2", "q")
    assert saved() == [*before, [f"{len(before)} {'x' * 300}", "pos"]]


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).map(str.strip)
labels = names.filter(lambda name: name and ";" not in name and not name.isspace() and len(name.splitlines()) == 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\t"), max_size=20)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str], bool, list[LabelledRow]]:
    suffix, several = draw(st.sampled_from(["csv", "jsonl"])), draw(st.booleans())
    columns = draw(st.sampled_from([["text"], ["a", "b"]]))
    rows = [
        LabelledRow(
            "\t".join(draw(texts) for _ in columns),
            draw(st.lists(labels, unique=True, max_size=3) if several else st.lists(labels, min_size=1, max_size=1)),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    return suffix, columns, several, rows


def opened(path: Path, columns: list[str], several: bool) -> list[LabelledRow]:
    file = LabelFile(path, columns, several)
    with file.owned():
        return list(file.rows)


@settings(max_examples=150, deadline=None)
@given(files(), st.data())
def test_a_file_cut_anywhere_keeps_its_whole_rows(made: Any, data: st.DataObject) -> None:
    suffix, columns, several, rows = made
    path = Path(f"/tmp/textattn-test-label-{os.getpid()}.{suffix}")
    path.unlink(missing_ok=True)
    try:
        file = LabelFile(path, columns, several)
        ends = [0]
        with file.owned():
            for row in rows:
                file.add(row)
                ends.append(path.stat().st_size)
        assert opened(path, columns, several) == rows
        content = path.read_bytes() if rows else b""
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        # A row without its line feed is whole.
        whole = max(i for i, end in enumerate(ends) if (end - 1 if i else 0) <= cut)
        assert opened(path, columns, several) == rows[:whole]
        file = LabelFile(path, columns, several)
        with file.owned():
            for row in rows[whole:]:
                file.add(row)
        assert opened(path, columns, several) == rows
        with file.owned():
            for row in rows:
                file.add(row)
            for row in rows[::-1]:
                assert file.remove_last() == row
            assert file.remove_last() is None
        assert opened(path, columns, several) == rows
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a,b,c\n1,2,3\n", "has the columns a, b, c; expected text, label"),
        (b'"text","label"\n"x"\n', "line 2: 1 fields, but the header has 2"),
        (b'"text","label"\n"x",""\n', "line 2: the label is empty"),
        (b"\xff\xfe", "damaged, or not written by textattn label"),
        (b'"text","label"\n"x","y"\nrest', "line 3: 1 fields, but the header has 2"),
    ],
)
def test_another_file_is_not_touched(folder: Path, content: bytes, problem: str) -> None:
    Path("pool.labelled.csv").write_bytes(content)
    done = answer("1")
    assert done.code in (InputError.exit_code, 2)
    assert problem in done.err
    assert "Hint: --output another.csv" in done.err
    assert Path("pool.labelled.csv").read_bytes() == content


def test_a_file_that_an_editor_saved_goes_on(folder: Path) -> None:
    Path("pool.labelled.csv").write_bytes(f"\ufefftext,label\r\n{TEXTS[0]},neg\r\n{TEXTS[1]},odd".encode())
    done = answer("odd", "q")
    assert done.code == 0, done.err
    with Path("pool.labelled.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1:] == [[TEXTS[0], "neg"], [TEXTS[1], "odd"], [TEXTS[2], "odd"]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--order useful --labels a,b", "--order: only a model can say what is useful"),
        ("--order best", "--order: must be one of useful, file, random, got 'best'"),
        ("--labels a,,b", "--labels: a label needs a name"),
        ("--labels a,none", "--labels: 'none' stands for a missing label"),
        ("--numbers --multi-label", "--numbers does not go with labels"),
        ("-o x.txt", "--output: x.txt must end in .csv or .jsonl"),
        ("-o pool.csv --labels a,b", "pool.csv is the pool itself"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, options: str, problem: str) -> None:
    done = answer("1", options=options)
    assert done.code == 2, done.err
    assert problem in done.err


def test_a_missing_column_and_stdin_as_the_pool(folder: Path) -> None:
    assert "column 'x' not found" in answer("1", options="--text-column x").err
    assert "answers are read from stdin" in answer("1", pool="-").err


def test_readers_agree_on_what_was_written(folder: Path) -> None:
    """The file is read by training as it is read when labelling goes on."""
    texts = ['say "hi"', "a;b", "a,b\nc,d", "x\r\ny", "'", " lead", "\ttab"]
    Path("pool.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    answer(*["x", "y"] * 4, options="--labels x,y", pool="pool.jsonl")
    table = open_file(Path("pool.labelled.csv"), ReadOptions())
    rows = list(table.rows(["text", "label"]))
    assert not any(isinstance(row, TextattnError) for row in rows)
    assert [row[1] for row in rows] == saved()  # type: ignore[index]
