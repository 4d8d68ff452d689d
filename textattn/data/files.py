"""Files as tables, with every reason why one cannot be opened said as an InputError."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from textattn.data.formats import (
    COMPRESSED,
    Format,
    ReadOptions,
    all_formats,
    format_named,
    input_format_of,
)
from textattn.data.formats._bytes import compression_of, first_bytes, unpack_hint, zip_member
from textattn.data.formats._encoding import unknown_encoding
from textattn.data.formats._text import refuse_stand_in
from textattn.data.table import Table
from textattn.errors import InputError, shell_command

# A file of more bytes than LARGE of which so small a share is on the disk has holes instead of data.
LARGE, HOLES = 1 << 30, 100
# Bytes by which a format is told.
HEAD = 1 << 16


def open_file(
    path: Path, options: ReadOptions | str | None = None, kind: Format | None = None, otherwise: Format | None = None
) -> Table:
    """The table in a file.

    Args:
        options: how it is written; a string is its encoding.
        kind: its format; default: by its content and its name.
        otherwise: the format where neither tells one that can hold labels; default: that is an error.

    Raises:
        InputError: the file is missing, empty, of another format or not in its encoding.
    """
    if options is None or isinstance(options, str):
        options = ReadOptions(encoding=options)
    try:
        refuse_special(path)
        return _open(path, options, kind, otherwise)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (LookupError, UnicodeError):
        # Python cannot even look for a name that is not text.
        raise unknown_encoding(str(options.encoding)) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _open(path: Path, options: ReadOptions, kind: Format | None, otherwise: Format | None) -> Table:
    by_content = _format_of_content(path)
    if by_content is not None and (kind is None or kind.labelled):
        if kind is not None and kind is not by_content:
            raise InputError(f"{path}: a {by_content.name} file, not {kind.name}")
        return by_content.open(path, options)
    found = kind or _format_by_name(path)
    if kind is None and otherwise is not None and (found is None or not found.labelled):
        found = kind = otherwise
    if found is None:
        readable = ", ".join(suffix for kind in all_formats() for suffix in kind.suffixes)
        raise InputError(f"{path}: unknown kind of file; readable are {readable}, and these compressed")
    compression = compression_of(path)
    if compression is not None and found.magic:
        raise InputError(f"{path}: {compression} around a {found.name} file", unpack_hint(path, compression))
    if not found.labelled:
        return found.open(path, options) if kind is not None else _columns_of_txt(path, options)
    if not found.magic:
        refuse_stand_in(path)
        if kind is None and found.name in ("csv", "tsv") and _is_object(path):
            found = format_named("jsonl") or found
    return found.open(path, options)


def _format_of_content(path: Path) -> Format | None:
    """The format that the first bytes of a file tell whatever it is called."""
    longest = max(len(kind.magic) for kind in all_formats())
    with path.open("rb") as file:
        first = file.read(longest)
    return next((kind for kind in all_formats() if kind.magic and first.startswith(kind.magic)), None)


def _format_by_name(path: Path) -> Format | None:
    is_zip = path.suffix.lower() == ".zip" and compression_of(path) == "zip"
    found = input_format_of(zip_member(path) if is_zip else path)
    if found is None and path.suffix.lower() in COMPRESSED:
        # `reviews.gz` says nothing of what is in it.
        found = format_named("jsonl" if _is_object(path) else "csv")
    return found


def _is_object(path: Path) -> bool:
    """Whether the first line of a file is a JSON object: no header of a csv file is one."""
    first = first_bytes(path, HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    if not first.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _columns_of_txt(path: Path, options: ReadOptions) -> Table:
    """A txt file that holds a table: as csv, if its lines have cells."""
    kind = format_named("csv")
    assert kind is not None
    refuse_stand_in(path)
    table = kind.open(path, options)
    if len(table.columns) < 2:
        raise InputError(f"{path}: lines without columns, so without labels", "a file with a column for each")
    return table


def refuse_special(path: Path) -> None:
    """Raises InputError for what is no file of data: files are read more than once, and to their end."""
    status = path.stat()
    if stat.S_ISFIFO(status.st_mode):
        raise InputError(
            f"{path}: a pipe, but it is read more than once", shell_command("cat {} > {}", path, f"copy{path.suffix}")
        )
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a device or a socket, not a file of data")
    on_disk = getattr(status, "st_blocks", None)
    if on_disk is not None and status.st_size > LARGE and on_disk * 512 * HOLES < status.st_size:
        raise InputError(
            f"{path}: {status.st_size / 2**30:,.0f} GB, of which {on_disk * 512 / 2**20:,.0f} MB are on the disk; "
            "the rest is a hole, not data"
        )
