"""Where `predict` and `explain` get their texts from: arguments, a file, or stdin as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import typer

from textattn.data.tokenizer import SEGMENT_SEPARATOR
from textattn.errors import ConfigError, InputError

# Texts answered together: bounds memory, and is enough to sort into batches of similar length.
WINDOW = 2048
# Most bytes taken from stdin in one go.
CHUNK = 1 << 20


def check_source(context: typer.Context, arguments: Sequence[str], file: str | None = None) -> None:
    """Refuses what `read_texts` could not read; cheap, so that it can come before the model is loaded.

    Raises:
        ConfigError: texts and a file are given.
        InputError: there is no such file, or an argument is not UTF-8.
        typer.Exit: nothing is given and nothing is piped in; the usage was printed.
    """
    if file is not None and arguments:
        raise ConfigError("give either texts or --input, not both")
    if file is not None and file != "-" and not Path(file).exists():
        raise InputError(f"{file}: no such file")
    for number, text in enumerate(arguments, 1):
        # Python hands over undecodable bytes of the command line as lone surrogates.
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"text {number} of the command line is not UTF-8")
    if not arguments and file is None and (sys.stdin is None or sys.stdin.isatty()):
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def read_texts(arguments: Sequence[str], file: str | None = None, columns: Sequence[str] = ()) -> Iterator[list[str]]:
    """Texts in groups as they become available: a group is never held back to fill it.

    `-`, or no text at all with something piped in, means stdin: one text a line.

    Args:
        columns: those of a csv, tsv, jsonl or parquet file that hold the text.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8.
    """
    if file is not None and file != "-":
        return _grouped(_file_texts(Path(file), columns))
    if file is None and arguments and list(arguments) != ["-"]:
        return iter([list(arguments)])
    return _as_it_comes(sys.stdin.buffer)


def _file_texts(path: Path, columns: Sequence[str]) -> Iterator[str]:
    from textattn.data.files import FILE_SUFFIXES, RowProblem, open_file

    if path.suffix.lower() not in FILE_SUFFIXES:
        try:
            with path.open("rb") as file:
                yield from _decoded(file, str(path))
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
    for row in table.rows(list(columns)):
        if isinstance(row, RowProblem):
            raise InputError(str(row))
        segments = [str(value if value is not None else "") for value in row[1]]
        if len(segments) > 1:
            segments = [segment.replace(SEGMENT_SEPARATOR, " ") for segment in segments]
        yield SEGMENT_SEPARATOR.join(segments)


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


def _as_it_comes(stream: BinaryIO) -> Iterator[list[str]]:
    """What has arrived: a slow stream is answered line by line, a file in large groups."""
    number = 1
    for lines in _arriving(stream):
        yield from _grouped(_decoded(lines, "stdin", number))
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


def _decoded(lines: Iterable[bytes], name: str, first: int = 1) -> Iterator[str]:
    for number, line in enumerate(lines, first):
        try:
            # Only the line end goes: line N of the output answers line N of the input, empty ones too.
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8") from None
