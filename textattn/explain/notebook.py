"""An explanation as a notebook shows it: the answer, and the text with its words marked."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from textattn.explain.marks import marked_words, sum_html
from textattn.inference.markup import shown, visible
from textattn.inference.notebook import MUTED, answer_html

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation

# Red, green, blue of each hue. They cover the background in part, so that a stronger word stands out more on a dark one
# as well as on a light one, and the letters keep their colour.
_COLORS = {"a": "215,130,0", "p": "45,120,220", "c": "215,85,35"}
_OPACITY = 0.13
# Signs are told apart without colours too.
_LINES = {"a": "", "p": ";text-decoration:underline solid", "c": ";text-decoration:underline dashed"}
_TEXT = "white-space:pre-wrap;line-height:1.7;max-width:50em;max-height:24em;overflow:auto"


def explanation_html(explanation: Explanation) -> str:
    """The answer with the question, the text, and for contributions their sum."""
    notes = [sum_html(explanation)]
    if explanation.truncated:
        notes.append("The text is longer than the model reads; the rest was left out.")
    below = "".join(f'<div style="{MUTED};font-size:.9em">{note}</div>' for note in notes if note)
    return (
        f'<div style="margin:.5em 0 1em"><div>{answer_html(explanation.prediction)} {_question(explanation)}</div>'
        f'<div dir="auto" style="{_TEXT}">{_body(explanation)}</div>{below}</div>'
    )


def _question(explanation: Explanation) -> str:
    """What is explained, by which method, and what the colours mean."""
    method = shown(explanation.method)
    if not explanation.signed:
        return f'<span style="{MUTED}">({method}: where it looked)</span>'
    other = "" if explanation.against is None else f" rather than <bdi>{shown(explanation.against)}</bdi>"
    why = f"({method}: why <bdi>{shown(explanation.target)}</bdi>{other}?"
    return (
        f'<span style="{MUTED}">{why}</span> {_mark("p3", "", "for")} {_mark("c3", "", "against")}'
        f'<span style="{MUTED}">)</span>'
    )


def _body(explanation: Explanation) -> str:
    if not explanation.text.strip():
        return f'<span style="{MUTED}">(an empty text)</span>'
    text, position, parts = visible(explanation.text), 0, []
    for word, shade, weight in marked_words(explanation):
        parts.append(escape(text[position : word.start]))
        parts.append(_mark(shade, f' title="{weight}"', escape(text[word.start : word.end])))
        position = word.end
    return "".join(parts) + escape(text[position:])


def _mark(shade: str, title: str, content: str) -> str:
    color = f"rgba({_COLORS[shade[0]]},{_OPACITY * int(shade[1:]):.2f})"
    style = f"background:{color};color:inherit;border-radius:3px;padding:.1em .05em{_LINES[shade[0]]}"
    return f'<mark{title} style="{style}">{content}</mark>'
