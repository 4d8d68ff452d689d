"""`textattn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from textattn.cli import completion
from textattn.cli.answers import open_model
from textattn.cli.console import note, out, out_json
from textattn.cli.options import Json, Quiet
from textattn.errors import ConfigError, Option


def report(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Run directory; default: the newest finished run.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", metavar="COLUMN", help="Also show each value of this column of the data; may be repeated."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="test or validation; default: test if there is one."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write the page; default: report.html of the run."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace the file of --output.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a run as one HTML page.

    \b
    textattn report
    textattn report runs/tickets --by product --by language
    textattn report --json

    The page shows how good the model is beside simpler ones, what it confuses, from which score on it may answer alone,
    its surest errors with their highlighted words, labels that may be wrong, the words of each label and how it is on
    parts of the data. Every run writes it when it finishes (output.report).

    Prints the path of the page. --json prints the numbers instead, with the thresholds, and writes a page only to
    --output.
    """
    if overwrite and output is None:
        raise ConfigError("--overwrite needs --output", Option("output", "report.html"))
    if output is not None:
        from textattn.storage.files import check_new

        check_new(output, overwrite, Option("output"))
    classifier = open_model(run)
    from textattn.cli.pages import write_report
    from textattn.pages.gather import as_json
    from textattn.pages.stored import stored_report

    found = stored_report(classifier, by or [], split)
    written = None if json and output is None else write_report(output, classifier, found)
    if json:
        out_json(as_json(found), indent=True)
        if written is not None:
            note(f"Written: {written}")
    else:
        out(str(written))
