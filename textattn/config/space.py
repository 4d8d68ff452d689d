"""What a search may try: settings of a config, each with a range or a list of values; checked before anything runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from textattn.config.load import FIELDS, config_from_mapping
from textattn.config.schema import Config, Section
from textattn.config.yaml12 import Document, dump_yaml, parse_yaml
from textattn.errors import ConfigError, Hint, Option, Problem

Scalar = str | int | float | bool | None

# What is searched where no file says otherwise.
DEFAULT_SPACE = """\
training.learning_rate: {low: 5e-4, high: 1e-2, log: true}
model.hidden_size: [64, 128, 256]
model.dropout.words: {low: 0.0, high: 0.3, step: 0.05}
model.dropout.embedding: {low: 0.0, high: 0.6, step: 0.1}
model.dropout.classifier: {low: 0.0, high: 0.5, step: 0.1}
"""
RANGE_KEYS = ("low", "high", "step", "log")
EXAMPLE = "{low: 0.1, high: 0.5} or [0.1, 0.3, 0.5]"
# Settings, and sections, that a search must not touch, and why.
REFUSED = {
    "seed": "the best of several seeds is luck, not a better setting",
    "data": "trials on different texts cannot be compared",
    "output": "it changes what a run leaves behind, not the model",
    "training.metric": "trials measured differently cannot be compared",
    "training.evaluations_per_epoch": "pruning compares trials after as many evaluations",
}


@dataclass(frozen=True)
class Parameter:
    """A setting and what to try for it: `choices`, or the numbers from `low` to `high`."""

    key: str
    choices: tuple[Scalar, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    """Every order of magnitude as likely as any other"""
    whole: bool = False
    """Whole numbers only"""

    @property
    def path(self) -> tuple[str, ...]:
        """The keys that lead to it."""
        return tuple(self.key.split("."))

    def to_yaml(self) -> Any:
        """As in a file."""
        if self.choices:
            return list(self.choices)
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return found | ({"step": self.step} if self.step else {}) | ({"log": True} if self.log else {})

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(in_yaml, self.choices))
        how = f", steps of {self.step:g}" if self.step else ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{how}"

    def holds(self, value: Any) -> bool:
        """Whether a search may come to this value."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        return self.step is None or math.isclose(value, self.low + round((value - self.low) / self.step) * self.step)

    def tidy(self, value: Any) -> Any:
        """The number as it is tried and written: without the digits that say nothing."""
        if self.choices or self.whole:
            return value
        if self.step:
            return round(value, 12)
        for digits in range(4, 17):
            short = float(f"{value:.{digits}g}")
            if abs(short - value) <= (self.high - self.low) / 1000:
                return min(max(short, self.low), self.high)
        return value


def load_space(file: str | None, config: Config, overrides: Sequence[str] = ()) -> list[Parameter]:
    """Reads and checks a search space; with None the default one, less what does not concern this config.

    Args:
        overrides: those the config was read with; what they set is not searched.

    Raises:
        ConfigError: with every problem and its line.
    """
    given = {word.partition("=")[0].strip() for word in overrides}

    def is_given(key: str) -> bool:
        return any(key == own or key.startswith(f"{own}.") for own in given)

    if file is None:
        parameters = _check(parse_yaml(DEFAULT_SPACE, "default space"), "default space", config)
        if config.model.encoder == "none" or config.training.state_tying:
            given.add("model.hidden_size")  # there are none, or they are bound to the embedding
        parameters = [parameter for parameter in parameters if not is_given(parameter.key)]
        if not parameters:
            raise ConfigError(
                "nothing is left to search: all of the default space is set", Option("space", "space.yaml")
            )
        return parameters
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    document = parse_yaml(text, file)
    twice = [key for key in document.value if is_given(str(key))] if isinstance(document.value, dict) else []
    if twice:
        key = twice[0]
        raise ConfigError(f"{file}:{document.lines[(key,)]}: {key}: searched here, and set by an override as well")
    return _check(document, file, config)


def dump_space(space: Sequence[Parameter]) -> str:
    """As YAML; reading it again gives the same."""
    return dump_yaml({parameter.key: parameter.to_yaml() for parameter in space})


def in_yaml(value: Any) -> str:
    """A value as it is written in a config."""
    return dump_yaml([value]).strip().removeprefix("- ")


def with_values(config: Config, values: Mapping[str, Any], origin: str = "config") -> Config:
    """The config with other values, by their dotted keys.

    Raises:
        ConfigError: the schema refuses one, or a key is none.
    """
    settings = config.model_dump()
    for key, value in values.items():
        *sections, name = key.split(".")
        place: Any = settings
        for depth, section in enumerate(sections, start=1):
            if isinstance(place.get(section, {}), dict):
                place = place.setdefault(section, {})
            else:
                raise ConfigError(f"{origin}: {key}: {'.'.join(sections[:depth])} is not a section", "textattn schema")
        place[name] = value
    return config_from_mapping(settings, origin=origin)


