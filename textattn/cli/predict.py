"""`textattn predict`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli.answers import Counts, check_arguments, open_model, print_predictions
from textattn.cli.console import note, out_bytes, out_json
from textattn.cli.options import Device, Json, Model, Quiet, Runtime, Texts
from textattn.errors import ConfigError, InputError, Option

if TYPE_CHECKING:
    from textattn.data.formats import Format
    from textattn.data.table import Table
    from textattn.inference.bulk import BulkJob
    from textattn.inference.classifier import Classifier
    from textattn.inference.partial import Summary
    from textattn.inference.ray_engine import RayEngine


def predict(  # noqa: PLR0913 (every option of a command is a parameter)
    context: typer.Context,
    texts: Texts = None,
    model: Model = None,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="File with one text per line (txt) or a table (csv, parquet, …); '*.csv'; s3://…; - for stdin.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the rows with their answers to FILE, or s3://…; - for stdout."
        ),
    ] = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text-column", metavar="NAME", help="Column of --input; default: as in training."),
    ] = None,
    input_format: Annotated[
        str | None, typer.Option("--input-format", metavar="FORMAT", help="Default: by the suffix; txt for stdin.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("--output-format", metavar="FORMAT", help="Default: by the suffix; jsonl for stdout.")
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--encoding", metavar="NAME", help="Encoding of txt, csv and similar files; default: recognised."),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter", metavar="CHAR", help="Between the cells of csv files, or the word tab; default: recognised."
        ),
    ] = None,
    quoting: Annotated[
        str | None,
        typer.Option("--quoting", metavar="minimal|none", help="Quotation marks in csv files; default: recognised."),
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Csv files without a header: the columns are column_1, column_2, …")
    ] = False,
    escape_formulas: Annotated[
        bool,
        typer.Option(
            "--escape-formulas", help="In csv and tsv, put ' in front of cells that a spreadsheet takes for formulas."
        ),
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Add the tokens with their positions, weights and contributions.")
    ] = False,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            metavar="stop|skip",
            help="What to do with a row that has no text. skip: leave it out; without --output, print ? for it.",
        ),
    ] = "stop",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted --output.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace the file of --output.")] = False,
    top_k: Annotated[int, typer.Option("--top-k", "-k", metavar="K", min=1, help="The K most probable labels.")] = 1,
    min_score: Annotated[
        float,
        typer.Option(
            "--min-score", metavar="P", min=0.0, max=1.0, help="Give only labels with at least this probability."
        ),
    ] = 0.0,
    most_useful: Annotated[
        int | None,
        typer.Option(
            "--most-useful", metavar="N", min=1, help="Of --input, only the N rows that are most worth a label."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="local|ray", help="ray: answer --input on the machines of a Ray cluster.")
    ] = "local",
    json: Json = False,
    device: Device = "cpu",
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Label texts.

    \b
    textattn predict "Delicious food, friendly staff." "The soup was cold."
    textattn predict < reviews.txt
    textattn predict --input reviews.csv --output answers.parquet

    Prints one line per text, in order: label, tab, score. With --output, the rows of the input are written with three
    kinds of new columns: label, score and the score of every label. --resume continues an interrupted job.

    --most-useful 100 chooses the rows of the input to label next: the model is unsure of them, and they are unlike one
    another and unlike the training data. Without --output, each is a line: label, score, text.

    With --min-score 0.8, a text whose best label scores less gets no label: ? on stdout, null in JSON and parquet.
    """
    from textattn.cli.texts import input_files, open_tables, read_texts, require_texts

    for name, value in (("--input-format", input_format), ("--output-format", output_format)):
        if value is not None:
            _check_format(name, value)
    if on_error not in ("stop", "skip"):
        raise ConfigError(
            f"must be stop or skip, got {on_error!r}", Option("on_error", "skip"), setting=Option("on_error")
        )
    if quoting not in (None, "minimal", "none"):
        raise ConfigError(
            f"must be minimal or none, got {quoting!r}", Option("quoting", "none"), setting=Option("quoting")
        )
    if delimiter not in (None, "tab") and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ConfigError(
            f"must be one character or tab, got {delimiter!r}", Option("delimiter", ";"), setting=Option("delimiter")
        )
    if engine not in ("local", "ray"):
        raise ConfigError(f"must be local or ray, got {engine!r}", Option("engine", "ray"), setting=Option("engine"))
    if input and texts:
        raise ConfigError("give either texts or --input, not both")
    if output is None:
        for name, given in (
            ("--output-format", output_format), ("--attention", attention), ("--resume", resume),
            ("--overwrite", overwrite), ("--escape-formulas", escape_formulas),
        ):  # fmt: skip
            if given:
                raise ConfigError(f"{name} needs --output", Option("output", "answers.jsonl"))
    if output is not None and top_k != 1:
        raise ConfigError("--top-k is for answers that are printed; --output holds the score of every label")
    if min_score and top_k != 1:
        raise ConfigError("--top-k lists labels whatever their probability, --min-score leaves out", "one of the two")
    if most_useful is not None:
        _check_most_useful(texts, resume=resume, top_k=top_k, min_score=min_score)
    if output is not None and texts and list(texts) != ["-"]:
        raise ConfigError("--output needs --input", Option("input", "reviews.csv"))
    if engine == "ray":
        _check_ray(input, output, resume=resume, others={"most_useful": most_useful is not None})
    require_texts(context, texts or input or [])
    skip = on_error == "skip"
    check_arguments(texts or [], skip=skip)
    files = input_files(input or ["-"])
    if output is None and most_useful is None and (texts or (files == ["-"] and input_format in (None, "txt"))):
        # Answered as they come.
        classifier = open_model(model, device, runtime)
        _check_labels(classifier, top_k, min_score)
        groups = read_texts(texts or [], lambda problem: _on_empty(problem, skip))
        print_predictions(classifier, groups, top_k=top_k, min_score=min_score, json=json)
        return
    from textattn.data.formats import ReadOptions
    from textattn.inference.bulk import BulkJob, BulkOptions

    delimiter = "\t" if delimiter == "tab" else delimiter
    reading = ReadOptions(encoding, delimiter, quoting, header=not no_header)
    destination = _Destination(output or "-", resume=resume, overwrite=overwrite)
    with open_tables(files, input_format, reading) as tables:
        classifier = open_model(model, device, runtime)
        _check_labels(classifier, top_k, min_score)
        columns = text_column or classifier.config.text_columns
        if not text_column and all(table.columns == ["text"] for table in tables):
            columns = ["text"]
        if output is None and most_useful is None:
            texts_of_tables = _texts_of(tables, columns, skip)
            print_predictions(classifier, texts_of_tables, top_k=top_k, min_score=min_score, json=json)
            return
        kind = _output_format(output or "-", output_format)
        if escape_formulas:
            kind = _escaping_formulas(kind)
        job = BulkJob(classifier, tables, columns, kind, BulkOptions(attention, skip, min_score))
        if most_useful is not None:
            from textattn.cli.most_useful import print_most_useful

            if output is None:
                print_most_useful(job, most_useful, None, json=json)
                return
            with destination.written() as path:
                print_most_useful(job, most_useful, path, overwrite=overwrite, json=json)
            return
        assert output is not None
        if _is_stream(output) and resume:
            raise ConfigError("--resume needs a file that was written to", Option("output", "answers.jsonl"))
        cluster = None
        if engine == "ray":
            from textattn.inference.ray_engine import RayEngine

            cluster = RayEngine(files, input_format, reading, runtime)
        _write(job, destination, cluster, resume=resume, overwrite=overwrite, json=json)


