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
from textattn.errors import InputError

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
            out.write(f"{label}\t{score:.4f}\n")
        return out.getvalue().encode()
    records = chunk.records or [record for batch in chunk.batches for record in batch.to_pylist()]
    rows = zip(records, zip(*added.values(), strict=True), strict=True)
    if kind == "jsonl":
        for record, values in rows:
            out.write(_json(record | dict(zip(added, values, strict=True))) + "\n")
        return out.getvalue().encode()
    writer = _csv_writer(kind, out)
    for record, values in rows:
        writer.writerow([_cell(record.get(column)) for column in columns] + [_cell(value) for value in values])
    # A lone surrogate of a JSON escape cannot be said in UTF-8.
    return out.getvalue().encode(errors="replace")


def header(kind: str, columns: Sequence[str], added: Iterable[str]) -> bytes:
    """What stands before the rows."""
    if kind not in ("csv", "tsv"):
        return b""
    out = io.StringIO(newline="")
    _csv_writer(kind, out).writerow([*columns, *added])
    return out.getvalue().encode()


def _csv_writer(kind: str, out: io.StringIO) -> Any:
    return csv.writer(out, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")


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


def to_batch(chunk: Chunk, answers: Mapping[str, Column]) -> Any:
    """The rows of a chunk as an Arrow record batch; the columns of a parquet file keep their types."""
    import pyarrow as pa

    arrays: dict[str, Any] = {}
    if chunk.batches:
        table = pa.Table.from_batches(chunk.batches).combine_chunks()
        whole = table.to_batches()[0] if table.num_rows else chunk.batches[0]
        arrays = {name: whole.column(name) for name in whole.schema.names}
    else:
        for name in dict.fromkeys(key for record in chunk.records for key in record):
            arrays[name] = _array([record.get(name) for record in chunk.records])
    arrays |= {name: _array(values) for name, values in answers.items()}
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _array(values: Column) -> Any:
    """Of the type that the values have, with nulls; values of several kinds as JSON text."""
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        return _numbers(pa.float64(), values.astype(np.float64), None)
    kinds = {type(value) for value in values if value is not None}
    present = np.array([value is not None for value in values])
    if kinds <= {str} and kinds:
        encoded = [(value or "").encode("utf-8", "replace") for value in values]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        buffers = [_bits(present), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(pa.large_string(), len(values), buffers)
    if kinds <= {bool} and kinds:
        truth = np.packbits(np.array([bool(value) for value in values]), bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [_bits(present), pa.py_buffer(truth)])
    if kinds <= {int} and kinds and all(abs(value or 0) < 2**63 for value in values):
        return _numbers(pa.int64(), np.array([value or 0 for value in values], np.int64), present)
    if kinds <= {int, float} and kinds:
        return _numbers(pa.float64(), np.array([value or 0 for value in values], np.float64), present)
    if kinds <= {list} and kinds:
        ends = np.cumsum([0, *(len(value or ()) for value in values)], dtype=np.int32)
        items = _array([item for value in values for item in value or ()])
        return pa.Array.from_buffers(
            pa.list_(items.type), len(values), [_bits(present), pa.py_buffer(ends)], children=[items]
        )
    if kinds <= {dict} and kinds and all(values):
        keys = list(dict.fromkeys(key for value in values for key in value))
        items = {key: _array([value.get(key) for value in values]) for key in keys}
        kind = pa.struct([pa.field(key, item.type) for key, item in items.items()])
        return pa.Array.from_buffers(kind, len(values), [None], children=list(items.values()))
    if kinds:
        return _array([None if value is None else _json(value) for value in values])
    return pa.Array.from_buffers(pa.null(), len(values), [None])


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
    """Parts as one file; a column has the narrowest type that holds what all parts have in it.

    Raises:
        InputError: there is no such type: numbers here, text there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pa.unify_schemas([pq.read_schema(part) for part in parts], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise InputError(f"a column has values of several kinds, which parquet cannot hold: {error}") from None
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(MAX_ROWS):
                    arrays = [
                        batch.column(field.name).cast(field.type)
                        if field.name in batch.schema.names
                        else _array([None] * batch.num_rows).cast(field.type)
                        for field in schema
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
