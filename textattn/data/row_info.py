"""What is known of rows beside text and label: where they stand in the user's files, what belongs together, when."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.data_section import DataConfig
from textattn.data.table import Table
from textattn.errors import InputError

Int64s = NDArray[np.int64]
# 31.12.2025 and 12/31/2025, with or without a time.
_WRITTEN_DATE = re.compile(r"\s*(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T,]+(\d{1,2}):(\d\d)(?::(\d\d))?)?\s*")


@dataclass(frozen=True)
class RowInfo:
    """The identity of the rows of a split, and the columns by which rows are kept together or in order."""

    origins: list[str]
    """The names of the tables, such as `tickets.csv`."""
    table: NDArray[np.int32]
    """(rows,) which of the tables each row is in."""
    number: Int64s
    """(rows,) the line of a text file, else the row from 1."""
    ids: list[str] | None = None
    """(rows,) the values of the column `data.id`."""
    groups: Int64s | None = None
    """(rows,) equal numbers for rows with the same value in the column `data.group`."""
    times: NDArray[np.float64] | None = None
    """(rows,) the values of the column `data.time`, in seconds or in whatever unit its numbers have."""

    def __len__(self) -> int:
        return len(self.number)

    def place(self, row: int) -> str:
        """How a user finds a row: its id, or its file and line."""
        if self.ids is not None:
            return self.ids[row]
        return name_of_row(self.origins[self.table[row]], int(self.number[row]))

    def take(self, rows: Int64s) -> RowInfo:
        """The rows at these indices, in that order."""
        return replace(
            self,
            table=self.table[rows],
            number=self.number[rows],
            ids=self.ids and [self.ids[i] for i in rows.tolist()],
            groups=None if self.groups is None else self.groups[rows],
            times=None if self.times is None else self.times[rows],
        )

    def followed_by(self, number: int, origin: str) -> RowInfo:
        """These rows and after them so many others, of which nothing else is known."""
        new = np.arange(1, number + 1)
        first = 0 if self.groups is None or not len(self.groups) else int(self.groups.max())
        return RowInfo(
            [*self.origins, origin],
            np.concatenate([self.table, np.full(number, len(self.origins), np.int32)]),
            np.concatenate([self.number, new]),
            self.ids and [*self.ids, *(f"{origin}:{i}" for i in new.tolist())],
            None if self.groups is None else np.concatenate([self.groups, first + new]),
            None if self.times is None else np.concatenate([self.times, np.full(number, np.nan)]),
        )


class InfoWriter:
    """Collects what is known of the rows of a split as they are read.

    Columns that the split does not have are left out: only the training split must have them.
    """

    def __init__(self, config: DataConfig, tables: Sequence[Table]) -> None:
        self._time = config.time
        self._ids, self._groups, self._times = (
            columns_in(tables, [name]) for name in (config.id, config.group, config.time)
        )
        self.columns = [*self._ids, *self._groups, *self._times]
        """Those to read beside text and label."""
        self._origins: list[str] = []
        self._table, self._number = array("i"), array("q")
        self._id_values: list[str] = []
        self._group_values = Groups()
        self._time_values: list[Any] = []

    def start(self, origin: str) -> None:
        """The rows that follow are those of this table."""
        self._origins.append(origin)

    def append(self, number: int, values: Sequence[Any]) -> None:
        """Adds a row.

        Args:
            number: of the row in its table.
            values: those of `columns`.
        """
        self._table.append(len(self._origins) - 1)
        self._number.append(number)
        rest = iter(values)
        if self._ids:
            self._id_values.append(name_of_row(self._origins[-1], number, next(rest)))
        if self._groups:
            self._group_values.append(next(rest))
        if self._times:
            self._time_values.append(next(rest))

    def finish(self) -> RowInfo:
        """The rows.

        Raises:
            InputError: a value of the column `data.time` cannot be used.
        """
        info = RowInfo(
            self._origins,
            np.array(self._table, np.int32),
            np.array(self._number, np.int64),
            self._id_values if self._ids else None,
            self._group_values.finish() if self._groups else None,
        )
        if not self._times:
            return info
        try:
            return replace(info, times=parse_times(self._time_values))
        except TimeProblem as problem:
            place = f"{info.origins[info.table[problem.row]]}:{info.number[problem.row]}"
            raise InputError(f"{place}: column {self._time!r}: {problem}", setting="data.time") from None


def name_of_row(origin: str, number: int, id_value: Any = None) -> str:
    """How a user finds a row: by its id or, where it has none, by its file and line."""
    return f"{origin}:{number}" if id_value is None or id_value == "" else str(id_value)


def columns_in(tables: Sequence[Table], names: Sequence[str | None]) -> list[str]:
    """The names that are given, if all tables have these columns; otherwise none."""
    given = [name for name in names if name is not None]
    return given if all(name in table.columns for table in tables for name in given) else []


class Groups:
    """Numbers the values of the column `data.group`. A row without a value is a group of its own."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._numbers: list[int] = []
        self._next = 0

    def append(self, value: Any) -> None:
        """Adds the value of the next row."""
        text = "" if value is None else str(value).strip()
        number = self._known.setdefault(text, self._next) if text else self._next
        self._next += number == self._next
        self._numbers.append(number)

    def finish(self) -> Int64s:
        """(rows,) the number of each row's group."""
        return np.array(self._numbers, np.int64)


