"""Rows with answers written as txt, csv, tsv, jsonl or parquet: a part at a time, and the parts put together.

Arrow arrays are made from buffers, not from lists, because pyarrow loads pandas to look at a list.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from textattn.data.chunks import MAX_ROWS, Chunk

FORMATS = ("txt", "csv", "tsv", "jsonl", "parquet")
Column = list[Any] | NDArray[Any]


def format_of(path: Path) -> str | None:
    """By the suffix; None if it is none of ours."""
    suffix = path.suffix.lower()[1:]
    return suffix if suffix in FORMATS else None


def to_bytes(kind: str, chunk: Chunk, answers: Mapping[str, Column], columns: Sequence[str]) -> bytes:
    """The rows of a chunk in a text format, without a header.

    Args:
        answers: columns to add, each as long as the chunk.
        columns: those of the input, in order, for the formats that have a header.
    """
    added = {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in answers.items()}
    out = io.StringIO(newline="")
    if kind == "txt":
        for label, score in zip(*list(added.values())[:2], strict=True):
            out.write(f"{'?' if label is None else label}\t{score:.4f}\n")
        return out.getvalue().encode()
    records = chunk.records or [record for batch in chunk.batches for record in batch.to_pylist()]
    rows = zip(records, zip(*added.values(), strict=True), strict=True)
    if kind == "jsonl":
        for record, values in rows:
            out.write(_json(record | dict(zip(added, values, strict=True))) + "\n")
        return out.getvalue().encode()
    writer, quoting = _csv_writer(kind, out), _csv_writer(kind, out, csv.QUOTE_ALL)
    for record, values in rows:
        cells = [_cell(record.get(column)) for column in columns] + [_cell(value) for value in values]
        # Before Python 3.13 a carriage return would stand without quotes, and end the row for whoever reads it.
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if has_return else writer).writerow(cells)
    # A lone surrogate of a JSON escape cannot be said in UTF-8.
    return out.getvalue().encode(errors="replace")


def header(kind: str, columns: Sequence[str], added: Iterable[str]) -> bytes:
    """What stands before the rows."""
    if kind not in ("csv", "tsv"):
        return b""
    out = io.StringIO(newline="")
    _csv_writer(kind, out).writerow([*columns, *added])
    return out.getvalue().encode()


def _csv_writer(kind: str, out: io.StringIO, quoting: Any = csv.QUOTE_MINIMAL) -> Any:
    return csv.writer(out, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n", quoting=quoting)


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return _json(value)
    return "" if value is None else value


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    """With null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_batch(chunk: Chunk, answers: Mapping[str, Column], columns: Sequence[str]) -> Any:
    """The rows of a chunk as an Arrow record batch; the columns of a parquet file keep their types.

    Args:
        answers: columns to add, each as long as the chunk.
        columns: those of the input that are known to be there.
    """
    import pyarrow as pa

    arrays: dict[str, Any] = {}
    if chunk.batches:
        table = pa.Table.from_batches(chunk.batches)
        arrays = {name: table.column(name).combine_chunks() for name in table.schema.names}
    else:
        for name in dict.fromkeys([*columns, *(key for record in chunk.records for key in record)]):
            arrays[name] = _array([record.get(name) for record in chunk.records])
    arrays |= {name: _array(values) for name, values in answers.items()}
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _array(values: Column) -> Any:
    """Strings, truth values, numbers and lists of one of them, with nulls; everything else as text."""
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        return _numbers(pa.float64(), values.astype(np.float64), None)
    present = np.array([value is not None for value in values], bool)
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.Array.from_buffers(pa.null(), len(values), [None])
    if kinds == {str}:
        return _strings(values, present)
    if kinds == {bool}:
        truth = np.packbits(np.array([bool(value) for value in values]), bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [_bits(present), pa.py_buffer(truth)])
    if kinds <= {int, float}:
        numbers = [0 if value is None else value for value in values]
        # Beyond these an integer would lose digits.
        if kinds == {int} and all(-(2**63) <= number < 2**63 for number in numbers):
            return _numbers(pa.int64(), np.array(numbers, np.int64), present)
        if all(isinstance(number, float) or abs(number) <= 2**53 for number in numbers):
            return _numbers(pa.float64(), np.array(numbers, np.float64), present)
    if kinds == {list} and _is_simple({type(item) for value in values for item in value or () if item is not None}):
        ends = np.cumsum([0, *(len(value or ()) for value in values)], dtype=np.int32)
        items = _array([item for value in values for item in value or ()])
        buffers = [_bits(present), pa.py_buffer(ends)]
        return pa.Array.from_buffers(pa.list_(items.type), len(values), buffers, children=[items])
    return _strings([_text(value) for value in values], present)


def _is_simple(kinds: set[type]) -> bool:
    return kinds <= {int, float} or kinds <= {str} or kinds <= {bool}


def _text(value: Any) -> str | None:
    """What a column of mixed values holds: strings as they are, everything else as JSON."""
    return value if value is None or isinstance(value, str) else _json(value)


def _strings(values: Sequence[str | None], present: NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    encoded = [(value or "").encode("utf-8", "replace") for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [_bits(present), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(values), buffers)


def _numbers(kind: Any, values: NDArray[Any], present: NDArray[np.bool_] | None) -> Any:
    import pyarrow as pa

    bits = None if present is None else _bits(present)
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def _bits(present: NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))


def write_batch(path: Path | BinaryIO, batch: Any) -> None:
    """One record batch as a parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, batch.schema, compression="zstd") as writer:
        writer.write_batch(batch)


def join_texts(parts: Iterable[Path], head: bytes, out: BinaryIO) -> None:
    """Header and parts, one after the other."""
    out.write(head)
    for part in parts:
        with part.open("rb") as file:
            shutil.copyfileobj(file, out)


def join_parquet(parts: Sequence[Path], out: Path) -> None:
    """Parts as one file. A column in which parts differ has the type that holds both without loss, or else is text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = [pq.read_schema(part) for part in parts]
    types = {
        name: _common_type([schema.field(name).type for schema in schemas if name in schema.names])
        for name in dict.fromkeys(name for schema in schemas for name in schema.names)
    }
    while True:
        schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
        try:
            with pq.ParquetWriter(out, schema, compression="zstd") as writer:
                for part in parts:
                    with pq.ParquetFile(part) as file:
                        for batch in file.iter_batches(MAX_ROWS):
                            arrays = [_as(batch, field) for field in schema]
                            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            return
        except _Lossy as lossy:
            types[str(lossy)] = pa.large_string()


class _Lossy(Exception):
    """A column cannot be converted to its type without losing something."""


def _common_type(types: Sequence[Any]) -> Any:
    import pyarrow as pa

    try:
        fields = [pa.schema([pa.field("column", kind)]) for kind in types]
        return pa.unify_schemas(fields, promote_options="permissive").field("column").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.large_string()


def _as(batch: Any, field: Any) -> Any:
    """The column of a batch as the type of the whole."""
    import pyarrow as pa

    if field.name not in batch.schema.names:
        return _array([None] * batch.num_rows).cast(field.type)
    column = batch.column(field.name)
    if column.type == field.type:
        return column
    if field.type == pa.large_string() and column.type not in (pa.null(), pa.string()):
        values = column.to_pylist()
        return _strings([_text(value) for value in values], np.array([value is not None for value in values], bool))
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _Lossy(field.name) from None
