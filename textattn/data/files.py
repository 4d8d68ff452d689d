"""Rows out of csv, tsv, jsonl and parquet files, each with the number a user finds it under."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from textattn.config.schema import FILE_SUFFIXES
from textattn.errors import InputError

# The column of a plain text file, one text a line.
LINE = "text"
# Objects at the start of a jsonl file whose keys are its columns: the first one may lack some.
ROWS_FOR_COLUMNS = 100
# The largest that fits a C long everywhere.
LONGEST_FIELD = 2**31 - 1
ROWS_PER_BATCH = 65_536
# How files begin that are taken for text by their name, what they are, and what helps.
DISGUISES = (
    (b"\x1f\x8b", "compressed with gzip, not text", "unpack it with gunzip"),
    (b"PK\3\4", "a zip archive or an Excel file, not text", "unpack it, or save the sheet as csv"),
    (b"PAR1", "a parquet file, not text", "rename it to end in .parquet"),
    (b"\xff\xfe", "text in UTF-16", "data.encoding=utf-16"),
    (b"\xfe\xff", "text in UTF-16", "data.encoding=utf-16"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# Read at a time where only the line ends count.
BLOCK = 1 << 20
Row = tuple[int, list[Any]]
Record = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class RowProblem:
    """A row that cannot be used: where it is and what is wrong."""

    origin: str
    row: int
    message: str

    def __str__(self) -> str:
        return f"{self.origin}:{self.row}: {self.message}"


@dataclass(frozen=True)
class Table:
    """Something with columns and rows: a file, or a split of a data set."""

    origin: str
    """File, or `data set[split]`, for messages."""
    columns: list[str]
    rows: Callable[[list[str]], Iterator[Row | RowProblem]]
    """The values of the given columns, row by row, with the row's number (line of a text file, else from 1)."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Label names by column, where the data give them."""
    revision: str | None = None
    """Commit of a Hub data set."""
    fingerprint: str | None = None
    """What `datasets` calls this very content."""
    records: Callable[[], Iterator[Record | RowProblem]] | None = None
    """Whole rows of a text file, with keys that `columns` may not know; None where rows come in batches."""
    batches: Callable[[int], Iterator[Any]] | None = None
    """Arrow record batches of at most so many rows; None where rows come one by one."""
    size: Callable[[], int] | None = None
    """About the number of the last row, for a progress bar: the lines of a text file."""


