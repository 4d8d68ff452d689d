"""`textattn train`."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from textattn.cli.check import check, load
from textattn.cli.console import note, out, out_json
from textattn.cli.options import ConfigName, Json, Overrides, Quiet
from textattn.errors import ConfigError


def train(
    config: ConfigName,
    overrides: Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an earlier run in output.dir.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", "-r", help="Go on with the run in output.dir, or with the newest of the config.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check everything and train nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model as a config says.

    \b
    textattn train quickstart
    textattn train my.yaml data.path=reviews.csv training.epochs=2

    A run that was stopped or killed goes on with the same command and --resume, and ends with the same bytes as if it
    had never been stopped.

    Prints the run directory (with --json the metrics) on stdout; progress goes to stderr.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on with a run, --overwrite replaces it", "one of the two")
    if dry_run:
        return check(config, overrides, json, quiet)
    resolved = load(config, overrides)
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.pipeline import train as run_training
    from textattn.signals import Interrupted, Terminated

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    name = "stdin" if config == "-" else Path(config).stem
    command = shlex.join(["textattn", *sys.argv[1:]])
    try:
        run = run_training(
            resolved, name=name, overwrite=overwrite, resume=resume, report=ConsoleReport(), command=command
        )
    except (KeyboardInterrupt, Terminated) as stop:
        hint = "the same command again, with --overwrite where output.dir is given"
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        raise Interrupted(number, "interrupted before the run was complete", hint) from None
    if json:
        from textattn.run import METRICS, read_json

        out_json({"run": str(run)} | read_json(run / METRICS), indent=True)
    else:
        out(str(run))
