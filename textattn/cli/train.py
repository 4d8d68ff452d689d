"""`textattn train`."""

from __future__ import annotations

import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import Json, Quiet, note, out, out_json

if TYPE_CHECKING:
    from textattn.config import Config


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, `-` for stdin, or the name of a shipped config.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace those of the config.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an earlier run in output.dir.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check everything and train nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model: `textattn train quickstart`, `textattn train my.yaml training.epochs=2 data.path=reviews.csv`.

    Prints the run directory (with --json the metrics) on stdout; progress goes to stderr.
    """
    if dry_run:
        from textattn.cli.check import check

        return check(config, overrides, json, quiet)
    resolved = load(config, overrides)
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.pipeline import Terminated
    from textattn.pipeline import train as run_training

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    name = "stdin" if config == "-" else Path(config).stem
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        run = run_training(resolved, name=name, overwrite=overwrite, report=ConsoleReport(), command=command)
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    if json:
        from textattn.run import METRICS, read_json

        out_json({"run": str(run)} | read_json(run / METRICS), indent=True)
    else:
        out(str(run))


def load(config: str, overrides: list[str] | None) -> Config:
    """The resolved config; warnings go to stderr as plain lines."""
    from textattn.config import load_config

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolved = load_config(config, overrides or [])
    for warning in caught:
        note(str(warning.message), "Warning")
    return resolved
