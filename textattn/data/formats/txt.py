"""txt: one text a line, for prediction only. Any file can be read as this, whatever its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from textattn.data.formats import AnsweredRows, Format, ReadOptions
from textattn.data.formats._bytes import first_bytes, line_counter
from textattn.data.formats._encoding import check_encoding, marked_encoding
from textattn.data.formats._text import open_text
from textattn.data.table import Record, Row, RowProblem, Table

# The name of the only column.
LINE = "text"
_SURROGATE = re.compile("[\ud800-\udfff]")


class Txt(Format):
    """One text a line."""

    suffixes = (".txt",)
    labelled = False

    def open(self, path: Path, options: ReadOptions) -> Table:
        """Every line is a row, empty ones too."""
        marked = marked_encoding(first_bytes(path, 4))
        # A line that is not UTF-8 is one bad row, so no other encoding is looked for.
        encoding = options.encoding or marked or "utf-8"
        check_encoding(encoding)
        notes = () if options.encoding or marked in (None, "utf-8") else (f"read as {marked}",)

        def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
            for line in _lines(path, encoding):
                yield line if isinstance(line, RowProblem) else (line[0], [line[1] for _ in columns])

        def records() -> Iterator[Record | RowProblem]:
            for line in _lines(path, encoding):
                yield line if isinstance(line, RowProblem) else (line[0], {LINE: line[1]})

        return Table(str(path), [LINE], rows, notes=notes, records=records, size=line_counter(path))

    def write(self, rows: AnsweredRows, file: BinaryIO) -> None:
        """The answers only, as they would be printed: line N answers row N."""
        file.write("".join(f"{line}\n" for line in rows.lines()).encode())


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str] | RowProblem]:
    # Only \n and \r\n end a line, and a line that is not in the encoding leaves the others as they are.
    with open_text(path, encoding, "surrogateescape", "\n") as file:
        for number, line in enumerate(file, 1):
            text = line.removesuffix("\n").removesuffix("\r")
            wrong = _SURROGATE.search(text)
            if wrong:
                place = len(text[: wrong.start()].encode(encoding, "surrogateescape")) + 1
                yield RowProblem(str(path), number, f"byte {place} of the line is not {encoding.upper()}")
            else:
                yield number, text
