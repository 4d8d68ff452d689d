"""`textattn tune`."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from textattn.cli.check import load
from textattn.cli.console import display_width, note, out, out_json, table
from textattn.cli.options import ConfigName, Json, Overrides, Quiet


def tune(  # noqa: PLR0913 (every option of a command is a parameter)
    config: ConfigName,
    overrides: Overrides = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            "-s",
            metavar="FILE",
            help="YAML file with the values to try; default: a space that suits most models.",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            "--trials", "-n", metavar="N", min=1, help="Number of trials in the whole study, including earlier ones."
        ),
    ] = 20,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="MINUTES", min=0, help="Start no new trial after this many minutes."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="DIR", help="Directory of the study; default: runs/<config>-tune.", show_default=False
        ),
    ] = None,
    no_pruning: Annotated[bool, typer.Option("--no-pruning", help="Train every trial to its end.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for settings that score better on the validation split.

    \b
    textattn tune my.yaml --trials 30
    textattn tune my.yaml --space space.yaml training.epochs=3

    \b
    A space names settings, with a range or a list of values each:
      training.learning_rate: {low: 5e-4, high: 1e-2, log: true}
      model.hidden_size: [64, 128, 256]
      model.dropout.words: {low: 0.0, high: 0.3, step: 0.05}

    The same command continues the study in its directory. Start it several times at once and the processes share
    the trials. The test split is never read.

    Prints the file with the best config (with --json all trials) on stdout, everything else on stderr.
    """
    from textattn.config import name_of
    from textattn.config.space import load_space

    resolved = load(config, overrides)
    searched = load_space(space, resolved, overrides or [])
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.runs.signals import Terminated
    from textattn.search.tune import check_installed
    from textattn.search.tune import tune as run_study
    from textattn.training.memory import own_process

    own_process()

    check_installed()

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    note("Searching")
    for parameter in searched:
        note(f"  {parameter.key}: {parameter}")
    found = run_study(
        resolved,
        searched,
        folder or Path("runs") / f"{name_of(config)}-tune",
        trials=trials,
        minutes=timeout,
        pruning=not no_pruning,
        report=ConsoleReport(),
        command=shlex.join(["textattn", *sys.argv[1:]]),
    )
    _note_trials(found)
    if json:
        out_json(found, indent=True)
    elif found["best"] is not None:
        out(found["best"]["config"])


def _note_trials(found: dict[str, Any]) -> None:
    """The table; where it is wider than the terminal, settings stand under their trial."""
    from textattn.config.space import in_yaml
    from textattn.search.study import UNFINISHED
    from textattn.search.tune import in_words

    sign = -1 if found["greater_is_better"] else 1
    trials = sorted(found["trials"], key=lambda t: (t["value"] is None, sign * (t["value"] or 0)))
    keys = list(dict.fromkeys(key for trial in trials for key in trial["parameters"]))
    rows = [
        [
            str(trial["trial"]),
            "–" if trial["value"] is None else f"{trial['value']:.4f}",
            trial["state"],
            "–" if trial["seconds"] is None else f"{trial['seconds']:.1f}",
        ]
        for trial in trials
    ]
    settings = [
        [in_yaml(trial["parameters"][key]) if key in trial["parameters"] else "–" for key in keys] for trial in trials
    ]
    header = ["trial", found["metric"], "state", "seconds"]
    lines = table([row + own for row, own in zip(rows, settings, strict=True)], header + _short(keys))
    width = shutil.get_terminal_size().columns
    note("")
    if max(map(display_width, lines), default=0) <= width:
        for line in lines:
            note(line)
    else:
        head, *narrow = table(rows, header)
        note(head)
        for line, trial in zip(narrow, trials, strict=True):
            note(line)
            for part in textwrap.wrap(in_words(trial["parameters"]), max(width - 7, 20), break_long_words=False):
                note(f"       {part}")
    note("")
    unfinished = [trial for trial in trials if trial["state"] in UNFINISHED]
    for state in UNFINISHED:
        numbers = ", ".join(str(trial["trial"]) for trial in unfinished if trial["state"] == state)
        if numbers:
            note(f"{state}{' in another process' if state == 'running' else ''}: {numbers}")
    best = found["best"]
    if best is not None:
        note(f"Best: trial {best['trial']}, validation {found['metric']} {best['value']:.4f}. To train and test it:")
        note(f"  textattn train {shlex.quote(best['config'])}")


def _short(keys: list[str]) -> list[str]:
    """Dotted keys without their first section, where that tells them apart."""
    short = [key.partition(".")[2] for key in keys]
    return short if len(set(short)) == len(keys) else keys
