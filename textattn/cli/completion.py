"""What a shell completes: configs, settings with their values, methods, runs and aliases.

A shell waits for it at every Tab, so nothing here loads a model or a library of numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textattn.errors import TextattnError

# With more runs, those that are listed last are the oldest.
MOST_RUNS = 200


def models(incomplete: str) -> list[tuple[str, str]]:
    """Aliases and finished runs, the newest first, with what each alias stands for."""
    from textattn.storage.aliases import read_aliases
    from textattn.storage.find_model import finished_runs

    found: list[tuple[str, str]] = []
    with contextlib.suppress(TextattnError, OSError):
        found += [(name, str(run)) for name, run in read_aliases().items()]
    with contextlib.suppress(OSError):
        found += [(str(run), "") for run in finished_runs()[:MOST_RUNS]]
    return [one for one in found if one[0].startswith(incomplete)]


def runs(incomplete: str) -> list[tuple[str, str]]:
    """Aliases and all runs, unfinished ones too."""
    from textattn.storage.find_model import DEPTH_OF_RUNS
    from textattn.storage.run_dir import RUNS
    from textattn.storage.run_list import runs_below

    found = dict.fromkeys(str(run) for run in runs_below(RUNS, DEPTH_OF_RUNS))
    known = models(incomplete)
    return known + [(run, "") for run in found if run.startswith(incomplete) and (run, "") not in known]


def shipped_configs(incomplete: str) -> list[tuple[str, str]]:
    """Shipped configs with their titles."""
    from textattn import config

    found = [(name, config.config_title(path)) for name, path in config.shipped_configs().items()]
    return [one for one in found if one[0].startswith(incomplete)]


def configs(incomplete: str) -> list[tuple[str, str]]:
    """Shipped configs with their titles, and YAML files here."""
    found = shipped_configs("")
    folder = Path(incomplete).parent if "/" in incomplete else Path()
    with contextlib.suppress(OSError):
        found += [(str(path), "") for path in sorted(folder.glob("*.y*ml")) if path.suffix in (".yaml", ".yml")]
    return [one for one in found if one[0].startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Explanation methods; after a comma those that are not named yet."""
    from textattn.explain.methods import method_names, ngram_method_names

    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    names = [*method_names(), *ngram_method_names(), *([] if comma else ["all"])]
    return [before + comma + name for name in names if name.startswith(last) and name not in given]


def overrides(incomplete: str) -> list[tuple[str, str]]:
    """Settings as `key=`, with what they mean; after the sign of equality their values, if these are a few words."""
    key, equals, _ = incomplete.partition("=")
    found = _settings()
    if not equals:
        return [(f"{name}=", summary) for name, (summary, _) in found.items() if name.startswith(incomplete)]
    values = found[key][1] if key in found else []
    return [(f"{key}={value}", "") for value in values if f"{key}={value}".startswith(incomplete)]


def data_settings(incomplete: str) -> list[tuple[str, str]]:
    """Settings of the data section, which are given without its name."""
    prefix = "data."
    return [(name.removeprefix(prefix), summary) for name, summary in overrides(prefix + incomplete)]


def _settings() -> dict[str, tuple[str, list[str]]]:
    """Every setting by its dotted name, with the first line about it and its values."""
    from textattn.config import json_schema

    schema = json_schema()
    return dict(_below(schema, schema["$defs"], ""))


def _below(section: dict[str, Any], named: dict[str, Any], prefix: str) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for name, about in section.get("properties", {}).items():
        inner = [_resolved(one, named) for one in (about, *about.get("anyOf", []), *about.get("allOf", []))]
        summary = str(about.get("description", "")).split("\n")[0].split(". ")[0]
        sections = [one for one in inner if "properties" in one]
        if sections:
            yield from _below(sections[0], named, f"{prefix}{name}.")
        if not sections or any(one.get("type") == "null" for one in inner):
            yield prefix + name, (summary, list(dict.fromkeys(value for one in inner for value in _values(one))))


def _resolved(one: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    reference = one.get("$ref")
    return named[reference.rpartition("/")[2]] if reference else one


def _values(one: dict[str, Any]) -> list[str]:
    if one.get("type") == "boolean":
        return ["true", "false"]
    if one.get("type") == "null":
        return ["null"]
    values = one.get("enum", [one["const"]] if "const" in one else [])
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
