"""`textattn check`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import ConfigName, Json, Overrides, Quiet

if TYPE_CHECKING:
    from textattn.config import Config


def check(
    config: ConfigName,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a config and its data; train nothing.

    \b
    textattn check quickstart
    textattn check my.yaml data.path=reviews.csv
    """
    resolved = load(config, overrides)
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.prepare import describe

    facts = describe(resolved, ConsoleReport())
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
    out("The config is sound; nothing was trained.")
