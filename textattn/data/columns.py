"""Other columns of the data: their values for the rows of a split that was read before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from difflib import get_close_matches
from typing import Any

from textattn.config.data_section import DataConfig
from textattn.data.row_info import columns_in, name_of_row
from textattn.data.sources import is_file, open_tables
from textattn.data.table import RowProblem, Table
from textattn.errors import InputError, Option


def column_values(
    config: DataConfig, split: str, places: Sequence[str], columns: Sequence[str], seed: int = 0
) -> dict[str, list[Any]]:
    """The values of columns for the rows of a split, by column.

    Args:
        config: the data that the split was read from.
        split: its name: train, validation or test.
        places: the names of its rows, see `RowInfo.place`.
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
    found = dict(_rows(tables, config, columns, set(places)))
    missing = next((place for place in places if place not in found), None)
    if missing is not None:
        raise InputError(
            f"row {missing} of the {split} split is not in the data any more, so its columns are unknown",
            place=tables[0].origin,
        )
    return {column: [found[place][number] for place in places] for number, column in enumerate(columns)}


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


def _rows(
    tables: Sequence[Table], config: DataConfig, columns: Sequence[str], wanted: Set[str]
) -> Iterator[tuple[str, list[Any]]]:
    """The names of the rows that are wanted, with the values of the columns."""
    ids = columns_in(tables, [config.id])
    for table in tables:
        for item in table.rows([*columns, *ids]):
            if isinstance(item, RowProblem):
                continue
            number, values = item
            place = name_of_row(table.origin, number, values[-1] if ids else None)
            if place in wanted:
                yield place, values[: len(columns)]
