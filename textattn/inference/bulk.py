"""Predictions for files of any size: chunk by chunk, in order, in bounded memory, and resumable.

During a job the answers lie in the folder OUTPUT.partial/, one part for each chunk, beside a state.json that says which
rows they belong to; both are written atomically. At the end the parts are joined to OUTPUT. A job that was killed goes
on after the last part; the rows of the existing parts are read again, but only to check that they are the same.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from textattn.data.chunks import Chunk, read_chunks
from textattn.data.formats import AnsweredRows, Format
from textattn.data.table import Table
from textattn.errors import ConfigError, InputError, Option, Part
from textattn.inference.classifier import Classifier
from textattn.inference.session import run_in_batches
from textattn.storage.files import (
    atomic_path,
    check_new,
    is_stream,
    open_stream,
    read_json,
    replace_file,
    target_of,
    write_json,
)

if TYPE_CHECKING:
    from textattn.data.formats import Column

STATE = "state.json"
RESUME, OVERWRITE = Option("resume", flag=True), Option("overwrite", flag=True)
# What lies in the folder of a job that is going on, half-written files included.
OURS = re.compile(r"state\.json|joined|\d{6}\.\w+|\..*\.tmp")
# In front of a column name of ours that the input already uses.
PREFIX = "predicted_"
# Skipped rows that are named one by one.
NAMED_PROBLEMS = 10
# Called with about how many rows were read.
Advance = Callable[[int], None]


@dataclass
class Summary:
    """Counts of a job."""

    rows: int = 0
    """Rows answered."""
    skipped: int = 0
    tokens: int = 0
    """Tokens read by the model."""
    truncated: int = 0
    """Texts longer than the model reads."""
    unsure: int = 0
    """Rows whose most probable label is less probable than `min_score`."""
    resumed: int = 0
    """Rows, of those answered, that an earlier job answered."""
    problems: list[str] = field(default_factory=list)
    """The first of the rows skipped."""


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
        labels = self.classifier.labels
        names = ["label", "score", *(["labels"] if self.classifier.config.multi_label else [])]
        names += [f"score:{label}" for label in labels]
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
        self._count_problems(chunk, summary)
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
        top = classifier.task.top(probs)
        scores = probs[np.arange(len(probs)), top]
        sure = scores >= min_score
        summary.unsure += int(np.count_nonzero(~sure))
        labels = [classifier.labels[i] if is_sure else None for i, is_sure in zip(top, sure, strict=True)]
        values: list[Column] = [labels, scores]
        if classifier.config.multi_label:
            values.append([classifier.prediction(row, min_score).labels for row in probs])
        values += [probs[:, i] for i in range(probs.shape[1])]
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
            lambda: (classifier.prediction(row, min_score).line(min_score) for row in probs),
        )

    def _count_problems(self, chunk: Chunk, summary: Summary) -> None:
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


def predict_to_file(job: BulkJob, output: Path, advance: Advance, *, resume: bool, overwrite: bool) -> Summary:
    """Answers every row in a file that appears when all are answered; a pipe or device gets the answers as they come.

    Args:
        resume: go on where an interrupted job stopped.
        overwrite: replace the file and the parts of an interrupted job.

    Raises:
        ConfigError: the output or parts of it exist, and neither is given; or the interrupted job is another one.
        InputError: a file cannot be read, or a row cannot be answered; what was answered before is kept.
    """
    if is_stream(output):
        try:
            stream = open_stream(output)
        except OSError as error:
            problem = f"{output} cannot be written: {error.strerror or error}"
            raise ConfigError(problem, Option("output", "answers.jsonl"), setting=Option("output")) from None
        with stream:
            return predict_to_stream(job, stream, advance)
    parts = _Parts(output, job)
    if output.is_dir():
        raise ConfigError(
            f"{output} is a folder",
            Option("output", output / f"predictions.{job.format.name}"),
            setting=Option("output"),
        )
    if output.exists() and any(output.samefile(table.origin) for table in job.tables if Path(table.origin).exists()):
        raise ConfigError(f"{output} is the input; nothing was changed", "another name", setting=Option("output"))
    check_new(output, overwrite or (resume and parts.exist()), Option("output"))
    if not resume:
        parts.clear(overwrite)
    summary, digest, count = parts.state()
    parts.create()
    chunks = job.chunks(advance)
    read_again = ""
    for _ in range(count):
        read_again = _digest(read_again, next(chunks, Chunk("")))
    if read_again != digest:
        raise ConfigError(
            f"{parts.folder}: rows that were answered before have changed since; nothing was changed",
            (OVERWRITE, " begins again"),
        )
    try:
        for chunk in chunks:
            answers = job.answer(chunk, summary)
            digest = _digest(digest, chunk)
            parts.add(count, answers)
            count += 1
            parts.save(summary, digest, count)
    except InputError as error:
        if not count:
            parts.remove()
            raise
        hint: list[Part] = [
            "correct it and continue with ", RESUME, f": {summary.rows:,} rows are answered in {parts.folder}",
        ]  # fmt: skip
        raise InputError(error.problems, [*hint, "; or ", *error.hint_parts] if error.hint_parts else hint) from None
    if not count:
        # An input without rows gives a file without rows, but with all columns.
        parts.add(count, job.answer(Chunk(""), summary))
        count = 1
    parts.join(output, count)
    return summary


def partial_folder(output: Path) -> Path:
    """Where the answers of a job lie until it is done: beside the file that a link leads to, on the same disk."""
    file = target_of(output) if output.is_symlink() else output
    return file.with_name(f"{file.name}.partial")


class _Parts:
    """The folder of a job that is going on."""

    def __init__(self, output: Path, job: BulkJob) -> None:
        self.folder = partial_folder(output)
        self.job = job
        self.settings = job.settings()

    def exist(self) -> bool:
        return (self.folder / STATE).is_file()

    def clear(self, overwrite: bool) -> None:
        strange = self._strangers()
        if strange:
            raise ConfigError(
                f"{self.folder}: holds {strange[0]!r}, which no prediction left there; nothing was changed",
                Option("output", "another-name"),
            )
        if self.exist() and not overwrite:
            raise ConfigError(
                f"{self.folder}: an interrupted run is there; nothing was changed",
                (RESUME, " continues it, ", OVERWRITE, " begins again"),
            )
        self.remove()

    def _strangers(self) -> list[str]:
        """Files in the folder that are not ours."""
        if self.folder.is_file():
            return [self.folder.name]
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return [name for name in names if not OURS.fullmatch(name)]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot be written: {error.strerror or error}",
                Option("output", "/some/other/file"),
                setting=Option("output"),
            ) from None

    def state(self) -> tuple[Summary, str, int]:
        """The summary of the job that left the folder, the digest of the rows it answered, and its number of parts."""
        if not self.exist():
            return Summary(), "", 0
        value = read_json(self.folder / STATE)
        try:
            for name, default in (("min_score", 0.0), ("escape_formulas", False)):
                value["settings"].setdefault(name, default)  # from before this setting existed
            changed = [name for name, setting in self.settings.items() if value["settings"].get(name) != setting]
            summary, digest, count = Summary(**value["summary"]), str(value["digest"]), int(value["parts"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{self.folder / STATE}: damaged ({error!r})", (OVERWRITE, " begins again")) from None
        if changed:
            before = "; ".join(f"{name} was {value['settings'].get(name)!r}" for name in changed)
            raise ConfigError(
                f"not the same job as in {self.folder}: {before}; nothing was changed",
                (OVERWRITE, " begins again"),
                setting=Option("resume"),
            )
        summary.resumed = summary.rows
        return summary, digest, count

    def add(self, number: int, rows: AnsweredRows) -> None:
        with atomic_path(self._part(number)) as temporary, temporary.open("wb") as file:
            self.job.format.write(rows, file)

    def save(self, summary: Summary, digest: str, count: int) -> None:
        state = {"settings": self.settings, "summary": asdict(summary), "digest": digest, "parts": count}
        write_json(self.folder / STATE, state)

    def join(self, output: Path, count: int) -> None:
        # In the folder, so that a job that is killed now leaves nothing beside the output.
        joined = self.folder / "joined"
        self.job.format.join([self._part(number) for number in range(count)], self.job.output_columns(), joined)
        replace_file(joined, output)
        self.remove()

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.{self.job.format.name}"


def _digest(before: str, chunk: Chunk) -> str:
    """The digest of all rows up to and including this chunk, answered and skipped."""
    digest = hashlib.sha256(before.encode())
    digest.update(repr((chunk.records, chunk.problems)).encode("utf-8", "surrogatepass"))
    for batch in chunk.batches:
        digest.update(batch.serialize())
    return digest.hexdigest()
