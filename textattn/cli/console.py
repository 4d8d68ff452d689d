"""Where output goes: data to stdout, everything else to stderr; colour only where a person looks. Light to import.

What is printed may hold names and texts of strangers. A terminal shows their control characters and does not obey them;
a pipe or a file gets every character as it is.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from textattn.errors import TextattnError
from textattn.inference.visible import one_line, visible

if TYPE_CHECKING:
    from rich.console import Console

# Control characters and turns of direction that JSON may hold as they are.
_RAW_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
CLEAR = "\r\x1b[K"
STDERR = 2
_quiet = False
_debug = False
_begin_line = ""
"""Takes away what `waiting` shows, before something else is printed."""


def set_quiet(value: bool) -> bool:
    """Callback of --quiet."""
    global _quiet
    _quiet = _quiet or value
    return value


def set_debug(value: bool) -> bool:
    """Callback of --debug."""
    global _debug
    _debug = _debug or value
    return value


def set_no_color(value: bool) -> bool:
    """Callback of --no-color; the variable reaches rich as well."""
    if value:
        os.environ["NO_COLOR"] = "1"
        os.environ.pop("FORCE_COLOR", None)
    return value


def is_quiet() -> bool:
    """Whether only errors are wanted."""
    return _quiet


def is_debug() -> bool:
    """Whether tracebacks are wanted."""
    return _debug or bool(os.environ.get("TEXTATTN_DEBUG"))


def use_color(stream: TextIO) -> bool:
    """By no-color.org, force-color.org and TERM=dumb."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_live() -> bool:
    """Whether a progress bar may move: a person watches stderr and wants to."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not _quiet


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Shows `text` to a person who waits for the block to end, and takes it away again."""
    if not is_live():
        yield
        return
    global _begin_line
    print(text, end="", file=sys.stderr, flush=True)
    _begin_line = CLEAR
    try:
        yield
    finally:
        print(_begin_line, end="", file=sys.stderr, flush=True)
        _begin_line = ""


def error_console() -> Console:
    """rich on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def note(text: str, label: str = "") -> None:
    """A line for people on stderr, unless quiet; `label` is what it begins with, such as Warning."""
    if not _quiet:
        _stderr(label, text, "33")


def print_error(error: TextattnError) -> None:
    """`Error: …`, then `Hint: …`."""
    message, hint = error.render(command_line=True)
    _stderr("Error", message, "31")
    if hint:
        _stderr("Hint", hint, "36")


def print_trace() -> None:
    """Where the error that is being handled was raised."""
    import traceback

    print(shown(traceback.format_exc(), sys.stderr), file=sys.stderr)


def shown(text: str, stream: TextIO) -> str:
    """What a stream gets of a text: a terminal nothing that it would obey.

    On a terminal, the lines after the first are indented: a name with a line break cannot begin a line as we do.
    """
    return visible(text).replace("\n", "\n  ") if stream.isatty() else text


def _stderr(label: str, text: str, color: str) -> None:
    text = shown(text, sys.stderr)
    if label:
        begin = f"{label}:"
        text = (f"\x1b[1;{color}m{begin}\x1b[0m" if use_color(sys.stderr) else begin) + " " + text
    global _begin_line
    print(_begin_line + text, file=sys.stderr, flush=True)
    _begin_line = ""


def out(text: str) -> None:
    """A line of data on stdout; on a terminal it is one line, whatever it holds."""
    print(visible(one_line(text)) if sys.stdout.isatty() else text)


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def out_wrapped(text: str, indent: str) -> None:
    """A line of data on stdout; a terminal that is too narrow gets more lines, which begin with `indent`."""
    import textwrap

    width = terminal_width()
    if width is None or display_width(text) <= width:
        out(text)
        return
    size = max(width, len(indent) + 20)
    for line in textwrap.wrap(one_line(text), size, subsequent_indent=indent, break_on_hyphens=False):
        out(line)


def out_lines(text: str) -> None:
    """Several lines on stdout."""
    print(visible(text) if sys.stdout.isatty() else text)


def out_bytes() -> BinaryIO:
    """The stream for files that are written to stdout, a few rows at a time."""
    return _Shown(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer  # type: ignore[return-value]


class _Shown:
    """Writes UTF-8 on a terminal."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def write(self, rows: bytes) -> None:
        # Rows are written whole, so no character is cut in two.
        self.stream.write(visible(rows.decode(errors="replace")).encode())

    def flush(self) -> None:
        self.stream.flush()


def out_json(value: Any, *, indent: bool = False) -> None:
    """JSON on stdout: one line, or indented for a single object that people may read."""
    # Where the stream cannot say é, JSON's own escapes can.
    ascii_only = not sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, indent=2 if indent else None)
    # On a terminal too it stays the same JSON.
    print(_RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if sys.stdout.isatty() else text)


def enumerated(names: Sequence[str], word: str) -> str:
    """`a, b or c`, where `word` is "or"."""
    return f" {word} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def flush() -> None:
    """Hands over what was printed so far."""
    sys.stdout.flush()


def table(rows: Iterable[Iterable[str]], header: Iterable[str] = ()) -> list[str]:
    """Lines with aligned columns: to the right those that hold only numbers, to the left the others.

    A row is one line: line breaks inside a cell are escaped.
    """
    body = [[one_line(cell) for cell in row] for row in rows]
    cells = [[one_line(cell) for cell in header], *body] if header else body
    if not cells:
        return []
    columns = range(len(cells[0]))
    widths = [max(display_width(row[i]) for row in cells) for i in columns]
    numeric = [i > 0 and all(row[i][:1].isdigit() for row in body) for i in columns]
    lines = []
    for row in cells:
        padding = [" " * (widths[i] - display_width(row[i])) for i in columns]
        padded = [padding[i] + row[i] if numeric[i] else row[i] + padding[i] for i in columns]
        lines.append("  ".join(padded).rstrip())
    return lines


def display_width(text: str) -> int:
    """Terminal cells: wide East Asian characters take two, combining marks none."""
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def tolerate_full_stderr() -> None:
    """What cannot be written to stderr (a full disk, a terminal that is gone) is lost; what was begun goes on."""
    with contextlib.suppress(OSError, AttributeError, ValueError):  # None where it is closed, or no file
        if sys.stderr.fileno() == STDERR:
            stream = io.BufferedWriter(_Lossy(STDERR, "wb", closefd=False))
            sys.stderr = io.TextIOWrapper(stream, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)


class _Lossy(io.FileIO):
    """A file that takes everything and writes what it can."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content).cast("B"))


def tolerate_encodings() -> None:
    """What a stream's encoding cannot say (a Windows console, a C locale) is written as an escape, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
