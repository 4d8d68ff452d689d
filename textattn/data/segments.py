"""What the text of a row is: the one rule of all formats and commands. Light to import.

A row has a text if at least one of its text columns holds something other than white space. Beside such a column, one
without a value (an empty cell, null, NaN) is an empty segment. A number is read as it is written. A text of several
columns is one string: its segments, joined by tabs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

SEGMENT_SEPARATOR = "\t"


def join_segments(segments: Iterable[str | None]) -> str:
    """One string of several; a tab inside a segment becomes a space, a missing segment is empty."""
    return SEGMENT_SEPARATOR.join((segment or "").replace(SEGMENT_SEPARATOR, " ") for segment in segments)


def text_of(values: Sequence[Any], columns: Sequence[str]) -> str:
    """The text of a row from the values of its text columns.

    Raises:
        ValueError: a value is no text, or all are missing; the message names the column.
    """
    segments = []
    for value, column in zip(values, columns, strict=True):
        segment = as_segment(value)
        if segment is None:
            raise ValueError(f"column {column!r} holds {type(value).__name__} {str(value)[:40]!r}; expected a text")
        segments.append(segment)
    text = segments[0] if len(segments) == 1 else join_segments(segments)
    if is_blank(text):
        raise ValueError(
            f"column {columns[0]!r} is empty; expected a text"
            if len(columns) == 1
            else f"columns {', '.join(columns)} are all empty; expected a text"
        )
    return text


def as_segment(value: Any) -> str | None:
    """The text of one value: empty if it is missing, None if it is neither text nor a number."""
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    return str(value) if isinstance(value, Real) and not isinstance(value, bool) else None


def is_missing(value: Any) -> bool:
    """Whether it stands for no value: None, NaN, and what pandas has for it."""
    # pandas is not imported to look for its NA. NaN and NaT are the values that differ from themselves.
    kind = type(value).__name__
    return value is None or kind in ("NAType", "NaTType") or (isinstance(value, Real) and bool(value != value))


def is_blank(text: str) -> bool:
    """Whether a text is empty or nothing but white space."""
    return not text or text.isspace()
