"""Arrow record batches in parts that memory holds: a value that stands once in a file may be repeated in every row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from textattn.data.formats._bytes import RATIO, UNPACKED
from textattn.errors import InputError

# Bytes of text that a part may decode to, unless it is a single row, and that a row may.
BYTES_PER_PART = 64 << 20
LONGEST_ROW = 256 << 20


class Bounded:
    """Cuts record batches so that no part decodes to more than memory holds, and counts what comes of a file."""

    def __init__(self, path: Path, schema: Any) -> None:
        """
        Args:
            schema: the types that the parts are to have.
        """
        self._path, self._schema = path, schema
        self._row = self._total = 0
        self._limit = max(UNPACKED, RATIO * path.stat().st_size)

    def parts(self, batch: Any) -> Iterator[Any]:
        """The rows of a batch, with the types of the schema; at least one part.

        Raises:
            InputError: a row is too long, or the file decodes to far more than its size.
        """
        sizes = np.zeros(batch.num_rows, np.int64)
        for column in batch.columns:
            sizes += _sizes(column)
        if batch.num_rows and sizes.max() > LONGEST_ROW:
            row = self._row + int(np.argmax(sizes > LONGEST_ROW)) + 1
            raise InputError(f"{self._path}:{row}: a row of more than {LONGEST_ROW >> 20} MB")
        ends = np.cumsum(sizes)
        first = 0
        while True:
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + BYTES_PER_PART, side="right"))
            last = min(max(last, first + 1), batch.num_rows)
            self._total += int(ends[last - 1]) - before if last else 0
            if self._total > self._limit:
                raise InputError(
                    f"{self._path}:{self._row + 1}: the rows up to here decode to more than "
                    f"{self._limit / 2**30:.3g} GB, which is more than {RATIO} times the size of the file"
                )
            part = batch.slice(first, last - first)
            arrays = [_as(column, field.type) for column, field in zip(part.columns, self._schema, strict=True)]
            self._row += last - first
            yield pa.RecordBatch.from_arrays(arrays, schema=self._schema)
            first = last
            if first >= batch.num_rows:
                return


def _as(column: Any, kind: Any) -> Any:
    """A column that was read as a dictionary, in the type of the file."""
    return column if column.type == kind else column.cast(kind)


def _sizes(column: Any) -> NDArray[np.int64]:
    """How many bytes of text each row of a column decodes to; in lists, each element counts one more."""
    kind, types = column.type, pa.types
    nothing = np.zeros(len(column), np.int64)
    if not len(column):
        return nothing
    if types.is_dictionary(kind):
        of_values = _sizes(column.dictionary)
        if not len(of_values):
            return nothing
        # What the buffer holds in the place of a null is not defined.
        is_valid = _validity(column.indices)
        indices = np.where(is_valid, _numbers(column.indices, np.dtype(str(kind.index_type)), 0), 0)
        return np.where(is_valid, of_values[indices], 0)
    if types.is_string(kind) or types.is_binary(kind):
        return np.diff(_numbers(column, np.int32, 1)).astype(np.int64)
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return np.diff(_numbers(column, np.int64, 1))
    if types.is_struct(kind):
        return sum((_sizes(column.field(place)) for place in range(kind.num_fields)), nothing)
    if types.is_list(kind) or types.is_map(kind) or types.is_large_list(kind):
        places = _numbers(column, np.int64 if types.is_large_list(kind) else np.int32, 1)
        inner = column.keys if types.is_map(kind) else column.values
        sums = np.concatenate([[0], np.cumsum(_sizes(inner) + 1)])
        return np.asarray(sums[places[1:]] - sums[places[:-1]], np.int64)
    return nothing


def _validity(column: Any) -> NDArray[np.bool_]:
    """(rows,) which values are no nulls. What pyarrow offers for this imports pandas."""
    bits = column.buffers()[0]
    if bits is None:
        return np.ones(len(column), np.bool_)
    flags = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return flags[column.offset : column.offset + len(column)].astype(np.bool_)


def _numbers(column: Any, kind: Any, more: int) -> NDArray[Any]:
    """The numbers in the second buffer of an array: its values, or the places where they begin and end."""
    start = column.offset * np.dtype(kind).itemsize
    return np.frombuffer(column.buffers()[1], kind, len(column) + more, start)