class _Destination:
    """Where --output leads: a file or a stream of this machine, or a remote file that is sent at the end."""

    def __init__(self, name: str, *, resume: bool, overwrite: bool) -> None:
        from textattn.storage.remote import RemoteOutput, is_remote

        self.name = name
        self._remote = RemoteOutput(name) if is_remote(name) else None
        if self._remote is not None:
            from textattn.inference.partial import partial_folder

            self._remote.check_new(overwrite or (resume and partial_folder(self._remote.local).is_dir()))

    @contextmanager
    def written(self) -> Iterator[str]:
        """The path that the block writes to; a remote file is sent afterwards."""
        if self._remote is None:
            yield self.name
            return
        with self._remote.written() as local:
            yield str(local)


def _check_ray(inputs: list[str] | None, output: str | None, *, resume: bool, others: dict[str, bool]) -> None:
    """Raises ConfigError for what does not go with --engine ray, MissingExtra where Ray is not installed."""
    if not inputs or "-" in inputs:
        raise ConfigError("--engine ray needs files", Option("input", "reviews.csv"))
    if output is None or _is_stream(output):
        raise ConfigError("--engine ray needs a file to write to", Option("output", "answers.parquet"))
    for name, given in (("resume", resume), *others.items()):
        if given:
            shown = Option(name).render(command_line=True)
            raise ConfigError(f"--engine ray does not go with {shown}", Option("engine", "local"))
    from textattn.inference.ray_engine import check_ray

    check_ray()


def _check_most_useful(texts: list[str] | None, *, resume: bool, top_k: int, min_score: float) -> None:
    if texts and list(texts) != ["-"]:
        raise ConfigError("--most-useful needs --input", Option("input", "pool.csv"))
    for name, given in (("--resume", resume), ("--top-k", top_k != 1), ("--min-score", min_score != 0)):
        if given:
            raise ConfigError(f"--most-useful does not go with {name}", "one of the two")


def _check_labels(classifier: Classifier, top_k: int, min_score: float) -> None:
    """Raises ConfigError for an option that is about labels where the model predicts a number."""
    if classifier.config.target is None:
        return
    for name, is_given in (("top_k", top_k != 1), ("min_score", min_score > 0)):
        if is_given:
            raise ConfigError("is about labels, but the model predicts a number", "leave it out", setting=Option(name))


