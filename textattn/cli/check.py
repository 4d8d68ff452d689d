"""`textattn check`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import ConfigName, Json, Overrides, Quiet

if TYPE_CHECKING:
    from textattn.config import Config

# Of each finding, and of each of their texts.
EXAMPLES, CHARACTERS = 2, 100


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

    Looks for texts that stand in two splits or nearly so, texts with several labels, tokens that give a label away,
    files sorted by label, and rare labels.
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
    out(f"The config is sound, {found}; nothing was trained.")


def _places(example: dict[str, Any]) -> str:
    """Rows are counted from 0 inside a split."""
    labels = example.get("labels")
    places = [f"{split} {row}" for split, row in example["rows"]]
    if labels:
        places = [f"{place} {label}" for place, label in zip(places, labels, strict=True)]
    return " = ".join(places)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
