"""jsonl: one JSON object a line, whose keys are the columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from textattn.data.formats import AnsweredRows, Format, ReadOptions
from textattn.data.formats._bytes import count_lines
from textattn.data.formats._json import to_json
from textattn.data.formats._objects import open_objects
from textattn.data.formats._records import answer_values
from textattn.data.formats._text import encoding_of
from textattn.data.table import Table


class Jsonl(Format):
    """One JSON object a line; a file with one array of objects is read as well."""

    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")

    def open(self, path: Path, options: ReadOptions) -> Table:
        """A key that an object lacks is None."""
        encoding, note = encoding_of(path, options.encoding)
        return open_objects(path, encoding, () if note is None else (note,))

    def write(self, rows: AnsweredRows, file: BinaryIO) -> None:
        """The rows, with the answers after the keys of the input."""
        lines = [to_json(row | dict(zip(rows.answers, values, strict=True))) for row, values in answer_values(rows)]
        file.write("".join(f"{line}\n" for line in lines).encode())

    def count(self, joined: Path, columns: Sequence[str]) -> int:
        """Each row is a line."""
        return count_lines(joined)
