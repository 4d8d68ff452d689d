"""Word vectors read from files and trained by skip-gram."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textattn.config.model_section import TokenizerConfig, VectorsConfig
from textattn.data.read import DataConfig, read_corpus
from textattn.errors import InputError
from textattn.tokens.foreign import read_vectors
from textattn.tokens.skipgram import train_skipgram
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer
from textattn.tokens.vectors import WordVectors


def word_tokenizer(*texts: str, lowercase: bool = True) -> TextTokenizer:
    config = TokenizerConfig(type="word", min_frequency=1, lowercase=lowercase)
    return train_tokenizer(config, iter(texts), 1)


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    content = "".join(line + end for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def by_word(vectors: WordVectors, tokenizer: TextTokenizer) -> dict[str, list[float]]:
    vocabulary = tokenizer.backend.get_vocab()
    return {word: vectors.matrix[i].tolist() for word, i in vocabulary.items() if vectors.found[i]}


@pytest.mark.parametrize("name", ["x.txt", "x.vec", "x.txt.gz"])
@pytest.mark.parametrize("header", [(), ("3 2",), ("3 2 ",)])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_every_text_format_is_read(tmp_path: Path, name: str, header: tuple[str, ...], end: str) -> None:
    tokenizer = word_tokenizer("good film 3 日本")
    file = write(tmp_path / name, *header, "good 1 -2.5", "unseen 9 9", "日本 1e-2 0", end=end)
    vectors = read_vectors(file, tokenizer, 2)
    assert vectors.matrix.shape == (tokenizer.vocab_size, 2) and vectors.matrix.dtype == np.float32
    assert by_word(vectors, tokenizer) == {"good": [1.0, -2.5], "日本": [pytest.approx(0.01), 0.0]}
    assert not vectors.matrix[~vectors.found].any()
    assert vectors.coverage == 2 / 6  # [PAD], [UNK], good, film, 3, 日本


@pytest.mark.parametrize(
    "lines", [("Good 1", "good 2", "GOOD 3"), ("good 2", "Good 1"), ("Good 1", "GOOD 3", "good 2")]
)
def test_the_word_as_it_is_comes_before_other_spellings(tmp_path: Path, lines: tuple[str, ...]) -> None:
    tokenizer = word_tokenizer("good Bad", lowercase=False)
    assert by_word(read_vectors(write(tmp_path / "x.txt", *lines), tokenizer, 1), tokenizer) == {"good": [2.0]}


def test_other_spellings_serve_where_the_word_itself_has_no_vector(tmp_path: Path) -> None:
    tokenizer = word_tokenizer("paris Rome", lowercase=False)
    file = write(tmp_path / "x.txt", "Paris 1", "ROME 2", "rome 3")
    assert by_word(read_vectors(file, tokenizer, 1), tokenizer) == {"paris": [1.0]}


def test_words_that_hold_spaces_or_strange_line_breaks_are_passed_over(tmp_path: Path) -> None:
    tokenizer = word_tokenizer("good . at film")
    lines = (". . . 5 6", "at name@domain.com 7 8", "a\x85b 1 2", "a\rb 1 2", "\u2028 3 4", ". 1 2", "film 3 4")
    vectors = read_vectors(write(tmp_path / "x.txt", *lines), tokenizer, 2)
    assert by_word(vectors, tokenizer) == {".": [1.0, 2.0], "film": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        (["bad 1 2", "good 1 2 3"], "2: 3 numbers after the word, but other lines have 2", None),
        (["good 1"], "1: 1 number after the word, but model.embedding_dim is 2", "model.embedding_dim=1"),
        (["9 3", "good 1 2 3"], "2: 3 numbers after the word, but model.embedding_dim is 2", "model.embedding_dim=3"),
        (
            ["9 2", "bad 1 2", "good 1 2 3"],
            "3: 3 numbers after the word, but line 1, the header, says 2",
            "copy or download the file again",
        ),
        (["bad 1 2", "", "good 1 x"], "3: expected a word and 2 numbers", None),
        (["good 1 nan"], "1: a number is not finite", None),
        (["good 1 1e99"], "1: a number is not finite", None),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], message: str, hint: str | None) -> None:
    file = write(tmp_path / "x.txt", *lines)
    with pytest.raises(InputError) as caught:
        read_vectors(file, word_tokenizer("good bad"), 2)
    assert (caught.value.message, caught.value.hint) == (f"{file}:{message}", hint)


def test_files_that_are_no_use(tmp_path: Path) -> None:
    def message(file: Path) -> str:
        with pytest.raises(InputError) as caught:
            read_vectors(file, word_tokenizer("good"), 2)
        return caught.value.message.replace(str(file), "FILE")

    assert message(tmp_path / "x.txt") == "FILE: model.vectors.path: no such file"
    for name in ("x.txt", "x.txt.gz"):
        assert message(write(tmp_path / name)) == "FILE: model.vectors.path: an empty file"
    for lines in (["", " "], ["good,1,2", "bad,3,4"]):
        assert message(write(tmp_path / "x.txt", *lines)) == (
            "FILE:1: model.vectors.path: expected a word and its numbers in each line, with spaces or tabs between them"
        )
    (tmp_path / "empty").mkdir()
    assert message(tmp_path / "empty").startswith("FILE: model.vectors.path: a folder without vectors: expected vocab/")
    (tmp_path / "y.bin").write_bytes(b"3 2\n\xff\xfe\x00")
    assert message(tmp_path / "y.bin").startswith("FILE: model.vectors.path: too short for the 3 words of 2 numbers")
    whole = gzip.compress(b"good 1 2\n" * 1000)
    (tmp_path / "y.gz").write_bytes(whole[:-20])
    assert message(tmp_path / "y.gz").startswith("FILE: model.vectors.path: cannot be read (")


@pytest.mark.parametrize("with_header", [False, True])
@given(
    words=st.lists(st.text("abdo", min_size=1, max_size=3), min_size=1, max_size=30, unique=True),
    numbers=st.lists(st.integers(-9, 9), min_size=1, max_size=3),
)
def test_the_separator_may_be_a_tab(
    with_header: bool, words: list[str], numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer, folder = word_tokenizer("good bad a b ab do"), tmp_path_factory.mktemp("tabs")
    rows = [[word, *map(str, numbers)] for word in [*words, "good"]]
    separators = {"tabs": ("\t", "\t"), "one tab": ("\t", " "), "spaces": (" ", " "), "tabs last": (" ", "\t")}
    found: dict[str, Any] = {}
    for name, (after_word, between) in separators.items():
        lines = [f"{word}{after_word}{between.join(row)}" for word, *row in rows]
        if name != "spaces" and after_word == "\t":
            lines.append(f"good film\t{between.join(map(str, numbers))}")
        header = [f"{len(lines)}{after_word}{len(numbers)}"] if with_header else []
        file = write(folder / f"{name}.txt", *header, *lines)
        try:
            found[name] = by_word(read_vectors(file, tokenizer), tokenizer)
        except InputError as error:
            found[name] = error.message.partition(": ")[2]
    assert all(one == found["spaces"] for one in found.values()), found
    if any(numbers):
        assert found["spaces"]["good"] == numbers


def test_a_file_without_words_of_the_texts_says_what_both_have(tmp_path: Path) -> None:
    file, tokenizer = tmp_path / "x.txt", word_tokenizer("film film good")

    def message(*lines: str) -> str:
        with pytest.raises(InputError) as caught:
            read_vectors(write(file, *lines), tokenizer)
        return caught.value.message.removeprefix(f"{file}: contains no word of the vocabulary; it has ")

    assert message("schlecht 1 2") == "1 word (schlecht), the vocabulary 2 words (film, good)"
    many = [f"w{i} 1 2" for i in range(3000)]
    assert message(*many) == "3,000 words (w0, w1, w2, w3, w4, …), the vocabulary 2 words (film, good)"
    assert message(f"{'w' * 50} 1 2") == f"1 word ({'w' * 29}…), the vocabulary 2 words (film, good)"


@pytest.mark.parametrize("others", [[], ["schlecht 1 2"]])
def test_vectors_of_zeros_are_told_from_missing_words(tmp_path: Path, others: list[str]) -> None:
    file = write(tmp_path / "x.txt", *others, "good 0 0", "film 0 0")
    with pytest.raises(InputError) as caught:
        read_vectors(file, word_tokenizer("good film bad"))
    assert caught.value.message == f"{file}: the vectors of all words that it shares with the vocabulary are zero"


@given(
    announced=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 3).map(lambda n: 10 * n), min_size=1, max_size=4),
    asked=st.none() | st.integers(1, 40),
)
def test_a_header_that_the_rows_contradict_is_named_with_a_hint_that_works(
    announced: int, sizes: list[int], asked: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ["good", "bad", "film", "plot"][: len(sizes)]
    rows = [f"{word}{' 1' * size}" for word, size in zip(words, sizes, strict=True)]
    file = write(tmp_path_factory.mktemp("header") / "x.txt", f"{len(sizes)} {announced}", *rows)
    tokenizer, wanted = word_tokenizer("good bad film plot"), announced if asked is None else asked
    wrong = next(((line, size) for line, size in enumerate(sizes, 2) if size != wanted), None)
    if wrong is None:
        read_vectors(file, tokenizer, asked)
        return
    with pytest.raises(InputError) as caught:
        read_vectors(file, tokenizer, asked)
    line, size = wrong
    because = f"model.embedding_dim is {asked}" if size == announced else f"line 1, the header, says {announced}"
    assert caught.value.message == f"{file}:{line}: {size} numbers after the word, but {because}"
    hint = caught.value.hint or ""
    if hint.startswith("model.embedding_dim=") and len(set(sizes)) == 1:
        read_vectors(file, tokenizer, int(hint.partition("=")[2]))
    elif len(set(sizes)) == 1:
        raise AssertionError(hint)


def test_glove_vectors_know_which_words_are_alike(shared: Path) -> None:
    (file,) = (shared / "data/glove_twitter_25d").glob("*.gz")
    words = "good great happy monday tuesday friday zzyzzyx"
    tokenizer = word_tokenizer(words)
    vectors = read_vectors(file, tokenizer, 25)
    found = by_word(vectors, tokenizer)
    assert set(found) == set(words.split()[:-1]) and vectors.coverage == 6 / 9
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        listed = next(line.split() for line in lines if line.startswith("monday "))
    assert found["monday"] == pytest.approx([float(number) for number in listed[1:]])
    assert cosine(found, "monday", "tuesday") > 0.9 > cosine(found, "monday", "great")
    with pytest.raises(InputError, match=r"25 numbers after the word, but model.embedding_dim is 128$"):
        read_vectors(file, tokenizer, 128)


def cosine(vectors: dict[str, list[float]], one: str, other: str) -> float:
    a, b = np.array(vectors[one]), np.array(vectors[other])
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# An animal or a tool, with words that only its kind keeps company with.
ANIMALS, TOOLS = ("cat", "dog", "horse"), ("hammer", "saw", "drill")
COMPANY = {ANIMALS: ("runs", "sleeps", "eats", "barks"), TOOLS: ("cuts", "hits", "bends", "turns")}
TEXTS = [
    f"{first} {word} {second}"
    for words, company in COMPANY.items()
    for word in words
    for first in company
    for second in company
] * 10


def test_skipgram_places_words_of_the_same_company_together() -> None:
    tokenizer = word_tokenizer(*TEXTS)
    passes: list[int] = []
    settings = VectorsConfig(source="skipgram", epochs=60, window=2)
    vectors = train_skipgram(settings, iter(TEXTS), tokenizer, 16, seed=1, on_epoch=passes.append)
    assert passes == list(range(1, 61))
    assert vectors.matrix.shape == (tokenizer.vocab_size, 16) and vectors.matrix.dtype == np.float32
    assert vectors.found.tolist() == [False, False] + [True] * (tokenizer.vocab_size - 2)
    found = by_word(vectors, tokenizer)
    alike = [cosine(found, a, b) for kind in (ANIMALS, TOOLS) for a in kind for b in kind if a < b]
    apart = [cosine(found, a, b) for a in ANIMALS for b in TOOLS]
    assert min(alike) > max(apart)


def test_skipgram_reads_unknown_words_and_texts_without_words() -> None:
    tokenizer = word_tokenizer("good film")
    texts = ["good unseen film"] * 20 + ["", "good"]
    vectors = train_skipgram(VectorsConfig(source="skipgram", epochs=1), iter(texts), tokenizer, 4, seed=1)
    assert vectors.found.tolist() == [False, True, True, True], "[PAD] has none, [UNK] has"


def test_skipgram_reads_a_very_long_text_to_its_end() -> None:
    """gensim leaves out what a sentence has beyond 10,000 words."""
    tokenizer = word_tokenizer("start middle end last")
    settings = VectorsConfig(source="skipgram", epochs=3, window=1)
    long = " ".join(["start middle"] * 5000 + ["end last"] * 5000)
    found = by_word(train_skipgram(settings, [long], tokenizer, 8, seed=1), tokenizer)
    pairs = " ".join(["start middle"] * 5000)
    untrained = by_word(train_skipgram(settings, [f"{pairs} end last"], tokenizer, 8, seed=1), tokenizer)
    moved = {word: np.linalg.norm(found[word]) / np.linalg.norm(untrained[word]) for word in ("end", "last")}
    assert min(moved.values()) > 2


def sums_of_vectors() -> list[str]:
    """Of the vectors of the bundled reviews, with two seeds."""
    texts = list(read_corpus(DataConfig(path="bundled:reviews")).train) * 4
    tokenizer = train_tokenizer(TokenizerConfig(), iter(texts), 1)
    settings = VectorsConfig(source="skipgram", epochs=2)
    found = [train_skipgram(settings, iter(texts), tokenizer, 16, seed) for seed in (1, 2)]
    return [hashlib.sha256(vectors.matrix.tobytes()).hexdigest() for vectors in found]


@pytest.mark.parametrize("words_between_merges", [30, 500_000])
def test_skipgram_is_the_same_for_any_number_of_threads(
    words_between_merges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textattn.tokens.skipgram.WORDS_BETWEEN_MERGES", words_between_merges)
    tokenizer = word_tokenizer(*TEXTS)
    settings = VectorsConfig(source="skipgram", epochs=3)
    found = [train_skipgram(settings, TEXTS, tokenizer, 16, seed=1, threads=threads).matrix for threads in (1, 2, 5)]
    assert found[0].any()
    assert all(np.array_equal(found[0], matrix) for matrix in found[1:])


def test_skipgram_is_the_same_in_every_process() -> None:
    """Here, where strings have hashes of their own, and in a process that has others."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    script = "import test_vectors; print(*test_vectors.sums_of_vectors())"
    root = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(root.parent), str(root)])},
        capture_output=True,
        text=True,
        check=True,
    )
    found = sums_of_vectors()
    assert done.stdout.split() == found and len(set(found)) == 2
