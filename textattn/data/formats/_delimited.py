"""What csv and tsv share: a header, and cells with a delimiter between them."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from textattn.data.formats import AnsweredRows, Format, ReadOptions
from textattn.data.formats._bytes import BLOCK, LONGEST_LINE, line_counter
from textattn.data.formats._dialect import (
    SAMPLE,
    Dialect,
    column_name,
    delimiter_advice,
    headerless_advice,
    recognise,
    rows_of,
)
from textattn.data.formats._json import to_cell
from textattn.data.formats._records import answer_values
from textattn.data.formats._text import encoding_of, open_text, other_encoding, wrong_encoding
from textattn.data.table import Record, Row, RowProblem, Table
from textattn.errors import InputError

# The longest cell, in characters.
LONGEST_FIELD = LONGEST_LINE
# Rows by which a first line is recognised that is no header.
ROWS_FOR_ADVICE = 200
# How a cell begins that spreadsheets take for a formula, which may load from the network or start a program.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Delimited(Format):
    """Rows of cells; the first row is the header, unless the options say that there is none."""

    fixed_columns = True
    delimiter: str

    def open(self, path: Path, options: ReadOptions) -> Table:
        """The line that a row begins on is its number."""
        csv.field_size_limit(LONGEST_FIELD)
        encoding, note = encoding_of(path, options.encoding)
        sample, whole = _start(path, encoding)
        dialect = recognise(sample, whole, self.delimiter, options)
        file = _File(path, encoding, dialect, self.name)
        first = file.first()
        header = [name.strip() for name in first] if options.header else [column_name(i) for i in range(len(first))]
        if len(set(header)) < len(header):
            raise InputError(f"{path}:1: a column name stands twice in the header: {', '.join(header)}")
        headerless = None
        if options.header:
            lines = list(io.StringIO(sample, newline=""))[dialect.skipped :]
            headerless = headerless_advice(first, list(islice(rows_of(dialect, lines), 1, ROWS_FOR_ADVICE)))

        def whole_rows() -> Iterator[Row | RowProblem]:
            numbered = file.rows()
            if options.header:
                next(numbered)
            for line in numbered:
                if isinstance(line, RowProblem) or len(line[1]) == len(header):
                    yield line
                else:
                    fields = f"{len(line[1])} field{'s' * (len(line[1]) != 1)}"
                    of = f"the header has {len(header)} ({', '.join(header)})"
                    of = of if options.header else f"the first row has {len(header)}"
                    yield RowProblem(str(path), line[0], f"{fields}, but {of}")

        def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
            places = [header.index(column) for column in columns]
            for row in whole_rows():
                yield row if isinstance(row, RowProblem) else (row[0], [row[1][place] for place in places])

        def records() -> Iterator[Record | RowProblem]:
            for row in whole_rows():
                yield row if isinstance(row, RowProblem) else (row[0], dict(zip(header, row[1], strict=True)))

        return Table(
            str(path),
            header,
            rows,
            advice=headerless or delimiter_advice(header),
            looks_like=None if headerless is None else "the first line looks like a row, not like a header",
            notes=tuple(([] if note is None else [note]) + dialect.notes(options.delimiter or self.delimiter)),
            records=records,
            size=line_counter(path),
        )

    def escaping_formulas(self) -> Format:
        """Spreadsheets open these files."""
        escaping = copy.copy(self)
        escaping.escapes_formulas = True
        return escaping

    def _cell(self, value: Any) -> Any:
        """A number is no formula, even a negative one."""
        if self.escapes_formulas and isinstance(value, str) and value.startswith(FORMULA):
            return f"'{value}"
        return value

    def head(self, columns: Sequence[str]) -> bytes:
        """The header."""
        out = io.StringIO(newline="")
        self._writer(out).writerow(map(self._cell, columns))
        return out.getvalue().encode()

    def write(self, rows: AnsweredRows, file: BinaryIO) -> None:
        """The rows without the header."""
        out = io.StringIO(newline="")
        writer, quoting = self._writer(out), self._writer(out, csv.QUOTE_ALL)
        for record, answers in answer_values(rows):
            values = (*(record.get(column) for column in rows.columns), *answers)
            cells = [self._cell(to_cell(value)) for value in values]
            # Before Python 3.13 a carriage return would stand without quotes, and end the row for other readers.
            has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
            (quoting if has_return else writer).writerow(cells)
        # UTF-8 has no lone surrogates, which a JSON escape can bring in.
        file.write(out.getvalue().encode(errors="replace"))

    def count(self, joined: Path, columns: Sequence[str]) -> int:
        """The lines that end outside of quotes, less the header."""
        with joined.open("rb") as file:
            lines = _rows_in(iter(lambda: file.read(BLOCK), b""))
        return lines - _rows_in([self.head(columns)])

    def _writer(self, out: io.StringIO, quoting: Any = csv.QUOTE_MINIMAL) -> Any:
        return csv.writer(out, delimiter=self.delimiter, lineterminator="\n", quoting=quoting)


def _start(path: Path, encoding: str) -> tuple[str, bool]:
    """The start of a file, and whether that is all of it."""
    with open_text(path, encoding, newline="") as file:
        try:
            sample = file.read(SAMPLE)
            return sample, len(sample) < SAMPLE
        except UnicodeError as error:
            raise wrong_encoding(path, encoding, error) from None


@dataclass(frozen=True)
class _File:
    """A file whose dialect is known."""

    path: Path
    encoding: str
    dialect: Dialect
    kind: str

    def first(self) -> list[str]:
        """The first row."""
        first = next(self.rows(), None)
        if first is None:
            raise InputError(f"{self.path}: empty file; expected a header line with the column names")
        if isinstance(first, RowProblem):
            raise other_encoding(self.path, self.encoding) or InputError(str(first))
        return first[1]

    def rows(self) -> Iterator[Row | RowProblem]:
        """The rows that are not blank, header included."""
        path, dialect, skipped = self.path, self.dialect, self.dialect.skipped
        with open_text(path, self.encoding, newline="") as file:
            for _ in range(skipped):
                file.readline()
            reader = dialect.reader(file)
            while True:
                first = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except UnicodeError as error:
                    raise wrong_encoding(path, self.encoding, error) from None
                except csv.Error as error:
                    last = reader.line_num + skipped
                    lost = f" (lines {first + skipped} to {last})" if last > first + skipped else ""
                    yield RowProblem(str(path), first + skipped, f"not {self.kind}: {error}{lost}")
                    continue
                # Python 3.10 reports this itself; mostly the file is in UTF-16.
                if any("\0" in cell for cell in row):
                    yield RowProblem(str(path), first + skipped, f"not {self.kind}: line contains NUL")
                elif reader.line_num > first and dialect.swallows(row):
                    lines = f"lines {first + skipped} to {reader.line_num + skipped}"
                    message = f"{lines} are one row between two quotation marks, but look like rows of their own"
                    yield RowProblem(str(path), first + skipped, f"{message}; data.quoting=none reads them as such")
                elif row:
                    yield first + skipped, row


def _rows_in(blocks: Iterable[bytes]) -> int:
    """The number of line ends outside of quotes."""
    rows, is_quoted = 0, False
    for block in blocks:
        for number, piece in enumerate(block.split(b'"')):
            is_quoted ^= number > 0
            rows += 0 if is_quoted else piece.count(b"\n")
    return rows
