"""Where output goes: data to stdout, everything else to stderr; colour only where a person looks. Light to import."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from textattn.errors import TextattnError

if TYPE_CHECKING:
    from rich.console import Console

_quiet = False
_debug = False


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


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only on stderr.", callback=set_quiet)]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Run directory or Hub id; default $TEXTATTN_MODEL, else the newest finished run under runs/.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout; one object a line for several results.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N, mps or auto.")]


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
    _stderr("Error", error.message, "31")
    if error.hint:
        _stderr("Hint", error.hint, "36")


def _stderr(label: str, text: str, color: str) -> None:
    if label:
        shown = f"{label}:"
        text = (f"\x1b[1;{color}m{shown}\x1b[0m" if use_color(sys.stderr) else shown) + " " + text
    print(_encodable(text, sys.stderr), file=sys.stderr, flush=True)


def out(text: str) -> None:
    """A line of data on stdout."""
    print(_encodable(text, sys.stdout))


def out_json(value: Any, *, indent: bool = False) -> None:
    """JSON on stdout: one line, or indented for a single object that people may read."""
    out(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2 if indent else None))


def flush() -> None:
    """Hands over what was printed so far."""
    sys.stdout.flush()


def table(rows: Iterable[Iterable[str]], header: Iterable[str] = ()) -> list[str]:
    """Lines with aligned columns: the first to the left, the others to the right where they are numbers."""
    cells = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not cells:
        return []
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if i and cell[:1].isdigit() else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def _encodable(text: str, stream: TextIO) -> str:
    """The text without what the stream's encoding cannot say (a Windows console, a C locale)."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