def parse_times(values: Sequence[Any]) -> NDArray[np.float64]:
    """Numbers by which rows can be put in order: of numbers, dates, ISO 8601 text, or dates such as 31.12.2025.

    Raises:
        TimeProblem: a value is none of these or, as 03/04/2025, could be read in two ways.
    """
    readers: tuple[Callable[[Sequence[Any]], NDArray[np.float64]], ...] = (_numbers, _iso, _written)
    problems = []
    for read in readers:
        try:
            return read(values)
        except TimeProblem as problem:
            problems.append(problem)
    # The reader that got furthest knows best what the column looks like; of equals, the last.
    raise max(reversed(problems), key=lambda problem: problem.row)


class TimeProblem(ValueError):
    """A value of the column `data.time` cannot be used."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    found = np.zeros(len(values))
    for i, value in enumerate(values):
        try:
            if isinstance(value, (bool, date)) or value is None:
                raise TypeError
            found[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise TimeProblem(i, _no_time(value)) from None
        if not np.isfinite(found[i]):
            raise TimeProblem(i, _no_time(value))
    return found


def _iso(values: Sequence[Any]) -> NDArray[np.float64]:
    found = np.zeros(len(values))
    for i, value in enumerate(values):
        try:
            found[i] = _seconds(value if isinstance(value, date) else datetime.fromisoformat(_utc(value.strip())))
        except (AttributeError, ValueError, OverflowError):
            raise TimeProblem(i, _no_time(value)) from None
    return found


def _utc(text: str) -> str:
    # Python 3.10 does not read the Z of ISO 8601.
    return text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text


def _seconds(moment: date) -> float:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _written(values: Sequence[Any]) -> NDArray[np.float64]:
    """Dates with the year last; the whole column shows whether the day or the month comes first."""
    matches = []
    for i, value in enumerate(values):
        match = _WRITTEN_DATE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise TimeProblem(i, _no_time(value))
        matches.append(match)
    day_first = any(match[2] == "." or int(match[1]) > 12 for match in matches)
    if not day_first and not any(int(match[3]) > 12 for match in matches):
        raise TimeProblem(0, f"{values[0]!r} may mean day and month or month and day; write 2025-12-31")
    found = np.zeros(len(values))
    for i, match in enumerate(matches):
        day, month = (int(match[1]), int(match[3])) if day_first else (int(match[3]), int(match[1]))
        hour, minute, second = (int(part or 0) for part in match.groups()[4:])
        try:
            found[i] = _seconds(datetime(int(match[4]), month, day, hour, minute, second))
        except (ValueError, OverflowError):
            raise TimeProblem(i, _no_time(values[i])) from None
    return found


def _no_time(value: Any) -> str:
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return f"{shown} is no date (write 2025-12-31) and no number"
