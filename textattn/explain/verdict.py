"""An audit in one sentence: may the highlighted words be taken as the reason? Light to import: `explain` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Fewer texts than this say nothing either way.
LEAST_TEXTS = 20
# Of what the best method finds over chance, the share from which on a method is called good.
GOOD_SHARE = 0.6
# Attention whose weights could all be equal with so few answers changed is not what decides.
IDLE = 0.01


def level(audit: Mapping[str, Any], method: str = "attention") -> str:
    """`good`, `part`, `none`, or `unknown` where there are too few texts or the method was not measured."""
    measured = audit["methods"].get(method)
    if measured is None or measured["num_examples"] < LEAST_TEXTS:
        return "unknown"
    over = measured["comprehensiveness_over_random"]
    if over["low"] <= 0:
        return "none"
    _, best = _best(audit, method)
    good = over["mean"] >= GOOD_SHARE * best and not (method == "attention" and _is_idle(audit))
    return "good" if good else "part"


def verdict(audit: Mapping[str, Any], method: str = "attention") -> str:
    """One sentence with the figures that led to it."""
    measured = audit["methods"].get(method)
    if measured is None:
        return f"Whether {method} can be trusted for this model has not been measured (textattn audit --methods all)."
    count = measured["num_examples"]
    where = f"{count:,} {audit['split']} text{'s' if count != 1 else ''}"
    judged = level(audit, method)
    if judged == "unknown":
        return f"{where} are too few to say whether these highlights can be trusted."
    own, chance = (audit["methods"][name]["comprehensiveness"]["deletion"]["mean"] for name in (method, "random"))
    found = f"erasing them lowers the probability of the answer by {own:.2f} on average, random words {chance:.2f}"
    name, best = _best(audit, method)
    other = f", those of {name} {chance + best:.2f}" if name is not None else ""
    if judged == "none":
        return f"The words that {method} highlights are no evidence for this model's answers: {found}{other} ({where})."
    idle = ""
    if method == "attention" and _is_idle(audit):
        idle = "; with equal weights the model would give the same answers"
    if judged == "part":
        return f"The words that {method} highlights are part of the evidence: {found}{other}{idle} ({where})."
    return f"The words that {method} highlights are good evidence: {found}{other} ({where})."


def _best(audit: Mapping[str, Any], method: str) -> tuple[str | None, float]:
    """The other method that finds most over chance, and how much."""
    found = {
        name: measured["comprehensiveness_over_random"]["mean"]
        for name, measured in audit["methods"].items()
        if name not in (method, "random")
    }
    name = max(found, key=lambda other: found[other], default=None)
    return name, 0.0 if name is None else found[name]


def _is_idle(audit: Mapping[str, Any]) -> bool:
    facts = audit.get("attention")
    return facts is not None and facts["uniform_decisions_changed"] <= IDLE
