"""From weights of tokens to weights of words: spans of the original text that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textattn.data.tokenizer import TokenizedText, between_flags, grapheme_boundaries

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


def merge_words(text: str, tokenized: TokenizedText, weights: Sequence[float]) -> list[Word]:
    """Sums the weights of sub-words; spans never overlap and never cut through a grapheme (an emoji, an accent)."""
    spans: list[tuple[int, int, float]] = []
    previous: int | None = None
    graphemes = _Graphemes(text)
    for (start, end), word, weight in zip(tokenized.offsets, tokenized.word_ids, weights, strict=True):
        while start < end and text[start].isspace() and text[start] != "\t":
            start += 1
        start, end = graphemes.around(start, end)
        if spans and (word == previous or start < spans[-1][1]):
            first, last, total = spans[-1]
            spans[-1] = (min(first, start), max(last, end), total + float(weight))
        else:
            spans.append((start, end, float(weight)))
        previous = word
    return [Word(text[start:end], start, end, weight) for start, end, weight in spans]


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
