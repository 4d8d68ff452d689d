"""Overrides: words of the form `key.path=value`, which replace settings of a config.

A shell is done with a value before it comes here, so a text is taken as it is: `output.dir=runs/exp #2`, `data.text=1`.
YAML is read only where the setting asks for more than text: numbers, true and false, lists and mappings.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from textattn.config.fields import forms_of
from textattn.config.messages import Finding, Place, shown
from textattn.config.yaml12 import KeyPath, dump_flow, parse_value
from textattn.errors import ConfigError

# Of a word in a message, so that a value of megabytes does not hide what is wrong with it.
LONGEST_WORD = 200


def apply_overrides(overrides: Sequence[str], values: dict[str, Any], places: dict[KeyPath, Place]) -> list[Finding]:
    """Set the overridden values in `values`, record their origin in `places`, and return what cannot be set."""
    problems = []
    assignments: dict[tuple[str, ...], tuple[Any, Place]] = {}
    for number, word in enumerate(overrides, start=1):
        quoted = f"'{word}'" if len(word) <= LONGEST_WORD else f"'{word[:LONGEST_WORD]}…'"
        place = Place(number, 0, f"override {quoted}")
        try:
            path, value = _parse_override(word)
        except ConfigError as error:
            problems.append(Finding(place, None, error.message))
            continue
        if path in assignments:
            # The stack level makes the warning point at the caller of load_config or config_from_mapping.
            warnings.warn(
                f"{'.'.join(path)} is overridden more than once; the last override is used: {quoted}", stacklevel=4
            )
            del assignments[path]  # so that it stands in the place of the last
        if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            warnings.warn(f"override {quoted}: the quotes are part of the text", stacklevel=4)
        assignments[path] = (value, place)

    _drop_other_source({path[:2] for path, (value, _) in assignments.items() if value is not None}, values)
    for path, (value, place) in assignments.items():
        section: Any = values
        for depth, key in enumerate(path[:-1], start=1):
            if section.get(key) is None:
                section[key] = {}
                places[path[:depth]] = place
            section = section[key]
            if not isinstance(section, dict):
                what = f"{'.'.join(path[:depth])} is not a section, it is {shown(section)}"
                problems.append(Finding(place, None, what))
                break
        else:
            _forget(path, section.get(path[-1]), places)
            section[path[-1]] = value
            places[path] = place
    return problems


def override_value(path: tuple[str, ...], text: str) -> Any:
    """The value that a text gives to a setting.

    A text is taken as it is. `null` unsets a setting that may be unset. For a setting that takes a text or a list of
    texts, `[a, b]` is a list; its items are texts, and quotes are needed only around those that contain a comma, a
    bracket or a quote. For all other settings the value is YAML.

    Raises:
        ConfigError: the value is missing, or not YAML where YAML is read.
    """
    forms = forms_of(path)
    if not (text if "text" in forms else text.strip()):
        raise ConfigError("the value is missing" + (f"; write {'.'.join(path)}=null" if "null" in forms else ""))
    if "null" in forms and text.strip() == "null":
        return None
    if "texts" in forms and (text.lstrip().startswith("[") or "text" not in forms):
        try:
            found = parse_value(text, as_texts=True)
        except ConfigError:
            if "text" not in forms:
                raise
            return text
        return found if isinstance(found, list) or "text" not in forms else text
    if "text" in forms:
        return text
    if forms and forms <= {"choice", "null"}:
        return text.strip()
    return parse_value(text)


def override_text(path: tuple[str, ...], text: str) -> str:
    """How a text is written in an override of a setting, so that `override_value` gives the same text.

    Only texts that would be read as a list differ: they become a list with one item.
    """
    return text if override_value(path, text) == text else dump_flow([text])


def _parse_override(word: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = word.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"expected key=value, got '{word[:LONGEST_WORD]}'")
    return path, override_value(path, text)


def _forget(path: KeyPath, value: Any, places: dict[KeyPath, Place]) -> None:
    """Remove the places of a value that is replaced, and of all that it contains."""
    places.pop(path, None)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _forget((*path, key), item, places)


def _drop_other_source(given: set[tuple[str, ...]], values: dict[str, Any]) -> None:
    """Let an override `data.path=my.csv` replace the `data.files` of the config file, and vice versa.

    The subset (`name`) and the revision belong to the replaced source, so they are dropped with it.
    """
    sources = {("data", "path"), ("data", "files")}
    if len(given & sources) == 1 and isinstance(values.get("data"), dict):
        ((_, other),) = sources - given
        for key in (other, "name", "revision"):
            values["data"].pop(key, None)
