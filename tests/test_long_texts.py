"""Texts of any length: of a long one only the ends are read, with the tokens that the whole text would give."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import inprocess
import numpy as np
import pytest
from conftest import unsealed
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

import textattn
from textattn.api import Model
from textattn.config.model_section import TokenizerConfig
from textattn.inference.words import LONGEST_GRAPHEME, Word, merge_words
from textattn.tokens.pieces import grapheme_boundaries
from textattn.tokens.tokenizer import LONG, TextTokenizer, TokenizedText
from textattn.tokens.train_tokenizer import train_tokenizer

TYPES = ["word", "wordpiece", "bpe", "unigram", "char", "formula"]
TRUNCATIONS = ["head", "tail", "head_tail"]
CORPUS = [
    "The film was really good, don't miss it! unbelievable",
    "A cafe\u0301, 日本語 and العربية 👍🏽 👩‍👩‍👧 🇫🇷 ❤️ LiFePO4 Ag0.5 ... aaaaaa ab",
] * 3
# What long texts are made of: each is repeated, so that there are long stretches of one kind.
UNITS = [
    *(
        "the film ",
        "don't ",
        "was",
        "! ",
        "... ",
        "unbelievable ",
        "aaaaaaaaaaaaaaaaa ",
        "LiFePO4 ",
        "film.",
        "...",
        "a",
    ),
    *("日本語", "中", "。", "العربية ", "한", "\u1112\u1161\u11ab"),
    *("👩‍👩‍👧", "👍🏽", "❤️", "1️⃣", "👩", "\u200d", "🏽", "🇫🇷 ", "🇫 ", "का\u200dम"),
    *("e\u0301", "q\u0307\u0323", "\u0301", "ﬁ", "ﷺ ", "½", "Ａ", "ｶﾞ", "\u0600", "\x00", "\ufeff"),
    *("\t", "a\t", "\t\t ", " ", "  a", "\n\n", "\r\n", "\u3000", "\u0085"),
]


def make(kind: str, **more: object) -> TextTokenizer:
    size = {"bpe": 320, "pretrained": 30_000}.get(kind, 200)
    config = TokenizerConfig.model_validate({"type": kind, "min_frequency": 1, "vocab_size": size, **more})
    return train_tokenizer(config, iter(CORPUS), 2)


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """One of each type; the pretrained one splits texts as GPT-2 does, with the space at the beginning of a word."""
    pretrained = Tokenizer(models.BPE())
    pretrained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>"], initial_alphabet=sorted(alphabet), show_progress=False
    )
    pretrained.train_from_iterator(CORPUS, trainer)
    pretrained.add_tokens([AddedToken("film\t", normalized=False)])
    path = tmp_path_factory.mktemp("pretrained") / "tokenizer.json"
    pretrained.save(str(path))
    return {kind: make(kind).backend for kind in TYPES} | {"pretrained": make("pretrained", path=str(path)).backend}


def kept(length: int, max_length: int, truncation: str) -> list[int]:
    """Positions of the tokens that training would keep."""
    head = {"head": max_length, "tail": 0, "head_tail": max_length - max_length // 2}[truncation]
    positions = list(range(length))
    return positions if length <= max_length else positions[:head] + positions[length - (max_length - head) :]


def check(backend: Tokenizer, text: str, max_length: int, truncation: str) -> None:
    """Both ways to encode give what tokenising everything and truncating it would give."""
    tokenizer = TextTokenizer(backend, max_length=max_length, truncation=truncation)
    everything = backend.encode(text, add_special_tokens=False).ids
    positions = kept(len(everything), max_length, truncation)
    ids = [tokenizer.unk_id if everything[i] == tokenizer.pad_id else everything[i] for i in positions]
    ids, is_truncated = ids or [tokenizer.unk_id], len(everything) > max_length

    arrays = tokenizer.encode([text])
    row = tokenizer.encode_with_offsets([text])[0]
    assert arrays.ids.tolist() == row.input_ids == ids
    assert arrays.num_truncated == is_truncated and row.truncated == is_truncated
    assert arrays.num_unknown == ids.count(tokenizer.unk_id)

    # A model that reads everything, whose texts are never long.
    unlimited = TextTokenizer(backend, max_length=len(text) * 20 + 1, truncation=truncation)
    whole = unlimited.encode_with_offsets([text])[0]
    if everything:
        assert row.offsets == [whole.offsets[i] for i in positions]
        assert row.tokens == [whole.tokens[i] for i in positions]
        words = [whole.word_ids[i] for i in positions]
        assert [a == b for a, b in pairwise(row.word_ids)] == [a == b for a, b in pairwise(words)]


@st.composite
def long_texts(draw: st.DrawFn) -> tuple[str, int]:
    """A text and the `max_length` for which it is long; or, one time in three, a length around where that begins."""
    max_length = draw(st.integers(1, 6))
    stretch = st.tuples(st.lists(st.sampled_from(UNITS), min_size=1, max_size=3), st.integers(1, 40))
    text = "".join("".join(units) * count for units, count in draw(st.lists(stretch, min_size=1, max_size=6)))
    while len(text) <= LONG * max_length:
        text += text
    if draw(st.integers(0, 2)) == 0:
        text = text[: LONG * max_length + draw(st.integers(-1, 2))]
    return text, max_length


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("kind", [*TYPES, "pretrained"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(drawn=long_texts())
@example(drawn=("a" * 400, 2))
@example(drawn=(" " * 400, 2))
@example(drawn=("a " * 3 + " " * 400 + "b c", 5))
@example(drawn=("a " * 3 + " " * 400 + "b c d", 5))
@example(drawn=("\t" * 400, 3))
@example(drawn=("The film was ... " * 100, 30))
def test_the_ends_give_the_tokens_of_the_whole_text(
    backends: dict[str, Tokenizer], kind: str, truncation: str, drawn: tuple[str, int]
) -> None:
    text, max_length = drawn
    check(backends[kind], text, max_length, truncation)


# Where there is no white space the cut goes through something that is read otherwise when it is not whole.
CUT_THROUGH = {
    "a break": [("w" + " " * n + "<br />" * 100 + "v") for n in range(0, 12, 3)]
    + [("日" * n + "<br/>" * 100 + "本") for n in range(16)]
    + ["a b c "[: 2 * n] + " " * 100 + "<br" + " " * 400 + "/>" for n in range(4)],
    "an apostrophe": ["!" + "a" * n + "don't" * 40 for n in range(24)],
    "flags": ["!" * n + "🇫🇷🇩🇪🇮🇹" * 40 for n in range(2)] + ["🇫" + "🇫🇷🇩🇪" * 60],
}


@pytest.mark.parametrize(
    "max_length", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("what", CUT_THROUGH)
def test_the_ends_give_the_tokens_of_the_whole_text_where_the_cut_is_in(
    backends: dict[str, Tokenizer], what: str, max_length: int
) -> None:
    for kind in [*TYPES, "pretrained"]:
        for truncation in TRUNCATIONS:
            for text in CUT_THROUGH[what]:
                check(backends[kind], text, max_length, truncation)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_long_and_short_texts_in_one_call_keep_their_order(backends: dict[str, Tokenizer], truncation: str) -> None:
    tokenizer = TextTokenizer(backends["word"], max_length=4, truncation=truncation)
    # More than one chunk; long texts that are and are not truncated, short ones that are and are not, empty ones.
    texts = ["", "film", "the film " * 40, "good" + " " * 300, "a b c d e f", "日本語 " * 99, "was\tgood"] * 300
    arrays = tokenizer.encode(iter(texts))
    rows = tokenizer.encode_with_offsets(texts)
    singly = {text: tokenizer.encode([text]).ids.tolist() for text in texts}
    found = [arrays.ids[a:b].tolist() for a, b in pairwise(arrays.starts)]
    assert found == [singly[text] for text in texts] == [row.input_ids for row in rows]
    assert arrays.num_truncated == sum(row.truncated for row in rows) == 3 * 300
    assert len({tuple(ids) for ids in found}) > 4


def merged_at_once(text: str, tokenized: TokenizedText, weights: list[float]) -> list[Word]:
    """`merge_words`, with all graphemes of the text at once."""
    graphemes = grapheme_boundaries(text)
    groups: list[tuple[int, int, float]] = []
    for i, (start, end) in enumerate(tokenized.offsets):
        while start < end and text[start].isspace() and text[start] != "\t":
            start += 1
        start, end = graphemes[start][0], graphemes[end - 1][1] if end > start else graphemes[start][0]
        same = i > 0 and tokenized.word_ids[i] == tokenized.word_ids[i - 1]
        if groups and (same or start < groups[-1][1]):
            first, last, weight = groups.pop()
            groups.append((min(first, start), max(last, end), weight + weights[i]))
        else:
            groups.append((start, end, weights[i]))
    return [Word(text[start:end], start, end, weight) for start, end, weight in groups]


@pytest.mark.parametrize("kind", [*TYPES, "pretrained"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(drawn=long_texts(), passage=st.sampled_from([1, 7, 101, 300]), truncation=st.sampled_from(TRUNCATIONS))
def test_words_are_the_same_passage_by_passage(
    backends: dict[str, Tokenizer], kind: str, drawn: tuple[str, int], passage: int, truncation: str
) -> None:
    text, max_length = drawn
    assume(all(end - start <= LONGEST_GRAPHEME for start, end in grapheme_boundaries(text)))
    for limit in (max_length, len(text) // 3 + 1, 20 * len(text) + 1):
        tokenizer = TextTokenizer(backends[kind], max_length=limit, truncation=truncation)
        tokenized = tokenizer.encode_with_offsets([text])[0]
        weights = [float(i + 1) for i in range(len(tokenized.tokens))]
        with patch("textattn.inference.words.PASSAGE", passage):
            words = merge_words(text, tokenized, weights)
        assert words == merged_at_once(text, tokenized, weights)


def test_no_flag_of_a_long_row_is_cut(backends: dict[str, Tokenizer]) -> None:
    text = "!" + "🇫🇷🇩🇪" * 60
    # Each letter is a token: some begin in the middle of a flag.
    tokenized = TextTokenizer(backends["formula"], max_length=300, truncation="head").encode_with_offsets([text])[0]
    for passage in (1, 101):
        with patch("textattn.inference.words.PASSAGE", passage):
            words = [word.text for word in merge_words(text, tokenized, [0.5] * len(tokenized.tokens))]
        assert words == ["!"] + ["🇫🇷", "🇩🇪"] * 60


def test_words_of_flags_are_found_in_bounded_time(backends: dict[str, Tokenizer]) -> None:
    text = "🇫🇷" * 6000
    tokenized = TextTokenizer(backends["word"], max_length=4, truncation="head").encode_with_offsets([text])[0]
    started = time.thread_time()
    grapheme_boundaries(text[:4000])
    allowed = 2 * (time.thread_time() - started)
    started = time.thread_time()
    merge_words(text, tokenized, [0.25] * 4)
    assert time.thread_time() - started < allowed


# --- A book through the command line and the Python API.

SIZE = 10_000_000
PRAISE = "The staff was wonderful and the food delicious, we loved it! "
BLAME = "terrible awful waste of money rude boring worst "
BOOKS = {
    # A good beginning, a bad end, and something in between.
    "words": PRAISE * 10 + "Then it went on and on, <br />as it does. " * (SIZE // 42) + BLAME * 10,
    "no white space": "日本語中文字。" * (SIZE // 14) + "terrible,delicious!" * 10,
}


@pytest.fixture(scope="module")
def classifiers(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Model]:
    """By truncation and runtime."""
    found = {}
    for truncation in TRUNCATIONS:
        run = tmp_path_factory.mktemp("runs") / truncation
        unsealed(Path(shutil.copytree(trained_run, run)))
        config = run / "tokenizer_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"truncation": truncation}))
        for runtime in ("onnx", "torch"):
            found[truncation, runtime] = textattn.load(run, runtime=runtime)
    return found


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_a_book_is_answered_as_what_is_kept_of_it(classifiers: dict[tuple[str, str], Model], truncation: str) -> None:
    """Truncated as in training, the same in both runtimes, alone and among others."""
    onnx, torch = (classifiers[truncation, runtime] for runtime in ("onnx", "torch"))
    limit = onnx.tokenizer.max_length
    for book in BOOKS.values():
        # More than is kept of each end, and yet so little that all of it is tokenised.
        first, last = book[: 15 * limit], book[-15 * limit :]
        near = {"head": first, "tail": last, "head_tail": f"{first} {last}"}[truncation]
        assert len(near) < LONG * limit
        expected = torch.predict_proba(near)[0]
        mixed = ["good", book, "?", "terrible " * 500, book]
        for classifier in (onnx, torch):
            assert classifier.predict_proba(book)[0] == pytest.approx(expected, abs=1e-5)
            among = classifier.predict_proba(mixed)
            assert among[[1, 4]] == pytest.approx(np.array([expected, expected]), abs=1e-5)
            assert among[0] == pytest.approx(classifier.predict_proba("good")[0], abs=1e-5)
        one, other = (classifier.explain(book)[0] for classifier in (onnx, torch))
        assert one.truncated and other.truncated and len(one.tokens) == limit
        assert (one.tokens, one.offsets) == (other.tokens, other.offsets)
        assert one.weights == pytest.approx(other.weights, abs=1e-5)
        assert all(word.text == book[word.start : word.end] for word in one.words)
        read = {start < len(book) // 2 for start, _ in one.offsets}
        assert read == {"head": {True}, "tail": {False}, "head_tail": {True, False}}[truncation]


def test_what_is_kept_of_a_book_decides(classifiers: dict[tuple[str, str], Model]) -> None:
    labels = {
        truncation: classifiers[truncation, "onnx"].predict(BOOKS["words"])[0].label for truncation in TRUNCATIONS
    }
    assert (labels["head"], labels["tail"]) == ("pos", "neg")


def test_many_long_texts_in_one_call(classifiers: dict[tuple[str, str], Model]) -> None:
    classifier = classifiers["head_tail", "onnx"]
    texts = [(PRAISE if i % 3 else BLAME) * (i + 40) for i in range(0, 400, 2)]
    together = classifier.predict_proba(texts)
    for i in (0, 1, 99, 199):
        assert together[i] == pytest.approx(classifier.predict_proba(texts[i])[0], abs=1e-5)
    explained = classifier.explain(texts)
    assert [e.text for e in explained] == texts and all(e.truncated for e in explained)
    assert [e.prediction.score for e in explained] == pytest.approx(together.max(axis=1), abs=1e-6)


@pytest.fixture(scope="module")
def book_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(BOOKS["words"], encoding="utf-8")
    return path


@pytest.mark.parametrize("runtime", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_book_from_stdin_and_from_every_kind_of_file(
    trained_run: Path, book_file: Path, tmp_path: Path, runtime: str
) -> None:
    book = BOOKS["words"]
    expected = textattn.load(trained_run, runtime=runtime).predict(book)[0]
    line = f"{expected.label}\t{expected.score:.4f}"
    model = ("--model", trained_run, "--runtime", runtime)
    piped = inprocess.run("predict", *model, stdin=f"good\n{book}\nbad".encode())
    assert piped.code == 0 and piped.out.splitlines()[1] == line and len(piped.out.splitlines()) == 3
    assert "1 of 3 texts are longer than the 60 tokens" in " ".join(piped.err.split())

    files = {name: tmp_path / f"book.{name}" for name in ("csv", "jsonl", "parquet")} | {"txt": book_file}
    with files["csv"].open("w", newline="") as stream:
        csv.writer(stream).writerows([["text"], [book]])
    files["jsonl"].write_text(json.dumps({"text": book}) + "\n")
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": [book]}), files["parquet"])
    for path in files.values():
        printed = inprocess.run("predict", *model, "--input", path)
        assert (printed.code, printed.out) == (0, line + "\n"), (path, printed.err)
        assert "1 of 1 texts are longer than the 60 tokens" in " ".join(printed.err.split())

    output = tmp_path / "answers.jsonl"
    written = inprocess.run("predict", *model, "--input", book_file, "--output", output, "--attention", "--json")
    assert "1 of 1 texts are longer than the 60 tokens" in " ".join(written.err.split())
    assert json.loads(written.out)["truncated"] == 1
    answer = json.loads(output.read_text())
    assert (answer["label"], answer["score"]) == (expected.label, pytest.approx(expected.score, abs=1e-6))
    assert len(answer["tokens"]) == len(answer["weights"]) == 60 and answer["ends"][-1] < 1000


def test_explain_says_that_a_book_was_truncated(trained_run: Path) -> None:
    book = BOOKS["words"]
    model = ("--model", trained_run)
    shown = inprocess.run("explain", *model, stdin=book.encode())
    assert "\nThe text is longer than the model reads; the rest was left out.\n" in shown.out[len(book) :]
    explained = json.loads(inprocess.run("explain", "--json", *model, stdin=book.encode()).out)
    assert explained["truncated"] and explained["text"] == book and len(explained["tokens"]) == 60
    short = inprocess.run("explain", *model, "A good film.")
    assert "left out" not in short.out


# Runs a command and prints, last on stderr, the most memory it held. In between, because a process begins with the
# figure of the one that started it.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], check=False).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak // (1 if sys.platform == "darwin" else 1 / 1024), file=sys.stderr)
sys.exit(code)
"""


def peak_memory(*arguments: str | Path, text: str) -> float:
    """In megabytes, with the text on stdin; it must be answered."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "textattn", *map(str, arguments)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr
    return float(done.stderr.split()[-1]) / 1e6


@pytest.fixture(scope="module")
def peak_of_a_short_text(trained_run: Path) -> float:
    return peak_memory("explain", "--json", "--model", trained_run, text="A good film.")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
@pytest.mark.parametrize(
    ("command", "book"), [("predict", "words"), ("explain", "words"), ("predict", "no white space")]
)
def test_a_book_takes_little_more_memory_than_a_short_text(
    trained_run: Path, peak_of_a_short_text: float, command: str, book: str
) -> None:
    """A few copies of the string; its tokens alone would be a gigabyte."""
    peak = peak_memory(command, "--json", "--model", trained_run, text=BOOKS[book])
    assert peak < peak_of_a_short_text + 150
