"""Answers as a notebook shows them: fragments of HTML with inline styles, for light and dark backgrounds, no scripts.

Jupyter and its kin call `_repr_html_` of the value of a cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from textattn.inference.markup import shown

if TYPE_CHECKING:
    from textattn.inference.classifier import Prediction

T = TypeVar("T")
# Answers that are shown of a list; a notebook keeps in its file what it shows.
MOST_SHOWN = 50
# Labels that were not given are shown with their probability, the most probable ones.
MOST_OTHERS = 4
# The colour is inherited, so that it fits the background.
MUTED = "opacity:.75"


class Answers(list[T]):
    """A list of answers that a notebook shows one below the other. In all other respects it is a list."""

    def _repr_html_(self) -> str:
        # Answers know how they look; anything else that was put into the list is shown as Python writes it.
        parts = [_html_of(answer) for answer in self[:MOST_SHOWN]]
        if len(self) > MOST_SHOWN:
            parts.append(f'<div style="{MUTED}">… and {len(self) - MOST_SHOWN:,} more</div>')
        return "".join(parts) or f'<div style="{MUTED}">(no texts)</div>'


def _html_of(answer: object) -> str:
    make = getattr(answer, "_repr_html_", None)
    return make() if make is not None else f"<div>{shown(repr(answer))}</div>"


def prediction_html(prediction: Prediction) -> str:
    """The labels given with their probabilities, then the most probable of the others; or the number."""
    others = sorted(set(prediction.scores) - set(prediction.labels), key=lambda label: -prediction.scores[label])
    rest = _scored(prediction, others[:MOST_OTHERS], "span")
    if len(others) > MOST_OTHERS:
        rest.append(f"{len(others) - MOST_OTHERS:,} more")
    shown_rest = f' <span style="{MUTED}">· {" · ".join(rest)}</span>' if rest else ""
    return f"<div>{answer_html(prediction)}{shown_rest}</div>"


def answer_html(prediction: Prediction) -> str:
    """The labels given with their probabilities, within a line."""
    if prediction.is_number:
        interval = "" if prediction.interval is None else " ({} to {})".format(*prediction.interval)
        return f"<bdi>{shown(prediction.label)}</bdi> <b>{prediction.shown_score}</b>{interval}"
    return " · ".join(_scored(prediction, prediction.labels, "b")) or "<b>no label</b>"


def _scored(prediction: Prediction, labels: Iterable[str], tag: str) -> list[str]:
    return [f"<{tag}><bdi>{shown(label)}</bdi></{tag}> {prediction.scores[label]:.3f}" for label in labels]
