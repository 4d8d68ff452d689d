"""Find, read, override and check a config. All problems are reported together, each with its place."""

from __future__ import annotations

import difflib
import math
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from textattn.config.removed import drop_removed
from textattn.config.schema import Config, Section
from textattn.config.yaml12 import KeyPath, dump_yaml, parse_value, parse_yaml, scalar
from textattn.data.formats import is_table
from textattn.errors import ConfigError, Problem, shell_command

PACKAGE = Path(__file__).parent.parent
AnySection = TypeVar("AnySection", bound=Section)
# Of a config, in bytes because any file may be looked at.
DATA_SECTION = re.compile(rb'^data:\s*(?:\{|#|$)|^\s*\{?\s*"data"\s*:\s*\{', re.MULTILINE)


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


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config and apply overrides.

    Args:
        source: a YAML file, `-` for stdin, or the name of a shipped config. A file takes precedence over a shipped
            config of the same name. A data file (`reviews.csv`) stands for a config that sets only `data.path`.
        overrides: words of the form `key.path=value`.

    Raises:
        ConfigError: with all problems, sorted by line.
    """
    text, origin = _read_source(source)
    document = parse_yaml(text, origin)
    if not isinstance(document.value, dict):
        raise ConfigError(f"expected a mapping (key: value), got {_shown(document.value)}", place=f"{origin}:1")
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
        if is_table(source) and Path(source).is_file() and not _is_config(Path(source)):
            return dump_yaml({"data": {"path": source}}), origin
        if not Path(source).exists() or Path(source).is_dir():
            shipped = shipped_configs()
            if source not in shipped:
                raise ConfigError(_not_found(source, list(shipped)), "textattn configs ls", place=source)
            origin = str(shipped[source])
        return Path(origin).read_text(encoding="utf-8-sig"), origin
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        raise ConfigError(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8",
            "save the file as UTF-8",
            place=f"{origin}:{before.count(10) + 1}:{error.start - before.rfind(10)}",
        ) from None
    except OSError as error:
        raise ConfigError(error.strerror or str(error), place=origin) from None


def _is_config(path: Path) -> bool:
    """Whether a file that may be data or a config by its suffix has a section `data`, as YAML or as JSON."""
    if path.suffix.lower() not in (".json", ".txt"):
        return False
    with path.open("rb") as file:
        return DATA_SECTION.search(file.read(1 << 16)) is not None


def _not_found(source: str, shipped: list[str]) -> str:
    what = "is a folder, not a config" if Path(source).is_dir() else "no such file or shipped config"
    near = _nearest(Path(source).stem, shipped)
    if near is None and Path(source).parent.is_dir():
        siblings = {path.stem: str(path) for path in Path(source).parent.glob("*.yaml") if path.is_file()}
        near = siblings.get(_nearest(Path(source).stem, list(siblings)) or "")
    return f"{what}; " + (f"did you mean '{near}'?" if near else f"shipped configs: {', '.join(shipped)}")


def _plain(value: Any) -> Any:
    """Copy settings, turning every mapping into a dict and every sequence into a list."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


# Overrides


def _resolve(
    values: dict[str, Any], places: dict[KeyPath, Place], overrides: Sequence[str], check: str, valid_keys: str
) -> Config:
    """Apply the overrides and validate. `check` and `valid_keys` are the commands that a hint may suggest."""
    problems = _apply(overrides, values, places)
    problems += [
        Finding(_place(path, places, ""), _dotted(path), problem) for path, problem in drop_removed(values).items()
    ]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _problems(error, values, places)
    if problems:
        problems.sort(key=lambda finding: finding.place[:2])
        values_in_file = any(p.place.override == 0 for p in problems) and not any(p.unknown_key for p in problems)
        hint = check if values_in_file else valid_keys
        raise ConfigError([Problem(p.problem, p.setting, p.place.text) for p in problems], hint)
    return config


def _apply(overrides: Sequence[str], values: dict[str, Any], places: dict[KeyPath, Place]) -> list[Finding]:
    """Set the overridden values in `values`, record their origin in `places`, and return what cannot be set."""
    problems = []
    assignments: list[tuple[tuple[str, ...], Any, Place]] = []
    for number, word in enumerate(overrides, start=1):
        place = Place(number, 0, f"override '{word}'")
        try:
            path, value = _parse_override(word)
        except ConfigError as error:
            problems.append(Finding(place, None, error.message))
            continue
        if any(path == earlier for earlier, _, _ in assignments):
            # The stack level makes the warning point at the caller of load_config or config_from_mapping.
            warnings.warn(
                f"{'.'.join(path)} is overridden more than once; the last override is used: '{word}'", stacklevel=4
            )
        assignments.append((path, value, place))

    _drop_other_source({path[:2] for path, value, _ in assignments if value is not None}, values)
    for path, value, place in assignments:
        section: Any = values
        for depth, key in enumerate(path[:-1], start=1):
            if section.get(key) is None:
                section[key] = {}
                places[path[:depth]] = place
            section = section[key]
            if not isinstance(section, dict):
                what = f"{'.'.join(path[:depth])} is not a section, it is {_shown(section)}"
                problems.append(Finding(place, None, what))
                break
        else:
            section[path[-1]] = value
            for stale in [known for known in places if known[: len(path)] == path]:
                del places[stale]
            places[path] = place
    return problems


def _parse_override(word: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = word.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"expected key=value, got '{word}'")
    if not text.strip():
        raise ConfigError(f"the value is missing; write {key}=null or {key}='\"\"'")
    return path, parse_value(text)


