"""An explanation as lines for a terminal: the text with its words highlighted, the answer, and a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len

from textattn.explain.explanations import Explanation
from textattn.runtime.words import Word

# Black on pale to strong orange: readable on a dark and on a light terminal, and for the colour-blind.
SHADES = ("black on #fff0c2", "black on #ffd27a", "black on #ffae42", "bold black on #ff8000")
UNMARKED = "on #b8b8b8"
# From this strength on a word is marked; without colour there is one mark only, kept for stronger words.
LEAST_SHADED = 0.1
LEAST_BRACKETED = 0.25
BAR = 20

Line = list[tuple[str, str]]
"""Pieces of text, each with a style of rich ("" for none)."""


def render(explanation: Explanation, words: int, *, color: bool, multi_label: bool, width: int) -> Iterator[Line]:
    """Lines to print; the first holds the text as it is, line ends and all.

    Args:
        words: rows of the table.
        color: highlight by colour; without it the strongest words stand in square brackets.
        multi_label: name all labels given.
        width: cells of the terminal, for the table.
    """
    yield highlight(explanation, color) if explanation.text.strip() else [("(an empty text)", "")]
    yield []
    yield _answer(explanation, color, multi_label)
    if explanation.target not in (explanation.prediction.label, *explanation.prediction.labels):
        score = explanation.prediction.scores[explanation.target]
        yield [(f"target: {explanation.target}  score: {score:.4f}", "")]
        yield [("Attention is the same for every label.", "")]
    if explanation.truncated:
        yield [("The text is longer than the model reads; the rest was left out.", "")]
    strongest = sorted((w for w in explanation.words if w.text.strip()), key=lambda w: -w.weight)[:words]
    if strongest:
        yield []
        yield from _table(strongest, _Scale(explanation.words), color, width)


class _Scale:
    """How strongly a word is marked: 0 for an equal share of the attention or less, towards 1 for far more."""

    def __init__(self, words: list[Word]) -> None:
        self.equal_share = 1 / max(len(words), 1)
        self.top = max((word.weight for word in words), default=1.0)

    def strength(self, word: Word) -> float:
        return max(word.weight - self.equal_share, 0.0) / self.top if word.text.strip() else 0.0

    def shade(self, word: Word) -> str:
        strength = self.strength(word)
        return SHADES[min(int(strength * len(SHADES)), len(SHADES) - 1)] if strength >= LEAST_SHADED else ""


def highlight(explanation: Explanation, color: bool) -> Line:
    """The original text, its words marked where they have more than an equal share of the attention."""
    scale = _Scale(explanation.words)
    line: Line = []
    position = 0
    for word in explanation.words:
        line.append((explanation.text[position : word.start], ""))
        if color:
            line.append((word.text, scale.shade(word)))
        else:
            line.append((f"[{word.text}]" if scale.strength(word) >= LEAST_BRACKETED else word.text, ""))
        position = word.end
    line.append((explanation.text[position:], ""))
    return line


def _answer(explanation: Explanation, color: bool, multi_label: bool) -> Line:
    prediction = explanation.prediction
    bold = "bold" if color else ""
    if not multi_label:
        return [("label: ", ""), (prediction.label, bold), (f"  score: {prediction.score:.4f}", "")]
    line: Line = [("labels: ", "")]
    for label in prediction.labels:
        line += [("" if len(line) == 1 else ", ", ""), (label, bold), (f" {prediction.scores[label]:.4f}", "")]
    return line if prediction.labels else [("labels: none", "")]


def _table(words: list[Word], scale: _Scale, color: bool, width: int) -> Iterator[Line]:
    bar = max(min(BAR, width - 30), 5)
    room = max(width - bar - 14, 8)
    shown = [_shorten(word.text, room) for word in words]
    widest = max(4, *map(cell_len, shown))
    yield [(f"{'word':<{widest}}  attention  (an equal share is {scale.equal_share:.4f})", "")]
    for text, word in zip(shown, words, strict=True):
        length = round(bar * word.weight / scale.top)
        mark = (" " * length, scale.shade(word) or UNMARKED) if color else ("#" * length, "")
        gap = "  " if length else ""
        yield [(f"{text}{' ' * (widest - cell_len(text))}  {word.weight:9.4f}{gap}", ""), mark]


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return text + "…"
