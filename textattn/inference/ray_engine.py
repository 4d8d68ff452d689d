"""`predict --engine ray`: the parts of a job are read and answered on the machines of a Ray cluster.

Ray Data runs two steps. The first reads files in chunks, just as one process does. The second, on actors that load the
model once and use one thread each, turns each chunk into a part of the output. This process writes the parts in the
order of the rows. When a machine is lost, Ray repeats its work. A repeated chunk is the same chunk, with the same
number, so every row is written once.
"""

from __future__ import annotations

import io
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textattn.data.chunks import read_chunks
from textattn.data.files import open_file
from textattn.data.formats import Format, ReadOptions, format_named
from textattn.data.table import Row, RowProblem, Table
from textattn.errors import InputError, MissingExtra, TextattnError
from textattn.inference.bulk import Advance, BulkJob, BulkOptions, FinishedPart, digest_of_chunk
from textattn.inference.partial import Summary
from textattn.inference.ray_values import (
    Packed,
    pack_chunk,
    pack_error,
    pack_part,
    unpack_chunk,
    unpack_error,
    unpack_part,
)
from textattn.inference.udf import loaded
from textattn.storage.remote import fetch, is_remote

# What a row between the steps is: rows to answer, a part of the output, what is wrong, or the end of a file.
CHUNK, PART, ERROR, END = "chunk", "part", "error", "end"
# Processors that reading a file takes; the rest is for the model.
READING = 0.25
# Bytes of a block between the steps, so small that a chunk is a block: blocks are what is divided among the machines.
BLOCK = 1 << 16


