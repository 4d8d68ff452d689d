"""Texts as they are given from Python: lists, arrays, columns of data frames, generators; one string for each text.

What is no text is refused with its position. The libraries whose objects are recognised are not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from textattn.data.segments import SEGMENT_SEPARATOR, as_segment, is_blank, is_missing, join_segments
from textattn.errors import ConfigError, InputError

# Lone surrogates are no text: no tokenizer takes them, and no file can hold them.
_SURROGATES = re.compile("[\ud800-\udfff]")
# Characters of a value in a message.
SHOWN = 40


def given_texts(texts: Any, columns: Sequence[str]) -> list[str]:
    """One string for each text, its segments joined by tabs.

    Args:
        texts: one text, or an iterable of texts, or a data frame with the text columns. A text is a string, a number, a
            mapping with the text columns as keys or, for a model of several text columns, a sequence of segments or one
            string with tabs between them.
        columns: the text columns of the model.

    Raises:
        InputError: a text is missing, empty or no text at all; the message names its position.
        ConfigError: a text has the wrong number of segments.
    """
    found = []
    for number, row in enumerate(_rows(texts, columns)):
        try:
            text = _text(row, columns)
        except ValueError as error:
            raise InputError(f"texts[{number}] {error}") from None
        segments = text.count(SEGMENT_SEPARATOR) + 1
        if len(columns) > 1 and segments != len(columns):
            start = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            raise ConfigError(
                f"expected {len(columns)} segments separated by tabs, got {segments}: {start!r}",
                "$'first segment\\tsecond segment'",
            )
        if is_blank(text):
            raise InputError(f"texts[{number}] is empty; expected a text")
        found.append(_SURROGATES.sub("\ufffd", text))
    return found


def _rows(texts: Any, columns: Sequence[str]) -> Iterable[Any]:
    """The texts one by one, of whatever holds them."""
    if isinstance(texts, str | Mapping):
        return [texts]
    names = getattr(texts, "column_names", None) or getattr(texts, "columns", None)
    if names is not None and hasattr(texts, "__getitem__"):
        return _rows_of_frame(texts, [str(name) for name in names], columns)
    if getattr(texts, "ndim", None) == 0:  # an array without dimensions holds one value
        return [texts.item()]
    if isinstance(texts, bytes | bytearray | set | frozenset) or not isinstance(texts, Iterable):
        raise InputError(f"texts is {_kind(texts)}; expected a string or a sequence of strings")
    # Arrow arrays hold scalars of their own, which know their Python value.
    return texts.to_pylist() if hasattr(texts, "to_pylist") else texts


def _rows_of_frame(frame: Any, names: list[str], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The text columns of a data frame (pandas, polars, Arrow), row by row."""
    missing = [column for column in columns if column not in names]
    if missing:
        raise InputError(f"texts is a table without the column {missing[0]!r}; its columns are: {', '.join(names)}")
    values = [frame[column] for column in columns]
    return zip(*(column.to_pylist() if hasattr(column, "to_pylist") else column for column in values), strict=True)


def _text(row: Any, columns: Sequence[str]) -> str:
    """One text; raises ValueError, whose message goes on after its position."""
    if isinstance(row, Mapping):
        absent = [column for column in columns if column not in row]
        if absent:
            raise ValueError(f"has no key {absent[0]!r}; its keys are: {', '.join(map(str, row))}")
        row = tuple(row[column] for column in columns)
    if not _holds_segments(row):
        segment = None if is_missing(row) else as_segment(row)
        if segment is None:
            raise ValueError(f"is {_kind(row)}; expected a text")
        return segment
    segments = []
    for place, value in enumerate(row):
        segment = as_segment(value)
        if segment is None:
            raise ValueError(f"has {_kind(value)} as segment {place}; expected a text")
        segments.append(segment)
    if len(columns) == 1:
        if len(segments) != 1:
            raise ValueError(f"is {_kind(row)} of {len(segments)}; expected one text, for the model reads one column")
        return segments[0]
    return join_segments(segments)


def _holds_segments(row: Any) -> bool:
    if isinstance(row, str | bytes | bytearray):
        return False
    return isinstance(row, Sequence) or getattr(row, "ndim", 0) == 1


def _kind(value: Any) -> str:
    """What a value is, in a message: `nan`, `None`, `bytes b'ab'`."""
    if is_missing(value):
        return "nan" if isinstance(value, float) else str(value)
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    if isinstance(value, bool | bytes | bytearray):
        shown = repr(value)
        return f"{name} {shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + '…'}"
    return f"{article} {name}"
