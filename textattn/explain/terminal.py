"""An explanation as lines for a terminal: the text with its words highlighted, the answer, and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from textattn.explain.explanations import Explanation
from textattn.explain.folding import Fold, fold
from textattn.inference.words import Word

# Black on a pale to a strong colour: readable on a dark and on a light terminal. Orange and blue are told apart by the
# colour-blind too.
SHADES = ("black on #fff0c2", "black on #ffd27a", "black on #ffae42", "bold black on #ff8000")
FOR = ("black on #dcecfb", "black on #aed4f7", "black on #7cbbf2", "bold black on #4aa0ec")
AGAINST = ("black on #ffe3d3", "black on #ffc2a0", "black on #ff9d6c", "bold black on #f97a3c")
UNMARKED = "on #b8b8b8"
# From this strength on a word is marked; without colour there are only brackets, kept for stronger words.
LEAST_SHADED = 0.1
LEAST_BRACKETED = 0.25
BAR = 20

Line = list[tuple[str, str]]
"""Pieces of text, each with a style of rich ("" for none)."""


@dataclass(frozen=True)
class View:
    """How to show explanations."""

    rows: int
    """Rows in the table of the strongest words."""
    width: int
    """Cells of the terminal, for the table."""
    color: bool
    """Whether colour marks words; without it the strongest words stand in brackets."""
    multi_label: bool
    """Whether to name all labels given."""
    folded: bool = False
    """Whether to leave out those passages of a long text in which no word is marked."""


def render(explanation: Explanation, view: View, gold: Sequence[str] | None = None) -> Iterator[Line]:
    """Lines to print; the first holds the text as it is, line ends and all.

    Args:
        gold: the true labels, where known.
    """
    color = view.color
    yield highlight(explanation, color, view.folded) if explanation.text.strip() else [("(an empty text)", "")]
    yield []
    yield _answer(explanation, view, gold)
    if explanation.signed:
        yield from _what_is_explained(explanation, color)
    elif explanation.target not in (explanation.prediction.label, *explanation.prediction.labels):
        score = explanation.prediction.scores[explanation.target]
        yield [(f"target: {explanation.target}  score: {score:.4f}", "")]
        yield [("Attention is the same for every label.", "")]
    if explanation.truncated:
        yield [("The text is longer than the model reads; the rest was left out.", "")]
    strongest = sorted((w for w in explanation.words if w.text.strip()), key=lambda w: -abs(w.weight))[: view.rows]
    if strongest:
        yield []
        yield from _table(strongest, _Scale(explanation), color, view.width)


class _Scale:
    """How strongly a word is marked, from 0 to 1, and how it looks.

    Attention: 0 for an equal share or less, towards 1 for far more. Else: the part of the strongest word's weight.
    """

    def __init__(self, explanation: Explanation) -> None:
        words = explanation.words
        self.signed = explanation.signed
        self.equal_share = 0.0 if self.signed else 1 / max(len(words), 1)
        self.top = max((abs(word.weight) for word in words), default=0.0) or 1.0

    def strength(self, word: Word) -> float:
        return max(abs(word.weight) - self.equal_share, 0.0) / self.top if word.text.strip() else 0.0

    def shade(self, word: Word) -> str:
        strength = self.strength(word)
        shades = SHADES if not self.signed else FOR if word.weight > 0 else AGAINST
        return shades[min(int(strength * len(shades)), len(shades) - 1)] if strength >= LEAST_SHADED else ""

    def bracketed(self, word: Word) -> str:
        if self.strength(word) < LEAST_BRACKETED:
            return word.text
        return f"{{{word.text}}}" if self.signed and word.weight < 0 else f"[{word.text}]"


def highlight(explanation: Explanation, color: bool, folded: bool = False) -> Line:
    """The original text, its words marked where they count for something."""
    scale = _Scale(explanation)
    left_out = fold(explanation.text, explanation.words, scale.strength) if folded else []
    line: Line = []
    position = 0
    for word in explanation.words:
        while left_out and left_out[0].start <= word.start:
            passage = left_out.pop(0)
            line += [(explanation.text[position : passage.start], ""), _gap(passage, color)]
            position = passage.end
        if word.start < position:
            continue
        line.append((explanation.text[position : word.start], ""))
        line.append((word.text, scale.shade(word)) if color else (scale.bracketed(word), ""))
        position = word.end
    line.append((explanation.text[position:], ""))
    return line


def _gap(passage: Fold, color: bool) -> tuple[str, str]:
    return f"[… {passage.num_words} words …] ", "dim" if color else ""


def _answer(explanation: Explanation, view: View, gold: Sequence[str] | None) -> Line:
    prediction = explanation.prediction
    bold = "bold" if view.color else ""
    given = prediction.labels if view.multi_label else [prediction.label]
    true: Line = []
    if gold is not None:
        true = [(f"  true: {', '.join(gold)} ({'right' if set(gold) == set(given) else 'wrong'})", "")]
    if not view.multi_label:
        return [("label: ", ""), (prediction.label, bold), (f"  score: {prediction.score:.4f}", ""), *true]
    line: Line = [("labels: ", "")]
    for label in prediction.labels:
        line += [("" if len(line) == 1 else ", ", ""), (label, bold), (f" {prediction.scores[label]:.4f}", "")]
    return [*(line if prediction.labels else [("labels: none", "")]), *true]


def _what_is_explained(explanation: Explanation, color: bool) -> Iterator[Line]:
    """The method, the question it answers, and what the marks mean."""
    target, other = explanation.target, explanation.against
    line: Line = [(f"{explanation.method}: why {target}{f' rather than {other}' if other else ''}?  ", "")]
    if color:
        line += [(f" for {target} ", FOR[2]), (" ", ""), (f" against {target} ", AGAINST[2])]
    else:
        line.append((f"[for {target}] {{against {target}}}", ""))
    yield line
    error = explanation.completeness_error
    if error is not None and error > 0.01:
        yield [(f"The weights' sum is {error:.0%} off the change that they are shares of.", "")]


def _table(words: list[Word], scale: _Scale, color: bool, width: int) -> Iterator[Line]:
    bar = max(min(BAR, width - 30), 5)
    room = max(width - bar - 14, 8)
    shown = [_shorten(word.text, room) for word in words]
    widest = max(4, *map(cell_len, shown))
    equal = "" if scale.signed else f"  (an equal share is {scale.equal_share:.4f})"
    yield [(f"{'word':<{widest}}  {'   weight' if scale.signed else 'attention'}{equal}", "")]
    for text, word in zip(shown, words, strict=True):
        length = round(bar * abs(word.weight) / scale.top)
        sign = "-" if scale.signed and word.weight < 0 else "#"
        mark = (" " * length, scale.shade(word) or UNMARKED) if color else (sign * length, "")
        gap = "  " if length else ""
        number = f"{word.weight:+9.4f}" if scale.signed else f"{word.weight:9.4f}"
        yield [(f"{text}{' ' * (widest - cell_len(text))}  {number}{gap}", ""), mark]


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return text + "…"
