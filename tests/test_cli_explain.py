"""`textattn explain`: the text as it is, its words marked by attention, the answer and a table."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inprocess import run as cli
from rich.cells import cell_len

import textattn
from textattn.explain.explanations import Explanation, Sum
from textattn.explain.terminal import PALETTE, View, _shorten, highlight, render
from textattn.inference.classifier import Prediction
from textattn.inference.words import Word

TEXT = "The film was a joy,  but (oh)\tthe ending felt rushed."
COLORS = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80"}


def explanation(weights: dict[str, float], labels: tuple[str, ...] = ("pos",), target: str = "pos") -> Explanation:
    """One whose words have these weights, joined by spaces."""
    text, words = "", []
    for word, weight in weights.items():
        words.append(Word(word, len(text), len(text) + len(word), weight))
        text += word + " "
    prediction = Prediction("pos", 0.75, {"neg": 0.25, "pos": 0.75}, list(labels))
    shares = list(weights.values())
    return Explanation(text.rstrip(), prediction, target, None, "attention", [], [], [], [], words, shares, False)


def plain(explained: Explanation, *, color: bool = False, multi_label: bool = False, width: int = 80) -> list[str]:
    lines = render(explained, View(8, width, color, multi_label))
    return ["".join(piece for piece, _ in line) for line in lines]


# What is marked


def test_words_with_an_equal_share_or_less_are_not_marked() -> None:
    """Attention that is the same everywhere says nothing, and nothing is shown."""
    even = explanation({"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25})
    assert plain(even)[0] == "a b c d"
    assert {style for _, style in highlight(even, View(8, 80, True, False))} == {""}


def test_the_more_attention_the_stronger_the_shade() -> None:
    explained = explanation({"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.03, "e": 0.01, "f": 0.005, "g": 0.005})
    styles = {piece: style for piece, style in highlight(explained, View(8, 80, True, False)) if piece.strip()}
    # (weight - 1/7) / 0.5: 0.71, 0.31, 0.01
    assert styles == {"a": PALETTE.attention[2], "b": PALETTE.attention[1], "c": "", "d": "", "e": "", "f": "", "g": ""}
    assert plain(explained)[0] == "[a] [b] c d e f g"


def test_the_table_holds_the_strongest_words_first() -> None:
    explained = explanation({"dull": 0.6, "film": 0.1, ",": 0.3})
    assert plain(explained)[1:] == [
        "",
        "label: pos  score: 0.7500",
        "",
        "word  attention  (an equal share is 0.3333)",
        "dull     0.6000  ####################",
        ",        0.3000  ##########",
        "film     0.1000  ###",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_the_table_fits_the_terminal(width: int) -> None:
    explained = explanation({"film": 0.2, "Donaudampfschifffahrtsgesellschaftskapitän" * 2: 0.5, "電影" * 30: 0.3})
    lines = plain(explained, width=width)[5:]
    assert max(map(cell_len, lines)) <= max(width, 30)
    # All numbers end in the same column, whatever the words are made of.
    assert len({cell_len(re.split(r"0\.\d{4}", line)[0]) for line in lines}) == 1


def test_several_labels_or_none_are_named() -> None:
    assert plain(explanation({"a": 1}, ("neg", "pos")), multi_label=True)[2] == "labels: neg 0.2500, pos 0.7500"
    assert plain(explanation({"a": 1}, ()), multi_label=True)[2] == "labels: none"


def test_contributions_are_shown_with_their_sum_and_the_attention() -> None:
    explained = replace(
        explanation({"dull": -0.6, "film": 0.15, ",": 0.3}),
        method="contributions",
        word_attention=[0.7, 0.2, 0.1],
        total=Sum(bias=0.25, words=-0.35, ngrams=0.2, answer=0.1, temperature=1.0, is_log_odds=True),
    )
    assert plain(explained) == [
        "{dull} [film] [,]",
        "",
        "label: pos  score: 0.7500",
        "contributions: why pos?  [for pos] {against pos}",
        "0.25 bias - 0.35 words + 0.20 n-grams = 0.10, the log-odds of pos",
        "",
        "word     weight  attention",
        "dull    -0.6000     0.7000  --------------------",
        ",       +0.3000     0.1000  ##########",
        "film    +0.1500     0.2000  #####",
    ]


@pytest.mark.parametrize(
    ("changes", "against", "end"),
    [
        ({}, None, "= 0.10, the log-odds of pos"),
        ({"temperature": 1.5}, None, "= 0.10, the log-odds of pos, which calibration divides by 1.50"),
        ({"is_log_odds": False}, None, "= 0.10, the logit of pos less the mean of the others"),
        ({}, "neg", "= 0.10, the log-odds of pos rather than neg"),
    ],
)
def test_the_sum_says_what_it_is(changes: dict[str, Any], against: str | None, end: str) -> None:
    total = replace(Sum(0.25, -0.15, None, 0.1, 1.0, is_log_odds=True), **changes)
    explained = replace(explanation({"a": 1.0}), method="contributions", against=against, total=total)
    line = plain(explained)[4]
    assert line == f"0.25 bias - 0.15 words {end}"


@pytest.mark.parametrize("width", [1, 2, 5, 100_000])
def test_a_word_of_any_length_is_shortened_at_once(width: int) -> None:
    """`explain` of one word of 100,000 characters took 93 seconds."""
    started = time.perf_counter()
    for word in ("x" * 100_000, "電" * 100_000, "e\u0301" * 50_000):
        assert cell_len(_shorten(word, width)) <= max(width, 1)
    assert _shorten("film", 4) == "film"
    assert _shorten("films", 4) == "fil…"
    assert _shorten("電影院", 5) == "電影…"
    assert time.perf_counter() - started < 5


# The command


def test_a_pipe_gets_the_text_as_it_is(trained_run: Path) -> None:
    """Tabs, double blanks and all, never wrapped; brackets aside."""
    texts = [TEXT, "one\ntwo\r\nthree\x0bfour", "👨‍👩‍👧 café naïve 電影", "  word" * 200 + "  "]
    for text in texts:
        done = cli("explain", "--model", trained_run, text)
        assert (done.code, done.err) == (0, "")
        assert re.sub(r"[\[\]{}]", "", done.out).startswith(text + "\n\nlabel: ")
        assert "\x1b" not in done.out
        prediction = textattn.load(trained_run).predict(text)[0]
        assert f"label: {prediction.label}  score: {prediction.score:.4f}\n" in done.out


def test_colors_show_the_same_words_as_brackets_and_more(trained_run: Path) -> None:
    text = "The soup was cold and the waiter was terrible, awful, rude and slow."
    colored = cli("explain", "--model", trained_run, text, **COLORS)
    first = colored.out.split("\n\n")[0]
    marked = re.findall(r"\x1b\[(?:1;)?30;48;2;\d+;\d+;\d+m(.*?)\x1b\[0m", first)
    assert marked
    assert re.sub(r"\x1b\[[\d;]*m", "", first) == text
    bracketed = re.findall(r"[\[{](.*?)[\]}]", cli("explain", "--model", trained_run, text).out.split("\n\n")[0])
    assert set(bracketed) <= set(marked)


@pytest.mark.parametrize(
    "environment", [{"NO_COLOR": "1", **COLORS}, {**COLORS, "TERM": "dumb"}, {"FORCE_COLOR": ""}], ids=str
)
def test_no_color_means_none(trained_run: Path, environment: dict[str, str]) -> None:
    done = cli("explain", "--model", trained_run, TEXT, **environment)
    assert "\x1b" not in done.out
    assert done.out == cli("explain", "--model", trained_run, TEXT).out


def test_the_option_for_no_color_wins(trained_run: Path) -> None:
    assert "\x1b" not in cli("--no-color", "explain", "--model", trained_run, TEXT, **COLORS).out


def test_a_text_cannot_steer_the_terminal(trained_run: Path) -> None:
    done = cli("explain", "--model", trained_run, "good \x1b[2J\x07\x9b2J film\x7f", **COLORS)
    assert "\x1b[2J" not in done.out
    assert not set("\x07\x9b\x7f") & set(done.out)
    assert "␛[2J␇" in re.sub(r"\x1b\[[\d;]*m", "", done.out)


def test_a_stream_that_cannot_say_a_character_gets_its_number(trained_run: Path) -> None:
    for environment in ({}, COLORS):
        done = cli("explain", "--model", trained_run, "café", encoding="ascii", **environment)
        assert done.code == 0
        assert "caf\\xe9" in done.out


def test_json_holds_everything(trained_run: Path) -> None:
    done = cli("explain", "--model", trained_run, "--json", "--target", "neg", TEXT, "?", "x")
    rows = [json.loads(line) for line in done.out.splitlines()]
    expected = textattn.load(trained_run).explain([TEXT, "?", "x"], target="neg")
    for row, want in zip(rows, expected, strict=True):
        assert set(row) == {
            "label", "score", "text", "target", "method", "tokens", "offsets", "weights", "attention_weights", "words",
            "truncated", "contributions", "sum", "verdict",
        }  # fmt: skip
        assert (row["label"], row["target"], row["method"]) == (want.prediction.label, "neg", "contributions")
        assert row["text"] == want.text
        assert row["tokens"] == want.tokens
        assert row["offsets"] == [list(offset) for offset in want.offsets]
        assert row["weights"] == pytest.approx(want.weights, abs=1e-6)
        assert row["attention_weights"] == pytest.approx(want.attention_weights, abs=1e-6)
        assert sum(word["attention"] for word in row["words"]) == pytest.approx(1, abs=1e-5)
        assert sum(word["weight"] for word in row["words"]) == pytest.approx(sum(want.weights), abs=1e-5)
        assert row["sum"]["answer"] == pytest.approx(sum(want.weights) + row["sum"]["bias"], abs=1e-5)
        assert [row["text"][word["start"] : word["end"]] for word in row["words"]] == [w.text for w in want.words]


def test_several_texts_stand_apart(trained_run: Path) -> None:
    done = cli("explain", "--model", trained_run, "-w", "2", stdin=b"good film\nfine\na bad film\n", COLUMNS="40")
    blocks = done.out.split("\n" + "-" * 40 + "\n\n")
    assert len(blocks) == 3
    assert re.sub(r"[\[\]{}]", "", blocks[0]).startswith("good film")
    assert blocks[1].startswith("[fine]\n\nlabel: ")
    starts = [line.split(" ")[0] for line in blocks[2].splitlines()[1:4]]
    assert starts == ["", "label:", "contributions:"]
    assert blocks[2].splitlines()[5:7] == ["", "word     weight  attention"]
    # Two words; after the last text, once, how far the highlights can be trusted.
    assert len(blocks[2].splitlines()) == 7 + 2 + 2
    assert done.out.count("Trust: ") == 1
    assert "weight  attention" not in cli("explain", "--model", trained_run, "-w", "0", "good film").out


def test_a_text_longer_than_the_model_reads_is_said_to_be(trained_run: Path) -> None:
    assert "The text is longer than the model reads" in cli("explain", "--model", trained_run, "word " * 61).out
    assert "The text is longer than the model reads" not in cli("explain", "--model", trained_run, "word " * 60).out


def test_an_unknown_target_is_refused(trained_run: Path) -> None:
    done = cli("explain", "--model", trained_run, "--target", "bad", "x")
    assert (done.code, done.out, done.err) == (2, "", "Error: unknown label 'bad'; labels are: neg, pos\n")


def test_on_a_terminal_lines_break_between_words(trained_run: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    termios = pytest.importorskip("termios")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "textattn", "explain", "--model", str(trained_run), "a fine film about nothing " * 6],
        stdin=follower, stdout=follower, stderr=follower, env=environment,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            shown += os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(60) == 0
    os.close(leader)
    text = shown.decode()
    assert text.startswith("Loading the model …\r\x1b[K")
    lines = re.sub(r"\x1b\[[\d;]*[mK]", "", text.split("\x1b[K", 1)[1]).replace("\r\n", "\n").split("\n")
    paragraph = lines[: lines.index("")]
    assert len(paragraph) >= 3
    assert max(map(len, lines)) <= 60
    assert " ".join(line.strip() for line in paragraph) == ("a fine film about nothing " * 6).strip()
