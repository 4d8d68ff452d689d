"""An explanation as lines for a terminal: the text with its words highlighted, the answer, and a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from textattn.runtime.classifier import Explanation
from textattn.runtime.words import Word

# Black on pale to strong orange: readable on a dark and on a light terminal, and for the colour-blind.
SHADES = ("black on #fff0c2", "black on #ffd27a", "black on #ffae42", "bold black on #ff8000")
BAR = 20


def render(explanation: Explanation, words: int, *, color: bool, multi_label: bool, width: int) -> Iterator[Text]:
    """Lines to print.

    Args:
        words: rows of the table.
        color: highlight by colour; without it the strongest words stand in square brackets.
    """
    yield highlight(explanation, color)
    prediction = explanation.prediction
    if multi_label:
        given = ", ".join(f"{label} {prediction.scores[label]:.4f}" for label in prediction.labels)
        yield Text(f"\nlabels: {given or 'none'}")
    else:
        yield Text.assemble(
            "\nlabel: ", (prediction.label, "bold" if color else ""), f"  score: {prediction.score:.4f}"
        )
    if explanation.truncated:
        yield Text("The text is longer than the model reads; the rest was left out.")
    strongest = sorted((w for w in explanation.words if w.text.strip()), key=lambda w: -w.weight)[:words]
    if strongest:
        yield Text("")
        yield from _table(strongest, width)


def highlight(explanation: Explanation, color: bool) -> Text:
    """The original text, its words shaded by attention relative to the strongest one."""
    text = Text()
    top = max((word.weight for word in explanation.words), default=1.0)
    # Below an equal share of attention nothing is worth marking.
    floor = 1.0 / max(len(explanation.words), 1)
    position = 0
    for word in explanation.words:
        text.append(explanation.text[position : word.start])
        share = word.weight / top
        if not word.text.strip() or word.weight < floor or share < 0.1:
            text.append(word.text)
        elif color:
            text.append(word.text, SHADES[min(int(share * len(SHADES)), len(SHADES) - 1)])
        else:
            text.append(f"[{word.text}]" if share >= 0.25 else word.text)
        position = word.end
    text.append(explanation.text[position:])
    return text


def _table(words: list[Word], width: int) -> Iterator[Text]:
    bar = max(min(BAR, width - 30), 5)
    room = max(width - bar - 14, 8)
    shown = [_shorten(word.text, room) for word in words]
    widest = max(4, *(cell_len(s) for s in shown))
    yield Text(f"{'word':<{widest}}  attention")
    top = max(word.weight for word in words)
    for text, word in zip(shown, words, strict=True):
        marks = "#" * max(round(bar * word.weight / top), 0) if top else ""
        yield Text(f"{text}{' ' * (widest - cell_len(text))}  {word.weight:9.4f}  {marks}".rstrip())


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return text + "…"
