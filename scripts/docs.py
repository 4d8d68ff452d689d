"""Writes docs/settings.md, the reference of all settings, from the JSON Schema that `textattn schema` prints.

    .venv/bin/python scripts/docs.py

Run it after every change to a setting, its default or its help text: tests/test_docs.py fails if the page is outdated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from textattn.config import json_schema
from textattn.config.section import LARGEST

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """\
# All settings

This page is generated from the schema by `scripts/docs.py`; do not edit it. [Configuration](configuration.md) explains
how a config is written, and [Results](results.md) says which settings are worth their cost.

A default is the value that a config has with `recipe: plain`. With another [`recipe`](#recipe), some of the settings
that you do not give are chosen for the kind of your texts.
"""
# Bounds of a number in JSON Schema and how a reader says them.
BOUNDS = {
    "minimum": "of at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "of at most {}",
    "exclusiveMaximum": "below {}",
}
TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}


class Setting(NamedTuple):
    """A setting, or a section of settings, as its part of the schema describes it."""

    key: str
    """Dotted name, such as `model.vectors.source`."""
    schema: dict[str, Any]
    is_section: bool
    required: bool


def main() -> None:
    PAGE.write_text(settings_page(), encoding="utf-8")


def settings_page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for setting in walk(json_schema()):
        if setting.is_section:
            parts.append(f"{'##' if '.' not in setting.key else '###'} {setting.key}\n\n{_help(setting)}\n")
        else:
            parts.append(f"### `{setting.key}`\n\n{_kind(setting)}\n\n{_help(setting)}\n")
    return "\n".join(parts)


def walk(schema: dict[str, Any]) -> Iterator[Setting]:
    """All settings of a config in the order of the schema, each section before its settings."""
    yield from _walk(schema, schema["$defs"], "")


def _walk(section: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[Setting]:
    for name, schema in section["properties"].items():
        key = f"{prefix}{name}"
        inner = _section_of(schema, definitions)
        yield Setting(key, schema, inner is not None, name in section.get("required", []))
        if inner is not None:
            yield from _walk(inner, definitions, f"{key}.")


def _section_of(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The section that a setting holds, or None if it holds a plain value."""
    for choice in (schema, *schema.get("anyOf", [])):
        if "$ref" in choice:
            section: dict[str, Any] = definitions[choice["$ref"].rpartition("/")[2]]
            return section
    return None


def _help(setting: Setting) -> str:
    return " ".join(str(setting.schema["description"]).split())


def _kind(setting: Setting) -> str:
    """The line with type, range and default."""
    kind = _type(setting.schema)
    kind = kind[0].upper() + kind[1:]
    return f"{kind}. Required." if setting.required else f"{kind}. Default: `{_value(setting.schema['default'])}`."


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return ", or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return f"one of {_names(schema['enum'])}"
    if "const" in schema:
        return f"`{_value(schema['const'])}`"
    if schema["type"] == "array":
        items = schema["items"]
        shown = _names(items["enum"]) if "enum" in items else f"{_type(items)}s"
        least = schema.get("minItems", 0)
        return f"list of {shown}" + (f", at least {least}" if least > 1 else "")
    if schema["type"] == "object":
        return f"a mapping from names to {_type(schema['additionalProperties'])}"
    if "pattern" in schema:
        return f"text that matches `{schema['pattern']}`"
    # A bound that no machine reaches tells a reader nothing.
    told = {name: text for name, text in BOUNDS.items() if schema.get(name, LARGEST) != LARGEST}
    bounds = " and ".join(text.format(schema[name]) for name, text in told.items())
    return TYPES[schema["type"]] + (f" {bounds}" if bounds else "")


def _names(values: list[Any]) -> str:
    return ", ".join(f"`{_value(value)}`" for value in values)


def _value(value: Any) -> str:
    """A value as it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
