"""The texts of a split: in memory or, where they are many, in a file of which a piece at a time is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from textattn.storage.cache import unnamed_file

# Rows and characters turned into one Arrow array at a time, so that Python strings never pile up.
ROWS_PER_CHUNK = 10_000
CHARACTERS_PER_CHUNK = 8 << 20
# More than this goes to a file.
BYTES_IN_MEMORY = 64 << 20
SCHEMA = pa.schema([("text", pa.large_string())])


class Texts:
    """Strings in a fixed order."""

    def __init__(
        self,
        source: pa.ChunkedArray | pa.ipc.RecordBatchFileReader,
        lengths: Sequence[int],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """
        Args:
            lengths: texts in each chunk or batch of the source.
            rows: which of the source's, in this order; None: all.
        """
        self._source = source
        self._lengths = lengths
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        self._rows = rows
        self._last: tuple[int, pa.Array] | None = None

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Those texts, in memory as long as they are few."""
        writer = TextsWriter()
        for text in texts:
            writer.append(text)
        return writer.finish()

    @classmethod
    def open(cls, path: Path) -> Texts:
        """What `write` wrote; raises OSError or pyarrow.ArrowException where that is damaged."""
        # Mapped for a moment, because of a mapped batch only the few bytes that hold its length are read.
        with pa.memory_map(str(path)) as file:
            mapped = pa.ipc.open_file(file)
            lengths = [mapped.get_batch(i).num_rows for i in range(mapped.num_record_batches)]
            del mapped
        return cls(pa.ipc.open_file(pa.OSFile(str(path))), lengths)

    def write(self, path: Path) -> None:
        """An Arrow IPC file with a column `text`."""
        with pa.ipc.new_file(str(path), SCHEMA) as file:
            for piece in self.pieces():
                file.write_batch(pa.record_batch([piece], schema=SCHEMA))

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[str]:
        for piece in self.pieces():
            yield from piece.to_pylist()

    def __getitem__(self, part: slice) -> list[str]:
        found: list[str] = self._read(*part.indices(len(self))[:2]).to_pylist()
        return found

    def pieces(self) -> Iterator[pa.Array]:
        """All texts as Arrow arrays of a handy size."""
        # Long texts stand in batches of fewer rows.
        size = max(1, int(self._starts[-1]) // max(1, len(self._starts) - 1))
        for first in range(0, len(self), size):
            yield self._read(first, min(first + size, len(self)))

    def fingerprint(self) -> str:
        """SHA-256 of the texts in their order: the same wherever they were read from."""
        lengths, content = hashlib.sha256(), hashlib.sha256()
        for piece in self.pieces():
            _, offsets, data = piece.buffers()
            starts = np.frombuffer(offsets, np.int64)[piece.offset : piece.offset + len(piece) + 1]
            lengths.update(np.diff(starts).tobytes())
            if data is not None:
                content.update(memoryview(data)[starts[0] : starts[-1]])
        return hashlib.sha256(lengths.digest() + content.digest()).hexdigest()

    def take(self, indices: NDArray[np.int64]) -> Texts:
        """The texts at `indices`, in that order; nothing is copied."""
        chosen = indices if self._rows is None else self._rows[indices]
        return Texts(self._source, self._lengths, np.asarray(chosen, dtype=np.int64))

    def _read(self, first: int, last: int) -> pa.Array:
        rows = np.arange(first, last) if self._rows is None else self._rows[first:last]
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        numbers = np.searchsorted(self._starts, ascending, side="right") - 1
        pieces = [
            self._batch(int(number)).take(_indices(ascending[numbers == number] - self._starts[number]))
            for number in np.unique(numbers)
        ]
        found = pa.concat_arrays(pieces) if pieces else pa.array([], pa.large_string())
        return found if np.array_equal(rows, ascending) else found.take(_indices(np.argsort(order)))

    def _batch(self, number: int) -> pa.Array:
        if self._last is None or self._last[0] != number:
            if isinstance(self._source, pa.ChunkedArray):
                return self._source.chunk(number)
            self._last = number, self._source.get_batch(number).column(0)
        return self._last[1]


def _indices(places: NDArray[np.int64]) -> pa.Array:
    """As `pa.array` does it, which would import pandas (half a second)."""
    return pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(np.ascontiguousarray(places))])


class TextsWriter:
    """Collects texts; many of them in an unnamed file, which is gone with the last object that reads it."""

    def __init__(self) -> None:
        self._pending: list[str] = []
        self._characters = 0
        self._chunks: list[pa.Array] = []
        self._lengths: list[int] = []
        self._file: Any = None
        self._writer: Any = None

    def append(self, text: str) -> None:
        """The next text."""
        self._pending.append(text)
        self._characters += len(text)
        if len(self._pending) == ROWS_PER_CHUNK or self._characters >= CHARACTERS_PER_CHUNK:
            self._flush()

    def finish(self) -> Texts:
        """All that was appended."""
        if self._pending:
            self._flush()
        if self._writer is None:
            return Texts(pa.chunked_array(self._chunks, pa.large_string()), self._lengths)
        self._write(self._chunks)
        self._writer.close()
        self._file.seek(0)
        return Texts(pa.ipc.open_file(self._file), self._lengths)

    def _flush(self) -> None:
        self._chunks.append(pa.array(self._pending, pa.large_string()))
        self._lengths.append(len(self._pending))
        self._pending, self._characters = [], 0
        if sum(chunk.nbytes for chunk in self._chunks) > BYTES_IN_MEMORY:
            if self._writer is None:
                self._file = unnamed_file()
                self._writer = pa.ipc.new_file(self._file, SCHEMA)
            self._write(self._chunks)
            self._chunks = []

    def _write(self, chunks: list[pa.Array]) -> None:
        for chunk in chunks:
            self._writer.write_batch(pa.record_batch([chunk], schema=SCHEMA))
