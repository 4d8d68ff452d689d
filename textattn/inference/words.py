"""From tokens to words: spans of the original text that a person can read, and what each counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.tokens.pieces import between_flags, grapheme_boundaries
from textattn.tokens.tokenizer import TokenizedText

# Characters whose graphemes are looked at in one go, and the longest grapheme that may cross a passage's border.
PASSAGE = 2_000
LONGEST_GRAPHEME = 100


@dataclass(frozen=True)
class Word:
    """A piece of the original text and how much it counted."""

    text: str
    start: int
    """Characters of the original text, half-open."""
    end: int
    weight: float
    """Sum over the tokens of the word; over all words of a text attention sums to 1."""


class WordSpans(NamedTuple):
    """The words of a text."""

    spans: list[tuple[int, int]]
    """Characters of the original text, half-open; in order, never overlapping, never cutting through a grapheme."""
    word_of: NDArray[np.int64]
    """(tokens,) the word of each token."""
    repeats: list[tuple[int, int, int, float]]
    """Further places of a word: which, start, end, and the part of what it counts that counts there."""

    def words(self, text: str, weights: Sequence[float]) -> list[Word]:
        """The words with the sums of their tokens' weights, at each of their places a part of it."""
        sums = np.bincount(self.word_of, np.asarray(weights, np.float64), len(self.spans))
        here = np.ones(len(self.spans))
        for word, _, _, share in self.repeats:
            here[word] -= share
        places = [(start, end, float(weight)) for (start, end), weight in zip(self.spans, sums * here, strict=True)]
        places += [(start, end, float(sums[word] * share)) for word, start, end, share in self.repeats]
        return [Word(text[start:end], start, end, weight) for start, end, weight in sorted(places)]


def find_words(text: str, tokenized: TokenizedText) -> WordSpans:
    """Puts sub-words together, and tokens that share a grapheme (an emoji, an accent)."""
    spans: list[tuple[int, int]] = []
    word_of = np.zeros(len(tokenized.offsets), np.int64)
    previous: int | None = None
    graphemes = _Graphemes(text)
    # The elements of a formula are read in an order of their own.
    for token in sorted(range(len(word_of)), key=lambda i: tokenized.offsets[i][0]):
        (start, end), word = tokenized.offsets[token], tokenized.word_ids[token]
        while start < end and text[start].isspace() and text[start] != "\t":
            start += 1
        start, end = graphemes.around(start, end)
        if spans and (word == previous or start < spans[-1][1]):
            spans[-1] = (min(spans[-1][0], start), max(spans[-1][1], end))
        else:
            spans.append((start, end))
        word_of[token] = len(spans) - 1
        previous = word
    repeats = [
        (int(word_of[token]), *graphemes.around(start, end), share) for token, start, end, share in tokenized.repeats
    ]
    apart = [repeat for repeat in repeats if not any(a < repeat[2] and repeat[1] < b for a, b in spans)]
    return WordSpans(spans, word_of, apart)


def merge_words(text: str, tokenized: TokenizedText, weights: Sequence[float]) -> list[Word]:
    """Sums the weights of sub-words; spans never overlap and never cut through a grapheme (an emoji, an accent)."""
    return find_words(text, tokenized).words(text, weights)


class _Graphemes:
    """Whole graphemes around a span, found a passage at a time: for a book at once they would take a gigabyte."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.first = self.last = 0
        self.spans: list[tuple[int, int]] = []

    def around(self, start: int, end: int) -> tuple[int, int]:
        inside = self.spans and start >= self.first
        if not inside or end > (self.last - LONGEST_GRAPHEME if self.last < len(self.text) else self.last):
            self.first = between_flags(self.text, max(0, start - LONGEST_GRAPHEME))
            self.last = min(len(self.text), max(self.first + PASSAGE, end + LONGEST_GRAPHEME))
            self.spans = grapheme_boundaries(self.text[self.first : self.last])
        first = self.spans[start - self.first][0]
        last = self.spans[end - 1 - self.first][1] if end > start else first
        return self.first + first, self.first + last