def _drop_other_source(given: set[tuple[str, ...]], values: dict[str, Any]) -> None:
    """Let an override `data.path=my.csv` replace the `data.files` of the config file, and vice versa.

    The subset (`name`) and the revision belong to the replaced source, so they are dropped with it.
    """
    sources = {("data", "path"), ("data", "files")}
    if len(given & sources) == 1 and isinstance(values.get("data"), dict):
        ((_, other),) = sources - given
        for key in (other, "name", "revision"):
            values["data"].pop(key, None)


# Error messages


def _fields(section: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every setting with the path of its keys, sections included."""
    for name, field in section.model_fields.items():
        path = (*prefix, name)
        yield path, field
        for part in (field.annotation, *get_args(field.annotation)):
            # On Python 3.10 list[str] counts as a type, but issubclass refuses it.
            if get_origin(part) is None and isinstance(part, type) and issubclass(part, Section):
                yield from _fields(part, path)


FIELDS = dict(_fields(Config))

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


def _problems(error: ValidationError, values: dict[str, Any], places: dict[KeyPath, Place]) -> list[Finding]:
    """Convert the errors of pydantic. The errors for all branches of one union become one problem."""
    groups: dict[KeyPath, list[Any]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(_value_path(detail, values), []).append(detail)
    unknown = {path: _suggestion(path) for path, details in groups.items() if details[0]["type"] == "extra_forbidden"}
    problems = []
    for path, details in groups.items():
        if any(deeper[: len(path)] == path for deeper in groups if len(deeper) > len(path)):
            continue  # This error belongs to a branch of a union that the user did not mean.
        if path in unknown:
            message = _unknown_key(path, unknown[path])
        elif details[0]["type"] == "missing" and any(
            meant and meant[: len(path)] == path for meant in unknown.values()
        ):
            continue  # The required key exists but is misspelled, which is reported as an unknown key.
        else:
            message = _in_words(path, details)
        problems.append(Finding(_place(path, places, message), _dotted(path), message, path in unknown))
    return problems


def _value_path(detail: Any, values: dict[str, Any]) -> KeyPath:
    """The path of the offending value: pydantic's location without the names of union branches."""
    path: KeyPath = ()
    here: Any = values
    for part in detail["loc"]:
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int)):
            path, here = (*path, part), here[part]
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def _place(path: KeyPath, places: dict[KeyPath, Place], message: str) -> Place:
    """The nearest known place of a value.

    A message about a whole section may name settings that conflict with each other; the place is then that of the last
    of them.
    """
    named = [places[known] for known in places if known[: len(path)] == path != known and _dotted(known) in message]
    while path not in places:
        path = path[:-1]
    return max(named, default=places[path])


def _in_words(path: KeyPath, details: list[Any]) -> str:
    value = details[0]["input"]
    for detail in details:
        if detail["type"] == "value_error":
            return str(detail["ctx"]["error"])
        if detail["type"] in REFUSED and isinstance(value, float) and not math.isfinite(value):
            return f"must be finite, got {_shown(value)}"
        if detail["type"] in REFUSED:
            limits = {k: f"{v:g}" if isinstance(v, float) else v for k, v in detail.get("ctx", {}).items()}
            return REFUSED[detail["type"]].format(got=_shown(value), **limits)
        if detail["type"] == "string_pattern_mismatch":  # The help text of such a setting lists the allowed values.
            description = FIELDS[tuple(map(str, path))].description or ""
            return f"must be {description.rstrip('.')}, got {_shown(value)}"
    expected = [detail["ctx"]["expected"] for detail in details if detail["type"] == "literal_error"]
    choices = re.findall("'([^']*)'", " ".join(expected))
    wanted = [WANTED[detail["type"]] for detail in details if detail["type"] in WANTED]
    if choices:
        wanted.insert(0, ("one of " if len(choices) > 1 else "") + ", ".join(f"'{choice}'" for choice in choices))
    if not wanted:
        return str(details[0]["msg"])
    return f"must be {' or '.join(wanted)}, got {_shown(value)}{_remedy(value, wanted, choices)}"


def _remedy(value: Any, wanted: list[str], choices: list[str]) -> str:
    """What to write instead, or an empty string if that is unknown."""
    if isinstance(value, str):
        near = _nearest(value, choices)
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
        return f"unknown key; valid keys: {', '.join(_keys(path[:-1]))}"
    return f"unknown key; did you mean '{meant[-1] if meant[:-1] == path[:-1] else '.'.join(meant)}'?"


def _suggestion(path: KeyPath) -> tuple[str, ...] | None:
    """The setting that an unknown key most likely means: one in its section, or one of the same name elsewhere."""
    section, key = path[:-1], str(path[-1])
    keys = _keys(section)
    elsewhere = [known for known in FIELDS if _same(key, known[-1])]
    if elsewhere and not any(_same(key, name) for name in keys):
        return min(elsewhere, key=lambda known: (known[: len(section)] != section, len(known)))
    near = _nearest(key, keys)
    return (*map(str, section), near) if near else None


def _keys(section: KeyPath) -> list[str]:
    return [path[-1] for path in FIELDS if path[:-1] == section]


def _nearest(word: str, choices: list[str]) -> str | None:
    same = [choice for choice in choices if _same(word, choice)]
    return next(iter(same or difflib.get_close_matches(word.lower(), choices, n=1)), None)


def _same(word: str, name: str) -> bool:
    """Whether a word differs from a name only in case and separators, or is its initials (`lr`: learning_rate)."""
    bare = re.sub(r"[-_ ]", "", word).lower()
    parts = re.split(r"[-_]", name)
    return bare == "".join(parts) or (len(parts) > 1 and bare == "".join(part[:1] for part in parts))


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else "." + (part or "''") for part in path).lstrip(".")


def _shown(value: Any) -> str:
    """A value as it would be written in YAML, shortened."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"
