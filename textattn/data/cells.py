"""The columns of the text and the label: whether they are there, and what is wrong with a value in them."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from datetime import date, time
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from textattn.config.data_section import DataConfig
from textattn.config.overrides import override_text
from textattn.data.labels import UNLABELLED, name_of, plain, shortened
from textattn.data.likely import likely_label, likely_text
from textattn.data.look_alikes import as_boolean, as_number
from textattn.data.segments import is_missing
from textattn.data.table import Table
from textattn.errors import InputError, Part, Setting

# Of the names of a table with thousands of columns, as many are shown.
MOST_NAMES = 100


def listed(names: Sequence[str]) -> str:
    """Names for a message, with commas between them."""
    more = f", … ({len(names):,} in all)" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def text_columns(config: DataConfig) -> list[str]:
    """The text column or columns."""
    return [config.text] if isinstance(config.text, str) else config.text


def check_columns(table: Table, wanted: list[str], config: DataConfig, section: str = "data") -> None:
    """Raises InputError where one is missing."""
    for column in wanted:
        check_column(table, column, "label" if column in label_columns(config) else "text", config, section)


def check_column(table: Table, column: str, key: str, config: DataConfig, section: str = "data") -> None:
    """Raises InputError where it is missing, with the one that was probably meant by the setting `key` of `section`."""
    if column in table.columns:
        return
    missing = f"column {column!r} not found in {table.origin}; columns are: {listed(table.columns)}"
    if table.looks_like:
        missing += f"; {table.looks_like}"
    if table.advice:
        raise InputError(missing, table.advice)
    labels = label_columns(config)
    wanted = {key: column}
    if key == "text" and section == "data" and not set(labels) & set(table.columns):
        # The label is missing too, so that both are said at once.
        wanted["label"] = labels[0]
    hint: list[Part] = []
    taken = {*text_columns(config), *labels}
    for name, absent in wanted.items():
        meant = _meant(table, absent, name, taken)
        if meant is not None:
            taken.add(meant)
            hint += [" "] * bool(hint) + [_setting(f"{section}.{name}", meant)]
    raise InputError(missing, hint or None)


def _meant(table: Table, absent: str, key: str, taken: Set[str]) -> str | None:
    """The column that was probably meant by one that is absent: the one with a similar name, or by what it holds.

    If no name was given and only the default is looked for, the name must be nearly the same.
    """
    others = [name for name in table.columns if not name or name in taken]
    free = [name for name in table.columns if name not in others]
    lower = [name.lower() for name in free]
    near = get_close_matches(absent.lower(), lower, n=1, cutoff=0.85 if absent == key else 0.5)
    if near:
        return free[lower.index(near[0])]
    likely = None
    if key in ("text", "label"):
        likely = likely_text(table, others) if key == "text" else likely_label(table, others)
    return likely or (free[0] if free else None)


def _setting(name: str, column: str) -> Setting:
    return Setting(name, override_text(tuple(name.split(".")), column))


class LabelReader:
    """The label of a row, from the values of its label column or columns."""

    # The row has no label because `data.label_map` says so.
    LEFT_OUT = object()
    # The cell is empty: no label at all, or none of several, which only all rows together can say.
    EMPTY = object()

    def __init__(self, config: DataConfig, class_names: Sequence[str] | None) -> None:
        """
        Args:
            class_names: those of the numbers 0, 1, … in the table; `data.label_map` refers to them too.
        """
        self.columns = label_columns(config)
        self.separator = config.label_separator
        self.several_columns = not isinstance(config.label, str)
        self.renamed = config.label_map or {}
        self.class_names = class_names

    def read(self, values: Sequence[Any]) -> Any:
        """A label, a list of labels, LEFT_OUT or EMPTY.

        Raises:
            ValueError: a value is no label; the message names the column.
        """
        if self.several_columns:
            return [column for column, value in zip(self.columns, values, strict=True) if _is_one(value, column)]
        (value,) = values
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            if self.separator is not None:
                return []
            return self._renamed("") if "" in self.renamed else self.EMPTY
        if isinstance(value, date | time | Decimal):
            value = str(value)
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, str | int) and not (isinstance(part, float) and math.isfinite(part)):
                wanted = "a string, a number, a boolean or a list of them"
                raise ValueError(f"column {self.columns[0]!r} holds {shortened(repr(value))}; expected {wanted}")
        if self.separator is not None and isinstance(value, str):
            value = [part.strip() for part in value.split(self.separator) if part.strip()]
        if not self.renamed:
            return value
        if isinstance(value, list):
            return [part for part in map(self._renamed, value) if part is not self.LEFT_OUT]
        return self._renamed(value)

    def _renamed(self, value: Any) -> Any:
        names = [name_of(value)]
        if isinstance(value, str):
            # As it stands in the file: " POS" and "+1" may be told from "POS" and "1".
            names.insert(0, value)
        number = plain(value)
        if self.class_names and type(number) is int and 0 <= number < len(self.class_names):
            names.append(self.class_names[number])
        for name in names:
            if name in self.renamed:
                new = self.renamed[name]
                return self.LEFT_OUT if new is None else new
        return value


def label_columns(config: DataConfig) -> list[str]:
    """The label column, or the columns of 0 and 1 of which each is a label."""
    return [config.label] if isinstance(config.label, str) else config.label


def shown_label(config: DataConfig) -> str:
    """The label column or columns in a message: `column 'label'`."""
    names = label_columns(config)
    return f"column {names[0]!r}" if len(names) == 1 else f"columns {', '.join(map(repr, names))}"


def _is_one(value: Any, column: str) -> bool:
    """Whether a row has the label that its column stands for."""
    found = plain(value)
    if isinstance(found, str):
        boolean, number = as_boolean(found), as_number(found)
        found = boolean if number is None else int(number) if number == int(number) else found
    # True equals 1.
    if isinstance(found, int) and found in (0, 1):
        return bool(found)
    if found == UNLABELLED:
        raise ValueError(f"column {column!r}: the label is -1, which means unlabelled")
    what = "is empty" if is_missing(value) or value == "" else f"holds {shortened(repr(value))}"
    raise ValueError(f"column {column!r} {what}; expected 0 or 1, or false or true, as in a column that is a label")