def _check(document: Document, origin: str, config: Config) -> list[Parameter]:
    if not isinstance(document.value, dict):
        raise ConfigError(f"{origin}:1: expected settings to search, such as training.learning_rate: {EXAMPLE}")
    if not document.value:
        raise ConfigError(f"{origin}:1: nothing to search", f"training.learning_rate: {EXAMPLE}")
    parameters: list[Parameter] = []
    problems: list[Problem] = []
    hint: Hint = f"KEY: {EXAMPLE}"
    for key, given in document.value.items():
        try:
            parameters.append(_parameter(key, given, document, origin, config))
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
            hint = error.remedy or hint
    if problems:
        raise ConfigError(problems, hint)
    return parameters


def _parameter(key: str, given: Any, document: Document, origin: str, config: Config) -> Parameter:
    """One setting of the space; its messages begin with its place."""

    def place(*inner: str | int) -> str:
        return f"{origin}:{document.lines.get((key, *inner), document.lines[(key,)])}"

    for refused, why in REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise ConfigError(f"{place()}: {key}: cannot be searched: {why}")
    field = FIELDS.get(tuple(key.split(".")))
    if field is None:
        with_values(config, {key: None}, place())  # says that it is unknown, and what may be meant
        raise ConfigError(f"{place()}: {key}: unknown key", "textattn schema")
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
        inside = next(".".join(path) for path in FIELDS if ".".join(path).startswith(f"{key}."))
        raise ConfigError(f"{place()}: {key}: a section; write the whole key of each setting, such as {inside}: …")
    if isinstance(given, list):
        parameter = _choices(key, given, place)
        tried: list[tuple[Any, str]] = [(value, place(i)) for i, value in enumerate(given)]
    elif isinstance(given, dict):
        parameter = _range(key, given, _types(field.annotation), place)
        tried = [(parameter.low, place("low")), (given["high"], place("high"))]
    else:
        raise ConfigError(f"{place()}: {key}: expected a range or a list of values: {EXAMPLE}")
    refusals: list[Problem] = []
    for value, where in tried:
        try:
            with_values(config, {key: value}, where)
        except ConfigError as error:
            refusals += [problem for problem in error.problems if _is_sure(problem, key, document.value)]
    if refusals:
        raise ConfigError(refusals)
    return parameter


def _is_sure(problem: Problem, key: str, space: Mapping[str, Any]) -> bool:
    """Whether every trial would have the problem.

    It would not where the settings of a section are at odds with one another, and others of them are searched too.
    """
    return problem.setting == key or not any(
        other != key and other.startswith(f"{problem.setting}.") for other in space
    )


def _choices(key: str, given: list[Any], place: Any) -> Parameter:
    if not given:
        raise ConfigError(f"{place()}: {key}: the list is empty")
    for i, value in enumerate(given):
        if isinstance(value, (list, dict)):
            raise ConfigError(f"{place(i)}: {key}: values must be text, numbers, true, false or null")
        if value in given[:i]:
            raise ConfigError(f"{place(i)}: {key}: {in_yaml(value)} stands there twice")
    return Parameter(key, tuple(given))


def _range(key: str, given: dict[str, Any], types: set[Any], place: Any) -> Parameter:
    for name in given:
        if name not in RANGE_KEYS:
            near = difflib.get_close_matches(name, RANGE_KEYS, n=1)
            meant = f"did you mean '{near[0]}'?" if near else f"a range has {', '.join(RANGE_KEYS)}"
            raise ConfigError(f"{place(name)}: {key}: unknown key '{name}'; {meant}")
    if not types & {int, float}:
        raise ConfigError(f"{place()}: {key}: is no number; list the values to try")
    whole = float not in types
    for name in ("low", "high", "step"):
        if name not in given and name != "step":
            raise ConfigError(f"{place()}: {key}: the range has no {name}")
        value = given.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f"{place(name)}: {key}: {name} must be a number")
        if whole and isinstance(value, float):
            raise ConfigError(f"{place(name)}: {key}: {name} must be a whole number, got {value!r}")
    low, high, step, log = given["low"], given["high"], given.get("step"), given.get("log", False)
    if low >= high:
        raise ConfigError(f"{place('low')}: {key}: low must be less than high, got {low!r} and {high!r}")
    if not isinstance(log, bool):
        raise ConfigError(f"{place('log')}: {key}: log must be true or false")
    if log and low <= 0:
        raise ConfigError(f"{place('low')}: {key}: with log, low must be greater than 0, got {low!r}")
    if log and step is not None:
        raise ConfigError(f"{place('step')}: {key}: log and step do not go together")
    if step is not None:
        if not 0 < step <= high - low:
            raise ConfigError(f"{place('step')}: {key}: step must be greater than 0 and fit into the range")
        # The last step that is not beyond `high`, in decimals: 0.3 is six times 0.05.
        exact = Decimal(str(low)), Decimal(str(high)), Decimal(str(step))
        last = exact[0] + (exact[1] - exact[0]) // exact[2] * exact[2]
        high = int(last) if whole else float(last)
    if not whole:
        low, high, step = float(low), float(high), None if step is None else float(step)
    return Parameter(key, low=low, high=high, step=step, log=log, whole=whole)


def _types(annotation: Any) -> set[Any]:
    """The types that stand in an annotation."""
    inside = get_args(annotation)
    return set().union(*map(_types, inside)) if inside else {annotation} if isinstance(annotation, type) else set()
