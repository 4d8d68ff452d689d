"""Find, read, override and check a config. All problems are reported together, each with its place."""

from __future__ import annotations

import itertools
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from textattn.config.fields import nearest
from textattn.config.messages import Finding, Place, dotted, place_of, problems_of, shown
from textattn.config.overrides import apply_overrides
from textattn.config.regular_file import read_regular
from textattn.config.removed import drop_removed
from textattn.config.schema import Config
from textattn.config.section import Section
from textattn.config.yaml12 import KeyPath, dump_yaml, parse_yaml
from textattn.data.formats import is_table
from textattn.errors import ConfigError, Problem, shell_command

PACKAGE = Path(__file__).parent.parent
# A config is read whole. The largest that people write have some kilobytes.
LARGEST = 10**7
# Of a folder, as many names are compared with a misspelt one.
MOST_NAMES = 1000
# Of a config in which everything is wrong, as many problems are shown.
MOST_PROBLEMS = 100
AnySection = TypeVar("AnySection", bound=Section)
# The config in the directory of a run.
CONFIG = "training_config.yaml"
OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
# Of a config, in bytes because any file may be looked at.
DATA_SECTION = re.compile(rb'^data:\s*(?:\{|#|$)|^\s*\{?\s*"data"\s*:\s*\{', re.MULTILINE)


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config and apply overrides.

    Args:
        source: a YAML file, `-` for stdin, or the name of a shipped config. A file takes precedence over a shipped
            config of the same name. A data file (`reviews.csv`) or a folder of them stands for a config that sets only
            `data.path`; a folder that is called like a shipped config is written with a slash (`imdb/`).
        overrides: words of the form `key.path=value`.

    Raises:
        ConfigError: with all problems, sorted by line.
    """
    text, origin = _read_source(source)
    document = parse_yaml(text, origin)
    if not isinstance(document.value, dict):
        raise ConfigError(f"expected a mapping (key: value), got {shown(document.value)}", place=f"{origin}:1")
    places = {path: Place(0, line, f"{origin}:{line}") for path, line in document.lines.items()}
    valid_keys = (
        "textattn schema" if origin == source or source == "-" else shell_command("textattn configs show {}", source)
    )
    return _resolve(document.value, places, overrides, shell_command("textattn check {}", source), valid_keys)


def config_from_mapping(
    values: Mapping[str, Any], overrides: Sequence[str] = (), origin: str = "config", *, of_finished_run: bool = False
) -> Config:
    """Check settings that are already Python values.

    Args:
        values: the settings, by section.
        overrides: words of the form `key.path=value`.
        origin: the place that messages name instead of a file and line.
        of_finished_run: ignore settings that no longer exist, whatever their value.

    Raises:
        ConfigError: with all problems.
    """
    settings = _plain(values)
    if of_finished_run:
        drop_removed(settings, used_too=True)
        if isinstance(settings.get("data"), dict):
            settings["data"].setdefault("test_fraction", 0.0)  # earlier versions set no test split aside
    return _resolve(settings, {(): Place(0, 0, origin)}, overrides, "textattn schema", "textattn schema")


def shipped_configs() -> dict[str, Path]:
    """The paths of the configs that come with textattn, by name."""
    installed = PACKAGE / "configs"
    folder = installed if installed.is_dir() else PACKAGE.parent / "configs"  # the second in a source checkout
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def config_title(path: str | Path) -> str:
    """The first comment line of a config, without its `#`. Empty if the config has no comment."""
    with Path(path).open(encoding="utf-8-sig") as lines:
        return next((line.lstrip("#").strip() for line in lines if line.startswith("#")), "")


def dump_config(config: Config) -> str:
    """Write every setting of a resolved config as YAML. Reading it again gives an equal config."""
    return dump_yaml(config.model_dump())


def flat_settings(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name."""
    return _flat(config.model_dump(), "")


def given_settings(config: Config) -> dict[str, Any]:
    """The settings that were given explicitly, by their dotted names."""
    return _flat(config.model_dump(exclude_unset=True), "")


def with_defaults(config: Config, settings: Mapping[str, Any]) -> Config:
    """Replace defaults of a config.

    Args:
        config: is not changed.
        settings: values by dotted name, which must be valid. They apply to settings that were not given explicitly.
    """
    for key, value in settings.items():
        config = _with_default(config, key.split("."), value)
    return config


