"""Where `predict` and `explain` get their texts from: arguments, a file, or stdin as it comes."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import typer

from textattn.data.tokenizer import SEGMENT_SEPARATOR
from textattn.errors import ConfigError, InputError

# Texts read ahead: bounds memory, and is enough to sort into batches of similar length.
WINDOW = 2048


def read_texts(
    context: typer.Context, arguments: list[str], file: str | None, columns: list[str]
) -> Iterator[list[str]]:
    """Texts in groups as they become available: a group is never held back to fill it.

    `-`, or no text at all with something piped in, means stdin: one text a line.

    Raises:
        ConfigError: texts and a file are given, or nothing at all.
        InputError: the file cannot be read, or a line is not UTF-8.
    """
    if file is not None and arguments:
        raise ConfigError("give either texts or --input, not both")
    if file is not None and file != "-":
        yield from _groups(_file_texts(Path(file), columns))
    elif file == "-" or arguments == ["-"]:
        yield from _as_it_comes(sys.stdin.buffer, "stdin")
    elif arguments:
        yield arguments
    elif not sys.stdin.isatty():
        yield from _as_it_comes(sys.stdin.buffer, "stdin")
    else:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _file_texts(path: Path, columns: list[str]) -> Iterator[str]:
    from textattn.data.files import FILE_SUFFIXES, RowProblem, open_file

    if path.suffix.lower() not in FILE_SUFFIXES:
        try:
            with path.open("rb") as file:
                yield from _lines(file, str(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None
        return
    table = open_file(path)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"column {missing[0]!r} not found in {path}; columns are: {', '.join(table.columns)}",
            f"--text-column {table.columns[0]}",
        )
    for row in table.rows(columns):
        if isinstance(row, RowProblem):
            raise InputError(str(row))
        segments = [str(value if value is not None else "") for value in row[1]]
        if len(segments) > 1:
            segments = [segment.replace(SEGMENT_SEPARATOR, " ") for segment in segments]
        yield SEGMENT_SEPARATOR.join(segments)


def _lines(stream: Iterable[bytes] | IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            # Only the line end goes: line N of the output answers line N of the input, empty ones too.
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8") from None


def _groups(texts: Iterator[str]) -> Iterator[list[str]]:
    from itertools import islice

    while group := list(islice(texts, WINDOW)):
        yield group


def _as_it_comes(stream: IO[bytes], name: str) -> Iterator[list[str]]:
    """Whatever has arrived, at most WINDOW lines: a slow stream is answered line by line, a file in large groups."""
    arrived: queue.Queue[str | Exception | None] = queue.Queue(maxsize=2 * WINDOW)

    def read() -> None:
        try:
            for text in _lines(stream, name):
                arrived.put(text)
            arrived.put(None)
        except Exception as error:  # handed to the main thread, which raises it
            arrived.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        group: list[str] = []
        item = arrived.get()
        while isinstance(item, str):
            group.append(item)
            if len(group) == WINDOW:
                break
            try:
                item = arrived.get_nowait()
            except queue.Empty:
                break
        if group:
            yield group
        if isinstance(item, Exception):
            raise item
        if item is None:
            return
