"""What the text formats share: the text of a file, and what is said about a file that is not the text it should be."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

from textattn.data.formats._bytes import first_bytes, open_bytes
from textattn.data.formats._encoding import check_encoding, marked_encoding, recognised_encoding
from textattn.errors import InputError, Setting

# Bytes by which a file is recognised.
HEAD = 1 << 10
# How files begin that are not data, what they are and what helps.
STAND_INS = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, which stands for the file", "git lfs pull"),
    (b"<!doctype html", "an HTML page, not data", "download the file itself, not the page about it"),
    (b"<html", "an HTML page, not data", "download the file itself, not the page about it"),
    (b"%pdf-", "a PDF document, not data", "save its table as csv"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file or another document, not text", "save the sheet as csv"),
    (b"__label__", "a fastText file, whose labels have no column", "a csv file with the columns text and label"),
    (b"sqlite format 3", "an SQLite database, not text", "save the table as csv"),
)


def without_mark(encoding: str) -> str:
    """The encoding to read with: Windows programs put a byte order mark in front of UTF-8."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def open_text(path: Path, encoding: str, errors: str = "strict", newline: str | None = None) -> io.TextIOWrapper:
    """The text of a file, unpacked; `errors` and `newline` as for `open`."""
    return io.TextIOWrapper(open_bytes(path), without_mark(encoding), errors, newline)


def encoding_of(path: Path, given: str | None) -> tuple[str, str | None]:
    """The encoding to read a file with, and a note if it was recognised and is not UTF-8.

    Args:
        given: what the user said; None: nothing.

    Raises:
        LookupError: there is no such encoding.
        InputError: the file is not text.
    """
    if given is None:
        return recognised_encoding(path)
    check_encoding(given)
    return given, None


def refuse_stand_in(path: Path) -> None:
    """Raises InputError for what people have in the place of a data file: a web page, a pointer, a document."""
    first = first_bytes(path, HEAD)
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, what, hint in STAND_INS:
        if start.startswith(beginning):
            raise InputError(f"{path}: looks like {what}", hint)
    if first.count(0) == len(first) == HEAD:
        raise InputError(f"{path}: begins with {HEAD:,} zeros, so it is not a data file")


def other_encoding(path: Path, encoding: str) -> InputError | None:
    """Names the encoding that the first bytes of a file tell, where that is another one."""
    marked = marked_encoding(first_bytes(path, 4))
    if marked in (None, "utf-8") or _is_wide(encoding):
        return None
    return InputError(f"{path}: text in {str(marked).upper()}", Setting("data.encoding", str(marked)))


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def wrong_encoding(path: Path, encoding: str, error: UnicodeError) -> InputError:
    """Names the first byte of a file that is not in the encoding, or the encoding that it is in."""
    other = other_encoding(path, encoding)
    if other is not None:
        return other
    wide = _is_wide(encoding)
    with open_bytes(path) as file:
        # In UTF-16 and UTF-32 a line end is more than one byte, so that no line can be named.
        for number, line in enumerate([] if wide else file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as wrong:
                byte = wrong.object[wrong.start]
                return InputError(
                    f"{path}:{number}: byte {wrong.start + 1} of the line (0x{byte:02x}) is not {encoding}",
                    (Setting("data.encoding", "cp1252"), " (or whatever the file was saved in)"),
                )
    return InputError(f"{path}: not {encoding} ({error})", Setting("data.encoding", "utf-8"))
