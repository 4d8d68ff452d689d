"""`textattn runs`: list, remove and name runs, and find the best one."""

from __future__ import annotations

import shlex
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli import completion
from textattn.cli.console import display_width, note, out, out_json, out_wrapped, table, terminal_width
from textattn.cli.options import Json, Quiet
from textattn.errors import ConfigError, InputError, Option, shell_command

if TYPE_CHECKING:
    from textattn.storage.run_list import ListedRun

app = typer.Typer(
    help="List, remove and name runs, and find the best one.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of runs.")]
All = Annotated[bool, typer.Option("--all", help="Also the trials of searches.")]
YES = Option("yes", flag=True)
SPLITS = ("test", "validation", "cross_validation", "train")
AGES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


@app.command("ls")
def ls(folder: Folder = Path("runs"), all: All = False, json: Json = False, quiet: Quiet = False) -> None:
    """List the runs, the newest first.

    \b
    textattn runs ls
    textattn runs ls experiments --json

    The figure is the headline metric on the test split, or else on the validation split or in cross-validation. Runs
    that are being trained and unfinished ones are marked.
    """
    from textattn.storage.run_list import list_runs

    found = list_runs(folder, with_trials=all)
    if json:
        out_json([_facts(run) for run in found], indent=True)
        return
    rows = [
        (str(run.path), ", ".join(run.aliases), run.data or "?", _figure(run), _megabytes(run.size), _age(run.changed))
        for run in found
    ]
    lines, width = table(rows, ("run", "alias", "data", "figure", "size", "age")), terminal_width()
    if width is None or max(map(display_width, lines)) <= width:
        for line in lines:
            out(line)
    else:  # a run takes two lines or three
        for path, aliases, data, *facts in rows:
            out(f"{path} ({aliases})" if aliases else path)
            out_wrapped(f"  {', '.join(facts)}, {data}", "  ")
    if not found:
        note(f"there is no run in {folder}")


@app.command("rm")
def rm(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Run directories or aliases.", autocompletion=completion.runs)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Quiet = False,
) -> None:
    """Delete runs, after a word on what is lost.

    \b
    textattn runs rm runs/imdb/2026-03-01T10-20-30
    textattn runs rm old --yes

    Only the files of a run are deleted; other files that lie in its directory stay. A run that a process is writing to
    is refused. Nothing is deleted before all RUNs have been checked.
    """
    from textattn.storage import run_folder
    from textattn.storage.aliases import forget_run
    from textattn.storage.run_dir import RunDir
    from textattn.storage.run_list import describe

    found = [describe(path) for path in dict.fromkeys(map(_own_run, runs))]
    for run in found:
        note(f"{run.path}: {_figure(run)}, trained on {run.data or 'unknown data'}, {_megabytes(run.size)}")
    _confirm(found, yes)
    for run in found:
        names = forget_run(run.path)
        try:
            others = run_folder.remove(RunDir(run.path))
        except OSError as error:
            raise InputError(f"cannot be removed completely ({error.strerror or error})", place=str(run.path)) from None
        note(f"deleted {run.path}" + (f" and its alias {', '.join(names)}" if names else ""))
        if others:
            shown = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
            note(f"{run.path} stays, because it also contains files that are not of the run: {shown}")


@app.command("name")
def name(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Run directory; with --remove, the alias.", autocompletion=completion.runs),
    ],
    alias: Annotated[str | None, typer.Argument(metavar="ALIAS", help="The name.", show_default=False)] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove an alias; the run stays.")] = False,
    quiet: Quiet = False,
) -> None:
    """Give a run a short name.

    \b
    textattn runs name runs/imdb/2026-03-01T10-20-30 best
    textattn predict --model best "Delicious food, friendly staff."
    textattn runs name --remove best

    Aliases are kept in runs/aliases.json. A name that could be a path or a name on the Hub is refused.
    """
    from textattn.storage.aliases import check_name, give_alias, remove_alias

    if remove:
        if alias is not None:
            raise ConfigError("--remove takes the alias only", shell_command("textattn runs name --remove {}", alias))
        note(f"{run} was {remove_alias(run)}, which stays")
        return
    if alias is None:
        raise ConfigError("no alias is given", shell_command("textattn runs name {} best", run))
    check_name(alias)
    path = _own_run(run)
    before = give_alias(alias, path)
    was = f"; before, it was {before}" if before is not None and before != path else ""
    note(f"{alias} is {path} now{was}")


