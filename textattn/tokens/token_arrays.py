"""The tokens of many texts, concatenated without padding. They are held in memory or, if there are many, in a file."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# Larger arrays are written to a file.
BYTES_IN_MEMORY = 64 << 20
ID = np.dtype(np.int32)


class TokenFile:
    """A file of int32 numbers that is read slice by slice and never held in memory. The page cache makes it fast.

    A memory map would be simpler, but the pages that a run has touched would count as its memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = os.fstat(file.fileno()).st_size // ID.itemsize
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> NDArray[np.int32]:
        first, last, _ = part.indices(len(self))
        start, size = first * ID.itemsize, max(0, last - first) * ID.itemsize
        if hasattr(os, "pread"):
            content = os.pread(self._file.fileno(), size, start)
        else:  # Windows
            with self._lock:
                self._file.seek(start)
                content = self._file.read(size)
        if len(content) < size:
            raise OSError(f"{self._file.name}: the file has become shorter")
        return np.frombuffer(content, ID)


@dataclass(frozen=True)
class TokenArrays:
    """The tokens of many texts."""

    ids: NDArray[np.int32] | TokenFile
    """(total_tokens,) token ids; each text is truncated to `max_length`."""
    starts: NDArray[np.int64]
    """(num_texts + 1,) text i consists of ids[starts[i]:starts[i + 1]]."""
    num_truncated: int
    """Number of texts that were longer than `max_length`."""
    num_unknown: int
    """Number of tokens, after truncation, that are not in the vocabulary."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(num_texts,) number of tokens of each text."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def unknown_shares(self, unk_id: int) -> NDArray[np.float64]:
        """(num_texts,) the share of the tokens of each text that are not in the vocabulary."""
        if not len(self):
            return np.zeros(0)
        # Every text has a token, so no sum is empty.
        unknown = np.add.reduceat(self.ids[:] == unk_id, self.starts[:-1], dtype=np.int64)
        return np.asarray(unknown / self.lengths)

    def take(self, rows: NDArray[np.int64]) -> TokenArrays:
        """Select the texts at `rows`, in that order. The counts of the result are 0."""
        ids = np.concatenate([np.zeros(0, ID), *(self.ids[self.starts[i] : self.starts[i + 1]] for i in rows)])
        starts = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        return TokenArrays(ids, starts, 0, 0)

    def write(self, path: Path) -> None:
        """Write the ids as int32. `open` takes the other fields as arguments."""
        with path.open("wb") as file:
            for first in range(0, len(self.ids), BYTES_IN_MEMORY // ID.itemsize):
                file.write(self.ids[first : first + BYTES_IN_MEMORY // ID.itemsize].tobytes())

    @classmethod
    def open(cls, path: Path, starts: NDArray[np.int64], num_truncated: int, num_unknown: int) -> TokenArrays:
        """Open a file that `write` has written.

        Raises:
            ValueError: the length of the file does not match `starts`.
        """
        file = path.open("rb")
        ids: NDArray[np.int32] | TokenFile = TokenFile(file)
        if len(ids) != starts[-1]:
            raise ValueError(f"{path}: {len(ids)} tokens, expected {starts[-1]}")
        if len(ids) * ID.itemsize <= BYTES_IN_MEMORY:
            ids = ids[:]
            file.close()
        return cls(ids, starts, num_truncated, num_unknown)


class TokenWriter:
    """Collects the tokens of texts. Many tokens go to an unnamed file, which disappears with its last reader."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int32]] = []
        self._ends = array("q", [0])
        self._pending = 0
        self._file: Any = None

    def extend(self, ids: NDArray[np.int32], lengths: Iterable[int]) -> None:
        """Append texts.

        Args:
            ids: (total_tokens,) the concatenated tokens of the texts.
            lengths: number of tokens of each text.
        """
        self._parts.append(ids)
        self._pending += ids.nbytes
        for length in lengths:
            self._ends.append(self._ends[-1] + length)
        if self._pending > BYTES_IN_MEMORY:
            self._flush()

    def finish(self, num_truncated: int, num_unknown: int) -> TokenArrays:
        """The tokens of all texts that were appended."""
        starts = np.frombuffer(self._ends, np.int64)
        if self._file is None:
            ids = np.concatenate(self._parts) if self._parts else np.zeros(0, ID)
            return TokenArrays(ids, starts, num_truncated, num_unknown)
        self._flush()
        self._file.flush()
        return TokenArrays(TokenFile(self._file), starts, num_truncated, num_unknown)

    def _flush(self) -> None:
        if self._file is None:
            # Imported here because prediction never needs it.
            from textattn.storage.cache import unnamed_file

            self._file = unnamed_file()
        for part in self._parts:
            self._file.write(part.tobytes())
        self._parts, self._pending = [], 0
