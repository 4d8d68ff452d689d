"""The tensors of a safetensors file, mapped into memory, so that only the rows that are used are read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.regular_file import check_regular
from textattn.errors import InputError
from textattn.tokens.foreign.stream import SETTING, reading

# Bytes; the header of a model with thousands of tensors has less than one megabyte.
LARGEST_HEADER = 2**24
# bfloat16 has the upper half of the bits of float32.
BFLOAT = "BF16"
TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", BFLOAT: "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file."""

    values: NDArray[Any]
    """As they are in the file; for bfloat16, its bits."""
    type: str

    @property
    def is_float(self) -> bool:
        """Whether these are numbers with a fraction, or the bytes of a quantised model."""
        return self.type in ("F64", "F32", "F16", BFLOAT, "I8")

    def rows(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Some rows as float32."""
        found = self.values[numbers]
        if self.type == BFLOAT:
            found = (found.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            return np.asarray(found, np.float32)


def open_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with reading(path):
            check_regular(path)
            size = path.stat().st_size
            with path.open("rb") as file:
                header_size = int.from_bytes(file.read(8), "little")
                start = 8 + header_size
                if size < 8 or start > size or header_size > LARGEST_HEADER:
                    raise ValueError(f"a header of {header_size:,} bytes in a file of {size:,}")
                header = json.loads(file.read(header_size))
            return {name: _tensor(path, entry, start, size) for name, entry in header.items() if name != "__metadata__"}
    except InputError as error:
        raise InputError(error.problems, "copy or download the file again") from None
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise InputError(
            f"not a safetensors file, or damaged ({type(error).__name__}: {error})", setting=SETTING, place=str(path)
        ) from None


def _tensor(path: Path, entry: dict[str, Any], start: int, size: int) -> Tensor:
    shape = [int(length) for length in entry["shape"]]
    first, last = (start + int(offset) for offset in entry["data_offsets"])
    layout = np.dtype(TYPES[entry["dtype"]])
    if min([0, *shape]) < 0 or not start <= first <= last <= size or math.prod(shape) * layout.itemsize != last - first:
        raise ValueError(f"a tensor of shape {shape} between the bytes {first:,} and {last:,} of {size:,}")
    if first == last:
        return Tensor(np.zeros(shape, layout), entry["dtype"])
    return Tensor(np.memmap(path, layout, "r", first, tuple(shape)), entry["dtype"])
