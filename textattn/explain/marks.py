"""How strongly the words of an explanation are marked in HTML, and how numbers are written there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textattn.explain.sums import sum_line
from textattn.inference.markup import shown

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.inference.words import Word

# Shades of a hue; a word is marked from this strength on.
SHADES = 4
LEAST_SHADED = 0.15


def strengths(explanation: Explanation) -> list[float]:
    """For each word, from -1 to 1: against the target or for it; of attention: what is over an equal share."""
    words = explanation.words
    top = max((abs(word.weight) for word in words), default=0.0) or 1.0
    floor = 0.0 if explanation.signed else 1 / max(len(words), 1)
    return [
        (word.weight if explanation.signed else max(word.weight - floor, 0.0)) / top if word.text.strip() else 0.0
        for word in words
    ]


def marked_words(explanation: Explanation) -> Iterator[tuple[Word, str, str]]:
    """The words that are marked, each with its shade (`a4`: see `hue`, from 1 to SHADES) and its weight in letters."""
    for word, strength in zip(explanation.words, strengths(explanation), strict=True):
        if abs(strength) >= LEAST_SHADED:
            level = min(int(abs(strength) * SHADES) + 1, SHADES)
            yield word, f"{hue(strength, explanation.signed)}{level}", number(word.weight, explanation.signed)


def hue(weight: float, signed: bool) -> str:
    """`a`: attention, `p`: for the label, `c`: against it."""
    return "a" if not signed else "p" if weight > 0 else "c"


def number(weight: float, signed: bool) -> str:
    """Three digits, with a sign if weights have one."""
    return f"{weight:{'+' if signed else ''}#.3g}".rstrip(".").replace("-", "−")


def sum_html(explanation: Explanation) -> str:
    """How contributions lead to the answer; "" for other methods."""
    if explanation.total is None:
        return ""
    return sum_line(
        explanation, explanation.total, decimals=3, minus="−", name=lambda label: f"<bdi>{shown(label)}</bdi>"
    )
