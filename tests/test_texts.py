"""Texts and tokens of splits: the same rows in memory and in files, whatever is taken from them, in little memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.data import texts as texts_module
from textattn.data.texts import Texts
from textattn.tokens import token_arrays
from textattn.tokens.token_arrays import TokenArrays, TokenFile, TokenWriter

STRINGS = [f"text {i} é🙂"[: 4 + i % 7] for i in range(57)]


@pytest.fixture(params=["memory", "spilled", "written"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Texts:
    """The same strings in pieces of 10, held in the three ways."""
    monkeypatch.setattr(texts_module, "ROWS_PER_CHUNK", 10)
    if request.param == "spilled":
        monkeypatch.setattr(texts_module, "BYTES_IN_MEMORY", 100)
    found = Texts.of(STRINGS)
    if request.param == "written":
        found.write(tmp_path / "texts.arrow")
        found = Texts.open(tmp_path / "texts.arrow")
    return found


def test_texts_come_back_in_their_order(stored: Texts) -> None:
    assert len(stored) == len(STRINGS)
    assert list(stored) == STRINGS
    assert [text for piece in stored.pieces() for text in piece.to_pylist()] == STRINGS
    assert stored.fingerprint() == Texts.of(STRINGS).fingerprint() != Texts.of(STRINGS[::-1]).fingerprint()


@pytest.mark.parametrize("part", [slice(0, 10), slice(7, 31), slice(50, 99), slice(0, 0), slice(None)])
def test_parts_of_texts(stored: Texts, part: slice) -> None:
    assert stored[part] == STRINGS[part]


def test_any_rows_in_any_order_taken_once_and_again(stored: Texts) -> None:
    generator = np.random.default_rng(0)
    for count in (0, 1, 20, 57, 200):
        rows = generator.integers(0, len(STRINGS), count)
        taken = stored.take(rows)
        assert list(taken) == [STRINGS[i] for i in rows]
        if count:
            again = generator.integers(0, count, 33)
            assert list(taken.take(again)) == [STRINGS[rows[i]] for i in again]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=30))
def test_every_string_comes_back(strings: list[str]) -> None:
    assert list(Texts.of(strings)) == strings


ROWS = [[i, i + 1, i + 2][: 1 + i % 3] for i in range(40)]


def tokens(rows: list[list[int]]) -> TokenArrays:
    writer = TokenWriter()
    for first in range(0, len(rows), 7):
        part = rows[first : first + 7]
        writer.extend(np.concatenate(part).astype(np.int32), map(len, part))
    return writer.finish(3, 4)


def rows_of(arrays: TokenArrays) -> Iterator[list[int]]:
    return (arrays.ids[first:last].tolist() for first, last in zip(arrays.starts[:-1], arrays.starts[1:], strict=True))


@pytest.mark.parametrize("limit", [1 << 20, 16])
def test_tokens_come_back_from_memory_and_from_a_file(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_arrays, "BYTES_IN_MEMORY", limit)
    arrays = tokens(ROWS)
    assert isinstance(arrays.ids, TokenFile) == (limit == 16)
    arrays.write(tmp_path / "ids")
    opened = TokenArrays.open(tmp_path / "ids", arrays.starts, 3, 4)
    assert isinstance(opened.ids, TokenFile) == (limit == 16)
    for found in (arrays, opened):
        assert list(rows_of(found)) == ROWS
        assert (len(found), found.num_truncated, found.num_unknown) == (len(ROWS), 3, 4)
        assert found.lengths.tolist() == [len(row) for row in ROWS]
        assert found.ids[5:5].tolist() == []


def test_tokens_that_do_not_fit_their_starts_are_refused(tmp_path: Path) -> None:
    arrays = tokens(ROWS)
    arrays.write(tmp_path / "ids")
    with (tmp_path / "ids").open("ab") as file:
        file.write(b"1234")
    with pytest.raises(ValueError, match="expected"):
        TokenArrays.open(tmp_path / "ids", arrays.starts, 3, 4)


def test_no_texts_and_no_tokens() -> None:
    assert list(Texts.of([])) == []
    assert tokens([]).starts.tolist() == [0]
    assert len(tokens([])) == 0


MEMORY = """
import resource, sys
from itertools import islice
from textattn.data.read import read_corpus
from textattn.tokens.train_tokenizer import train_tokenizer
from textattn.config import config_from_mapping
config = config_from_mapping({"data": {"path": sys.argv[1]}, "tokenizer": {"max_length": 40}})
corpus = read_corpus(config.data)
tokenizer = train_tokenizer(config.tokenizer, islice(corpus.train, 100), 1)
tokens = tokenizer.encode(corpus.train)
assert len(tokens) == len(corpus.train) == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """190 MB of texts, of which each row adds some 40 bytes of bookkeeping and nothing of its size."""
    words = " ".join(f"word{i}" for i in range(1000))

    def megabytes(rows: int) -> float:
        path = tmp_path / f"{rows}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("text,label\n")
            for i in range(rows):
                file.write(f"number{i % 100} {words},{'ab'[i % 2]}\n")
        done = subprocess.run([sys.executable, "-c", MEMORY, str(path), str(rows)], capture_output=True, check=True)
        return float(done.stdout)

    small, large = megabytes(9_000), megabytes(24_000)
    assert large < small + 60


def test_fingerprint_knows_where_texts_end_and_not_how_they_are_kept() -> None:
    texts = ["ab", "", "c", "dé"] * 3000
    assert Texts.of(["ab", "c"]).fingerprint() != Texts.of(["a", "bc"]).fingerprint() != Texts.of(["abc"]).fingerprint()
    doubled = Texts.of([text for text in texts for _ in range(2)])
    assert doubled.take(np.arange(0, 2 * len(texts), 2)).fingerprint() == Texts.of(texts).fingerprint()
    assert Texts.of([]).fingerprint() == doubled.take(np.arange(0)).fingerprint()