@app.command("best")
def best(
    folder: Folder = Path("runs"),
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="Default: the headline metric of the runs.", show_default=False),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Split that the metric was measured on.")
    ] = "validation",
    all: All = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the directory of the run with the best figure.

    \b
    textattn runs best --metric macro_f1
    textattn predict --model "$(textattn runs best)" "Delicious food, friendly staff."

    The default split is validation: a test split that chooses the model no longer says how good it is. Figures on
    different data cannot be compared, so a warning says if the data of the runs differ.
    """
    from textattn.storage.run_list import list_runs

    if split not in SPLITS:
        raise ConfigError(
            f"must be {', '.join(SPLITS)}, got {split!r}", Option("split", "validation"), setting=Option("split")
        )
    finished = [run for run in list_runs(folder, with_trials=all) if run.is_finished]
    if not finished:
        raise InputError("there is no finished run", "textattn train quickstart", place=str(folder))
    metric = metric or _headline(finished, split)
    measured = {run.path: value for run in finished if (value := run.value(metric, split)) is not None}
    if not measured:
        raise ConfigError(*_unmeasured(finished, metric, split), setting=Option("metric"))
    sign = -1 if _lower_is_better(metric) else 1
    # Of equal ones the newest, which is listed first.
    winner = max((run for run in finished if run.path in measured), key=lambda run: sign * measured[run.path])
    compared = [run for run in finished if run.path in measured]
    _warn_of_different_data(compared, winner, split)
    if json:
        facts = {"metric": metric, "split": split, "value": measured[winner.path], "num_runs": len(compared)}
        out_json(_facts(winner) | facts, indent=True)
        return
    out(str(winner.path))
    plural = "s" if len(compared) > 1 else ""
    note(f"{metric} {measured[winner.path]:.4f} on {split}, of {len(compared)} run{plural}")


def _own_run(name: str) -> Path:
    """The directory of a run that a user named.

    Raises:
        InputError: it is not the directory of a run.
        ConfigError: a process is writing to it.
    """
    from textattn.storage.aliases import find_alias
    from textattn.storage.find_model import newest_run
    from textattn.storage.locks import holder
    from textattn.storage.run_dir import RunDir

    path = find_alias(name) or Path(name)
    if not path.is_dir():
        known = "is gone" if path != Path(name) else "no such folder"
        raise InputError(known, "textattn runs ls", place=str(path))
    if RunDir(path.absolute().parent).is_run():
        raise InputError("a part of the run above it", "textattn runs ls", place=str(path))
    if not RunDir(path).is_run():
        inside = newest_run(path)
        if inside is not None:
            raise InputError("not a run, but a folder of runs", shell_command("textattn runs ls {}", path), place=name)
        raise InputError("not the directory of a run; nothing was changed", "textattn runs ls", place=name)
    if (owner := holder(path)) is not None:
        raise ConfigError(f"{path} is being {owner.doing} by {owner}; nothing was changed", "wait until it has ended")
    return path


def _confirm(runs: list[ListedRun], yes: bool) -> None:
    """Asks whether the runs may be deleted.

    Raises:
        ConfigError: nobody can be asked.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    what = "this run" if len(runs) == 1 else f"these {len(runs)} runs"
    if not sys.stdin.isatty():
        names = " ".join(shlex.quote(str(run.path)) for run in runs)
        raise ConfigError(
            f"nobody can be asked whether {what} may be deleted; nothing was changed", f"textattn runs rm {names} --yes"
        )
    if not typer.confirm(f"Delete {what}? This cannot be undone.", err=True):
        note("nothing was changed")
        raise typer.Exit(1)


def _headline(runs: list[ListedRun], split: str) -> str:
    """The metric that is the headline of all runs.

    Raises:
        ConfigError: they have several.
    """
    names = [str(run.metrics[split]["headline"]) for run in runs if isinstance(run.metrics.get(split), dict)]
    found = sorted(set(names))
    if len(found) > 1:
        raise ConfigError(
            f"the runs have several headline metrics: {', '.join(found)}",
            Option("metric", max(found, key=names.count)),
            setting=Option("metric"),
        )
    return found[0] if found else "accuracy"


def _unmeasured(runs: list[ListedRun], metric: str, split: str) -> tuple[str, Any]:
    """The message that no run has a metric on a split, with the hint."""
    splits = [name for name in SPLITS if any(isinstance(run.metrics.get(name), dict) for run in runs)]
    if split not in splits:
        hint = Option("split", splits[0]) if splits else None
        return f"no run was measured on {split}", hint
    known = sorted({name for run in runs for name in run.metrics.get(split, {}) if run.value(name, split) is not None})
    near = get_close_matches(metric, known, n=1)
    return f"no run has {metric!r} on {split}", Option("metric", near[0] if near else "accuracy")


def _lower_is_better(metric: str) -> bool:
    from textattn.cli.evaluate import LOSSES

    return metric in LOSSES or metric.startswith(("num_", "ece"))


def _warn_of_different_data(runs: list[ListedRun], winner: ListedRun, split: str) -> None:
    """Warns if the figures were measured on different texts; cross-validation measures on the training split."""
    texts = "train" if split == "cross_validation" else split
    own = winner.data_hashes.get(texts)
    others = [run for run in runs if run.data_hashes.get(texts) != own]
    if others:
        note(
            f"{len(others)} of {len(runs)} runs were measured on other data than {winner.path} "
            f"({winner.data or 'unknown'}), such as {others[0].path} ({others[0].data or 'unknown'}); "
            "their figures cannot be compared",
            "Warning",
        )


def _facts(run: ListedRun) -> dict[str, Any]:
    from datetime import datetime, timezone

    headline = run.headline()
    when = datetime.fromtimestamp(run.changed, timezone.utc).isoformat(timespec="seconds")
    return {
        "path": str(run.path),
        "aliases": run.aliases,
        "state": run.state,
        "data": run.data,
        "headline": None if headline is None else dict(zip(("metric", "value", "split"), headline, strict=True)),
        "size_bytes": run.size,
        "changed": when,
    }


def _figure(run: ListedRun) -> str:
    if not run.is_finished:
        return run.state
    headline = run.headline()
    return "nothing was measured" if headline is None else f"{headline[0]} {headline[1]:.4f} ({headline[2]})"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _age(when: float) -> str:
    import time

    seconds = max(0.0, time.time() - when)
    return next((f"{seconds / unit:.0f} {name}" for unit, name in AGES if seconds >= unit), "now")
