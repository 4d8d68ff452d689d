"""What formats on top of Arrow share: a table of record batches, answered rows as a batch, parts put together.

Arrow arrays are made from buffers, not from lists, because pyarrow imports pandas to look at a list. Imported only when
such a file is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from textattn.data.formats import AnsweredRows
from textattn.data.formats._json import to_json
from textattn.data.table import Row, RowProblem, Table, class_names_of
from textattn.errors import InputError

if TYPE_CHECKING:
    from textattn.data.formats import Column

# Rows decoded at a time where only some columns are wanted.
ROWS_PER_BATCH = 65_536


class Read(Protocol):
    """Reads the record batches of a file, of at most `size` rows, with all columns or some; at least one batch."""

    def __call__(self, path: Path, size: int, columns: list[str] | None = None, /) -> Iterator[Any]: ...


def open_table(path: Path, schema: Any, read: Read, size: Callable[[], int]) -> Table:
    """The table of a file whose rows come in record batches.

    Args:
        size: gives the number of rows.
    """
    if len(set(schema.names)) < len(schema.names):
        raise InputError(f"{path}: a column name stands twice: {', '.join(schema.names)}")

    def batches(size: int, columns: list[str] | None = None) -> Iterator[Any]:
        number = 0
        try:
            for batch in read(path, size, columns):
                yield batch
                number += batch.num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: damaged after row {number} ({error})") from None

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        number = 0
        for batch in batches(ROWS_PER_BATCH, columns):
            values = [_values(path, number, batch.column(column)) for column in columns]
            for row in zip(*values, strict=True):
                number += 1
                yield number, list(row)

    return Table(str(path), list(schema.names), rows, class_names_of(schema), batches=batches, size=size)


def _values(path: Path, number: int, column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged after row {number} ({error})") from None
    return values


def to_batch(rows: AnsweredRows) -> Any:
    """Answered rows as a record batch; the columns of an Arrow input keep their types."""
    arrays: dict[str, Any] = {}
    if rows.batches:
        table = pa.Table.from_batches(rows.batches)
        arrays = {name: table.column(name).combine_chunks() for name in table.schema.names}
    else:
        for name in dict.fromkeys([*rows.columns, *(key for record in rows.records for key in record)]):
            arrays[name] = _array([record.get(name) for record in rows.records])
    arrays |= {name: _array(values) for name, values in rows.answers.items()}
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def join_parts(
    parts: Sequence[Path],
    output: Path,
    schema_of: Callable[[Path], Any],
    read: Callable[[Path], Iterable[Any]],
    open_writer: Callable[[Path, Any], Any],
) -> None:
    """Writes the batches of all parts into one file.

    A column whose type differs between parts gets the type that holds both without loss, or else becomes text.

    Args:
        read: gives the record batches of a part.
        open_writer: takes the path and the schema; a context manager with `write_batch`.
    """
    schemas = [schema_of(part) for part in parts]
    types = {
        name: _common_type([schema.field(name).type for schema in schemas if name in schema.names])
        for name in dict.fromkeys(name for schema in schemas for name in schema.names)
    }
    while True:
        schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
        try:
            with open_writer(output, schema) as writer:
                for part in parts:
                    for batch in read(part):
                        arrays = [_converted(batch, field) for field in schema]
                        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            return
        except _Lossy as lossy:
            types[str(lossy)] = pa.large_string()


class _Lossy(Exception):
    """A column cannot be converted to its type without losing something."""


def _common_type(types: Sequence[Any]) -> Any:
    try:
        fields = [pa.schema([pa.field("column", kind)]) for kind in types]
        return pa.unify_schemas(fields, promote_options="permissive").field("column").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.large_string()


def _converted(batch: Any, field: Any) -> Any:
    """The column of a batch in the type that the whole file has."""
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


def _array(values: Column) -> Any:
    """Strings, booleans, numbers and lists of one of these, with nulls; everything else becomes text."""
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
        # A larger integer does not fit; as a float it would lose digits.
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
    """A value in a column of mixed values: strings as they are, everything else as JSON."""
    return value if value is None or isinstance(value, str) else to_json(value)


def _strings(values: Sequence[str | None], present: NDArray[np.bool_]) -> Any:
    encoded = [(value or "").encode("utf-8", "replace") for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [_bits(present), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(values), buffers)


def _numbers(kind: Any, values: NDArray[Any], present: NDArray[np.bool_] | None) -> Any:
    bits = None if present is None else _bits(present)
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def _bits(present: NDArray[np.bool_]) -> Any:
    """The bitmap of the values that are not null; None where all are there."""
    return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
