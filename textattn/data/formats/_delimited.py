"""What csv and tsv share: a header, and cells with a delimiter between them."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from textattn.data.formats import AnsweredRows, Format
from textattn.data.formats._json import to_cell
from textattn.data.formats._records import answer_values
from textattn.data.formats._text import BLOCK, count_lines, of_another_kind, without_mark, wrong_encoding
from textattn.data.table import Record, Row, RowProblem, Table, separator_advice
from textattn.errors import InputError

# The largest value that fits into a C long everywhere.
LONGEST_FIELD = 2**31 - 1
# How a cell begins that spreadsheets take for a formula, which may load from the network or start a program.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Delimited(Format):
    """Rows of cells; the first row is the header."""

    fixed_columns = True
    delimiter: str

    def open(self, path: Path, encoding: str) -> Table:
        """The line that a row begins on is its number."""
        csv.field_size_limit(LONGEST_FIELD)
        header = self._header(path, encoding)

        def whole_rows() -> Iterator[Row | RowProblem]:
            numbered = self._lines(path, encoding)
            next(numbered)
            for line in numbered:
                if isinstance(line, RowProblem) or len(line[1]) == len(header):
                    yield line
                else:
                    fields = f"{len(line[1])} field{'s' * (len(line[1]) != 1)}"
                    message = f"{fields}, but the header has {len(header)} ({', '.join(header)})"
                    yield RowProblem(str(path), line[0], message)

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
            advice=separator_advice(header),
            records=records,
            size=lambda: count_lines(path),
        )

    def _header(self, path: Path, encoding: str) -> list[str]:
        first = next(self._lines(path, encoding), None)
        if first is None:
            raise InputError(f"{path}: empty file; expected a header line with the column names")
        if isinstance(first, RowProblem):
            raise of_another_kind(path) or InputError(str(first))
        header = [name.strip() for name in first[1]]
        if len(set(header)) < len(header):
            raise InputError(f"{path}:1: a column name stands twice in the header: {', '.join(header)}")
        return header

    def _lines(self, path: Path, encoding: str) -> Iterator[Row | RowProblem]:
        """The rows that are not blank, header included."""
        with path.open(encoding=without_mark(encoding), newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            while True:
                first = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except UnicodeError as error:
                    raise wrong_encoding(path, encoding, error) from None
                except csv.Error as error:
                    lost = f" (lines {first} to {reader.line_num})" if reader.line_num > first else ""
                    yield RowProblem(str(path), first, f"not {self.name}: {error}{lost}")
                    continue
                # Python 3.10 reports this itself; mostly the file is in UTF-16.
                if any("\0" in cell for cell in row):
                    yield RowProblem(str(path), first, f"not {self.name}: line contains NUL")
                elif row:
                    yield first, list(row)

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


def _rows_in(blocks: Iterable[bytes]) -> int:
    """The number of line ends outside of quotes."""
    rows, is_quoted = 0, False
    for block in blocks:
        for number, piece in enumerate(block.split(b'"')):
            is_quoted ^= number > 0
            rows += 0 if is_quoted else piece.count(b"\n")
    return rows