def _with_default(section: AnySection, path: list[str], value: Any) -> AnySection:
    name, *rest = path
    if rest:
        value = _with_default(getattr(section, name), rest, value)
    elif name in section.model_fields_set:
        return section
    return section.model_copy(update={name: value})


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {
        key: inner
        for part, content in value.items()
        for key, inner in _flat(content, f"{name}.{part}".lstrip(".")).items()
    }


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a config file, for completion and checks in editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "textattn config"}


# Reading


def _read_source(source: str) -> tuple[str, str]:
    """The text of the config, and its name for messages."""
    origin = "<stdin>" if source == "-" else source
    try:
        if source == "-":
            return sys.stdin.read(), origin
        if "\0" in source:
            raise ConfigError("a path must not contain the character NUL (\\0)", place=source.replace("\0", "\\0"))
        shipped = shipped_configs()
        if not Path(source).is_file() and source in shipped:
            origin = str(shipped[source])
            if _is_data(Path(source)):
                warnings.warn(f"{source} is a config that comes with textattn; the folder is ./{source}", stacklevel=2)
        elif _is_data(Path(source)):
            return dump_yaml({"data": {"path": source}}), origin
        elif not Path(source).exists() or Path(source).is_dir():
            raise _not_found(source, list(shipped))
        return read_regular(Path(origin), LARGEST, pipes=True).decode("utf-8-sig"), origin
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        raise ConfigError(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8",
            "save the file as UTF-8",
            place=f"{origin}:{before.count(10) + 1}:{error.start - before.rfind(10)}",
        ) from None
    except OSError as error:
        raise ConfigError(error.strerror or str(error), place=origin) from None


def name_of(source: str) -> str:
    """The name of a config, for the directories of its runs."""
    return "stdin" if source == "-" else Path(os.path.abspath(source)).stem or "data"  # noqa: PTH100 (keeps links)


def _is_data(path: Path) -> bool:
    """Whether a path is that of data rather than of a config: a file by its suffix, or a folder of such files."""
    if path.is_dir():
        from textattn.data.folders import has_data

        return has_data(path)
    return is_table(path) and path.is_file() and not _is_config(path)


def _is_config(path: Path) -> bool:
    """Whether a file that may be data or a config by its suffix has a section `data`, as YAML or as JSON."""
    if path.suffix.lower() not in (".json", ".txt"):
        return False
    with path.open("rb") as file:
        return DATA_SECTION.search(file.read(1 << 16)) is not None


def _not_found(source: str, shipped: list[str]) -> ConfigError:
    path = Path(source)
    if path.is_dir() and (path / CONFIG).is_file():
        hint = shell_command("textattn train {}", path / CONFIG)
        return ConfigError("a folder; the config is a file in it", hint, place=source)
    if OVERRIDE.match(source):
        key, _, value = source.partition("=")
        hint = shell_command("textattn train {}", value) if key == "data.path" else "textattn configs ls"
        return ConfigError("a setting; a config, a data file or a folder of data comes before it", hint, place=source)
    what = "a folder without data files, and not a config" if path.is_dir() else "no such file or shipped config"
    near = nearest(path.stem, shipped)
    if near is None and not path.is_dir() and path.parent.is_dir():
        # In a folder of very many files nobody waits until all have been compared.
        files = itertools.islice(path.parent.glob("*.yaml"), MOST_NAMES)
        siblings = {file.stem: str(file) for file in files if file.is_file()}
        near = siblings.get(nearest(path.stem, list(siblings)) or "")
    meant = f"did you mean '{near}'?" if near else f"shipped configs: {', '.join(shipped)}"
    return ConfigError(f"{what}; {meant}", "textattn configs ls", place=source)


def _plain(value: Any) -> Any:
    """Copy settings, turning every mapping into a dict and every sequence into a list."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _resolve(
    values: dict[str, Any], places: dict[KeyPath, Place], overrides: Sequence[str], check: str, valid_keys: str
) -> Config:
    """Apply the overrides and validate. `check` and `valid_keys` are the commands that a hint may suggest."""
    problems = apply_overrides(overrides, values, places)
    problems += [
        Finding(place_of(path, places, ""), dotted(path), problem) for path, problem in drop_removed(values).items()
    ]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += problems_of(error, values, places)
    if problems:
        problems.sort(key=lambda finding: finding.place[:2])
        values_in_file = any(p.place.override == 0 for p in problems) and not any(p.unknown_key for p in problems)
        hint = check if values_in_file else valid_keys
        found = [Problem(p.problem, p.setting, p.place.text) for p in problems[:MOST_PROBLEMS]]
        if more := len(problems) - len(found):
            found.append(Problem(f"and {more:,} more problems"))
        raise ConfigError(found, hint)
    return config
