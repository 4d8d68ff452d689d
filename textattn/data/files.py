"""Rows out of csv, tsv, jsonl and parquet files, each with the number a user finds it under."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textattn.errors import InputError

FILE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Row = tuple[int, list[Any]]


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


def open_file(path: Path, encoding: str = "utf-8") -> Table:
    """The table in a file; its suffix tells the format.

    Raises:
        InputError: the file is missing, empty, of another format or not in `encoding`.
    """
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise InputError(f"{path}: unknown kind of file; readable are {', '.join(FILE_SUFFIXES)}")
    try:
        if suffix == ".parquet":
            return _open_parquet(path)
        if suffix == ".jsonl":
            return _open_jsonl(path, encoding)
        return _open_csv(path, encoding, "\t" if suffix == ".tsv" else ",")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, encoding, error) from None
    except LookupError:
        raise InputError(f"unknown encoding {encoding!r}", "data.encoding=utf-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _wrong_encoding(path: Path, encoding: str, error: UnicodeDecodeError) -> InputError:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as found:
                byte = found.object[found.start]
                return InputError(
                    f"{path}:{number}: byte {found.start + 1} of the line (0x{byte:02x}) is not {encoding}",
                    "data.encoding=cp1252 (or whatever the file was saved in)",
                )
    return InputError(f"{path}: not {encoding} ({error.reason})", "data.encoding=cp1252")


def _open_csv(path: Path, encoding: str, delimiter: str) -> Table:
    csv.field_size_limit(sys.maxsize)
    # Windows programs put a byte order mark in front of UTF-8.
    encoding = "utf-8-sig" if encoding.lower().replace("_", "-") == "utf-8" else encoding

    def lines() -> Iterator[tuple[int, list[str]] | RowProblem]:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                first = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except UnicodeDecodeError as error:
                    raise _wrong_encoding(path, encoding.removesuffix("-sig"), error) from None
                except csv.Error as error:
                    yield RowProblem(str(path), first, f"not {path.suffix[1:]}: {error}")
                    continue
                if row:
                    yield first, row

    header: list[str] | None = None
    for line in lines():
        if isinstance(line, RowProblem):
            raise InputError(str(line))
        header = [name.strip() for name in line[1]]
        break
    if header is None:
        raise InputError(f"{path}: empty file; expected a header line with the column names")
    if len(set(header)) < len(header):
        raise InputError(f"{path}:1: a column name stands twice in the header: {', '.join(header)}")

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        places = [header.index(column) for column in columns]
        numbered = lines()
        next(numbered)
        for line in numbered:
            if isinstance(line, RowProblem):
                yield line
            elif len(line[1]) != len(header):
                yield RowProblem(
                    str(path), line[0], f"{len(line[1])} fields, but the header has {len(header)} ({', '.join(header)})"
                )
            else:
                yield line[0], [line[1][place] for place in places]

    return Table(str(path), header, rows)


def _open_jsonl(path: Path, encoding: str) -> Table:
    encoding = "utf-8-sig" if encoding.lower().replace("_", "-") == "utf-8" else encoding

    def objects() -> Iterator[tuple[int, dict[str, Any]] | RowProblem]:
        with path.open(encoding=encoding) as file:
            number = 0
            while True:
                try:
                    line = file.readline()
                except UnicodeDecodeError as error:
                    raise _wrong_encoding(path, encoding.removesuffix("-sig"), error) from None
                if not line:
                    return
                number += 1
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except ValueError as error:
                    yield RowProblem(str(path), number, f"not JSON: {error}")
                    continue
                if isinstance(value, dict):
                    yield number, value
                else:
                    yield RowProblem(str(path), number, 'expected a JSON object such as {"text": …, "label": …}')

    columns: list[str] = []
    for item in objects():
        if not isinstance(item, RowProblem):
            columns = list(item[1])
            break
    if not columns:
        raise InputError(f"{path}: no rows; expected one JSON object a line")

    def rows(wanted: list[str]) -> Iterator[Row | RowProblem]:
        for item in objects():
            if isinstance(item, RowProblem):
                yield item
            else:
                yield item[0], [item[1].get(column) for column in wanted]

    return Table(str(path), columns, rows)


def _open_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a parquet file ({error})") from None

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=columns):
                values = [batch.column(column).to_pylist() for column in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, list(row)

    return Table(str(path), list(schema.names), rows, class_names_of(schema))


def class_names_of(schema: Any) -> dict[str, list[str]]:
    """Label names by column, as the Hub's feature types in an Arrow schema give them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found[column] = list(inner["names"])
    return found
