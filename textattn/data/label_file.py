"""A file that grows by one labelled row at a time, and loses none of them however the process ends.

A row is appended by a single write and reaches the disk before the next one. Its cells are quoted (csv) or it is one
JSON object (jsonl), so that a row that was cut short by a power failure or a full disk is told from a whole one; it is
removed when the file is opened again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textattn.data.segments import join_segments
from textattn.errors import ConfigError, InputError, Option, TextattnError
from textattn.storage import locks

LABEL = "label"
# Between several labels in a cell of a csv file.
SEPARATOR = ";"
OUTPUT = Option("output")
OTHER = Option("output", "another.csv")
SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True)
class LabelledRow:
    """A row of the file."""

    text: str
    """Several segments are joined by tabs."""
    labels: list[str]
    """The one label, or any number of labels."""


class LabelFile:
    """The rows that are labelled, in a csv or jsonl file with the columns of the text and the column `label`."""

    def __init__(self, path: Path, columns: Sequence[str], several: bool) -> None:
        """Nothing is opened before `owned`.

        Args:
            columns: those of the text.
            several: whether a text may have several labels, or none.

        Raises:
            ConfigError: the file has another suffix than csv or jsonl, or a column of the text is called `label`.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(
                f"{path} must end in {' or '.join(SUFFIXES)}",
                Option("output", path.with_suffix(".csv")),
                setting=OUTPUT,
            )
        if LABEL in columns:
            raise ConfigError(f"the column {LABEL!r} holds the labels, so it cannot hold texts", "another column")
        self.path, self.columns, self.several = path, list(columns), several
        self.is_csv = path.suffix.lower() == ".csv"
        self.rows: list[LabelledRow] = []
        """All rows of the file."""
        self.cut_short = False
        """Whether the last row was incomplete when the file was opened, and was removed."""
        self._ends: list[int] = []  # bytes of the file before each row that was added
        self._file: int | None = None

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Own the file during the block; it is made where it is missing, and read where it exists.

        Raises:
            ConfigError: another process owns it, it cannot be written, or it is a file of another kind.
            InputError: it is damaged.
        """
        lock = self.path.with_name(f"{self.path.name}.lock")
        hint = ("close it there, or use ", OTHER)
        with contextlib.ExitStack() as stack:
            # A killed process has left it.
            stack.callback(locks.remove_empty, [lock])
            try:
                stack.enter_context(locks.owned(lock, "written", hint, setting=OUTPUT))
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            except OSError as error:
                problem = f"{self.path} cannot be written: {error.strerror or error}"
                raise ConfigError(problem, OTHER, setting=OUTPUT) from None
            stack.callback(self._close, self._file)
            self._ends = []
            self._read(self.path.read_bytes())
            yield

    def _close(self, file: int) -> None:
        """Close the file, and remove it if nothing was ever written to it."""
        is_empty = os.fstat(file).st_size == 0
        os.close(file)
        self._file = None
        if is_empty:
            self.path.unlink(missing_ok=True)

    def add(self, row: LabelledRow) -> None:
        """Append a row.

        Raises:
            OSError: it cannot be written, for instance because the disk is full; the file is as it was before.
        """
        assert self._file is not None
        end = os.lseek(self._file, 0, os.SEEK_END)
        content = self._encoded(row)
        if end == 0 and self.is_csv:
            content = self._line([*self.columns, LABEL]) + content
        try:
            while content:
                content = content[os.write(self._file, content) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        self._ends.append(end)
        self.rows.append(row)

    def remove_last(self) -> LabelledRow | None:
        """Remove the last row that was added since the file was opened, and return it; None if there is none."""
        if not self._ends:
            return None
        assert self._file is not None
        os.ftruncate(self._file, self._ends.pop())
        os.fsync(self._file)
        return self.rows.pop()

    @property
    def added(self) -> int:
        """The number of rows that were added since the file was opened."""
        return len(self._ends)

    def labels(self) -> list[str]:
        """The labels of all rows, each once, in the order in which they came up."""
        return list(dict.fromkeys(label for row in self.rows for label in row.labels))

    # Rows as bytes

    def _encoded(self, row: LabelledRow) -> bytes:
        cells = [row.text] if len(self.columns) == 1 else row.text.split("\t")
        if self.is_csv:
            return self._line([*cells, SEPARATOR.join(row.labels)])
        label: Any = row.labels if self.several else row.labels[0]
        record = dict(zip(self.columns, cells, strict=True)) | {LABEL: label}
        return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")

    def _line(self, cells: list[str]) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(cells)
        return out.getvalue().encode("utf-8", "replace")

    # Bytes as rows

    def _read(self, content: bytes) -> None:
        """Read the file, and cut off a last row that is incomplete."""
        assert self._file is not None
        if content and not content.endswith(b"\n"):
            content = self._completed(content)
        self.rows = self._parsed(content)

    def _completed(self, content: bytes) -> bytes:
        """The content of a file that does not end with a line feed, with one, or without the row that was cut short."""
        assert self._file is not None
        whole = self._whole_rows(content)
        end = content[len(whole) :]
        try:
            # The last row of an editor. Ours has quotes behind the last comma too, even for no label.
            if self.is_csv and end.startswith(b'"') and end.endswith(b","):
                raise InputError("damaged (the last row is incomplete)", OTHER, place=str(self.path))
            self._parsed(content + b"\n")
        except TextattnError:
            if not self._is_cut_short(end, is_first=not whole):
                raise
            self._parsed(whole)
            os.ftruncate(self._file, len(whole))
            self.cut_short = True
            return whole
        os.lseek(self._file, 0, os.SEEK_END)
        os.write(self._file, b"\n")
        return content + b"\n"

    def _is_cut_short(self, end: bytes, is_first: bool) -> bool:
        """Whether this may be the beginning of a row as `add` writes it."""
        if not self.is_csv:
            try:
                json.loads(end)
            except ValueError:
                return end.startswith(b"{")
            return False
        if is_first:
            return self._line([*self.columns, LABEL]).startswith(end)
        cells = next(csv.reader([end.decode("utf-8", "replace")]))
        return end.startswith(b'"') and len(cells) <= len(self.columns) + 1

    def _whole_rows(self, content: bytes) -> bytes:
        """The content up to the end of the last complete row: a line feed outside of quotes."""
        end = len(content)
        while (end := content.rfind(b"\n", 0, end)) >= 0:
            if not self.is_csv or content.count(b'"', 0, end) % 2 == 0:
                return content[: end + 1]
        return b""

    def _parsed(self, content: bytes) -> list[LabelledRow]:
        """The rows.

        Raises:
            ConfigError: the columns are others.
            InputError: a row is not as `add` writes it.
        """
        try:
            text = content.decode("utf-8-sig")
            return list(self._from_csv(text) if self.is_csv else self._from_jsonl(text))
        except (ValueError, csv.Error) as error:
            problem = f"damaged, or not written by textattn label ({error})"
            raise InputError(problem, OTHER, place=str(self.path)) from None

    def _from_csv(self, text: str) -> Iterator[LabelledRow]:
        if not text:
            return
        csv.field_size_limit(2**31 - 1)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader)
        if header != [*self.columns, LABEL]:
            raise ConfigError(
                f"{self.path} has the columns {', '.join(header)}; expected {', '.join([*self.columns, LABEL])}",
                OTHER,
                setting=OUTPUT,
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(f"line {reader.line_num}: {len(cells)} fields, but the header has {len(header)}")
            *segments, cell = cells
            labels = (
                [part.strip() for part in cell.split(SEPARATOR) if part.strip()] if self.several else [cell.strip()]
            )
            if "" in labels:
                raise ValueError(f"line {reader.line_num}: the label is empty")
            yield LabelledRow(self._text(segments), labels)

    def _from_jsonl(self, text: str) -> Iterator[LabelledRow]:
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                segments, label = [record[column] for column in self.columns], record[LABEL]
                labels = label if self.several else [label]
                if not isinstance(labels, list) or not all(isinstance(name, str) for name in [*segments, *labels]):
                    raise TypeError(f"expected {'a list of labels' if self.several else 'one label'}")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"line {number}: {error}") from None
            yield LabelledRow(self._text(segments), labels)

    def _text(self, segments: Sequence[str]) -> str:
        return segments[0] if len(segments) == 1 else join_segments(segments)
