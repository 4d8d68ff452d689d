"""An audit in one sentence: may the highlighted words be taken as the reason? Light to import: `explain` prints it.

The sentence is about the words that `explain` shows by default, with attention and chance beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textattn.explain.methods import audited_names, method_names

# Fewer texts than this say nothing either way.
LEAST_TEXTS = 20
# Of what the best method finds over chance, the share from which on a method is called good.
GOOD_SHARE = 0.6
# Erased texts of which more than this share are unlike the texts that the model knows say less.
MANY_OUTLIERS = 0.5
# Attention whose weights could all be equal with so few answers changed is not what decides.
IDLE = 0.01
# The entry `unit` of audits of numbers; probabilities have none.
STANDARD_DEVIATIONS = "standard deviations"


def shown_method(audit: Mapping[str, Any]) -> str:
    """The method that the verdict is about, where none is named: contributions, which `explain` shows by default.

    Attention where they were not measured: the model cannot divide its answers, or the audit is of an earlier version.
    Where neither was, the first method that was.
    """
    measured = [name for name in audit["methods"] if name != "random"]
    return next((name for name in ("contributions", "attention", *measured) if name in measured), "attention")


def level(audit: Mapping[str, Any], method: str | None = None) -> str:
    """`good`, `part`, `none`, or `unknown` where there are too few texts or the method was not measured.

    Args:
        method: default: `shown_method`.
    """
    method = method or shown_method(audit)
    measured = audit["methods"].get(method)
    if measured is None or measured["num_examples"] < LEAST_TEXTS:
        return "unknown"
    over = measured["comprehensiveness_over_random"]
    if over["low"] <= 0:
        return "none"
    _, best = _best(audit, method)
    good = over["mean"] >= GOOD_SHARE * best and not (method == "attention" and _is_idle(audit))
    return "good" if good else "part"


def verdict(audit: Mapping[str, Any], method: str | None = None) -> str:
    """One sentence with the figures that led to it, and a second one where erasure says less than usual.

    Args:
        method: default: `shown_method`.
    """
    method = method or shown_method(audit)
    measured = audit["methods"].get(method)
    if measured is None:
        return f"Whether {method} can be trusted for this model has not been measured ({_command(method)})."
    count = measured["num_examples"]
    where = f"{count:,} {audit['split']} text{'s' if count != 1 else ''}"
    judged = level(audit, method)
    if judged == "unknown":
        return f"{where} are too few to say whether these highlights can be trusted."
    own, chance = (audit["methods"][name]["comprehensiveness"]["deletion"]["mean"] for name in (method, "random"))
    found = f"erasing them lowers the probability of the answer by {own:.2f} on average"
    if audit.get("unit") == STANDARD_DEVIATIONS:
        found = f"erasing them moves the number by {own:.2f} standard deviations towards the mean, on average"
    name, best = _best(audit, method)
    others = {} if name is None else {name: best}
    if method == "contributions" and "attention" in audit["methods"]:
        others = {"attention": _over_chance(audit, "attention")} | others
    found += "".join(f", those of {other} {chance + over:.2f}" for other, over in others.items())
    found += f", random words {chance:.2f}"
    if judged == "part" and method == "attention" and _is_idle(audit):
        found += "; with equal weights the model would give the same answers"
    words = f"The words that {method} highlight{'' if method.endswith('s') else 's'}"
    says = {"none": "no evidence for this model's answers", "part": "part of the evidence", "good": "good evidence"}
    return f"{words} are {says[judged]}: {found} ({where}).{_on_outliers(measured)}"


def _on_outliers(measured: Mapping[str, Any]) -> str:
    """A second sentence where many of the erased texts are unlike all texts that the model knows."""
    outliers = measured.get("outliers")
    if outliers is None or outliers["deletion"]["mean"] <= MANY_OUTLIERS:
        return ""
    return (
        f" However, {outliers['deletion']['mean']:.0%} of the texts without these words are unlike the texts that the "
        "model knows, so that its answers to them say less."
    )


def _command(method: str) -> str:
    """What measures a method."""
    if method in audited_names():
        return "textattn audit"
    return f"textattn audit --methods {'all' if method in method_names() else method}"


def _over_chance(audit: Mapping[str, Any], method: str) -> float:
    return float(audit["methods"][method]["comprehensiveness_over_random"]["mean"])


def _best(audit: Mapping[str, Any], method: str) -> tuple[str | None, float]:
    """The other method that finds most over chance, and how much."""
    found = {name: _over_chance(audit, name) for name in audit["methods"] if name not in (method, "random")}
    name = max(found, key=lambda other: found[other], default=None)
    return name, 0.0 if name is None else found[name]


def _is_idle(audit: Mapping[str, Any]) -> bool:
    facts = audit.get("attention")
    return facts is not None and facts["uniform_decisions_changed"] <= IDLE
