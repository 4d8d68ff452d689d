"""Where `predict` and `explain` get their texts from: arguments, a file, or stdin as it comes."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from textattn.cli.console import note
from textattn.data.segments import is_blank
from textattn.errors import InputError, Option, Problem, Setting
from textattn.storage.remote import expand, fetch, is_remote

if TYPE_CHECKING:
    import typer

    from textattn.data.formats import ReadOptions
    from textattn.data.table import Table

# The settings that have an option of their own here.
DATA = "data."
OPTIONS = ("data.encoding", "data.delimiter", "data.quoting")

# Texts answered together: bounds memory, and is enough to sort into batches of similar length.
WINDOW = 2048
# Most bytes taken from stdin in one go.
CHUNK = 1 << 20


def require_texts(context: typer.Context, given: Sequence[str]) -> None:
    """Prints the usage where nothing is given and nothing is piped in.

    Raises:
        typer.Exit: it did.
    """
    if not given and (sys.stdin is None or sys.stdin.isatty()):
        import typer

        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def read_texts(
    arguments: Sequence[str], on_empty: Callable[[InputError], None] | None = None
) -> Iterator[Sequence[str]]:
    """Texts in groups as they become available: a group is never held back to fill it.

    `-`, or no text at all with something piped in, means stdin: one text a line.

    Args:
        on_empty: called with what is wrong with an empty line, which is then handed over; default: it is raised.

    Raises:
        InputError: a line is not UTF-8, or empty.
    """
    if arguments and list(arguments) != ["-"]:
        return iter([list(arguments)])
    return _as_it_comes(_stdin(), on_empty)


def input_files(names: Sequence[str]) -> list[str]:
    """The files of --input, with patterns such as `*.csv` resolved, in the order of their names; URLs stay URLs.

    Raises:
        InputError: there is no such file.
    """
    found = []
    for name in names:
        if is_remote(name):
            found += expand(name)
            continue
        # Path.glob takes no absolute patterns before Python 3.13.
        matches = [name] if name == "-" or Path(name).exists() else sorted(glob(name, recursive=True))  # noqa: PTH207
        if not matches:
            raise InputError(f"{name}: no such file")
        found += matches
    return found


@contextlib.contextmanager
def open_tables(files: Sequence[str], kind: str | None, options: ReadOptions) -> Iterator[list[Table]]:
    """The tables in files; stdin, pipes and remote files are copied first, because a table is read more than once.

    Args:
        kind: the name of their format; default: by content and suffix, and txt for any other suffix.
        options: how they are written.

    Raises:
        InputError: a file cannot be read, or the columns of two files differ.
    """
    from textattn.data.files import open_file
    from textattn.data.formats import format_named
    from textattn.data.table import reading_notes

    with contextlib.ExitStack() as stack:
        tables: list[Table] = []
        copies: dict[Path, str] = {}
        try:
            for name in files:
                path = Path(name)
                if is_remote(name):
                    path = _fetched(stack, name)
                    copies[path] = name
                elif name == "-" or path.is_fifo():
                    path = _copy(stack, name)
                    copies[path] = "stdin" if name == "-" else name
                # Any other file is plain text, whatever its suffix.
                opened = open_file(path, options, format_named(kind) if kind else None, format_named("txt"))
                tables.append(replace(opened, origin=copies.get(path, opened.origin)))
            for table in tables[1:]:
                if sorted(table.columns) != sorted(tables[0].columns):
                    raise InputError(
                        f"{table.origin}: columns {', '.join(table.columns)}, "
                        f"but {tables[0].origin} has {', '.join(tables[0].columns)}",
                        "a job for each kind of file",
                    )
            for text in reading_notes(tables):
                note(_with_options(text))
            yield tables
        except InputError as error:
            # The user never saw the name of the copy, and the option has a different name here.
            raise InputError(
                [_with_names(problem, copies) for problem in error.problems],
                [
                    Option(part.name.removeprefix(DATA), part.value)
                    if isinstance(part, Setting) and part.name in OPTIONS
                    else part
                    for part in error.hint_parts or ()
                ]
                or None,
            ) from None


def _with_names(problem: Problem, copies: Mapping[Path, str]) -> Problem:
    """The problem with the user's name of a file in the place of that of its copy."""
    text, place = _with_options(problem.problem), problem.place
    for copy, shown in copies.items():
        text = text.replace(str(copy), shown)
        place = place and place.replace(str(copy), shown)
    return Problem(text, problem.setting, place)


def _with_options(text: str) -> str:
    """A sentence about how a file is read, with the options of this command in the place of settings."""
    text = text.replace("data.quoting=", "--quoting ")
    for setting in OPTIONS:
        text = text.replace(setting, "--" + setting.removeprefix(DATA))
    return text


def _stdin() -> BinaryIO:
    """Empty where whoever started us has closed it."""
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer


def _copy(stack: contextlib.ExitStack, name: str) -> Path:
    """Of stdin or a pipe, which can be read once only; it keeps the suffix, which tells the format."""
    suffix = "" if name == "-" else "".join(Path(name).suffixes[-2:])
    # The stack closes both.
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="stdin-", suffix=suffix))  # noqa: SIM115
    source = _stdin() if name == "-" else stack.enter_context(Path(name).open("rb"))  # noqa: SIM115
    shutil.copyfileobj(source, copy)
    copy.flush()
    return Path(copy.name)


def _fetched(stack: contextlib.ExitStack, name: str) -> Path:
    """A copy of a remote file under its own name, which tells the format."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="textattn-")))
    copy = folder / (re.split(r"[?#]", name)[0].rstrip("/").rpartition("/")[2] or "input")
    fetch(name, copy)
    return copy


def _grouped(texts: Iterator[str]) -> Iterator[list[str]]:
    """At most WINDOW texts at a time; those before an error are handed over before it is raised."""
    group: list[str] = []
    try:
        for text in texts:
            group.append(text)
            if len(group) == WINDOW:
                yield group
                group = []
    except InputError:
        if group:
            yield group
        raise
    if group:
        yield group


def _as_it_comes(stream: BinaryIO, on_empty: Callable[[InputError], None] | None) -> Iterator[list[str]]:
    """What has arrived: a slow stream is answered line by line, a file in large groups."""
    number = 1
    for lines in _arriving(stream):
        yield from _grouped(_decoded(lines, "stdin", number, on_empty))
        number += len(lines)


def _arriving(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Complete lines, as many as one read gives; waits only while there is none."""
    pieces: list[bytes] = []
    while chunk := stream.read1(CHUNK):  # type: ignore[attr-defined]
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        if others:
            yield [b"".join(pieces), *others[:-1]]
            pieces = [others[-1]]
    if last := b"".join(pieces):
        yield [last]


def _decoded(
    lines: Iterable[bytes], name: str, first: int, on_empty: Callable[[InputError], None] | None
) -> Iterator[str]:
    for number, line in enumerate(lines, first):
        try:
            # Only the line end goes: line N of the output answers line N of the input.
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8") from None
        if is_blank(text):
            empty = InputError(f"{name}:{number}: the line is empty; expected a text")
            if on_empty is None:
                raise empty
            on_empty(empty)
        yield text
