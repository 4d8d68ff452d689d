"""A label column that holds numbers, for `task: regression`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.data.labels import shortened

# Rows with similar numbers are divided evenly between the splits: the rows of each such part of the order.
STRATA = 10
# Standard deviations are computed in float32 later.
LARGEST = 1e30
# What is written with these characters alone has a say in how the numbers of a column are written.
_WRITTEN = re.compile(r"[+-]?[0-9.,]*[0-9][0-9.,]*")
# 1.234 may be one and a bit, or 1234.
_AMBIGUOUS = re.compile(r"[+-]?[0-9]{1,3}[.,][0-9]{3}")
_CLUTTER = re.compile(r"[\s'’_€$£¥%]|[A-Z]{3}\b")


class Style(NamedTuple):
    """How numbers are written."""

    pattern: re.Pattern[str]
    """What a whole number looks like. Python itself would also read 1_000, "nan" and "infinity"."""
    between_thousands: str
    before_decimals: str
    example: str
    """A number in this style, and what it is; for notes."""

    def value(self, text: str) -> float:
        """The number that a text of this pattern spells."""
        plain = text.replace(self.between_thousands, "") if self.between_thousands else text
        return float(plain.replace(self.before_decimals, "."))


PLAIN = Style(re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"), "", ".", "")
STYLES = (
    PLAIN,
    Style(re.compile(r"[+-]?[0-9]+(,[0-9]+)?"), "", ",", "1,5 is read as 1.5"),
    Style(re.compile(r"[+-]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]+)(,[0-9]+)?"), ".", ",", "1.234.567,8 is read as 1234567.8"),
    Style(re.compile(r"[+-]?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]+)?"), ",", ".", "1,234,567.8 is read as 1234567.8"),
)


@dataclass(frozen=True)
class NumberColumn:
    """The counterpart of `LabelMap` for numbers."""

    names: list[str]
    """The name of the column, alone."""
    style: Style = PLAIN
    """How its numbers are written."""
    note: str | None = None
    """What the user should know about the way in which the numbers are read."""
    multi_label: ClassVar[bool] = False

    @classmethod
    def of_values(cls, names: list[str], values: Iterable[Any]) -> NumberColumn:
        """The column with these values: together they show what a point and a comma stand for.

        A style is taken only if all numbers are written in it. Values that are something else, such as `n/a`, have no
        say. Where every number could also be one of thousands (1,234), a point is taken for decimals and a comma is
        not.
        """
        texts = {value.strip() for value in values if isinstance(value, str)}
        written = [text for text in texts if _WRITTEN.fullmatch(text)]
        separated = [text for text in written if "," in text or "." in text]
        if not separated:
            return cls(names)
        is_ambiguous = all(map(_AMBIGUOUS.fullmatch, separated))
        fitting = [style for style in STYLES if all(map(style.pattern.fullmatch, written))]
        if not fitting or (is_ambiguous and fitting[0] is not PLAIN):
            return cls(names)
        style = fitting[0]
        if is_ambiguous:
            shown = min(separated)
            number = f"{style.value(shown):g}"
            return cls(names, style, f"{shown} is read as {number}; if that is wrong, write {shown.replace('.', '')}")
        return cls(names, style, style.example or None)

    def of(self, value: Any) -> list[float]:
        """The number in a cell, alone.

        Raises:
            ValueError: it is none; the message says what would be right.
        """
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        elif isinstance(value, str) and self.style.pattern.fullmatch(value.strip()):
            number = self.style.value(value.strip())
        else:
            raise ValueError(f"expected a number, got {shortened(repr(value))}{_advice(value)}")
        if not math.isfinite(number) or abs(number) > LARGEST:
            raise ValueError(f"expected a number between {-LARGEST:g} and {LARGEST:g}, got {shortened(repr(value))}")
        return [number]

    def to_array(self, numbers: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """The numbers of all rows, (rows,)."""
        return np.fromiter((row[0] for row in numbers), np.float64, len(numbers))


def may_be_two(text: str) -> bool:
    """Whether a number, such as 1.234, may have decimals or thousands."""
    return _AMBIGUOUS.fullmatch(text.strip()) is not None


def one_number(text: str) -> float | None:
    """The number that somebody types, with a point or a comma before decimals; None if it is none, or may be two."""
    text = text.strip()
    if may_be_two(text):
        return None
    column = NumberColumn.of_values([""], [text])
    try:
        return column.of(text)[0]
    except ValueError:
        return None


def _advice(value: Any) -> str:
    """How to write a number that is written in another way."""
    if not isinstance(value, str):
        return ""
    text = _CLUTTER.sub("", value.replace("−", "-"))
    for style in (STYLES[3], STYLES[2], STYLES[1]):
        if style.pattern.fullmatch(text):
            number = style.value(text)
            return f"; write {number:.15g}" if abs(number) < LARGEST else ""
    return ""


def strata_of(labels: NDArray[Any]) -> NDArray[Any]:
    """What is divided evenly between splits: class ids as they are; of numbers the tenth that each belongs to.

    Args:
        labels: (rows,) class ids, or numbers in floating point.
    """
    if labels.dtype.kind != "f":
        return labels
    order = np.argsort(labels, kind="stable")
    found = np.empty(len(labels), np.int64)
    found[order] = np.arange(len(labels)) * min(STRATA, max(1, len(labels) // STRATA)) // max(1, len(labels))
    return found
