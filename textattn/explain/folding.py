"""Which passages of a long text can be left out without losing a word that counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textattn.inference.words import Word

# Texts of at most so many words are shown in full; of longer ones the most telling passages, up to about so many words.
SHORT = 120
LEAST_TELLING = 0.1
# A passage with so strong a word is shown even where that makes twice as many.
STRONG = 0.4
# A passage ends after a sentence or a line.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+[”」』）]*\s*|\s*\n\s*")


@dataclass(frozen=True)
class Fold:
    """A passage left out."""

    start: int
    """Characters of the text, half-open."""
    end: int
    num_words: int


def fold(text: str, words: Sequence[Word], strength: Callable[[Word], float]) -> list[Fold]:
    """The passages to leave out, in order: of a long text all but the most telling, none of a short one.

    Args:
        strength: how much a word counts, from 0 to 1.
    """
    if len(words) <= SHORT:
        return []
    passages = _passages(text, words)
    telling = sorted(range(len(passages)), key=lambda p: -max((strength(word) for word in passages[p][2]), default=0.0))
    kept: set[int] = set()
    room = SHORT
    for number in telling:
        inside = passages[number][2]
        if kept and (len(inside) > room or max((strength(word) for word in inside), default=0.0) < LEAST_TELLING):
            continue
        kept.add(number)
        room -= len(inside)
    folds: list[Fold] = []
    for number, (start, end, inside) in enumerate(passages):
        if number in kept:
            continue
        if folds and folds[-1].end == start:
            folds[-1] = Fold(folds[-1].start, end, folds[-1].num_words + len(inside))
        else:
            folds.append(Fold(start, end, len(inside)))
    return [passage for passage in folds if passage.num_words]


def _passages(text: str, words: Sequence[Word]) -> list[tuple[int, int, list[Word]]]:
    """Start, end and words of each sentence or line; a word never lies in two."""
    ends = [match.end() for match in _END.finditer(text)] + [len(text)]
    passages: list[tuple[int, int, list[Word]]] = []
    start = index = 0
    for end in dict.fromkeys(ends):
        inside = []
        while index < len(words) and words[index].start < end:
            inside.append(words[index])
            index += 1
        if inside and inside[-1].end > end:
            end = inside[-1].end
        if end > start:
            passages.append((start, end, inside))
            start = end
    return passages
