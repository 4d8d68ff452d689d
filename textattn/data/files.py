"""Files as tables, with every reason why one cannot be opened said as an InputError."""

from __future__ import annotations

from pathlib import Path

from textattn.data.formats import Format, all_formats, format_of
from textattn.data.labels import shortened
from textattn.data.table import Table
from textattn.errors import InputError, Setting, shell_command


def open_file(path: Path, encoding: str = "utf-8", kind: Format | None = None) -> Table:
    """The table in a file.

    Args:
        kind: its format; default: by the suffix, one that can hold labels.

    Raises:
        InputError: the file is missing, empty, of another format or not in `encoding`.
    """
    kind = kind or _labelled_format(path)
    if not _is_encoding(encoding):
        raise InputError(f"unknown encoding {shortened(repr(encoding))}", Setting("data.encoding", "utf-8"))
    try:
        refuse_pipe(path)
        return kind.open(path, encoding)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _is_encoding(name: str) -> bool:
    """Whether Python has an encoding of this name that can be used for text (not `undefined`, `rot13` or `hex`)."""
    try:
        return "a,b\n".encode(name).decode(name) == "a,b\n"
    except (LookupError, ValueError):  # a ValueError for a name that is not text itself
        return False


def _labelled_format(path: Path) -> Format:
    kind = format_of(path)
    if kind is None or not kind.labelled:
        readable = ", ".join(suffix for kind in all_formats() if kind.labelled for suffix in kind.suffixes)
        raise InputError(f"{path}: unknown kind of file; readable are {readable}")
    return kind


def refuse_pipe(path: Path) -> None:
    """Raises InputError for a named pipe: files are read more than once, and a pipe cannot be."""
    if path.is_fifo():
        raise InputError(
            f"{path}: a pipe, but it is read more than once", shell_command("cat {} > {}", path, f"copy{path.suffix}")
        )
