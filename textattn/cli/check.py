"""`textattn check`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import ConfigName, Json, Overrides, Quiet

if TYPE_CHECKING:
    from textattn.config import Config

# Of each finding, and of each of their texts.
EXAMPLES, CHARACTERS = 2, 100


def check(
    config: ConfigName,
    overrides: Overrides = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also look for wrong labels; takes seconds to minutes, depending on the data."),
    ] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast/--no-forecast", help="Estimate the training time by timing parts of the run.")
    ] = True,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a config and its data; train nothing.

    \b
    textattn check quickstart
    textattn check my.yaml data.path=reviews.csv

    Looks for texts that stand in two splits or nearly so, texts with several labels, tokens that give a label away,
    files sorted by label, and rare labels. With --deep also for texts whose label is contradicted by models that have
    not seen them (confident learning, five folds).

    Pieces of the run are timed to say how long all of it will take here, and how much memory.
    """
    resolved = load(config, overrides)
    note("Loading torch …")
    from textattn.checks.check import describe
    from textattn.cli.progress import ConsoleReport
    from textattn.training.memory import own_process

    own_process()
    facts = describe(resolved, ConsoleReport(), deep=deep, with_forecast=forecast)
    if json:
        out_json(facts, indent=True)
    else:
        _print(facts)


def load(config: str, overrides: list[str] | None) -> Config:
    """The resolved config; warnings go to stderr as plain lines."""
    from textattn.config import load_config

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolved = load_config(config, overrides or [])
    for warning in caught:
        note(str(warning.message), "Warning")
    return resolved


def _print(facts: dict[str, Any]) -> None:
    labels = facts["labels"]
    rows = [
        (
            name,
            f"{split['num_examples']:,}",
            f"{split['tokens_median']:,}",
            f"{split['tokens_longest']:,}",
            f"{split['truncated']:.1%}",
            f"{split['unknown']:.1%}",
        )
        for name, split in facts["splits"].items()
    ]
    for line in table(rows, ("split", "texts", "median tokens", "longest", "truncated", "unknown tokens")):
        out(line)
    out("")
    counts = [(label, *(f"{split['labels'][label]:,}" for split in facts["splits"].values())) for label in labels]
    for line in table(counts, ("label", *facts["splits"])):
        out(line)
    out("")
    shapes = [(name, " x ".join(map(str, shape))) for name, shape in facts["shapes"].items()]
    for line in table(shapes, ("tensor", "shape")):
        out(line)
    out("")
    out(f"{facts['num_parameters']:,} parameters")
    out(f"{facts['steps']:,} steps of {facts['batch_size']} texts on {facts['device']}")
    if facts["forecast"] is not None:
        out(_forecast(facts["forecast"]))
    for finding in facts["findings"]:
        out("")
        out(f"{finding['kind'].replace('_', ' ')}: {finding['message']}")
        for example in finding["examples"][:EXAMPLES]:
            if "rows" in example:
                out(f"  {_places(example)}  {_cut(example['text'])}")
        out(f"  {finding['hint']}")
    out("")
    number = len(facts["findings"])
    found = f"{number} thing{'s' * (number > 1)} to look at" if number else "the data look clean"
    out(f"The config is valid, {found}; nothing was trained.")


def _forecast(found: dict[str, Any]) -> str:
    """About 9 minutes and 1.6 GB on this machine: …"""
    memory = f"{found['peak_memory_bytes'] / 1e9:.1f} GB"
    if "peak_gpu_memory_bytes" in found:
        memory += f" ({found['peak_gpu_memory_bytes'] / 1e9:.1f} GB on the GPU)"
    # Those that are next to nothing are left out.
    parts = [
        f"{stage.replace('_', ' ')} {_duration(seconds, 'min', 's', 'h')}"
        for stage, seconds in found["seconds_by_stage"].items()
        if seconds >= max(0.5, 0.01 * found["seconds"])
    ]
    return f"about {_duration(found['seconds'], 'minutes', 'seconds', 'hours')} and {memory} on this machine" + (
        f": {', '.join(parts)}" if parts else ""
    )


def _duration(seconds: float, minute: str, second: str, hour: str) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} {second}"
    value, unit = (seconds / 60, minute) if seconds < 90 * 60 else (seconds / 3600, hour)
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def _places(example: dict[str, Any]) -> str:
    """Rows are counted from 0 inside a split."""
    labels = example.get("labels")
    places = [f"{split} {row}" for split, row in example["rows"]]
    if labels:
        places = [f"{place} {_label(label)}" for place, label in zip(places, labels, strict=True)]
    if "suggested" in example:
        return f"{places[0]}, rather {_label(example['suggested'])} ({example['probability']:.2f})"
    return " = ".join(places)


def _label(label: str | list[str]) -> str:
    return label if isinstance(label, str) else "+".join(label) or "none"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
