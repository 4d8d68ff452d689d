"""Files read a chunk of rows at a time, with all their columns: for predicting on more than fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from textattn.data.formats._dialect import column_name
from textattn.data.likely import likely_text
from textattn.data.segments import text_of
from textattn.data.table import RowProblem, Table
from textattn.errors import InputError, Option

# Rows and characters of a chunk: enough to sort into batches of similar length, little enough for any memory.
MAX_ROWS = 8192
MAX_CHARACTERS = 8_000_000
# Rows of a parquet file decoded at a time.
BATCH_ROWS = 1024


@dataclass
class Chunk:
    """Consecutive rows of one file: those that can be answered, and what is wrong with the others."""

    origin: str
    """Their file."""
    last_row: int = 0
    """Number of the last row, good or bad."""
    texts: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    """The rows, in the order of `texts`; empty where `batches` has them."""
    batches: list[Any] = field(default_factory=list)
    """The rows as Arrow record batches, where the file has types of its own."""
    problems: list[RowProblem] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """How many of the texts come before each problem."""

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, count: int) -> Chunk:
        """The first `count` texts with their rows."""
        batches, left = [], count
        for batch in self.batches:
            batches.append(batch.slice(0, left))
            left -= batches[-1].num_rows
        return Chunk(self.origin, self.last_row, self.texts[:count], self.records[:count], batches)

    def row(self, index: int) -> Chunk:
        """The row of one text as a chunk of its own, which does not keep the others in memory."""
        first = 0
        for batch in self.batches:
            if index < first + batch.num_rows:
                return Chunk(self.origin, 0, [self.texts[index]], [], [_select(batch, [index - first])])
            first += batch.num_rows
        return Chunk(self.origin, 0, [self.texts[index]], [self.records[index]])

    def add_problem(self, problem: RowProblem) -> None:
        """After the texts that are there."""
        self.problems.append(problem)
        self.places.append(len(self.texts))


def read_chunks(
    table: Table, columns: Sequence[str], taken: Sequence[str] = (), header: Sequence[str] | None = None
) -> Iterator[Chunk]:
    """All rows of a table in chunks.

    Args:
        columns: those that hold the text; several are the segments of one text.
        taken: keys that no row may have, because an answer needs the name.
        header: all keys that a row may have; default: any.

    Raises:
        InputError: there is no such column, or the file is damaged.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        if table.looks_like:
            place = table.columns.index(likely_text(table) or table.columns[0])
            raise InputError(
                f"column {missing[0]!r} not found in {table.origin}: {table.looks_like}",
                (Option("no_header", flag=True), " ", Option("text_column", column_name(place))),
            )
        raise InputError(
            f"column {missing[0]!r} not found in {table.origin}; columns are: {', '.join(table.columns)}",
            Option("text_column", likely_text(table) or table.columns[0]),
        )
    if table.batches is not None:
        return _from_batches(table, columns)
    return _from_records(table, columns, set(taken), None if header is None else set(header))


def _from_records(table: Table, columns: Sequence[str], taken: set[str], header: set[str] | None) -> Iterator[Chunk]:
    assert table.records is not None
    chunk, characters = Chunk(table.origin), 0
    for row in table.records():
        problem: RowProblem | None = None
        if isinstance(row, RowProblem):
            # Stdin is read from a copy, whose name says nothing.
            problem = RowProblem(table.origin, row.row, row.message)
        else:
            number, record = row
            text = _text([record.get(column) for column in columns], columns)
            # Where the file has a header these are known beforehand; JSON lines may come up with a key at any time.
            unknown = next((key for key in record if key in taken or (header is not None and key not in header)), None)
            if unknown is not None:
                where = "an answer needs the name" if unknown in taken else "the output has no column for it"
                message = f"key {unknown!r} was not in the first rows, and {where}"
                problem = RowProblem(table.origin, number, message)
            elif isinstance(text, str):
                chunk.texts.append(text)
                chunk.records.append(record)
                characters += len(text)
            else:
                problem = RowProblem(table.origin, number, str(text))
        if problem is not None:
            chunk.add_problem(problem)
            number = problem.row
        chunk.last_row = number
        if len(chunk) == MAX_ROWS or len(chunk.problems) == MAX_ROWS or characters >= MAX_CHARACTERS:
            yield chunk
            chunk, characters = Chunk(table.origin), 0
    if chunk.texts or chunk.problems:
        yield chunk


def _from_batches(table: Table, columns: Sequence[str]) -> Iterator[Chunk]:
    assert table.batches is not None
    chunk, characters, number = Chunk(table.origin), 0, 0
    for batch in table.batches(BATCH_ROWS):
        good: list[bool] = []
        for values in _rows_of(table.origin, number, batch, columns):
            number += 1
            text = _text(values, columns)
            good.append(isinstance(text, str))
            if isinstance(text, str):
                chunk.texts.append(text)
                characters += len(text)
            else:
                chunk.add_problem(RowProblem(table.origin, number, str(text)))
        kept = [i for i, keep in enumerate(good) if keep]
        chunk.batches.append(batch if all(good) else _select(batch, kept))
        chunk.last_row = number
        if len(chunk) >= MAX_ROWS or characters >= MAX_CHARACTERS:
            yield chunk
            chunk, characters = Chunk(table.origin), 0
    if chunk.batches:
        yield chunk


def _rows_of(origin: str, number: int, batch: Any, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    try:
        values = [batch.column(column).to_pylist() for column in columns]
    except UnicodeDecodeError as error:
        raise InputError(f"{origin}: damaged after row {number} ({error})") from None
    return zip(*values, strict=True)


def _select(batch: Any, rows: list[int]) -> Any:
    """A copy of some rows of a batch.

    Slices put together: an Arrow array of row numbers would load pandas, where that is installed. A single slice would
    not be copied, hence the empty one.
    """
    import pyarrow as pa

    table = pa.Table.from_batches([batch.slice(0, 0), *(batch.slice(i, 1) for i in rows)], batch.schema)
    return table.combine_chunks().to_batches()[0] if table.num_rows else batch.slice(0, 0)


def _text(values: Sequence[Any], columns: Sequence[str]) -> str | ValueError:
    """The text of a row, or why it has none."""
    try:
        return text_of(values, columns)
    except ValueError as error:
        return error