def check_ray() -> None:
    """Raises MissingExtra if Ray is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise MissingExtra("--engine ray", "ray[data]", "ray") from None


@dataclass(frozen=True)
class _Reading:
    """How the machines read the files: what goes to the first step."""

    files: list[str]
    """As the user named them."""
    paths: list[str]
    """Absolute, or URLs."""
    format: str | None
    options: ReadOptions
    columns: list[str]
    """Those with the text."""
    taken: list[str]
    header: list[str] | None


@dataclass(frozen=True)
class _Answering:
    """How the machines answer: what goes to the second step."""

    model: str
    runtime: str | None
    origins: list[str]
    input_columns: list[str]
    columns: list[str]
    format: Format
    options: BulkOptions


@dataclass(frozen=True)
class RayEngine:
    """Answers the parts of a job on a Ray cluster: that of $RAY_ADDRESS, or this machine alone."""

    files: Sequence[str]
    """The files of the job, as the user named them."""
    format: str | None
    """The name of their format; None: it is recognised."""
    options: ReadOptions
    runtime: str | None

    def parts(self, job: BulkJob, advance: Advance) -> Iterator[FinishedPart]:
        """The parts of the output, in order.

        Raises:
            InputError: a file cannot be read, or a row cannot be answered; the first one in the order of the rows.
            TextattnError: the cluster has failed.
        """
        import ray
        import ray.exceptions

        done = 0
        with _cluster():
            files, number = 0, 0
            try:
                for row in self._rows(job):
                    if (row["file"], row["number"]) != (files, number):
                        raise TextattnError(f"Ray gave part {row['number']} of file {row['file']} out of order")
                    if row["kind"] == ERROR:
                        raise unpack_error(_packed(row))
                    if row["kind"] == END:
                        files, number = files + 1, 0
                        continue
                    number += 1
                    part = unpack_part(_packed(row))
                    yield part
                    done += part.rows
                    advance(done)
            except (ray.exceptions.RayError, ray.exceptions.RayTaskError) as error:
                raise TextattnError(f"Ray: {str(error).strip().splitlines()[-1]}") from None
            if files != len(self.files):
                raise TextattnError(f"Ray read {files} of {len(self.files)} files; nothing was written")

    def _rows(self, job: BulkJob) -> Iterator[dict[str, Any]]:
        import ray.data

        paths = [name if is_remote(name) else str(Path(name).resolve()) for name in self.files]
        origins = [table.origin for table in job.tables]
        header = job.input_columns() if job.format.fixed_columns else None
        reading = _Reading(origins, paths, self.format, self.options, list(job.columns), job.added_columns(), header)
        answering = _Answering(
            str(job.classifier.path.resolve()), self.runtime, origins, job.input_columns(), list(job.columns),
            job.format, job.options,
        )  # fmt: skip
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        files = ray.data.from_items([{"file": i} for i in range(len(paths))], override_num_blocks=len(paths))
        chunks = files.map_batches(_read, fn_args=[reading], batch_size=1, batch_format="pyarrow", num_cpus=READING)
        parts = chunks.map_batches(
            _Answerer,
            fn_constructor_args=[answering],
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=processors),
            num_cpus=1,
        )
        for batch in parts.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=1):
            yield from batch.to_pylist()


def _row(file: int, number: int, kind: str, packed: Packed = ("", b"")) -> Any:
    """A row between the steps, as an Arrow table."""
    import pyarrow as pa

    types = {"file": pa.int64(), "number": pa.int64(), "kind": pa.string()}
    types |= {"facts": pa.large_string(), "content": pa.large_binary()}
    row = {"file": file, "number": number, "kind": kind, "facts": packed[0], "content": packed[1]}
    return pa.Table.from_pylist([row], pa.schema(types))


def _packed(row: dict[str, Any]) -> Packed:
    return row["facts"], row["content"]


def _read(batch: Any, reading: _Reading) -> Iterator[Any]:
    """The first step: the chunks of a file, or what is wrong with it, and its end."""
    for file in batch.column("file").to_pylist():
        number = 0
        with ExitStack() as stack:
            path = Path(reading.paths[file])
            try:
                if is_remote(reading.paths[file]):
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="textattn-")))
                    path = folder / re.split(r"[?#]", reading.paths[file])[0].rstrip("/").rpartition("/")[2]
                    fetch(reading.paths[file], path)
                kind = format_named(reading.format) if reading.format else None
                table = open_file(path, reading.options, kind, format_named("txt"))
                table = replace(table, origin=reading.files[file])
                for chunk in read_chunks(table, reading.columns, reading.taken, reading.header):
                    yield _row(file, number, CHUNK, pack_chunk(chunk))
                    number += 1
            except InputError as error:
                yield _row(file, number, ERROR, pack_error(error, str(path), reading.files[file]))
                return
        yield _row(file, number, END)


class _Answerer:
    """The second step, an actor: chunks become parts of the output."""

    def __init__(self, answering: _Answering) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        tables = [Table(origin, answering.input_columns, _no_rows) for origin in answering.origins]
        classifier = loaded(answering.model, answering.runtime)
        self._job = BulkJob(classifier, tables, answering.columns, answering.format, answering.options)

    def __call__(self, batch: Any) -> Any:
        (row,) = batch.to_pylist()
        if row["kind"] != CHUNK:
            return batch
        chunk = unpack_chunk(_packed(row))
        summary, content = Summary(), io.BytesIO()
        try:
            self._job.format.write(self._job.answer(chunk, summary), content)
        except InputError as error:
            return _row(row["file"], row["number"], ERROR, pack_error(error))
        part = FinishedPart(len(chunk), digest_of_chunk("", chunk), content.getvalue(), summary)
        return _row(row["file"], row["number"], PART, pack_part(part))


def _no_rows(columns: list[str]) -> Iterator[Row | RowProblem]:
    """Of a table that is only a name and its columns."""
    return iter(())


@contextmanager
def _cluster() -> Iterator[None]:
    """Connect to a cluster during the block; a program that is connected stays so."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    was_connected = ray.is_initialized()
    if not was_connected:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size, context.execution_options.preserve_order, context.enable_progress_bars
    context.target_max_block_size, context.execution_options.preserve_order = BLOCK, True
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.target_max_block_size, context.execution_options.preserve_order, context.enable_progress_bars = before
        if not was_connected:
            ray.shutdown()
