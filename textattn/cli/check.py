"""`textattn check`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from textattn.cli.console import Json, Quiet, note, out, out_json, table


def check(
    config: Annotated[str, typer.Argument(help="A YAML file, `-` for stdin, or the name of a shipped config.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace those of the config.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Validate a config, read its data, show what would be trained, and train nothing."""
    from textattn.cli.train import load

    resolved = load(config, overrides)
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.prepare import describe

    facts = describe(resolved, ConsoleReport())
    if json:
        out_json(facts, indent=True)
    else:
        _print(facts)


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
    out("The config is sound; nothing was trained.")
