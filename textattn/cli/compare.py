"""`textattn compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli import completion
from textattn.cli.console import display_width, out, out_json, out_wrapped, table, terminal_width
from textattn.cli.evaluate import METRICS
from textattn.cli.options import Json
from textattn.cli.won_and_forgotten import print_won_and_forgotten
from textattn.errors import ConfigError
from textattn.inference.visible import short_number

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of a text that is shown, at most, and on a narrow terminal at least.
CHARACTERS, FEWEST = 160, 20


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN…",
            help="Run directories or aliases.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split whose predictions are compared.")] = (
        "test"
    ),
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="Number of texts to show for each side of a pair.")
    ] = 3,
    json: Json = False,
) -> None:
    """Compare runs on the same texts, and tell better from luckier.

    \b
    textattn compare runs/plain runs/faithful
    textattn compare runs/imdb/* --split validation --json

    Metrics side by side with the settings that differ; for every pair the difference with its 95 % interval (paired
    bootstrap), McNemar's test, and texts that only one of them gets right. A run is called better only if that holds
    after Holm's correction for all pairs.

    Of a run that went on from another one (train --from), both models answer the test split of the newer run, and a
    table says for each label what was won and what was forgotten.
    """
    if len(runs) < 2:
        raise ConfigError("compare needs two or more runs", "textattn compare RUN RUN")
    from textattn.inference.won_and_forgotten import compare_with_starts
    from textattn.storage.find_model import find_model

    found = compare_with_starts([find_model(run) for run in runs], split, examples=examples)
    if json:
        out_json(found, indent=True)
        return
    names = _short([one["run"] for one in found["runs"]])
    rows = [
        (name, *(f"{one['metrics'][name]:.4f}" for one in found["runs"]))
        for name in METRICS
        if all(one["metrics"].get(name) is not None for one in found["runs"])
    ]
    for line in table(rows, (f"{found['num_examples']:,} texts of {split}", *names)):
        out(line)
    if found["settings"]:
        out("")
        settings = [(name, *map(_shown, values)) for name, values in found["settings"].items()]
        for line in table(settings, ("settings that differ", *names)):
            out(line)
    of = dict(zip((one["run"] for one in found["runs"]), names, strict=True))
    for entry in found.get("going_on", []):
        print_won_and_forgotten(entry, of)
    for pair in found["pairs"]:
        out("")
        _print_pair(pair, of, found["metric"], len(found["pairs"]))


def _print_pair(pair: Mapping[str, Any], of: Mapping[str, str], metric: str, num_pairs: int) -> None:
    """Prints a pair of runs.

    Args:
        pair: an entry of `pairs`.
        of: the name that is printed for each run.
        metric: the headline metric.
        num_pairs: the number of comparisons for which p-values were corrected.
    """
    low, high = pair["interval_95"]
    difference, a, b = pair["difference"], of[pair["a"]], of[pair["b"]]
    p = f"p = {pair['adjusted_p']:.2g}" + (f", corrected for {num_pairs} comparisons" if num_pairs > 1 else "")
    out_wrapped(f"{b} against {a}: {metric} {difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f})", "  ")
    is_numeric = "a_closer" in pair
    if is_numeric:
        closer = f"  closer to the truth: {a} {pair['a_closer']:,} texts, {b} {pair['b_closer']:,}; Wilcoxon's test"
        out_wrapped(closer, "    ")
    else:
        out_wrapped(
            f"  right: both {pair['both_right']:,}, {a} alone {pair['only_a_right']:,}, {b} alone "
            f"{pair['only_b_right']:,}, neither {pair['both_wrong']:,}; McNemar p = {pair['mcnemar_p']:.2g}",
            "    ",
        )
    if pair["better"] is None:
        out_wrapped(f"  no difference that chance could not make ({p})", "    ")
    else:
        out_wrapped(f"  {of[pair['better']]} is better: more than chance ({p})", "    ")
    for side, name in (("a_closer", a), ("b_closer", b)) if is_numeric else ():
        for example in pair["examples"][side]:
            numbers = {key: short_number(example[key]) for key in ("number", "a", "b")}
            said = f"{numbers['number']}, {a} {numbers['a']}, {b} {numbers['b']}"
            _out_example(f"  {name} is closer: {said}", example["text"])
    if is_numeric:
        return
    for side, name in (("only_a_right", f"only {a}"), ("only_b_right", f"only {b}"), ("both_wrong", "neither")):
        for example in pair["examples"][side]:
            _out_example(f"  {name}: {_label(example['label'])}, not {_label(example['said'])}", example["text"])


def _out_example(said: str, text: str) -> None:
    """A line with the beginning of a text, as far as a terminal has room for it."""
    room, text = CHARACTERS, " ".join(text.split())
    if (width := terminal_width()) is not None:
        room = min(room, max(FEWEST, width - display_width(said) - 2))
    out(f"{said}  {text if len(text) <= room else text[: room - 1] + '…'}")


def _label(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "+".join(value) or "none"


def _shown(value: Any) -> str:
    """A setting as a config has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(runs: list[str]) -> list[str]:
    """The parts of the paths that differ."""
    parts = [Path(run).parts for run in runs]
    common = 0
    while all(len(p) > common + 1 for p in parts) and len({p[common] for p in parts}) == 1:
        common += 1
    return ["/".join(p[common:]) for p in parts]
