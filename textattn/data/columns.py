"""Other columns of the data: their values for the rows of a split that was read before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from textattn.config.schema import DataConfig
from textattn.data.cells import text_columns, text_problem
from textattn.data.segments import join_segments
from textattn.data.sources import is_file, open_tables
from textattn.data.table import RowProblem, Table
from textattn.errors import InputError, Option


def column_values(
    config: DataConfig, split: str, texts: Iterable[str], columns: Sequence[str], seed: int = 0
) -> dict[str, list[Any]]:
    """The values of columns for the rows of a split, by column.

    The rows of a split stand in the order of its file, without those that could not be used, so each is found by its
    text as the next row that has it.

    Args:
        config: the data that the split was read from.
        split: its name: train, validation or test.
        texts: of the split, in its order.
        columns: which columns to read.
        seed: as the split was read with.

    Raises:
        InputError: a column or a row is missing.
    """
    tables = _tables_of(config, split, seed)
    known = list(dict.fromkeys(name for table in tables for name in table.columns))
    for column in columns:
        if any(column not in table.columns for table in tables):
            near = get_close_matches(column, known, n=1)
            raise InputError(
                f"no column {column!r}; columns are: {', '.join(known)}",
                Option("by", near[0] if near else known[0]) if known else None,
                setting=Option("by"),
                place=tables[0].origin,
            )
    rows = _rows(tables, text_columns(config), columns)
    values: dict[str, list[Any]] = {column: [] for column in columns}
    for number, text in enumerate(texts):
        found = next((own for own_text, own in rows if own_text == text), None)
        if found is None:
            raise InputError(
                f"text {number + 1:,} of the {split} split is not in the data any more, so its columns are unknown",
                place=tables[0].origin,
            )
        for column, value in zip(columns, found, strict=True):
            values[column].append(value)
    return values


def _tables_of(config: DataConfig, split: str, seed: int) -> list[Table]:
    tables = open_tables(config, seed)
    named = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
    name = named[split]
    if name in tables:
        return tables[name]
    if split == "validation" or (config.path is not None and is_file(config.path)):
        # It was set aside from the training rows.
        return tables[config.train_split]
    raise InputError(f"no split {name!r}; splits are: {', '.join(tables)}")


def _rows(tables: Sequence[Table], texts_of: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """The text of each row with the values of the columns."""
    for table in tables:
        for item in table.rows([*texts_of, *columns]):
            if isinstance(item, RowProblem):
                continue
            segments, values = item[1][: len(texts_of)], item[1][len(texts_of) :]
            if text_problem(segments, list(texts_of)) is None:
                yield str(segments[0]) if len(segments) == 1 else join_segments(segments), values
