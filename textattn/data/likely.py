"""Which columns of a table most likely hold the text and the label, for hints; nothing is ever read by a guess."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from textattn.data.table import RowProblem, Table

# Rows that are looked at.
ROWS = 200
LABELS = {
    *("label", "labels", "class", "category", "topic", "sentiment", "rating", "stars", "target", "intent", "tag", "y"),
}


def likely_text(table: Table, but: Sequence[str] = ()) -> str | None:
    """The column with the longest strings, except for those in `but`; None if no other has a string."""
    lengths = {
        column: sum(len(value) for value in values if isinstance(value, str))
        for column, values in _sample(table).items()
        if column not in but
    }
    longest = max(lengths, key=lambda column: lengths[column], default=None)
    return longest if longest is not None and lengths[longest] else None


def likely_label(table: Table, but: Sequence[str] = ()) -> str | None:
    """The column named like a label, else the last one with few different values; None if there is none."""
    found = []
    for column, values in _sample(table).items():
        given = [str(value) for value in values if value not in (None, "")]
        if column not in but and 2 <= len(set(given)) <= max(2, len(given) // 4):
            found.append(column)
    named = [column for column in found if column.casefold() in LABELS]
    return next(iter([*named, *reversed(found)]), None)


def _sample(table: Table) -> dict[str, list[Any]]:
    rows = islice((row for row in table.rows(table.columns) if not isinstance(row, RowProblem)), ROWS)
    values = [row[1] for row in rows]
    return dict(zip(table.columns, map(list, zip(*values, strict=True)), strict=True)) if values else {}
