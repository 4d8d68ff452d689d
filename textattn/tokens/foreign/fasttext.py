"""The binary format of fastText (Bojanowski et al. 2017): words and the vectors of their sub-words.

The layout is that of `FastText::saveModel`, version 12, which gensim writes too. A word's vector is the mean of its own
row and those of its character n-grams; a word that the file does not know has the mean of its n-grams.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from textattn.errors import InputError
from textattn.tokens.foreign.rows import Foreign, Rows, check_size
from textattn.tokens.foreign.stream import SETTING, Stream

MAGIC = (793712314).to_bytes(4, "little")
VERSIONS = (11, 12)
LONGEST_WORD = 2**16
# Numbers, in bytes, of which a piece of the matrix is read at once.
PIECE = 2**22
# An entry of the dictionary has at least the end of its string, a count and a type.
SMALLEST_ENTRY = 1 + 8 + 1
END_OF_SENTENCE = "</s>"
LONGEST_NGRAM = 100
FNV_BASIS, FNV_PRIME = 2166136261, 16777619


class FastTextVectors(Foreign):
    """A `.bin` file of fastText, not quantised."""

    what = "fastText, binary"

    def __init__(self, path: Path) -> None:
        self.path = path
        with Stream(path) as stream:
            self._header(stream)

    def fill(self, rows: Rows) -> None:
        """Fill the rows; see `Foreign`. Words that the file does not know get the vectors of their sub-words."""
        with Stream(self.path) as stream:
            self._header(stream)
            words = self._words(stream)
            has_rows = self._matrix(stream)
            known: dict[int, tuple[str, int]] = {}
            taken = Rows(rows.tokenizer, 1)  # decides between spellings
            one = np.ones(1, np.float32)
            for number, word in enumerate(words):
                row = taken.wanted(word)
                if row is not None:
                    taken.put(row, word, one, stream.place)
                    known[row] = word, number
            rows.num_others, rows.others = taken.num_others, taken.others
            wanted = {row: self._rows_of(word, number) for row, (word, number) in known.items()}
            wanted |= {row: self._rows_of(word, None) for word, row in taken.missing().items()}
            sums = self._sums(stream, wanted, has_rows, rows)
        words_of = {row: word for row, (word, _) in known.items()}
        vocabulary = {row: word for word, row in rows.vocabulary.items()}
        for row, parts in wanted.items():
            if parts:
                word = words_of.get(row, vocabulary[row])
                rows.put(row, word, sums[row] / len(parts), f"{self.path}, word {word!r}")

    def _header(self, stream: Stream) -> None:
        magic, version = stream.exactly(4), stream.unpack("i")[0]
        if magic != MAGIC or version not in VERSIONS:
            raise stream.damaged(f"version {version} of fastText's format; 11 and 12 are read")
        (
            self.dim, _, _, _, _, _, _, model, self.buckets, self.shortest, self.longest, _,
        ) = stream.unpack("12i")  # fmt: skip
        stream.unpack("d")
        check_size(self.dim, stream.place)
        if version == 11 and model == 3:
            self.longest = 0  # Supervised models of that version have no sub-words.
        size, self.num_words, _, _, pruned = stream.unpack("iiiqq")
        self.size = size
        if not 0 <= self.num_words <= size or size * SMALLEST_ENTRY > stream.most - stream.position:
            raise stream.damaged(f"damaged (a dictionary of {self.num_words:,} words and {size:,} entries)")
        if self.buckets < 0 or self.longest > LONGEST_NGRAM:
            raise stream.damaged(f"damaged ({self.buckets:,} buckets, sub-words of up to {self.longest} characters)")
        if pruned >= 0:
            raise self._quantised()

    def _words(self, stream: Stream) -> list[str]:
        """The words in the order of their rows; labels come after them."""
        words = []
        for number in range(self.size):
            word = stream.until(b"\0", LONGEST_WORD)
            stream.exactly(9)
            if number < self.num_words:
                words.append(word.decode("utf-8", "replace"))
        return words

    def _matrix(self, stream: Stream) -> int:
        """Read the size of the matrix, at whose first row the stream then stands, and return the number of rows."""
        if stream.unpack("B")[0]:
            raise self._quantised()
        count, dim = stream.unpack("qq")
        most = stream.most - stream.position
        if dim != self.dim or count < self.num_words or count * dim * 4 > most:
            raise stream.damaged(
                f"damaged or cut off (a matrix of {count:,} times {dim:,} numbers, for {self.num_words:,} words of "
                f"{self.dim:,}, and at most {most:,} bytes that follow)"
            )
        if self.longest > 0 and 0 < self.buckets != count - self.num_words:
            raise stream.damaged(f"damaged ({count - self.num_words:,} rows of sub-words, {self.buckets:,} buckets)")
        return int(count)

    def _rows_of(self, word: str, number: int | None) -> list[int]:
        own = [] if number is None else [number]
        if word == END_OF_SENTENCE or self.buckets == 0:
            return own
        hashes = ngram_hashes(word, self.shortest, self.longest)
        return own + [self.num_words + value % self.buckets for value in hashes]

    def _sums(self, stream: Stream, wanted: dict[int, list[int]], has_rows: int, rows: Rows) -> np.ndarray:
        """(vocab_size, dim) the sum of the rows of each word. The matrix is read once, from its first row on."""
        targets = np.array([row for row, parts in wanted.items() for _ in parts], np.int64)
        parts = np.array([part for parts in wanted.values() for part in parts], np.int64)
        order = np.argsort(parts, kind="stable")
        targets, parts = targets[order], parts[order]
        sums = np.zeros((rows.tokenizer.vocab_size, self.dim), np.float32)
        step = max(1, PIECE // (4 * self.dim))
        for first in range(0, has_rows, step):
            number = min(step, has_rows - first)
            here = slice(*np.searchsorted(parts, (first, first + number)))
            if here.start == here.stop:
                stream.skip(number * self.dim * 4)
                continue
            piece = np.frombuffer(stream.exactly(number * self.dim * 4), "<f4").reshape(number, self.dim)
            np.add.at(sums, targets[here], piece[parts[here] - first])
        return sums

    def _quantised(self) -> InputError:
        return InputError(
            "a quantised model of fastText (.ftz), whose vectors are only approximate, which is not read",
            "name the .bin file that it was made from",
            setting=SETTING,
            place=str(self.path),
        )


def ngram_hashes(word: str, shortest: int, longest: int) -> Iterator[int]:
    """The hashes of a word's n-grams, in fastText's order: FNV-1a of their UTF-8 bytes, which it takes as signed."""
    characters = [character.encode() for character in f"<{word}>"]
    for start in range(len(characters)):
        value = FNV_BASIS
        for size in range(1, min(longest, len(characters) - start) + 1):
            for byte in characters[start + size - 1]:
                value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * FNV_PRIME) & 0xFFFFFFFF
            is_edge = size == 1 and (start == 0 or start + size == len(characters))
            if size >= shortest and not is_edge:
                yield value
