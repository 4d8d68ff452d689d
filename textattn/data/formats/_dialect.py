"""How a csv file is written: what stands between its cells, and whether quotation marks enclose them.

There is a default for each question, that of RFC 4180. Another answer is taken only where the default makes nonsense of
the lines at the start of a file and the other answer makes sense of them.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from textattn.data.formats import ReadOptions

# Characters at the start of a file by which it is judged, and lines by which its delimiter is.
SAMPLE = 1 << 18
LINES = 500
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
# Another delimiter is taken for the usual one only if so many of the lines agree on a number of columns.
AGREEMENT = 0.9
# A column of at most so many different values is one of labels.
LABELS = 50
# The value of `data.escape` for files in which quotation marks are doubled.
NO_ESCAPE = "none"
SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How the cells of a file are written."""

    delimiter: str
    quoted: bool = True
    """Whether quotation marks enclose cells; otherwise they are characters like others, and every line is a row."""
    escape: str | None = None
    """The character that takes the meaning from a quotation mark inside a cell."""
    skipped: int = 0
    """Lines before the header."""
    labels: dict[int, set[str]] = field(default_factory=dict)
    """Columns with few different values, and these."""
    given: bool = False
    """Whether the user said whether cells are quoted."""

    def reader(self, lines: Iterable[str]) -> Any:
        """The `csv.reader` of lines; it raises csv.Error for a row that breaks the rules."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            escapechar=self.escape,
            strict=True,
        )

    def swallows(self, row: list[str]) -> bool:
        """Whether a row of several lines is more likely several rows, the first of which begins a stray quotation."""
        if not self.quoted or self.given:
            return False
        lines = self.delimiter.join(row).splitlines()
        if min(len(row), len(lines)) < 2 or any(line.count(self.delimiter) != len(row) - 1 for line in lines):
            return False
        if not self.labels:
            # Commas are part of many texts, the other delimiters of few.
            return self.delimiter != ","
        cells = [line.split(self.delimiter) for line in lines[:-1]]
        return any(all(line[column] in values for line in cells) for column, values in self.labels.items())

    def notes(self, default: str) -> list[str]:
        """What differs from a file of RFC 4180 with the delimiter that its suffix means."""
        name = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        said = [f"read with {name} between the columns"] if self.delimiter != default else []
        if not self.quoted and not self.given:
            said.append('read with every line as a row and " as a character like others; data.quoting sets this')
        if self.escape is not None:
            said.append(f'read with {self.escape}" for a quotation mark inside a cell')
        return said


def recognise(sample: str, whole: bool, default: str, options: ReadOptions) -> Dialect:
    """The dialect of a file.

    Args:
        sample: the start of the file.
        whole: whether that is the whole file.
        default: the delimiter that the suffix means.
    """
    lines = list(io.StringIO(sample, newline=""))
    if not whole and len(lines) > 1:
        lines.pop()
    sep = SEP.fullmatch(lines[0]) if lines else None
    skipped = int(sep is not None)
    delimiter = options.delimiter or (sep[1] if sep else None) or _delimiter(lines, default)
    lines = lines[skipped:]
    escape = None if options.escape == NO_ESCAPE else options.escape
    plain = Dialect(delimiter, escape=escape, skipped=skipped, given=options.quoting is not None)
    dialect = replace(plain, quoted=options.quoting != "none")
    if options.quoting is None and '"' in sample:
        dialect = _quoting(lines, whole, plain, options)
    return replace(dialect, labels=_labels(dialect, lines))


def _delimiter(lines: Sequence[str], default: str) -> str:
    start = [line for line in lines[:LINES] if line.rstrip("\r\n")]
    # With two columns or more the usual delimiter is right, if not all rows are of another number of columns.
    if _agreement(start, default) >= 1 - AGREEMENT:
        return default
    scores = {delimiter: _agreement(start, delimiter) for delimiter in DELIMITERS}
    best = max(scores, key=lambda delimiter: scores[delimiter])
    return best if scores[best] >= AGREEMENT else default


def _agreement(lines: Sequence[str], delimiter: str) -> float:
    """The share of rows with as many cells as the header; 0 where that has one cell only."""
    shares = []
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter, quoting=quoting)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            rows = widths[1:] or widths
            shares.append(sum(width == widths[0] for width in rows) / len(rows))
            if shares[-1] >= AGREEMENT:
                break
    return max(shares, default=0.0)


@dataclass
class _Trial:
    """What comes of reading lines in a dialect."""

    faults: int = 0
    """Lines in rows that break the rules or have another number of cells than the header."""
    long: list[list[str]] = field(default_factory=list)
    """The rows that span several lines."""


def _try(dialect: Dialect, lines: Sequence[str], whole: bool) -> _Trial:
    trial = _Trial()
    reader = dialect.reader(lines)
    width = 0
    while True:
        first = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return trial
        except csv.Error:
            # A row that goes on behind the sample may be in order.
            if whole or reader.line_num < len(lines):
                trial.faults += reader.line_num - first
            continue
        width = width or len(row)
        if row and len(row) != width:
            trial.faults += reader.line_num - first
        elif reader.line_num - first > 1:
            trial.long.append(row)


def _quoting(lines: Sequence[str], whole: bool, plain: Dialect, options: ReadOptions) -> Dialect:
    """Whether quotation marks enclose the cells of a file that contains some."""
    usual = _try(plain, lines, whole)
    # No name of a column begins with a stray quotation mark.
    if (not usual.faults and not usual.long) or _quotations(lines[:1], plain.delimiter)[1]:
        return plain
    if usual.faults and options.escape is None and any('\\"' in line for line in lines):
        escaping = replace(plain, escape="\\")
        if not _try(escaping, lines, whole).faults:
            return escaping
    without = replace(plain, quoted=False)
    literal = _try(without, lines, whole)
    if usual.faults:
        enclosed, broken = _quotations(lines, plain.delimiter)
        better = literal.faults < usual.faults and literal.faults <= (1 - AGREEMENT) * len(lines)
        return without if better and broken > enclosed else plain
    if literal.faults:
        return plain
    known = replace(plain, labels=_labels(without, lines))
    return without if any(known.swallows(row) for row in usual.long) else plain


def _quotations(lines: Iterable[str], delimiter: str) -> tuple[int, int]:
    """Cells that a writer enclosed in quotation marks, and others that begin with one.

    A writer encloses all cells of a column or those that need it, so a single `"Great!"` is a text with its own marks.
    """
    enclosed = broken = 0
    columns: dict[int, list[str]] = {}
    for line in lines:
        for column, cell in enumerate(line.rstrip("\r\n").split(delimiter)):
            columns.setdefault(column, []).append(cell)
    for cells in columns.values():
        marked = [cell for cell in cells if cell.startswith('"')]
        all_of_them = len(marked) >= AGREEMENT * len(cells)
        for cell in marked:
            inner = cell[1:-1].replace('""', "")
            if len(cell) < 2 or not cell.endswith('"') or '"' in inner:
                broken += 1
            elif all_of_them or len(inner) < len(cell) - 2:
                enclosed += 1
    return enclosed, broken


def rows_of(dialect: Dialect, lines: Iterable[str]) -> Iterator[list[str]]:
    """The rows of lines that follow the rules."""
    reader = dialect.reader(lines)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue
        if row:
            yield row


def _labels(dialect: Dialect, lines: Sequence[str]) -> dict[int, set[str]]:
    rows = list(islice(rows_of(dialect, lines), LINES))
    width = len(rows[0]) if rows else 0
    rows = [row for row in rows[1:] if len(row) == width and not any("\n" in cell for cell in row)]
    found = {column: {row[column] for row in rows} for column in range(width)}
    return {column: values for column, values in found.items() if len(values) <= min(LABELS, len(rows) // 2)}


def headerless_advice(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """The settings for a file whose first line looks like a row; None if it looks like a header."""
    rows = [row for row in rows if len(row) == len(header)]
    if not rows or len(header) < 2:
        return None
    columns = list(zip(*rows, strict=True))
    lengths = [sum(map(len, column)) / len(rows) for column in columns]
    text = lengths.index(max(lengths))
    kinds = {column: len(set(values)) for column, values in enumerate(columns) if column != text}
    label = min(kinds, key=lambda column: kinds[column])
    is_value = kinds[label] <= len(rows) / 2 and header[label] in columns[label]
    if not is_value and len(header[text].split()) <= max(4, len(header)):
        return None
    return f"data.header=false data.text={column_name(text)} data.label={column_name(label)}"


def column_name(place: int) -> str:
    """The name of a column in a file without a header line."""
    return f"column_{place + 1}"


def delimiter_advice(columns: Sequence[str]) -> str | None:
    """The setting for a header that is a single name with a delimiter in it."""
    found = next((delimiter for delimiter in DELIMITERS if len(columns) == 1 and delimiter in columns[0]), None)
    # In YAML, a bar begins a text of several lines.
    written = {"\t": "tab", "|": '"|"'}.get(str(found), str(found))
    return None if found is None else f"data.delimiter={shlex.quote(written)}"
