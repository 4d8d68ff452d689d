"""Prints what a run won and forgot against the one that it went on from, for `textattn compare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textattn.cli.console import out, table

GROUPS = {
    "known_labels": "texts with the labels of {old}",
    "new_labels": "texts with new labels",
    "own_rows": "texts of the split of {old}",
    "other_rows": "other texts",
}


def print_won_and_forgotten(found: Mapping[str, Any], of: Mapping[str, str]) -> None:
    """Print an entry of `going_on`.

    Args:
        found: the entry.
        of: the name that is printed for each run.
    """
    old, new = of[found["old"]], of[found["new"]]
    out("")
    rows = [
        (
            text.format(old=old) if found["labels"] or name != "known_labels" else "all texts",
            f"{group['num_examples']:,}",
            f"{group['before']:.4f}",
            f"{group['after']:.4f}",
            f"{group['won']:,}",
            f"{group['forgotten']:,}",
        )
        for name, text in GROUPS.items()
        if (group := found[name]) is not None
    ]
    header = ["right before", "right after", "won", "forgotten"]
    if not found["labels"]:
        header = ["mean error before", "after", "nearer", "farther"]
    for line in table(rows, (f"{new} went on from {old}", "texts", *header)):
        out(line)
    if not found["labels"]:
        return
    out("")
    labels = [
        (
            one["label"],
            f"{one['num_examples']:,}",
            "–" if one["is_new"] else f"{one['f1_before']:.4f}",
            f"{one['f1_after']:.4f}",
            "new" if one["is_new"] else f"{one['f1_after'] - one['f1_before']:+.4f}",
        )
        for one in found["labels"]
    ]
    for line in table(labels, ("label", "texts", "F1 before", "F1 after", "change")):
        out(line)
