"""`textattn train`."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from textattn.cli.check import check, load
from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import ConfigName, Json, LinearOnly, Overrides, Quiet, naming_linear_only, with_linear_only
from textattn.errors import ConfigError, Elsewhere, TextattnError, shell_command
from textattn.training.processes import local_rank_of_process, rank_of_process


def train(  # noqa: PLR0913 (every option of a command is a parameter)
    config: ConfigName,
    overrides: Overrides = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Go on from a finished model: a run directory, a bundle with weights or hf://user/name.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an earlier run in output.dir.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", "-r", help="Continue the run in output.dir, or the newest run of the config.")
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", min=1, metavar="N", help="Train N times: with the config's seed and the ones after it."
        ),
    ] = 1,
    linear_only: LinearOnly = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check everything without training.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model as a config says.

    \b
    textattn train quickstart
    textattn train my.yaml data.path=reviews.csv training.epochs=2

    --from goes on from a finished model with new rows or new labels. It keeps its labels, and the rows it was trained
    on are replayed where they can still be read; settings of the model come from it.

    \b
    textattn train more.csv --from runs/my/2026-01-31T10-04-05

    To continue a run that was stopped or killed, give the same command with --resume. It ends with the same bytes
    as if it had never been stopped.

    --seeds 5 trains five runs, in seed-… folders of one directory, and reports the mean, standard deviation and 95 %
    interval of their metrics.

    --linear-only keeps the linear model on n-grams alone. It is trained in seconds, and every other command works on
    it; a run whose network adds nothing to its linear model says so at its end.

    torchrun starts several processes, on one machine or several, that train one model together:

    \b
    torchrun --nproc-per-node 2 -m textattn train my.yaml

    Prints the run directory (with --json the metrics) on stdout; progress goes to stderr.
    """
    is_first = rank_of_process() == 0
    if start is not None:
        overrides = [*(overrides or []), f"start.model={start}"]
    if resume and overwrite:
        raise ConfigError("--resume goes on with a run, --overwrite replaces it", "one of the two")
    if dry_run:
        return check(config, overrides, linear_only=linear_only, json=json, quiet=quiet) if is_first else None
    overrides = with_linear_only(overrides, linear_only)
    try:
        resolved = load(config, overrides)
    except TextattnError as error:
        # The same in every process of a machine.
        raise error if local_rank_of_process() == 0 else Elsewhere(error.exit_code) from None
    if is_first:
        note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.config import name_of
    from textattn.runs.signals import Interrupted, Terminated
    from textattn.runs.train import train as run_training
    from textattn.training.memory import own_process

    own_process()

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    command = shlex.join(["textattn", *sys.argv[1:]])
    how: dict[str, Any] = {
        "name": name_of(config), "overwrite": overwrite, "resume": resume, "report": ConsoleReport(), "command": command
    }  # fmt: skip
    summary = None
    try:
        with naming_linear_only(linear_only):
            if seeds > 1:
                from textattn.runs.seeds import train_seeds

                run, summary = train_seeds(resolved, seeds, **how)
            else:
                run = run_training(resolved, **how)
    except (KeyboardInterrupt, Terminated) as stop:
        hint = "the same command again, with --overwrite where output.dir is given"
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        if not is_first:
            raise Elsewhere(128 + number) from None
        raise Interrupted(number, "interrupted before the run was complete", hint) from None
    if not is_first:
        return
    if resolved.start.model is not None:
        _note_comparison(resolved.start.model, run)
    elif summary is None and config != "-" and resolved.model.linear != "only":
        _note_linear(config, overrides, run)
    if summary is not None and json:
        out_json({"run": str(run)} | summary, indent=True)
    elif summary is not None:
        _note_seeds(summary)
        out(str(run))
    elif json:
        from textattn.storage.run_dir import RunDir

        out_json({"run": str(run)} | RunDir(run).metrics(), indent=True)
    else:
        out(str(run))


def _note_comparison(start: str, run: Path) -> None:
    from textattn.storage.run_dir import RunDir

    newest = run if RunDir(run).is_run() else min(run.glob("seed-*"), default=run)
    note("To see what was won, and what was forgotten:")
    note(shell_command("  textattn compare {} {}", start, newest))


def _note_linear(config: str, overrides: list[str], run: Path) -> None:
    """Says how to train the linear model alone, if the network added nothing to it."""
    from textattn.storage.run_dir import RunDir

    metrics = RunDir(run).metrics()
    if "linear" not in metrics or metrics["best"]["best_global_step"] > 0:
        return
    others = [one for one in overrides if one.partition("=")[0] not in ("model.linear", "output.dir")]
    # The directory of this run is taken.
    alone = [config, *others, "--linear-only", f"output.dir={run}-linear"]
    note("The linear model alone is as good, and takes seconds:")
    note(f"  {shlex.join(['textattn', 'train', *alone])}")


def _note_seeds(summary: dict[str, Any]) -> None:
    for split in ("cross_validation", "validation", "test"):
        rows = [
            (
                metric,
                f"{found['mean']:.4f}",
                f"{found['std']:.4f}",
                "{:.4f} to {:.4f}".format(*found["interval_95"]),
                " ".join(f"{value:.4f}" for value in found["values"]),
            )
            for metric, found in summary.get(split, {}).items()
        ]
        if rows:
            note("")
        for line in table(rows, (split, "mean", "std", "95 % interval", "each seed")) if rows else []:
            note(line)
