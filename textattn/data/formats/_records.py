"""Answered rows as Python values, for the text formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textattn.data.formats import AnsweredRows


def answer_values(rows: AnsweredRows) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Every row of the input, and the values of the columns to add in the order of `rows.answers`."""
    columns = [values if isinstance(values, list) else values.tolist() for values in rows.answers.values()]
    records = rows.records or [record for batch in rows.batches for record in batch.to_pylist()]
    return zip(records, zip(*columns, strict=True), strict=True)
