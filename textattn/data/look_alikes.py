"""Labels that are one to a person but not to a program, and labels that stand for no label. Light to import."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from decimal import Decimal

# "01" is none: it may be another label than "1".
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?")
# Zero-width characters, joiners, marks of direction, the soft hyphen and the byte order mark.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_SPACES = re.compile(r"\s+")
# In lower case. What programs write for a missing value.
NO_LABELS = frozenset(["", "-", "--", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "nat"])


def as_number(text: str) -> Decimal | None:
    """The number that a label spells, if it does; 1 and 1.0 are equal."""
    return Decimal(text) if NUMBER.fullmatch(text) else None


def as_boolean(text: str) -> bool | None:
    """The boolean that a label spells in any case, if it does."""
    return {"true": True, "false": False}.get(text.casefold())


def _one_spelling(text: str) -> str:
    number = as_number(text)
    return text if number is None else format(number.normalize() + 0, "f")


# What two labels may differ in, and what makes them equal in it.
FOLDS: dict[str, Callable[[str], str]] = {
    "case": str.casefold,
    "white space": lambda text: _SPACES.sub(" ", text).strip(),
    "invisible characters": lambda text: _INVISIBLE.sub("", text),
    "Unicode form (NFC, NFD)": lambda text: unicodedata.normalize("NFC", text),
    "the way a number is written": _one_spelling,
}


def folded(label: str) -> str:
    """The same text for all labels that look alike."""
    # An invisible character may hide white space at the end, and case folding may undo composition.
    text = FOLDS["invisible characters"](label)
    text = FOLDS["white space"](unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()))
    return _one_spelling(text)


def differences(one: str, other: str) -> str:
    """What two labels that look alike differ in: `case`, `white space and case`."""
    for name, fold in FOLDS.items():
        if fold(one) == fold(other):
            return name
    # Several at once: those without which they stay different.
    needed = []
    for left_out in FOLDS:
        a, b = one, other
        for name, fold in FOLDS.items():
            if name != left_out:
                a, b = fold(a), fold(b)
        if a != b:
            needed.append(left_out)
    return " and ".join(needed) or "characters that look alike"


def groups_of_look_alikes(labels: Iterable[str]) -> list[list[str]]:
    """Labels that look alike, in groups of at least two, in the order of the labels."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(folded(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def stands_for_no_label(label: str) -> bool:
    """Whether programs write this for a missing value."""
    return folded(label) in NO_LABELS
