"""The rows of files that are most worth a label, with all their columns and the model's answers, in bounded memory.

The files are read twice: once to choose, and once to fetch the rows that were chosen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from textattn.data.chunks import Chunk
from textattn.errors import ConfigError, InputError, Option
from textattn.inference.bulk import Advance, BulkJob
from textattn.inference.most_useful import Chooser, Labelled, UsefulText
from textattn.inference.partial import Summary
from textattn.storage.files import atomic_path, check_new, is_stream, open_stream

OUTPUT = Option("output")


def choose_rows(job: BulkJob, number: int, labelled: Labelled, summary: Summary, advance: Advance) -> list[UsefulText]:
    """The most useful texts of all files.

    Args:
        summary: counts the rows that have no text.

    Raises:
        InputError: a file cannot be read, or a row has no text and is not to be skipped.
    """
    chooser = Chooser(job.classifier, number, labelled)
    for chunk in job.chunks(advance):
        job.count_problems(chunk, summary)
        chooser.add(chunk.texts)
    return chooser.choose()


def check_output(job: BulkJob, output: Path, overwrite: bool) -> None:
    """Raises ConfigError if the output is a folder, the input, or exists and is not to be replaced."""
    if output.is_dir():
        raise ConfigError(f"{output} is a folder", Option("output", output / f"next.{job.format.name}"), setting=OUTPUT)
    if output.exists() and any(output.samefile(table.origin) for table in job.tables if Path(table.origin).exists()):
        raise ConfigError(f"{output} is the input; nothing was changed", "another name", setting=OUTPUT)
    check_new(output, overwrite, OUTPUT)


def write_rows(job: BulkJob, chosen: Sequence[UsefulText], output: Path | BinaryIO, summary: Summary) -> None:
    """Write the rows that were chosen, in the order in which they were chosen.

    Args:
        output: a file, which appears when it is complete, or an open stream.
        summary: counts the rows that are written.

    Raises:
        InputError: a file cannot be read, or it has changed since.
        ConfigError: the output cannot be written.
    """
    answered = [job.answer(chunk, summary) for chunk in _parts(job, chosen)] or [job.answer(Chunk(""), summary)]
    if isinstance(output, Path) and not is_stream(output):
        try:
            with atomic_path(output) as temporary, tempfile.TemporaryDirectory(prefix="textattn-") as folder:
                parts = [Path(folder, str(number)) for number in range(len(answered))]
                for part, rows in zip(parts, answered, strict=True):
                    with part.open("wb") as file:
                        job.format.write(rows, file)
                job.format.join(parts, job.output_columns(), temporary)
        except OSError as error:
            raise _cannot_write(output, error) from None
        return
    try:
        stream = open_stream(output) if isinstance(output, Path) else output
    except OSError as error:
        raise _cannot_write(output, error) from None
    stream.write(job.format.head(job.output_columns()))
    for rows in answered:
        job.format.write(rows, stream)
    stream.flush()


def _cannot_write(output: object, error: OSError) -> ConfigError:
    problem = f"{output} cannot be written: {error.strerror or error}"
    return ConfigError(problem, Option("output", "next.csv"), setting=OUTPUT)


def _parts(job: BulkJob, chosen: Sequence[UsefulText]) -> Iterator[Chunk]:
    """The rows in their order; those that follow one another and are of the same file are one chunk."""
    wanted = {found.index: found for found in chosen}
    rows: dict[int, Chunk] = {}
    first = 0
    for chunk in job.chunks(lambda _: None):
        for index in sorted(wanted.keys() & range(first, first + len(chunk))):
            row = chunk.row(index - first)
            if row.texts != [wanted[index].text] and job.classifier.normalise(row.texts) != [wanted[index].text]:
                raise InputError(f"{chunk.origin} has changed while it was read", "the same command again")
            rows[index] = row
        first += len(chunk)
    if len(rows) < len(wanted):
        raise InputError(f"{job.tables[-1].origin} has changed while it was read", "the same command again")
    for origin, group in groupby((rows[found.index] for found in chosen), lambda row: row.origin):
        together = Chunk(origin)
        for row in group:
            together.texts += row.texts
            together.records += row.records
            together.batches += row.batches
        yield together
