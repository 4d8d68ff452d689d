"""A label column that holds numbers, for `task: regression`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from textattn.data.labels import shortened

# Python would also read 1_000, "nan" and "infinity".
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_GERMAN = re.compile(r"[+-]?[0-9]+,[0-9]+")
_ENGLISH = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")
# Rows with similar numbers are divided evenly between the splits: the rows of each such part of the order.
STRATA = 10
# Standard deviations are computed in float32 later.
LARGEST = 1e30


@dataclass(frozen=True)
class NumberColumn:
    """The counterpart of `LabelMap` for numbers."""

    names: list[str]
    """The name of the column, alone."""
    has_decimal_commas: bool = False
    """Whether 1,5 is one and a half."""
    multi_label: ClassVar[bool] = False

    @classmethod
    def of_values(cls, names: list[str], values: Iterable[Any]) -> NumberColumn:
        """The column with these values: they decide whether a comma stands before decimals.

        It does if no value has a point, every comma is the only one of its number, and they cannot all be between
        thousands, as in 1,234.
        """
        texts = [value.strip() for value in values if isinstance(value, str)]
        commas = [text for text in texts if _GERMAN.fullmatch(text)]
        others = any("." in text or (text.count(",") and not _GERMAN.fullmatch(text)) for text in texts)
        return cls(names, bool(commas) and not others and not all(map(_ENGLISH.fullmatch, commas)))

    def of(self, value: Any) -> list[float]:
        """The number in a cell, alone.

        Raises:
            ValueError: it is none; the message says what would be right.
        """
        if self.has_decimal_commas and isinstance(value, str) and _GERMAN.fullmatch(value.strip()):
            value = value.replace(",", ".")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
            raise ValueError(f"expected a number, got {shortened(repr(value))}{_advice(value)}")
        number = float(value)
        if not math.isfinite(number) or abs(number) > LARGEST:
            raise ValueError(f"expected a number between {-LARGEST:g} and {LARGEST:g}, got {shortened(repr(value))}")
        return [number]

    def to_array(self, numbers: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """The numbers of all rows, (rows,)."""
        return np.fromiter((row[0] for row in numbers), np.float64, len(numbers))


def _advice(value: Any) -> str:
    """How to write a number that is written in another way."""
    text = value.strip() if isinstance(value, str) else ""
    if _ENGLISH.fullmatch(text):
        return f"; write {text.replace(',', '')}"
    if _GERMAN.fullmatch(text):
        return f"; write {text.replace(',', '.')}"
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