def _on_empty(problem: InputError, skip: bool) -> None:
    """Says that an empty line has no answer; raises the problem where it is not to be skipped."""
    if not skip:
        raise InputError(problem.problems, Option("on_error", "skip"))
    note(f"{problem.message}; skipped", "Warning")


def _check_format(option: str, name: str) -> None:
    from textattn.data.formats import all_formats

    names = [kind.name for kind in all_formats()]
    if name not in names:
        raise ConfigError(f"{option}: must be one of {', '.join(names)}, got {name!r}", f"{option} csv")


def _output_format(output: str, name: str | None) -> Format:
    from textattn.data.formats import all_formats, format_named, format_of

    default = format_named("jsonl") if output == "-" else format_of(output)
    kind = format_named(name) if name else default
    if kind is None:
        suffixes = ", ".join(suffix for kind in all_formats() for suffix in kind.suffixes)
        raise ConfigError(
            f"{output} has none of the suffixes {suffixes}", Option("output_format", "jsonl"), setting=Option("output")
        )
    if _is_stream(output) and not kind.streams:
        raise ConfigError(f"--output {output}: {kind.name} needs a file", f"--output answers{kind.suffixes[0]}")
    return kind


def _escaping_formulas(kind: Format) -> Format:
    escaping = kind.escaping_formulas()
    if escaping is None:
        raise ConfigError(
            f"{kind.name} has no cells that a spreadsheet would take for formulas",
            Option("output_format", "csv"),
            setting=Option("escape_formulas"),
        )
    return escaping


def _is_stream(output: str) -> bool:
    from textattn.storage.files import is_stream

    return output == "-" or is_stream(Path(output))


def _texts_of(tables: list[Table], columns: list[str], skip: bool) -> Iterator[list[str]]:
    """The texts of tables, chunk by chunk; an empty one in the place of a row that cannot be answered.

    Raises:
        InputError: a row cannot be answered and is not to be skipped.
    """
    from textattn.data.chunks import read_chunks

    for table in tables:
        for chunk in read_chunks(table, columns):
            if chunk.problems and not skip:
                # The rows before the one that ends the job are answered.
                yield chunk.texts[: chunk.places[0]]
                raise InputError(str(chunk.problems[0]), Option("on_error", "skip"))
            for problem in chunk.problems:
                note(f"{problem}; skipped", "Warning")
            texts = list(chunk.texts)
            for place in reversed(chunk.places):
                texts.insert(place, "")
            yield texts


def _write(
    job: BulkJob, destination: _Destination, cluster: RayEngine | None, *, resume: bool, overwrite: bool, json: bool
) -> None:
    from textattn.cli.progress import ConsoleReport
    from textattn.inference.bulk import Writing, predict_to_file, predict_to_stream
    from textattn.inference.partial import partial_folder

    report = ConsoleReport()
    started = time.monotonic()
    total = sum(table.size() for table in job.tables if table.size is not None)
    with destination.written() as output, report.progress("Predicting", total, "rows") as advance:
        if output == "-":
            summary = predict_to_stream(job, out_bytes(), advance)
        else:
            writing = Writing(resume, overwrite, report.note, cluster)
            try:
                summary = predict_to_file(job, Path(output), advance, writing)
            except KeyboardInterrupt:
                kept = partial_folder(Path(output))
                if cluster is None and not _is_stream(output) and kept.is_dir():
                    note(f"Interrupted; what is answered is kept in {kept}, and --resume goes on from there")
                raise
    _summarise(job, summary, destination.name, time.monotonic() - started, json)


def _summarise(job: BulkJob, summary: Summary, output: str, seconds: float, json: bool) -> None:
    for problem in summary.problems:
        note(f"{problem}; skipped", "Warning")
    if summary.skipped > len(summary.problems):
        note(f"… and {summary.skipped - len(summary.problems):,} more", "Warning")
    resumed = f", {summary.resumed:,} of them before" if summary.resumed else ""
    skipped = f", {summary.skipped:,} skipped" if summary.skipped else ""
    where = "" if output == "-" else f": {output}"
    Counts(summary.rows, summary.truncated, summary.unsure, summary.unreadable, summary.unknown).note(
        job.classifier, job.options.min_score
    )
    note(f"{summary.rows:,} row{'s' * (summary.rows != 1)} answered{resumed}{skipped} in {seconds:.1f} s{where}")
    if json and output != "-":
        out_json(
            {"output": output, "rows": summary.rows, "skipped": summary.skipped, "truncated": summary.truncated}
            | {"unsure": summary.unsure, "unreadable": summary.unreadable, "unknown": summary.unknown}
            | {"tokens": summary.tokens, "resumed": summary.resumed, "seconds": seconds},
            indent=True,
        )
