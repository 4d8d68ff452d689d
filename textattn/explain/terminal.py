"""An explanation as lines for a terminal: the text with its words highlighted, the answer, and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from textattn.explain.explanations import Explanation
from textattn.explain.folding import Fold, fold
from textattn.explain.sums import sum_line
from textattn.explain.windows import Window
from textattn.explain.windows import strongest as strongest_windows
from textattn.inference.words import Word


@dataclass(frozen=True)
class Palette:
    """Styles of rich, each from weak to strong: black on a pale to a strong colour, readable on a dark and on a light
    terminal. Orange and blue are told apart by the colour-blind too.
    """

    attention: tuple[str, str, str, str]
    positive: tuple[str, str, str, str]
    negative: tuple[str, str, str, str]
    unmarked: str


# All are among the 256 colours, so a terminal with no more than those shows the same.
PALETTE = Palette(
    ("black on #ffffd7", "black on #ffffaf", "black on #ffff5f", "bold black on #ffd700"),
    ("black on #d7ffff", "black on #afd7ff", "black on #87d7ff", "bold black on #5fafff"),
    ("black on #ffd7d7", "black on #ffd7af", "black on #ffaf87", "bold black on #ff875f"),
    "on #bcbcbc",
)
# For terminals with 16 colours, of which each has its own idea.
PALETTE_16 = Palette(
    ("yellow", "black on yellow", "black on yellow", "bold black on bright_yellow"),
    ("cyan", "black on cyan", "black on cyan", "bold black on bright_cyan"),
    ("red", "bright_white on red", "bright_white on red", "bold black on bright_red"),
    "on white",
)
# From this strength on a word is marked; without colour there are only brackets, kept for stronger words.
LEAST_SHADED = 0.1
LEAST_BRACKETED = 0.25
BAR = 20
ROWS_OF_WINDOWS = 3

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
    palette: Palette = PALETTE
    """The colours."""


def render(explanation: Explanation, view: View, gold: Sequence[str] | None = None) -> Iterator[Line]:
    """Lines to print; the first holds the text as it is, line ends and all.

    Args:
        gold: the true labels, where known.
    """
    scale = _Scale(explanation, view.palette)
    yield highlight(explanation, view) if explanation.text.strip() else [("(an empty text)", "")]
    yield []
    yield _answer(explanation, view, gold)
    if explanation.signed:
        yield from _what_is_explained(explanation, view)
    if explanation.truncated:
        yield [("The text is longer than the model reads; the rest was left out.", "")]
    words = zip(explanation.words, explanation.word_attention, strict=True)
    strongest = sorted((pair for pair in words if pair[0].text.strip()), key=lambda pair: -abs(pair[0].weight))
    if strongest[: view.rows]:
        yield []
        yield from _table(strongest[: view.rows], scale, view, with_attention=explanation.shows_attention)
    if view.rows and explanation.windows is not None and len(explanation.windows) > 1:
        yield []
        yield from _windows(explanation, explanation.windows, scale, view)


class _Scale:
    """How strongly a word is marked, from 0 to 1, and how it looks.

    Attention: 0 for an equal share or less, towards 1 for far more. Else: the part of the strongest word's weight.
    """

    def __init__(self, explanation: Explanation, palette: Palette) -> None:
        words = explanation.words
        self.palette = palette
        self.signed = explanation.signed
        self.equal_share = 0.0 if self.signed else 1 / max(len(words), 1)
        self.top = max((abs(word.weight) for word in words), default=0.0) or 1.0

    def strength(self, word: Word) -> float:
        return max(abs(word.weight) - self.equal_share, 0.0) / self.top if word.text.strip() else 0.0

    def shade(self, word: Word) -> str:
        strength = self.strength(word)
        palette = self.palette
        shades = palette.attention if not self.signed else palette.positive if word.weight > 0 else palette.negative
        return shades[min(int(strength * len(shades)), len(shades) - 1)] if strength >= LEAST_SHADED else ""

    def bracketed(self, word: Word) -> str:
        if self.strength(word) < LEAST_BRACKETED:
            return word.text
        return f"{{{word.text}}}" if self.signed and word.weight < 0 else f"[{word.text}]"


def highlight(explanation: Explanation, view: View) -> Line:
    """The original text, its words marked where they count for something."""
    color = view.color
    scale = _Scale(explanation, view.palette)
    left_out = fold(explanation.text, explanation.words, scale.strength) if view.folded else []
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
    if prediction.is_number:
        interval = "" if prediction.interval is None else "  90 % interval: {} to {}".format(*prediction.interval)
        truth = "" if gold is None else f"  true: {', '.join(gold)}"
        return [(f"{prediction.label}: ", ""), (prediction.shown_score, bold), (interval + truth, "")]
    true: Line = []
    if gold is not None:
        true = [(f"  true: {', '.join(gold)} ({'right' if set(gold) == set(given) else 'wrong'})", "")]
    if not view.multi_label:
        return [("label: ", ""), (prediction.label, bold), (f"  score: {prediction.score:.4f}", ""), *true]
    line: Line = [("labels: ", "")]
    for label in prediction.labels:
        line += [("" if len(line) == 1 else ", ", ""), (label, bold), (f" {prediction.scores[label]:.4f}", "")]
    return [*(line if prediction.labels else [("labels: none", "")]), *true]


def _what_is_explained(explanation: Explanation, view: View) -> Iterator[Line]:
    """The method, the question it answers, what the marks mean, and what the weights add up to."""
    target, other = explanation.target, explanation.against
    line: Line = [(f"{explanation.method}: why {target}{f' rather than {other}' if other else ''}?  ", "")]
    above, below = ("more", "less") if explanation.prediction.is_number else (f"for {target}", f"against {target}")
    if view.color:
        palette = view.palette
        line += [(f" {above} ", palette.positive[2]), (" ", ""), (f" {below} ", palette.negative[2])]
    else:
        line.append((f"[{above}] {{{below}}}", ""))
    yield line
    error = explanation.completeness_error
    if error is not None and error > 0.01:
        yield [(f"The weights' sum is {error:.0%} off the change that they are shares of.", "")]
    if explanation.total is not None:
        yield [(sum_line(explanation, explanation.total), "")]


def _table(pairs: list[tuple[Word, float]], scale: _Scale, view: View, *, with_attention: bool) -> Iterator[Line]:
    """The words with their weights, and if wanted the attention that each received."""
    color, width = view.color, view.width
    words = [word for word, _ in pairs]
    bar = max(min(BAR, width - (41 if with_attention else 30)), 5)
    room = max(width - bar - (25 if with_attention else 14), 8)
    shown = [_shorten(word.text, room) for word in words]
    widest = max(4, *map(cell_len, shown))
    equal = "" if scale.signed else f"  (an equal share is {scale.equal_share:.4f})"
    other = "  attention" if with_attention else ""
    yield [(f"{'word':<{widest}}  {'   weight' if scale.signed else 'attention'}{other}{equal}", "")]
    for text, (word, attention) in zip(shown, pairs, strict=True):
        length = round(bar * abs(word.weight) / scale.top)
        sign = "-" if scale.signed and word.weight < 0 else "#"
        mark = (" " * length, scale.shade(word) or view.palette.unmarked) if color else (sign * length, "")
        gap = "  " if length else ""
        number = f"{word.weight:+9.4f}" if scale.signed else f"{word.weight:9.4f}"
        number += f"  {attention:9.4f}" if with_attention else ""
        yield [(f"{text}{' ' * (widest - cell_len(text))}  {number}{gap}", ""), mark]


def _windows(explanation: Explanation, windows: Sequence[Window], scale: _Scale, view: View) -> Iterator[Line]:
    """The windows that count most, each with its strongest word and its first words."""
    of_weight = "   weight  " if scale.signed else ""
    yield [(f"{of_weight}attention  passage (of {len(windows):,})", "")]
    room = max(view.width - (22 if scale.signed else 11), 8)
    for window in strongest_windows(windows, ROWS_OF_WINDOWS):
        number = f"{window.weight:+9.4f}  " if scale.signed else ""
        inside = [word for word in explanation.words if window.start <= word.start < window.end]
        top = max(inside, key=lambda word: abs(word.weight), default=None)
        # Its beginning, or what stands around its strongest word if that comes later.
        start = window.start
        if top is not None and top.end > window.start + room - 2:
            start = next(word.start for word in inside if word.start >= top.start - room // 2)
        passage = ("…" if start > window.start else "") + explanation.text[start : window.end]
        yield [(f"{number}{window.attention:9.4f}  {_shorten(passage, room)}", "")]


def _shorten(text: str, width: int) -> str:
    # A character takes at most two cells, or none; a word may have 100,000 of them.
    text = " ".join(text.split())
    cells = 0
    for position, character in enumerate(text):
        cells += cell_len(character)
        if cells >= width and (cells > width or position + 1 < len(text)):
            return text[:position] + "…"
    return text
