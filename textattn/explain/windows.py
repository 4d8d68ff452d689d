"""The windows of a document that is read window by window: how much attention each received, and what it counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A window of a text."""

    start: int
    """Characters of the text, half-open, from its first token to its last."""
    end: int
    attention: float
    """The share of the attention on it; the shares of all windows of a text sum to 1."""
    weight: float
    """The sum of the weights of its tokens."""


def windows_of(
    size: int, offsets: Sequence[tuple[int, int]], weights: Sequence[float], attention: Sequence[float]
) -> list[Window]:
    """The windows of a text.

    Args:
        size: tokens of a window.
        offsets: for each token its characters of the text, half-open.
        weights: for each token what it counts.
        attention: for each token its share of the attention.
    """
    return [
        Window(
            min(start for start, _ in offsets[first : first + size]),
            max(end for _, end in offsets[first : first + size]),
            float(sum(attention[first : first + size])),
            float(sum(weights[first : first + size])),
        )
        for first in range(0, len(offsets), size)
    ]


def strongest(windows: Sequence[Window], number: int) -> list[Window]:
    """The windows that count most, the first one first."""
    return sorted(windows, key=lambda window: -abs(window.weight))[:number]
