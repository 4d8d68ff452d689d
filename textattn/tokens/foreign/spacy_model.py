"""The vectors of a spaCy model: `vocab/vectors` (a matrix), `vocab/key2row` (which key has which row) and
`vocab/strings.json` (the words). The key of a word is its hash, so spaCy itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.regular_file import read_regular
from textattn.errors import InputError
from textattn.storage.reading import parse_json
from textattn.tokens.foreign.rows import Foreign, Rows, check_size
from textattn.tokens.foreign.stream import SETTING, pickled, reading

VECTORS, KEYS, STRINGS, MODE = "vectors", "key2row", "strings.json", "vectors.cfg"
# Bytes; the largest models have strings of ten megabytes.
LARGEST_FILE = 2**30
U64 = 2**64 - 1
# MurmurHash64A by Austin Appleby, as spaCy computes it.
MULTIPLIER, SHIFT, SEED = 0xC6A4A7935BD1E995, 47, 1


class SpacyVectors(Foreign):
    """The vectors of a spaCy model."""

    what = "spaCy"

    def __init__(self, folder: Path) -> None:
        self.path = folder
        mode = folder / MODE
        if mode.is_file() and b'"floret"' in _content(mode):
            raise InputError(
                "vectors of floret, which are hashed and have no words, are not read",
                "name a model with usual vectors, such as en_core_web_md",
                setting=SETTING,
                place=str(folder / VECTORS),
            )
        self.matrix = _matrix(folder / VECTORS)
        self.dim = self.matrix.shape[1]
        check_size(self.dim, str(folder / VECTORS))

    @staticmethod
    def find(folder: Path) -> Path | None:
        """The folder `vocab` of a spaCy model: this one, or one in it; None if there is none."""
        candidates = [folder, folder / "vocab", *sorted(folder.glob("*/vocab"))]
        return next((c for c in candidates if all((c / name).is_file() for name in (VECTORS, KEYS, STRINGS))), None)

    def fill(self, rows: Rows) -> None:
        """Fill the rows; see `Foreign`."""
        place = self.path / STRINGS
        try:
            words = parse_json(_content(place))
        except (ValueError, RecursionError) as error:
            raise InputError(f"damaged ({error})", setting=SETTING, place=str(place)) from None
        if not isinstance(words, list):
            raise InputError("damaged (not a list of words)", setting=SETTING, place=str(place))
        key_rows = dict(_pairs(_content(self.path / KEYS), str(self.path / KEYS)))
        for word in words:
            row = rows.wanted(word) if isinstance(word, str) else None
            if row is None:
                continue
            number = key_rows.get(key_of(word))
            if number is None or number < 0:
                continue
            if number >= len(self.matrix):
                raise InputError(
                    f"damaged (row {number:,} of {word!r}, but {len(self.matrix):,} vectors)",
                    setting=SETTING,
                    place=str(self.path / KEYS),
                )
            rows.put(row, word, self.matrix[number].astype(np.float32), f"{self.path / VECTORS}, row {number:,}")


def key_of(word: str) -> int:
    """spaCy's hash of a word: MurmurHash64A of its UTF-8 bytes. (Some 50 names of its own have other keys.)"""
    content = word.encode("utf-8", "surrogatepass")
    whole = len(content) // 8 * 8
    value = SEED ^ (len(content) * MULTIPLIER & U64)
    for start in range(0, whole, 8):
        part = int.from_bytes(content[start : start + 8], "little") * MULTIPLIER & U64
        part = (part ^ part >> SHIFT) * MULTIPLIER & U64
        value = (value ^ part) * MULTIPLIER & U64
    if whole < len(content):
        value = (value ^ int.from_bytes(content[whole:], "little")) * MULTIPLIER & U64
    value = (value ^ value >> SHIFT) * MULTIPLIER & U64
    return value ^ value >> SHIFT


def _content(path: Path) -> bytes:
    with reading(path):
        return read_regular(path, LARGEST_FILE)


def _matrix(path: Path) -> NDArray[np.floating[Any]]:
    """The matrix in a file of numpy, of which only the rows that are used are read."""
    try:
        with reading(path):
            matrix = np.lib.format.open_memmap(path, mode="r")
    except InputError as error:
        raise pickled(path, "numpy") if "Python objects" in error.message else error from None
    # What numpy raises for a header depends on how it is damaged.
    except (TypeError, OverflowError, RecursionError, MemoryError, SyntaxError, TokenError) as error:
        raise InputError(f"damaged ({error})", setting=SETTING, place=str(path)) from None
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise InputError(
            f"damaged (an array of shape {matrix.shape} and type {matrix.dtype}; a matrix of floats is expected)",
            setting=SETTING,
            place=str(path),
        )
    return matrix


# How msgpack writes whole numbers: the first byte, and how many bytes follow.
UNSIGNED, SIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}, {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
MAPS = {0xDE: 2, 0xDF: 4}


def _pairs(content: bytes, place: str) -> Iterator[tuple[int, int]]:
    """The pairs of a map from whole numbers to whole numbers, as msgpack writes it."""
    damaged = InputError("damaged (not a map from keys to rows)", setting=SETTING, place=place)
    if not content:
        raise damaged
    first, at = content[0], 1
    if 0x80 <= first <= 0x8F:
        count = first & 0x0F
    elif first in MAPS:
        at += MAPS[first]
        count = int.from_bytes(content[1:at], "big")
    else:
        raise damaged
    numbers = _numbers(content, at)
    read = 0
    for read, (key, row) in enumerate(zip(numbers, numbers, strict=False), 1):
        yield key, row
        if read == count:
            return
    if read < count:
        raise InputError(
            f"damaged (it ends after {read:,} of {count:,} keys)",
            "copy or download the file again",
            setting=SETTING,
            place=place,
        )


def _numbers(content: bytes, at: int) -> Iterator[int]:
    """Whole numbers up to the end, or to something else."""
    while at < len(content):
        first = content[at]
        at += 1
        if first <= 0x7F:
            yield first
        elif first >= 0xE0:
            yield first - 0x100
        else:
            size = UNSIGNED.get(first) or SIGNED.get(first)
            if size is None or at + size > len(content):
                return
            yield int.from_bytes(content[at : at + size], "big", signed=first in SIGNED)
            at += size
