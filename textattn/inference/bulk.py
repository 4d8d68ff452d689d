"""Predictions for files of any size: chunk by chunk, in order, in bounded memory, and resumable.

During a job the answers lie in the folder OUTPUT.partial/, one part for each chunk (see `partial`). At the end the
parts are joined to OUTPUT. A job that was killed goes on after the last part; the rows of the existing parts are read
again, but only to check that they are the same, or if a part is damaged.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from textattn.data.chunks import Chunk, read_chunks
from textattn.data.formats import AnsweredRows, Format
from textattn.data.table import Table
from textattn.errors import ConfigError, InputError, Option, Part, TextattnError
from textattn.inference.answer_columns import PREFIX, Answers, answer_names
from textattn.inference.classifier import Classifier
from textattn.inference.partial import OUTPUT, OVERWRITE, RESUME, Partial, State, Summary
from textattn.inference.partial import Part as AnsweredPart
from textattn.inference.session import run_in_batches
from textattn.inference.visible import MOSTLY
from textattn.storage.files import check_new, is_stream, open_stream

# What the system says of a full disk, and of a file that may not grow.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Skipped rows that are named one by one.
NAMED_PROBLEMS = 10
# Called with about how many rows were read.
Advance = Callable[[int], None]
Note = Callable[[str], None]


@dataclass(frozen=True)
class BulkOptions:
    """How rows are answered."""

    attention: bool = False
    """Add tokens, their offsets, attention weights and contributions to the answer."""
    skip: bool = False
    """Leave out rows that cannot be answered; otherwise the first one ends the job."""
    min_score: float = 0.0
    """Give no label that is less probable."""


@dataclass(frozen=True)
class BulkJob:
    """What to predict and how to write it."""

    classifier: Classifier
    tables: list[Table]
    columns: list[str]
    """Those with the text."""
    format: Format
    """Of the output."""
    options: BulkOptions = BulkOptions()

    def input_columns(self) -> list[str]:
        """The columns of all files together."""
        return list(dict.fromkeys(name for table in self.tables for name in table.columns))

    def added_columns(self) -> list[str]:
        """The columns of the answers: `predicted_` stands before a name that the input uses."""
        names = answer_names(self.classifier.config)
        names += ["tokens", "starts", "ends", "weights", "contributions"] if self.options.attention else []
        names += ["file"] if len(self.tables) > 1 else []
        taken = set(self.input_columns())
        unique: list[str] = []
        for name in names:
            while name in taken:
                name = PREFIX + name
            taken.add(name)
            unique.append(name)
        return unique

    def output_columns(self) -> list[str]:
        """All columns of the output."""
        return [*self.input_columns(), *self.added_columns()]

    def settings(self) -> dict[str, Any]:
        """What must be the same for a job to be resumed."""
        return {
            "model": self.classifier.fingerprint(),
            "input": [table.origin for table in self.tables],
            "text": self.columns,
            "columns": self.input_columns(),
            "format": self.format.name,
            "escape_formulas": self.format.escapes_formulas,
            "attention": self.options.attention,
            "on_error": "skip" if self.options.skip else "stop",
            "min_score": self.options.min_score,
        }

    def chunks(self, advance: Advance) -> Iterator[Chunk]:
        """All rows, file after file.

        Raises:
            InputError: a file cannot be read.
        """
        before = 0
        header = self.input_columns() if self.format.fixed_columns else None
        for table in self.tables:
            for chunk in read_chunks(table, self.columns, self.added_columns(), header):
                yield chunk
                advance(before + chunk.last_row)
            before += table.size() if table.size is not None else 0

    def answer(self, chunk: Chunk, summary: Summary) -> AnsweredRows:
        """The rows of a chunk with their answers; counts them in `summary`.

        Raises:
            InputError: a row cannot be answered and is not to be skipped.
        """
        self.count_problems(chunk, summary)
        classifier, min_score = self.classifier, self.options.min_score
        texts = classifier.normalise(chunk.texts)
        tokens = classifier.tokenizer.encode(texts)
        summary.rows += len(chunk)
        summary.tokens += len(tokens.ids)
        summary.truncated += tokens.num_truncated
        session, attention = classifier.session, self.options.attention
        divided = attention and session.gives_contributions
        outputs = run_in_batches(
            session, tokens, classifier.tokenizer.pad_id, with_attention=attention, with_contributions=divided
        )
        probs = classifier.logits_to_probabilities(outputs.logits)
        unknown = tokens.unknown_shares(classifier.tokenizer.unk_id)
        summary.unknown += int(np.count_nonzero(unknown > MOSTLY))

        answers = Answers(classifier, texts, tokens, probs, min_score)
        summary.unsure += answers.num_unsure
        summary.unreadable += answers.num_unreadable
        values = answers.values()
        top = classifier.task.top(probs)
        if classifier.config.target is not None:
            top = np.zeros_like(top)  # contributions are to the number, whichever side of the mean it is on
        if attention:
            located = classifier.tokenizer.encode_with_offsets(texts)
            values += [
                [text.tokens for text in located],
                [[start for start, _ in text.offsets] for text in located],
                [[end for _, end in text.offsets] for text in located],
                [[float(weight) for weight in weights] for weights in outputs.attention_weights],
                # Those to the most probable label, which are the default of `explain`.
                [
                    (part.astype(np.float64) @ direction).tolist()
                    for part, direction in zip(
                        outputs.contributions, classifier.task.directions(top, None), strict=True
                    )
                ]
                if divided
                else [None] * len(texts),
            ]
        if len(self.tables) > 1:
            values.append([chunk.origin] * len(chunk))
        return AnsweredRows(
            self.input_columns(),
            chunk.records,
            chunk.batches,
            dict(zip(self.added_columns(), values, strict=True)),
            lambda: (prediction.line(min_score) for prediction in answers.predictions()),
        )

    def count_problems(self, chunk: Chunk, summary: Summary) -> None:
        """Count the rows of a chunk that cannot be answered.

        Raises:
            InputError: there is one, and it is not to be skipped.
        """
        for problem in chunk.problems:
            if not self.options.skip:
                raise InputError(str(problem), Option("on_error", "skip"))
            if summary.skipped < NAMED_PROBLEMS:
                summary.problems.append(str(problem))
            summary.skipped += 1


def predict_to_stream(job: BulkJob, stream: BinaryIO, advance: Advance) -> Summary:
    """Answers every row on a stream, chunk after chunk, in a format that can be streamed.

    Raises:
        InputError: a file cannot be read, or a row cannot be answered.
    """
    summary = Summary()
    stream.write(job.format.head(job.output_columns()))
    for chunk in job.chunks(advance):
        # The rows before one that ends the job are answered.
        good = chunk.head(chunk.places[0]) if chunk.problems and not job.options.skip else chunk
        job.format.write(job.answer(good, summary), stream)
        stream.flush()
        if good is not chunk:
            job.answer(chunk, summary)
    return summary


@dataclass(frozen=True)
class FinishedPart:
    """A part of the output that was answered elsewhere."""

    rows: int
    read: str
    """The digest of the rows, answered and skipped."""
    content: bytes
    """Of its file."""
    summary: Summary
    """Counts of this part."""


class Engine(Protocol):
    """Answers a job elsewhere than in this process."""

    def parts(self, job: BulkJob, advance: Advance) -> Iterator[FinishedPart]:
        """The parts of the output, in order.

        Raises:
            InputError: a file cannot be read, or a row cannot be answered.
        """
        ...


@dataclass(frozen=True)
class Writing:
    """How a file is written."""

    resume: bool = False
    """Go on where an interrupted job stopped."""
    overwrite: bool = False
    """Replace the file and the parts of an interrupted job."""
    note: Note = lambda _: None
    """Called with what the user should know, such as that a part was damaged."""
    engine: Engine | None = None
    """What answers; None: this process."""


def predict_to_file(job: BulkJob, output: Path, advance: Advance, writing: Writing) -> Summary:
    """Answers every row in a file that appears when all are answered; a pipe or device gets the answers as they come.

    Raises:
        ConfigError: the output or parts of it exist, and neither `resume` nor `overwrite` is set; the interrupted job
            is another one; or another process writes to the same output.
        InputError: a file cannot be read, or a row cannot be answered; what was answered before is kept.
        TextattnError: the disk is full; what was answered before is kept.
    """
    if is_stream(output):
        try:
            stream = open_stream(output)
        except OSError as error:
            problem = f"{output} cannot be written: {error.strerror or error}"
            raise ConfigError(problem, Option("output", "answers.jsonl"), setting=Option("output")) from None
        with stream:
            return predict_to_stream(job, stream, advance)
    if output.is_dir():
        raise ConfigError(
            f"{output} is a folder", Option("output", output / f"predictions.{job.format.name}"), setting=OUTPUT
        )
    if output.exists() and any(output.samefile(table.origin) for table in job.tables if Path(table.origin).exists()):
        raise ConfigError(f"{output} is the input; nothing was changed", "another name", setting=OUTPUT)
    partial = Partial(output, job.format, job.output_columns(), job.settings())

    def check_output() -> None:
        check_new(output, writing.overwrite or (writing.resume and partial.exists()), OUTPUT)

    check_output()
    with partial.owned():
        check_output()  # another job may have ended in the meantime
        if not writing.resume:
            partial.clear(writing.overwrite)
        state = partial.state()
        if partial.exists() and not state.parts:
            writing.note(
                f"{partial.folder} is of an earlier version, which kept no digests; all rows are answered again"
            )
        return _PartByPart(job, partial, state, writing).run(advance)


class _PartByPart:
    """A job that is written part by part."""

    def __init__(self, job: BulkJob, partial: Partial, state: State, writing: Writing) -> None:
        self.job, self.partial, self.state, self.note = job, partial, state, writing.note
        self.engine = writing.engine

    def run(self, advance: Advance) -> Summary:
        """Answer what is not answered yet, and put the parts together."""
        state, partial = self.state, self.partial
        if partial.is_joined(state):  # killed while the parts were removed
            partial.remove()
            return state.summary
        try:
            if self.engine is None:
                chunks = self.job.chunks(advance)
                self._check_parts(chunks)
                self._answer(chunks)
            else:
                self._take(self.engine.parts(self.job, advance))
            if not state.parts:
                # An input without rows gives a file without rows, but with all columns.
                self._add(Chunk(""), self.job.answer(Chunk(""), state.summary))
            partial.join(state)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            kept = _rows(partial.state().summary.rows)
            raise TextattnError(
                f"cannot be written ({error.strerror}); {kept} answered before are kept there",
                ("free some space there, then run the same command with ", RESUME),
                place=str(partial.folder),
            ) from None
        return state.summary

    def _answer(self, chunks: Iterator[Chunk]) -> None:
        """Answer the rest of the rows, one part for each chunk."""
        summary = self.state.summary
        try:
            for chunk in chunks:
                self._add(chunk, self.job.answer(chunk, summary))
                self.partial.save(self.state)
        except InputError as error:
            if not self.state.parts:
                self.partial.remove()
                raise
            hint: list[Part] = [
                "correct it and continue with ", RESUME,
                f": {summary.rows:,} rows are answered in {self.partial.folder}",
            ]  # fmt: skip
            more = ["; or ", *error.hint_parts] if error.hint_parts else []
            raise InputError(error.problems, [*hint, *more]) from None

    def _take(self, parts: Iterator[FinishedPart]) -> None:
        """Write parts that were answered elsewhere. No state is saved before the end, for such a job is not resumed."""
        state = self.state
        try:
            for part in parts:
                written = self.partial.write_content(len(state.parts), part.content)
                state.parts.append(AnsweredPart(part.rows, part.read, written))
                state.summary.add(part.summary)
        except BaseException:
            self.partial.remove()
            raise
        del state.summary.problems[NAMED_PROBLEMS:]

    def _add(self, chunk: Chunk, rows: AnsweredRows) -> None:
        written = self.partial.write(len(self.state.parts), rows)
        self.state.parts.append(AnsweredPart(len(chunk), digest_of_chunk(self.state.read, chunk), written))

    def _check_parts(self, chunks: Iterator[Chunk]) -> None:
        """Check that the rows which are answered are still the same; those of a damaged part are answered again."""
        read, repaired = "", False
        for number, part in enumerate(self.state.parts):
            chunk = next(chunks, Chunk(""))
            read = digest_of_chunk(read, chunk)
            if read != part.read:
                raise ConfigError(
                    f"{self.partial.folder}: rows that were answered before have changed since; nothing was changed",
                    (OVERWRITE, " begins again"),
                )
            if not self.partial.is_whole(number, part):
                self.note(
                    f"{self.partial.where(number)} is missing or damaged; its {_rows(len(chunk))} are answered again"
                )
                written = self.partial.write(number, self.job.answer(chunk, Summary()))
                self.state.parts[number] = replace(part, written=written)
                repaired = True
        if repaired:
            self.partial.save(self.state)


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


def digest_of_chunk(before: str, chunk: Chunk) -> str:
    """The digest of all rows up to and including this chunk, answered and skipped."""
    digest = hashlib.sha256(before.encode())
    digest.update(repr((chunk.records, chunk.problems)).encode("utf-8", "surrogatepass"))
    for batch in chunk.batches:
        digest.update(batch.serialize())
    return digest.hexdigest()
