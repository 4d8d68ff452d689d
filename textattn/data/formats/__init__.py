"""The file formats: one file of this folder each, named after the format, with one class that derives from `Format`.

A file in this folder is a format as soon as it is there; files that begin with an underscore hold what formats share.
Nothing is imported before a format is asked for, and the formats themselves import pyarrow and numpy only when they
read or write.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from textattn.data.table import Table
from textattn.parts import part_class, part_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = list[Any] | NDArray[np.floating[Any]]

# The suffixes of compressed files.
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about how files are written; None where it is to be recognised."""

    encoding: str | None = None
    delimiter: str | None = None
    """Between the cells of csv files."""
    quoting: str | None = None
    """`minimal`: quotation marks enclose cells of csv files; `none`: they are characters like others."""
    escape: str | None = None
    """The character in front of a quotation mark inside a quoted cell."""
    header: bool = True
    """Whether the first line of csv files has the names of the columns."""


@dataclass(frozen=True)
class AnsweredRows:
    """Rows of the input with the answers of a model, to be written."""

    columns: list[str]
    """The columns of the input, in order."""
    records: list[dict[str, Any]]
    """The rows of the input; empty where `batches` holds them."""
    batches: list[Any]
    """The rows of the input as Arrow record batches, where it has types of its own."""
    answers: dict[str, Column]
    """The columns to add, each with a value for every row."""
    lines: Callable[[], Iterable[str]]
    """Each answer as a line of text, the way it is printed."""


class Format(ABC):
    """A file format: how to read a table from a file of this format and how to write answered rows to one.

    Rows are written part by part; every part is a file of the format, except that text formats have no header there.
    """

    suffixes: tuple[str, ...]
    """The suffixes of its files, in lower case and with the dot; the first is the usual one."""
    labelled = True
    """Whether it holds columns, and so can hold labels; otherwise it is for prediction only."""
    fixed_columns = False
    """Whether a header names all columns before the first row is written, so that no row can bring another."""
    streams = True
    """Whether answers can be written to a stream; otherwise the file is complete only at its end."""
    magic = b""
    """How its files begin, where that is always the same: tells a file that was given the wrong name."""

    escapes_formulas = False
    """Whether cells that a spreadsheet would take for a formula are written with an apostrophe in front."""

    def escaping_formulas(self) -> Format | None:
        """The same format with `escapes_formulas`; None where files of this format are not opened as spreadsheets."""
        return None

    @property
    def name(self) -> str:
        """The name of the file that defines it."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def open(self, path: Path, options: ReadOptions) -> Table:
        """The table in a file.

        Raises:
            InputError: the file is empty, damaged or of another format; the rows of the table raise it as well.
            OSError, LookupError: the file cannot be opened, or there is no such encoding; `open_file` reports it.
        """

    @abstractmethod
    def write(self, rows: AnsweredRows, file: BinaryIO) -> None:
        """Writes one part."""

    def head(self, columns: Sequence[str]) -> bytes:
        """The bytes before the rows.

        Args:
            columns: of the input and of the answers.
        """
        return b""

    def join(self, parts: Sequence[Path], columns: Sequence[str], output: Path) -> None:
        """Puts the parts together into one file."""
        with output.open("wb") as out:
            out.write(self.head(columns))
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, out)

    def count(self, joined: Path, columns: Sequence[str]) -> int | None:
        """The number of rows in a file that `join` has made; None if that cannot be told from the file."""
        return None


@cache
def all_formats() -> tuple[Format, ...]:
    """Every format of this folder: those without labels first, then by the length of the name."""
    found = (part_class(__name__, name, Format)() for name in part_names(__path__))  # type: ignore[type-abstract]
    return tuple(sorted(found, key=lambda kind: (kind.labelled, len(kind.name), kind.name)))


def format_named(name: str) -> Format | None:
    """The format of that name; None if there is none."""
    return next((kind for kind in all_formats() if kind.name == name), None)


def format_of(path: str | Path) -> Format | None:
    """The format of a file, by its suffix; None if that is not the suffix of a format."""
    suffix = Path(path).suffix.lower()
    return next((kind for kind in all_formats() if suffix in kind.suffixes), None)


def input_format_of(path: str | Path) -> Format | None:
    """The format of a file that may be compressed: that of `x.csv.gz` is csv."""
    path = Path(path)
    return format_of(path.with_suffix("") if path.suffix.lower() in COMPRESSED else path)


def is_table(path: str | Path) -> bool:
    """Whether a file is, by its suffix, one of data, which may be compressed; what is in it may differ."""
    return input_format_of(path) is not None
