"""The problems of a config in words, each with its place. The work is linear in the number of settings."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from pydantic import ValidationError

from textattn.config.fields import FIELDS, keys_of, meant_setting, nearest
from textattn.config.yaml12 import KeyPath, scalar

# Of a key in a message.
LONGEST_KEY = 200
# More unknown keys than this are no slips of the pen, and a search for what each may mean takes a while.
MOST_SUGGESTIONS = 100


class Place(NamedTuple):
    """Where a value was given. Sorts by line, and overrides (numbered from 1) after the file (0)."""

    override: int
    line: int
    text: str


class Finding(NamedTuple):
    """A problem of a config, with the place that it is sorted by."""

    place: Place
    setting: str | None
    problem: str
    unknown_key: bool = False


# What pydantic's error types expect. A message says "must be " and these, joined by "or" for a union.
WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
# Which of these expectations an unquoted scalar of a type satisfies.
SATISFIES = {bool: {"true or false"}, int: {"a whole number", "a number"}, float: {"a number"}}
# Messages for values that have the right type but are refused.
REFUSED = {
    "greater_than": "must be greater than {gt}, got {got}",
    "greater_than_equal": "must be at least {ge}, got {got}",
    "less_than": "must be less than {lt}, got {got}",
    "less_than_equal": "must be at most {le}, got {got}",
    "finite_number": "must be finite",
    "string_too_short": "must not be empty",
    "string_unicode": "must be valid Unicode",
    "too_short": "needs at least {min_length} entries, got {actual_length}",
    "missing": "required but missing",
    "invalid_key": "keys must be text",
}


def problems_of(error: ValidationError, values: dict[str, Any], places: dict[KeyPath, Place]) -> list[Finding]:
    """Convert the errors of pydantic. The errors for all branches of one union become one problem."""
    groups: dict[KeyPath, list[Any]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(_value_path(detail, values), []).append(detail)
    unknown: dict[KeyPath, tuple[str, ...] | None] = {}
    for path, details in groups.items():
        if details[0]["type"] == "extra_forbidden":
            unknown[path] = meant_setting(path) if len(unknown) < MOST_SUGGESTIONS else None
    around_meant = {meant[:depth] for meant in unknown.values() if meant for depth in range(1, len(meant) + 1)}
    around_groups = {path[:depth] for path in groups for depth in range(len(path))}
    problems = []
    for path, details in groups.items():
        if path in around_groups:
            continue  # This error belongs to a branch of a union that the user did not mean.
        if path in unknown:
            message = _unknown_key(path, unknown[path])
        elif details[0]["type"] == "missing" and path in around_meant:
            continue  # The required key exists but is misspelled, which is reported as an unknown key.
        else:
            message = _in_words(path, details)
        place = place_of(path, places, "" if path in unknown else message)
        problems.append(Finding(place, dotted(path), message, path in unknown))
    return problems


def _value_path(detail: Any, values: dict[str, Any]) -> KeyPath:
    """The path of the offending value: pydantic's location without the names of union branches."""
    path: KeyPath = ()
    here: Any = values
    for part in detail["loc"]:
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int)):
            path, here = (*path, part), here[part]
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def place_of(path: KeyPath, places: dict[KeyPath, Place], message: str) -> Place:
    """The nearest known place of a value.

    A message about a whole section may name settings that conflict with each other; the place is then that of the last
    of them.
    """
    # Only messages about sections name other settings, so the places are looked through a few times at most.
    is_section = path == () or keys_of(path)
    named = [
        places[known]
        for known in (places if message and is_section else ())
        if known[: len(path)] == path != known and dotted(known) in message
    ]
    while path not in places:
        path = path[:-1]
    return max(named, default=places[path])


def _in_words(path: KeyPath, details: list[Any]) -> str:
    value = details[0]["input"]
    for detail in details:
        if detail["type"] == "value_error":
            return str(detail["ctx"]["error"])
        if detail["type"] in REFUSED and isinstance(value, float) and not math.isfinite(value):
            return f"must be finite, got {shown(value)}"
        if detail["type"] in REFUSED:
            limits = {k: f"{v:g}" if isinstance(v, float) else v for k, v in detail.get("ctx", {}).items()}
            return REFUSED[detail["type"]].format(got=shown(value), **limits)
        if detail["type"] == "string_pattern_mismatch":  # The help text of such a setting lists the allowed values.
            description = FIELDS[tuple(map(str, path))].description or ""
            return f"must be {description.rstrip('.')}, got {shown(value)}"
    expected = [detail["ctx"]["expected"] for detail in details if detail["type"] == "literal_error"]
    choices = re.findall("'([^']*)'", " ".join(expected))
    wanted = [WANTED[detail["type"]] for detail in details if detail["type"] in WANTED]
    if choices:
        wanted.insert(0, ("one of " if len(choices) > 1 else "") + ", ".join(f"'{choice}'" for choice in choices))
    if not wanted:
        return str(details[0]["msg"])
    return f"must be {' or '.join(wanted)}, got {shown(value)}{_remedy(value, wanted, choices)}"


def _remedy(value: Any, wanted: list[str], choices: list[str]) -> str:
    """What to write instead, or an empty string if that is unknown."""
    if isinstance(value, str):
        near = nearest(value, choices)
        if near:
            return f"; did you mean '{near}'?"
        if SATISFIES.get(type(scalar(value)), set()) & {*wanted}:
            return "; drop the quotes"
        if "true or false" in wanted and value.lower() in ("yes", "on", "no", "off"):
            return f"; write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    elif isinstance(value, float) and value.is_integer() and "a whole number" in wanted:
        return f"; write {int(value)}"
    elif isinstance(value, (bool, int, float)) and "text" in wanted:
        return "; put it in quotes"
    return ""


def _unknown_key(path: KeyPath, meant: tuple[str, ...] | None) -> str:
    if meant is None:
        return f"unknown key; valid keys: {', '.join(keys_of(path[:-1]))}"
    return f"unknown key; did you mean '{meant[-1] if meant[:-1] == path[:-1] else '.'.join(meant)}'?"


def dotted(path: KeyPath) -> str:
    """A path as it is written in an override: `model.dropout.words`, `data.text[1]`."""
    parts = (part if isinstance(part, int) or len(part) <= LONGEST_KEY else f"{part[:LONGEST_KEY]}…" for part in path)
    return "".join(f"[{part}]" if isinstance(part, int) else "." + (part or "''") for part in parts).lstrip(".")


def shown(value: Any) -> str:
    """A value as it would be written in YAML, shortened."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits.
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"
