"""The columns of the text and the label: whether they are there, and what is wrong with a value in them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from textattn.config.schema import DataConfig
from textattn.data.labels import shortened
from textattn.data.table import Table
from textattn.errors import InputError, Setting


def text_columns(config: DataConfig) -> list[str]:
    """The text column or columns."""
    return [config.text] if isinstance(config.text, str) else config.text


def check_columns(table: Table, wanted: list[str], config: DataConfig, section: str = "data") -> None:
    """Raises InputError where one is missing."""
    for column in wanted:
        check_column(table, column, "label" if column == config.label else "text", config, section)


def check_column(table: Table, column: str, key: str, config: DataConfig, section: str = "data") -> None:
    """Raises InputError where it is missing, with the one that was probably meant by the setting `key` of `section`."""
    if column not in table.columns:
        used = (*text_columns(config), config.label)
        free = [name for name in table.columns if name and name not in used]
        near = get_close_matches(column.lower(), [name.lower() for name in free], n=1, cutoff=0.5)
        meant = next((name for name in free if name.lower() in near), free[0] if free else None)
        raise InputError(
            f"column {column!r} not found in {table.origin}; columns are: {', '.join(table.columns)}"
            + (f"; {table.looks_like}" if table.looks_like else ""),
            None if meant is None else table.advice or Setting(f"{section}.{key}", meant),
        )


def text_problem(segments: list[Any], columns: list[str]) -> str | None:
    """What is wrong with the text of a row; None: nothing."""
    for value, column in zip(segments, columns, strict=True):
        if value is None or (isinstance(value, str) and not value.strip()):
            if len(columns) == 1:
                return f"column {column!r} is empty; expected a text"
        elif not isinstance(value, str):
            return f"column {column!r} holds {type(value).__name__} {str(value)[:40]!r}; expected a text"
    if not any(value and value.strip() for value in segments):
        return f"columns {', '.join(columns)} are all empty; expected a text"
    return None


def label_problem(label: Any, column: str) -> str | None:
    """What is wrong with the label of a row; None: nothing that can be seen without the others."""
    if label is None or (isinstance(label, str) and not label.strip()):
        return f"column {column!r} is empty; expected a label"
    for value in label if isinstance(label, list) else [label]:
        if not isinstance(value, str | int) and not (isinstance(value, float) and value.is_integer()):
            wanted = "a string, an integer, a boolean or a list of them"
            return f"column {column!r} holds {shortened(repr(label))}; expected {wanted}"
    return None
