"""What the text formats share: encodings, and what is said about a file that is not the text it should be."""

from __future__ import annotations

import codecs
from pathlib import Path

from textattn.data.formats import all_formats
from textattn.errors import InputError

# Bytes read at a time where only line ends are counted.
BLOCK = 1 << 20
# How files begin that are not text in UTF-8, what they are, and what helps.
DISGUISES = (
    (b"\x1f\x8b", "compressed with gzip, not text", "unpack it with gunzip"),
    (b"PK\3\4", "a zip archive or an Excel file, not text", "unpack it, or save the sheet as csv"),
    (b"\xff\xfe", "text in UTF-16", "data.encoding=utf-16"),
    (b"\xfe\xff", "text in UTF-16", "data.encoding=utf-16"),
)
LONGEST_MAGIC = 16


def without_mark(encoding: str) -> str:
    """The encoding to read with: Windows programs put a byte order mark in front of UTF-8."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def count_lines(path: Path) -> int:
    """The number of line ends in a file."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def of_another_kind(path: Path) -> InputError | None:
    """Says what a file is that cannot be read as text, where its first bytes tell."""
    with path.open("rb") as file:
        first = file.read(LONGEST_MAGIC)
    for kind in all_formats():
        if kind.magic and first.startswith(kind.magic):
            return InputError(f"{path}: a {kind.name} file, not text", f"rename it to end in {kind.suffixes[0]}")
    for start, what, hint in DISGUISES:
        if first.startswith(start):
            return InputError(f"{path}: {what}", hint)
    # Letters in UTF-16 without a byte order mark: every other byte is 0.
    letters = first[:4]
    if len(letters) == 4 and (letters[1::2] == b"\0\0" or letters[::2] == b"\0\0") and letters.count(0) == 2:
        order = "le" if letters[1] == 0 else "be"
        return InputError(f"{path}: text in UTF-16, without its mark", f"data.encoding=utf-16-{order}")
    return None


def wrong_encoding(path: Path, encoding: str, error: UnicodeError) -> InputError:
    """Names the first byte of a file that is not in the encoding, or what the file is instead."""
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    other = None if wide else of_another_kind(path)
    if other is not None:
        return other
    with path.open("rb") as file:
        # In UTF-16 and UTF-32 a line end is more than one byte, so that no line can be named.
        for number, line in enumerate([] if wide else file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as wrong:
                byte = wrong.object[wrong.start]
                return InputError(
                    f"{path}:{number}: byte {wrong.start + 1} of the line (0x{byte:02x}) is not {encoding}",
                    "data.encoding=cp1252 (or whatever the file was saved in)",
                )
    return InputError(f"{path}: not {encoding} ({error})", "data.encoding=utf-8")
