"""From weights of tokens to weights of words: spans of the original text that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textattn.data.tokenizer import TokenizedText, grapheme_boundaries


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
    boundaries = grapheme_boundaries(text)
    spans: list[tuple[int, int, float]] = []
    previous: int | None = None
    for (start, end), word, weight in zip(tokenized.offsets, tokenized.word_ids, weights, strict=True):
        while start < end and text[start].isspace() and text[start] != "\t":
            start += 1
        start, end = boundaries[start][0], boundaries[max(end - 1, start)][1] if end > start else boundaries[start][0]
        if spans and (word == previous or start < spans[-1][1]):
            first, last, total = spans[-1]
            spans[-1] = (min(first, start), max(last, end), total + float(weight))
        else:
            spans.append((start, end, float(weight)))
        previous = word
    return [Word(text[start:end], start, end, weight) for start, end, weight in spans]
