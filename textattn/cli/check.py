"""`textattn check`."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import ConfigName, Json, LinearOnly, Overrides, Quiet, naming_linear_only, with_linear_only
from textattn.errors import Option
from textattn.inference.visible import short_number
from textattn.storage.files import check_new, write_bytes, writing

if TYPE_CHECKING:
    from textattn.config import Config

# Of each finding, and of each of their texts.
EXAMPLES, CHARACTERS = 2, 100


def check(  # noqa: PLR0913 (every option of a command is a parameter)
    config: ConfigName,
    overrides: Overrides = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also look for wrong labels; takes seconds to minutes, depending on the data."),
    ] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast/--no-forecast", help="Estimate the training time by timing parts of the run.")
    ] = True,
    linear_only: LinearOnly = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write every row that was found to this csv file."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace FILE if it exists.")] = False,
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

    Rows are called by their file and line, or by the column `data.id`. The terminal shows two of each kind; --output
    and --json give all of them.

    Pieces of the run are timed to say how long all of it will take here, and how much memory.
    --linear-only checks what `train --linear-only` would do.
    """
    resolved = load(config, with_linear_only(overrides, linear_only))
    if output is not None:
        check_new(output, overwrite, Option("output"))
    note("Loading torch …")
    from textattn.checks.check import describe
    from textattn.cli.progress import ConsoleReport
    from textattn.training.memory import own_process

    own_process()
    with naming_linear_only(linear_only):
        facts = describe(resolved, ConsoleReport(), deep=deep, with_forecast=forecast)
    if output is not None:
        with writing(output, Option("output", "findings.csv")):
            write_bytes(output, _csv(facts))
    if json:
        out_json(facts, indent=True)
    else:
        _print(facts, output)


def _csv(facts: dict[str, Any]) -> bytes:
    """Every row that was found: what was found, where the row and its copy are, their labels, the suggested label."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["finding", "place", "other_place", "label", "other_label", "suggested_label", "probability", "text"]
    )
    errors = {"kind": "label_errors", "examples": facts.get("label_errors", [])}
    findings = [finding for finding in facts["findings"] if finding["kind"] != "label_errors"]
    for finding in [*findings, errors]:
        for example in finding["examples"]:
            if "places" not in example:
                continue
            places = [*example["places"], ""][:2]
            labels = [*map(_label, example.get("labels", [])), "", ""][:2]
            suggested = _label(example["suggested"]) if "suggested" in example else ""
            probability = f"{example['probability']:.4f}" if "suggested" in example else ""
            writer.writerow([finding["kind"], *places, *labels, suggested, probability, example["text"]])
    return file.getvalue().encode()


def load(config: str, overrides: list[str] | None) -> Config:
    """The resolved config; warnings go to stderr as plain lines."""
    from textattn.config import load_config

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolved = load_config(config, overrides or [])
    for warning in caught:
        note(str(warning.message), "Warning")
    return resolved


def _print(facts: dict[str, Any], output: Path | None) -> None:
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
    splits = facts["splits"].values()
    title, counts = "label", [(label, *(f"{split['labels'][label]:,}" for split in splits)) for label in labels]
    if all("numbers" in split for split in splits):
        title = labels[0]
        names = next(iter(splits))["numbers"]
        counts = [(key.replace("_", " "), *(short_number(split["numbers"][key]) for split in splits)) for key in names]
    for line in table(counts, (title, *facts["splits"])):
        out(line)
    out("")
    shapes = [(name, " x ".join(map(str, shape))) for name, shape in facts["shapes"].items()]
    for line in table(shapes, ("tensor", "shape")):
        out(line)
    out("")
    out(f"{facts['num_parameters']:,} parameters")
    out(f"{facts['steps']:,} steps of at most {facts['batch_size']} texts on {facts['device']}")
    if facts["forecast"] is not None:
        out(_forecast(facts["forecast"]))
    for finding in facts["findings"]:
        out("")
        out(f"{finding['kind'].replace('_', ' ')}: {finding['message']}")
        examples = [example for example in finding["examples"] if "places" in example]
        for example in examples[:EXAMPLES]:
            out(f"  {_places(example)}  {_cut(example['text'])}")
        if examples and finding["count"] > EXAMPLES:
            all_in = "--output FILE writes all" if output is None else f"all are in {output}"
            out(f"  and {finding['count'] - EXAMPLES:,} more; {all_in}")
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
    labels = example.get("labels")
    places = example["places"]
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
