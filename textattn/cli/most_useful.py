"""The rows of a pool that are most worth a label, chosen for `predict` and printed or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textattn.cli.answers import Counts
from textattn.cli.console import flush, note, out, out_bytes, out_json
from textattn.cli.progress import ConsoleReport
from textattn.inference.as_json import as_json
from textattn.inference.chosen_rows import check_output, choose_rows, write_rows
from textattn.inference.most_useful import UsefulText, labelled_or_note
from textattn.inference.partial import Summary
from textattn.inference.visible import one_line

if TYPE_CHECKING:
    from textattn.inference.bulk import BulkJob


def print_most_useful(
    job: BulkJob, number: int, output: str | None, *, overwrite: bool = False, json: bool = False
) -> None:
    """Choose rows and write them to a file or stream, or print a line for each: label, score and text."""
    if output not in (None, "-"):
        check_output(job, Path(output), overwrite)
    report = ConsoleReport()
    labelled, problem = labelled_or_note(job.classifier)
    if problem is not None:
        note(problem, "Note")
    summary = Summary()
    total = sum(table.size() for table in job.tables if table.size is not None)
    with report.progress("Choosing", total, "rows") as advance:
        chosen = choose_rows(job, number, labelled, summary, advance)
    for skipped in summary.problems:
        note(f"{skipped}; skipped", "Warning")
    if summary.skipped > len(summary.problems):
        note(f"… and {summary.skipped - len(summary.problems):,} more", "Warning")
    if output is None:
        _print(job, chosen, json)
    else:
        # The rows that have no text were counted when they were chosen from.
        written = Summary()
        write_rows(job, chosen, out_bytes() if output == "-" else Path(output), written)
        Counts(written.rows, written.truncated, written.unsure, written.unreadable, written.unknown).note(
            job.classifier, job.options.min_score
        )
    if len(chosen) < number:
        note(f"there are only {len(chosen):,} different texts that are not labelled", "Note")
    where = "" if output in (None, "-") else f": {output}"
    note(f"{len(chosen):,} row{'s' * (len(chosen) != 1)} chosen, the most useful first{where}")


def _print(job: BulkJob, chosen: list[UsefulText], json: bool) -> None:
    predictions = job.classifier.predict([found.text for found in chosen]) if chosen else []
    for found, prediction in zip(chosen, predictions, strict=True):
        if json:
            distance = found.distance if found.distance < float("inf") else None
            answer = as_json(prediction, 1, job.classifier.config.multi_label)
            out_json(answer | {"uncertainty": found.uncertainty, "distance": distance, "text": found.text})
        else:
            out(f"{prediction.line()}\t{one_line(found.text)}")
    flush()
