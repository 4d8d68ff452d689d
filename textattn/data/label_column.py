"""What a label column looks like when its labels are no classes: numbers, dates, ids, whole texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError

_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[0-9]+")
_DATE = re.compile(r"([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4})([T ].*)?")
# Fewer labels than this may be classes, whatever they look like.
FEWEST_LABELS = 20
# Share of the labels that must look like numbers or dates.
MOST = 0.9
# Labels are ids or texts if they are more than this share of the rows: then nearly every row is a label of its own.
UNIQUE = 0.9
# Numbers and dates with fewer rows a label than this are measured, not chosen from a list.
ROWS_OF_A_LABEL = 3
# Words of a label, on average, from which it is a text.
WORDS = 5

KINDS = {
    "numbers": "numbers",
    "dates": "dates",
    "ids": "ids, or something else that differs in every row",
    "texts": "whole texts",
}
ADVICE = {
    "numbers": "task=regression",
    "dates": "put the dates into a few classes, such as years, and name their column in data.label",
    "ids": "name the column whose labels repeat in data.label",
    "texts": "name the column with the labels in data.label",
}


def kind_of_column(labels: Sequence[str], rows: int) -> str | None:
    """What the labels of a column look like: a key of KINDS; None if they look like classes.

    Args:
        labels: the different labels.
        rows: the number of rows that they are from.
    """
    if len(labels) < FEWEST_LABELS:
        return None
    unique = len(labels) > UNIQUE * rows
    if sum(1 for label in labels if _DATE.fullmatch(label)) >= MOST * len(labels):
        return "dates"
    if sum(1 for label in labels if _NUMBER.fullmatch(label)) >= MOST * len(labels):
        if not _number_classes(labels):
            return "numbers"
        return "ids" if unique else None
    if sum(len(label.split()) for label in labels) >= WORDS * len(labels) and 2 * len(labels) > rows:
        return "texts"
    return "ids" if unique else None


def _number_classes(labels: Sequence[str]) -> bool:
    """Whether labels are the numbers of classes: integers from 0 or 1 on, with few gaps."""
    numbers = [int(label) for label in labels if _INTEGER.fullmatch(label)]
    return len(numbers) >= MOST * len(labels) and min(numbers) <= 1 and max(numbers) < 1.5 * len(numbers) + 1


def column_message(kind: str, labels: Sequence[str], rows: int) -> str:
    """What the labels look like, with their number."""
    shown = ", ".join(repr(label if len(label) <= 30 else f"{label[:29]}…") for label in labels[:3])
    return f"{len(labels):,} different labels in {rows:,} rows ({shown}, …) look like {KINDS[kind]}"


def refuse_column(names: Sequence[str], labels: NDArray[np.integer[Any]], place: str) -> None:
    """Refuse a training split nearly every row of which is a label of its own.

    Args:
        names: those of all labels.
        labels: (rows,) class ids.

    Raises:
        InputError: no label repeats often enough to be learned, and the labels do not look like classes either.
    """
    occurring = np.unique(labels)
    if len(occurring) < FEWEST_LABELS:
        return
    found = [names[i] for i in occurring]
    kind = kind_of_column(found, len(labels))
    least = ROWS_OF_A_LABEL * len(found) > len(labels) if kind in ("numbers", "dates") else kind is not None
    if kind is not None and least and (kind != "texts" or len(found) > UNIQUE * len(labels)):
        message = column_message(kind, found, len(labels))
        raise InputError(f"{place}: {message}; a label must repeat to be learned", ADVICE[kind])
