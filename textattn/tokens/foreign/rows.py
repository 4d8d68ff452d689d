"""What the readers of all formats share: the rows that they fill, and the contract of a reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.tokens.foreign.stream import SETTING
from textattn.tokens.tokenizer import TextTokenizer

# No published word vectors have more. A header that says so is damaged, or asks for memory.
MOST_DIMENSIONS = 8192
# Where a file has no word of the vocabulary, as many words of both are named, each with at most so many characters.
SHOWN, LONGEST_SHOWN = 5, 30


class Rows:
    """A matrix for the embedding that a reader fills with the vectors of the words of the vocabulary."""

    def __init__(self, tokenizer: TextTokenizer, dim: int) -> None:
        self.tokenizer = tokenizer
        words: dict[str, int] = tokenizer.backend.get_vocab()
        # A tokenizer made elsewhere may number its words with gaps; those above the last row have none.
        self.vocabulary = {word: row for word, row in words.items() if row < tokenizer.vocab_size}
        self.dim = dim
        self.matrix = np.zeros((tokenizer.vocab_size, dim), np.float32)
        """(vocab_size, dim); rows that were not found are zero."""
        self.found = np.zeros(tokenizer.vocab_size, bool)
        """(vocab_size,)"""
        self._exact = np.zeros(tokenizer.vocab_size, bool)
        self.num_others = 0
        """How many words of the file are not in the vocabulary."""
        self.others: list[str] = []
        """The first of these."""
        self._filled = False

    def wanted(self, word: str) -> int | None:
        """The row of a word of the file, looked up as it is, then in lower case; None if it has none, or a better
        vector.
        """
        row = self.vocabulary.get(word)
        if row is not None:
            return row
        row = self.vocabulary.get(word.lower())
        if row is None:
            self.num_others += 1
            if self.num_others <= SHOWN:
                self.others.append(word)
            return None
        return None if self._exact[row] else row

    def put(self, row: int, word: str, vector: NDArray[np.floating[Any]], place: str) -> None:
        """Fill a row that is `wanted`. A vector of zeros says nothing and is left out.

        Raises:
            InputError: a number is not finite.
        """
        if not np.isfinite(vector).all():
            raise InputError("a number is not finite", place=place)
        self._filled = True
        self.matrix[row] = vector
        self.found[row] = vector.any()
        self._exact[row] = word in self.vocabulary

    def missing(self) -> dict[str, int]:
        """The words without a vector, with their rows; no padding and no unknown word."""
        special = (self.tokenizer.pad_id, self.tokenizer.unk_id)
        words = ((word, row) for word, row in self.vocabulary.items() if row not in special)
        return {word: row for word, row in words if not self.found[row]}

    def nothing_found(self) -> str:
        """Why no word has a vector."""
        if self._filled:
            return "the vectors of all words that it shares with the vocabulary are zero"
        found = "contains no word of the vocabulary"
        if self.num_others:
            own = [word for word, _ in sorted(self.missing().items(), key=lambda item: item[1])]
            found += f"; it has {_listed(self.others, self.num_others)}, the vocabulary {_listed(own, len(own))}"
        return found


def _listed(words: list[str], number: int) -> str:
    """3,000 words (der, die, das, …)"""
    first = [word if len(word) <= LONGEST_SHOWN else f"{word[: LONGEST_SHOWN - 1]}…" for word in words[:SHOWN]]
    more = ["…"] if number > SHOWN else []
    return f"{number:,} word{'s' * (number != 1)}" + (f" ({', '.join([*first, *more])})" if first else "")


class Foreign(ABC):
    """A file or folder of vectors in one format. Opening it reads no more than is needed to know its size."""

    what: str
    """The name of the format, for messages."""
    path: Path
    dim: int
    """The size of a vector."""

    @abstractmethod
    def fill(self, rows: Rows) -> None:
        """Fill the rows of the words that the file has.

        Raises:
            InputError: the file is damaged; the place is named.
        """


def check_size(dim: int, place: str) -> None:
    """Raises InputError for a size of vectors that cannot be meant."""
    if not 1 <= dim <= MOST_DIMENSIONS:
        raise InputError(
            f"damaged (vectors of {dim:,} numbers; 1 to {MOST_DIMENSIONS:,} are read)",
            "copy or download the file again",
            setting=SETTING,
            place=place,
        )
