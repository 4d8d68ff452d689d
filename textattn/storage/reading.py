"""Read files that may be damaged, or made by others to do harm: ordinary files of bounded size, and strict JSON."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from textattn.errors import InputError

LARGEST_JSON = 2**24
"""Bytes. Even a model with tens of thousands of labels has less than a tenth of this in one file."""


def read_regular(path: Path, limit: int) -> bytes:
    """Read an ordinary file. A pipe would wait for ever, and a device or a sparse file may have no end.

    Args:
        path: the file; links are followed.
        limit: the largest accepted size in bytes.

    Raises:
        OSError: it cannot be opened.
        InputError: it is not an ordinary file, or larger than `limit`.
    """
    check_regular(path, limit)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise too_large(len(content), limit, str(path))
    return content


def check_regular(path: Path, limit: int) -> None:
    """Check the kind and the size of a file without opening it, see `read_regular`."""
    found = path.stat()
    # Opening a folder says by itself what is wrong.
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise InputError("not an ordinary file, but a pipe or a device", place=str(path))
    if stat.S_ISREG(found.st_mode) and found.st_size > limit:
        raise too_large(found.st_size, limit, str(path))


def too_large(size: int, limit: int, place: str) -> InputError:
    """The error for a file that is larger than any that textattn writes."""
    return InputError(f"{size:,} bytes, but such a file has at most {limit:,}; it was not read", place=place)


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8 without the numbers that JSON does not have.

    Raises:
        ValueError: the content is not JSON, too deeply nested, or contains NaN or an infinite number; the message
            names its key.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    key = _key_of_non_finite(value)
    if key is not None:
        raise ValueError(f"{key} is not a finite number")
    return value


def _key_of_non_finite(value: Any) -> str | None:
    """The place of a number that is NaN or infinite, such as `test.f1[0]`; None if there is none."""
    rest: list[tuple[str, Any]] = [("", value)]
    while rest:
        key, item = rest.pop()
        if isinstance(item, dict):
            rest += [(f"{key}.{name}" if key else name, inner) for name, inner in item.items()]
        elif isinstance(item, list):
            rest += [(f"{key}[{number}]", inner) for number, inner in enumerate(item)]
        elif isinstance(item, float) and not abs(item) < float("inf"):
            return key or "the value"
    return None
