"""A table: rows with named columns, out of a file or a split of a data set, read as often as needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

# The number of a row, and its values in the order asked for, or by column.
Row = tuple[int, list[Any]]
Record = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class RowProblem:
    """A row that cannot be used: where it is and what is wrong."""

    origin: str
    row: int
    message: str

    def __str__(self) -> str:
        return f"{self.origin}:{self.row}: {self.message}"


@dataclass(frozen=True)
class Table:
    """Something with columns and rows: a file, or a split of a data set."""

    origin: str
    """File, or `data set[split]`, for messages."""
    columns: list[str]
    rows: Callable[[list[str]], Iterator[Row | RowProblem]]
    """The values of the given columns, row by row, with the row's number (line of a text file, else from 1)."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Label names by column, where the data give them."""
    advice: str | None = None
    """What to do about columns that were probably read wrongly."""
    looks_like: str | None = None
    """Why they were, where that is known."""
    notes: tuple[str, ...] = ()
    """How the file was read, where it is not written as most files of its format are."""
    revision: str | None = None
    """Commit of a Hub data set."""
    fingerprint: str | None = None
    """The name that `datasets` gives to exactly this content."""
    records: Callable[[], Iterator[Record | RowProblem]] | None = None
    """Whole rows, whose keys need not all be in `columns`; None where rows come in batches."""
    batches: Callable[[int], Iterator[Any]] | None = None
    """Arrow record batches of at most so many rows; None where rows come one by one."""
    size: Callable[[], int] | None = None
    """The approximate number of the last row, for a progress bar: the lines of a text file."""


def separator_advice(columns: Sequence[str]) -> str | None:
    """What to do about a header that is a single name with another separator in it."""
    if len(columns) == 1:
        if ";" in columns[0]:
            return "save the file with , instead of ; between its columns"
        if "\t" in columns[0]:
            return "columns separated by tabs are read from a file that ends in .tsv"
    return None


def reading_notes(tables: Sequence[Table]) -> list[str]:
    """The notes of tables, each once, with the table or the number of tables that it is about."""
    origins: dict[str, list[str]] = {}
    for table in tables:
        for note in table.notes:
            origins.setdefault(note, []).append(table.origin)
    return [
        f"{about[0]}{f' and {len(about) - 1:,} more' if len(about) > 1 else ''}: {note}"
        for note, about in origins.items()
    ]


def class_names_of(schema: Any) -> dict[str, list[str]]:
    """Label names by column, from the Hub's feature types in the metadata of an Arrow schema.

    Anybody may write anything there: what is not as it should be is passed over, and the labels stay numbers.
    """
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    names = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found = inner.get("names")
            if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
                names[column] = found
    return names