def open_file(path: Path, encoding: str = "utf-8", suffix: str | None = None) -> Table:
    """The table in a file.

    Args:
        suffix: tells the format; default: that of the path.

    Raises:
        InputError: the file is missing, empty, of another format or not in `encoding`.
    """
    suffix = suffix or path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise InputError(f"{path}: unknown kind of file; readable are {', '.join(FILE_SUFFIXES)}")
    try:
        refuse_pipe(path)
        if suffix == ".parquet":
            return _open_parquet(path)
        if suffix == ".jsonl":
            return _open_jsonl(path, encoding)
        return _open_csv(path, encoding, suffix[1:])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeError as error:
        raise _wrong_encoding(path, encoding, error) from None
    except LookupError:
        raise InputError(f"unknown encoding {encoding!r}", "data.encoding=utf-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _without_mark(encoding: str) -> str:
    """The encoding to read with: Windows programs put a byte order mark in front of UTF-8."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def refuse_pipe(path: Path) -> None:
    """Raises InputError for a named pipe: files are read more than once, and one that nobody writes to is for ever."""
    if path.is_fifo():
        raise InputError(f"{path}: a pipe, but it is read more than once", f"cat {path} > copy{path.suffix}")


def _of_another_kind(path: Path) -> InputError | None:
    """What a file that cannot be read as text is instead, where its first bytes say so."""
    with path.open("rb") as file:
        first = file.read(4)
    for start, kind, hint in DISGUISES:
        if first.startswith(start):
            return InputError(f"{path}: {kind}", hint)
    # Letters of UTF-16 without its mark.
    if len(first) == 4 and (first[1::2] == b"\0\0" or first[::2] == b"\0\0") and first.count(0) == 2:
        order = "le" if first[1] == 0 else "be"
        return InputError(f"{path}: text in UTF-16, without its mark", f"data.encoding=utf-16-{order}")
    return None


def _wrong_encoding(path: Path, encoding: str, error: UnicodeError) -> InputError:
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    other = None if wide else _of_another_kind(path)
    if other is not None:
        return other
    with path.open("rb") as file:
        # A line break is not a single byte in UTF-16 and UTF-32: no line to be named.
        for number, line in enumerate([] if wide else file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as found:
                byte = found.object[found.start]
                return InputError(
                    f"{path}:{number}: byte {found.start + 1} of the line (0x{byte:02x}) is not {encoding}",
                    "data.encoding=cp1252 (or whatever the file was saved in)",
                )
    return InputError(f"{path}: not {encoding} ({error})", "data.encoding=utf-8")


def open_lines(path: Path, encoding: str = "utf-8") -> Table:
    """A plain text file: every line a row, empty ones too, whatever the file is called.

    Raises:
        InputError: the file is missing or cannot be read, or there is no such encoding.
    """
    try:
        name = _without_mark(encoding)
        refuse_pipe(path)
        path.open("rb").close()
    except LookupError:
        raise InputError(f"unknown encoding {encoding!r}", "data.encoding=utf-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None

    def lines() -> Iterator[tuple[int, str] | RowProblem]:
        # Only \n and \r\n end a line, and what is wrong with one leaves the others as they are.
        with path.open(encoding=name, errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                wrong = _SURROGATE.search(text)
                if wrong:
                    place = len(text[: wrong.start()].encode(encoding, "surrogateescape")) + 1
                    yield RowProblem(str(path), number, f"byte {place} of the line is not {encoding.upper()}")
                else:
                    yield number, text

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        for line in lines():
            yield line if isinstance(line, RowProblem) else (line[0], [line[1] for _ in columns])

    def records() -> Iterator[Record | RowProblem]:
        for line in lines():
            yield line if isinstance(line, RowProblem) else (line[0], {LINE: line[1]})

    return Table(str(path), [LINE], rows, records=records, size=lambda: _count_lines(path))


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def _open_csv(path: Path, encoding: str, kind: str) -> Table:
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = "\t" if kind == "tsv" else ","

    def lines() -> Iterator[tuple[int, list[str]] | RowProblem]:
        with path.open(encoding=_without_mark(encoding), newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                first = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except UnicodeError as error:
                    raise _wrong_encoding(path, encoding, error) from None
                except csv.Error as error:
                    lost = f" (lines {first} to {reader.line_num})" if reader.line_num > first else ""
                    yield RowProblem(str(path), first, f"not {kind}: {error}{lost}")
                    continue
                # Python 3.10 finds this itself; mostly a file in UTF-16.
                if any("\0" in cell for cell in row):
                    yield RowProblem(str(path), first, f"not {kind}: line contains NUL")
                elif row:
                    yield first, row

    header: list[str] | None = None
    for line in lines():
        if isinstance(line, RowProblem):
            raise _of_another_kind(path) or InputError(str(line))
        header = [name.strip() for name in line[1]]
        break
    if header is None:
        raise InputError(f"{path}: empty file; expected a header line with the column names")
    if len(set(header)) < len(header):
        raise InputError(f"{path}:1: a column name stands twice in the header: {', '.join(header)}")

    def whole_rows() -> Iterator[Row | RowProblem]:
        numbered = lines()
        next(numbered)
        for line in numbered:
            if isinstance(line, RowProblem):
                yield line
            elif len(line[1]) != len(header):
                found = f"{len(line[1])} field{'s' * (len(line[1]) != 1)}"
                message = f"{found}, but the header has {len(header)} ({', '.join(header)})"
                yield RowProblem(str(path), line[0], message)
            else:
                yield line[0], list(line[1])

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        places = [header.index(column) for column in columns]
        for row in whole_rows():
            yield row if isinstance(row, RowProblem) else (row[0], [row[1][place] for place in places])

    def records() -> Iterator[Record | RowProblem]:
        for row in whole_rows():
            yield row if isinstance(row, RowProblem) else (row[0], dict(zip(header, row[1], strict=True)))

    return Table(str(path), header, rows, records=records, size=lambda: _count_lines(path))


def _open_jsonl(path: Path, encoding: str) -> Table:
    def objects() -> Iterator[tuple[int, dict[str, Any]] | RowProblem]:
        with path.open(encoding=_without_mark(encoding)) as file:
            number = 0
            while True:
                try:
                    line = file.readline()
                except UnicodeError as error:
                    raise _wrong_encoding(path, encoding, error) from None
                if not line:
                    return
                number += 1
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                    # Python lets the last of two equal keys win; only then are there more colons than keys.
                    if isinstance(value, dict) and line.count(":") > len(value):
                        json.loads(line, object_pairs_hook=_refuse_twice)
                    # "\ud83d" alone is half of a character, and no text can hold it.
                    if "\\u" in line:
                        json.dumps(value, ensure_ascii=False).encode()
                except UnicodeEncodeError:
                    yield RowProblem(str(path), number, "not JSON: a \\u escape is half of a character")
                    continue
                except json.JSONDecodeError as error:
                    yield RowProblem(str(path), number, f"not JSON: {error.msg} at character {error.pos + 1}")
                    continue
                except RecursionError:
                    yield RowProblem(str(path), number, "not JSON: nested too deeply")
                    continue
                except ValueError as error:
                    # A number too long for Python comes with advice for programmers.
                    yield RowProblem(str(path), number, f"not JSON: {str(error).partition(';')[0]}")
                    continue
                if isinstance(value, dict):
                    yield number, value
                else:
                    yield RowProblem(str(path), number, 'expected a JSON object such as {"text": …, "label": …}')

    sample = list(islice(objects(), ROWS_FOR_COLUMNS))
    columns = list(dict.fromkeys(key for item in sample if not isinstance(item, RowProblem) for key in item[1]))
    if not columns:
        problem = next((str(item) for item in sample if isinstance(item, RowProblem)), None)
        raise (problem and _of_another_kind(path)) or InputError(
            problem or f"{path}: no rows; expected one JSON object a line"
        )

    def rows(wanted: list[str]) -> Iterator[Row | RowProblem]:
        for item in objects():
            if isinstance(item, RowProblem):
                yield item
            else:
                yield item[0], [item[1].get(column) for column in wanted]

    return Table(str(path), columns, rows, records=objects, size=lambda: _count_lines(path))


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} stands twice")


def _open_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as error:
        raise InputError(f"{path}: not a parquet file ({error})") from None
    if len(set(schema.names)) < len(schema.names):
        raise InputError(f"{path}: a column name stands twice: {', '.join(schema.names)}")

    def read(size: int, columns: list[str] | None = None) -> Iterator[Any]:
        number = 0
        try:
            # Without pre_buffer a row group is read piece by piece: some files are one group of gigabytes.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=BLOCK) as file:
                for batch in file.iter_batches(size, columns=columns):
                    yield batch
                    number += batch.num_rows
                if not number:
                    # The columns of a file without rows.
                    empty = file.read_row_groups([], columns=columns)
                    yield pa.RecordBatch.from_arrays([c.combine_chunks() for c in empty.columns], schema=empty.schema)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: damaged after row {number} ({error})") from None

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        number = 0
        for batch in read(ROWS_PER_BATCH, columns):
            values = [_values(path, number, batch.column(column)) for column in columns]
            for row in zip(*values, strict=True):
                number += 1
                yield number, list(row)

    return Table(
        str(path),
        list(schema.names),
        rows,
        class_names_of(schema),
        batches=read,
        size=lambda: int(pq.read_metadata(path).num_rows),
    )


def _values(path: Path, number: int, column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged after row {number} ({error})") from None
    return values


def class_names_of(schema: Any) -> dict[str, list[str]]:
    """Label names by column, as the Hub's feature types in an Arrow schema give them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    found = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found[column] = list(inner["names"])
    return found
