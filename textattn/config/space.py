"""The search space: settings of a config, each with a range or a list of values. It is checked before trials start."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from textattn.config.fields import FIELDS
from textattn.config.load import config_from_mapping
from textattn.config.schema import Config
from textattn.config.section import Section
from textattn.config.yaml12 import Document, dump_yaml, parse_yaml
from textattn.errors import ConfigError, Hint, Option, Problem

Scalar = str | int | float | bool | None
Fail = Callable[..., ConfigError]
"""Makes the error for a problem of a setting, at a key or item of its range or list."""

# The search space if no file is given.
DEFAULT_SPACE = """\
training.learning_rate: {low: 5e-4, high: 1e-2, log: true}
model.hidden_size: [64, 128, 256]
model.dropout.words: {low: 0.0, high: 0.3, step: 0.05}
model.dropout.embedding: {low: 0.0, high: 0.6, step: 0.1}
model.dropout.classifier: {low: 0.0, high: 0.5, step: 0.1}
"""
RANGE_KEYS = ("low", "high", "step", "log")
EXAMPLE = "{low: 0.1, high: 0.5} or [0.1, 0.3, 0.5]"
# Settings and sections that a search must not change, and the reason.
REFUSED = {
    "seed": "the best of several seeds is the luckiest, not a better setting",
    "data": "trials on different texts cannot be compared",
    "output": "it changes the files that a run writes, not the model",
    "training.metric": "trials with different metrics cannot be compared",
    "training.evaluations_per_epoch": "pruning compares trials after the same number of evaluations",
}


@dataclass(frozen=True)
class Parameter:
    """A setting and the values to try for it: `choices`, or the numbers from `low` to `high`."""

    key: str
    choices: tuple[Scalar, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    """Sample on a logarithmic scale: every order of magnitude is equally likely."""
    whole: bool = False
    """Try whole numbers only."""

    @property
    def path(self) -> tuple[str, ...]:
        """The keys that lead to the setting."""
        return tuple(self.key.split("."))

    def to_yaml(self) -> Any:
        """The range or list as it is written in a file."""
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
        """Whether this value belongs to the search space."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        return self.step is None or math.isclose(value, self.low + round((value - self.low) / self.step) * self.step)

    def tidy(self, value: Any) -> Any:
        """Round a sampled number to the digits that matter; trials use and record the rounded number."""
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
    """Read and check a search space.

    Args:
        file: the YAML file; None: the default space without the settings that have no effect in this config.
        config: the config to search.
        overrides: the overrides that the config was read with. The settings that they set are not searched.

    Raises:
        ConfigError: with every problem and its line.
    """
    given = {word.partition("=")[0].strip() for word in overrides}

    def is_given(key: str) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in given)

    if file is None:
        parameters = _check(parse_yaml(DEFAULT_SPACE, "default space"), "default space", config)
        if config.model.encoder == "none" or config.training.state_tying:
            # Without an encoder the size has no effect, and state tying fixes it to the size of the embedding.
            given.add("model.hidden_size")
        parameters = [parameter for parameter in parameters if not is_given(parameter.key)]
        if not parameters:
            raise ConfigError(
                "nothing is left to search: overrides set every setting of the default space",
                Option("space", "space.yaml"),
            )
        return parameters
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text ({error.reason} at byte {error.start})", place=file) from None
    except OSError as error:
        raise ConfigError(error.strerror or str(error), place=file) from None
    document = parse_yaml(text, file)
    twice = [key for key in document.value if is_given(str(key))] if isinstance(document.value, dict) else []
    if twice:
        key = twice[0]
        raise ConfigError(
            "is searched, but an override sets it as well", setting=key, place=f"{file}:{document.lines[(key,)]}"
        )
    return _check(document, file, config)


def dump_space(space: Sequence[Parameter]) -> str:
    """Write a search space as YAML. Reading it again gives an equal space."""
    return dump_yaml({parameter.key: parameter.to_yaml() for parameter in space})


def in_yaml(value: Any) -> str:
    """Write a value as it appears in a config."""
    return dump_yaml([value]).strip().removeprefix("- ")


def with_values(config: Config, values: Mapping[str, Any], origin: str = "config") -> Config:
    """Replace settings of a config, which is not changed.

    Args:
        config: the config.
        values: the new values by dotted key.
        origin: the place that messages name.

    Raises:
        ConfigError: a key is unknown or its value is invalid.
    """
    settings = config.model_dump()
    for key, value in values.items():
        *sections, name = key.split(".")
        place: Any = settings
        for depth, section in enumerate(sections, start=1):
            if isinstance(place.get(section, {}), dict):
                place = place.setdefault(section, {})
            else:
                problem = f"{'.'.join(sections[:depth])} is not a section"
                raise ConfigError(problem, "textattn schema", setting=key, place=origin)
        place[name] = value
    return config_from_mapping(settings, origin=origin)


def _check(document: Document, origin: str, config: Config) -> list[Parameter]:
    if not isinstance(document.value, dict):
        problem = f"expected settings to search, such as training.learning_rate: {EXAMPLE}"
        raise ConfigError(problem, place=f"{origin}:1")
    if not document.value:
        raise ConfigError("nothing to search", f"training.learning_rate: {EXAMPLE}", place=f"{origin}:1")
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
    """Check one setting of the space."""

    def place(*inner: str | int) -> str:
        return f"{origin}:{document.lines.get((key, *inner), document.lines[(key,)])}"

    def fail(problem: str, *inner: str | int) -> ConfigError:
        return ConfigError(problem, setting=key, place=place(*inner))

    for refused, why in REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise fail(f"cannot be searched: {why}")
    field = FIELDS.get(tuple(key.split(".")))
    if field is None:
        with_values(config, {key: None}, place())  # Raises an error that suggests which key may be meant.
        raise ConfigError("unknown key", "textattn schema", setting=key, place=place())
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
        inside = next(".".join(path) for path in FIELDS if ".".join(path).startswith(f"{key}."))
        raise fail(f"is a section; write the whole key of each setting, such as {inside}: …")
    if isinstance(given, list):
        parameter = _choices(key, given, fail)
        tried: list[tuple[Any, str]] = [(value, place(i)) for i, value in enumerate(given)]
    elif isinstance(given, dict):
        parameter = _range(key, given, _types(field.annotation), fail)
        tried = [(parameter.low, place("low")), (given["high"], place("high"))]
    else:
        raise fail(f"expected a range or a list of values: {EXAMPLE}")
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

    That is unknown if the problem is a conflict between settings of a section and the space contains others of them.
    """
    return problem.setting == key or not any(
        other != key and other.startswith(f"{problem.setting}.") for other in space
    )


def _choices(key: str, given: list[Any], fail: Fail) -> Parameter:
    if not given:
        raise fail("the list is empty")
    for i, value in enumerate(given):
        if isinstance(value, (list, dict)):
            raise fail("values must be text, numbers, true, false or null", i)
        if value in given[:i]:
            raise fail(f"the list contains {in_yaml(value)} twice", i)
    return Parameter(key, tuple(given))


def _range(key: str, given: dict[str, Any], types: set[Any], fail: Fail) -> Parameter:
    for name in given:
        if name not in RANGE_KEYS:
            near = difflib.get_close_matches(name, RANGE_KEYS, n=1)
            meant = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(RANGE_KEYS)}"
            raise fail(f"unknown key '{name}'; {meant}", name)
    if not types & {int, float}:
        raise fail("is not a number, so it has no range; list the values to try")
    whole = float not in types
    for name in ("low", "high", "step"):
        if name not in given and name != "step":
            raise fail(f"the range has no {name}")
        value = given.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise fail(f"{name} must be a number", name)
        if whole and isinstance(value, float):
            raise fail(f"{name} must be a whole number, got {value!r}", name)
    low, high, step, log = given["low"], given["high"], given.get("step"), given.get("log", False)
    if low >= high:
        raise fail(f"low must be less than high, got {low!r} and {high!r}", "low")
    if not isinstance(log, bool):
        raise fail("log must be true or false", "log")
    if log and low <= 0:
        raise fail(f"with log, low must be greater than 0, got {low!r}", "low")
    if log and step is not None:
        raise fail("log and step cannot be combined", "step")
    if step is not None:
        if not 0 < step <= high - low:
            raise fail("step must be greater than 0 and at most high - low", "step")
        # `high` becomes the last step that does not exceed it, computed in decimals so that 0.3 is six times 0.05.
        exact = Decimal(str(low)), Decimal(str(high)), Decimal(str(step))
        last = exact[0] + (exact[1] - exact[0]) // exact[2] * exact[2]
        high = int(last) if whole else float(last)
    if not whole:
        low, high, step = float(low), float(high), None if step is None else float(step)
    return Parameter(key, low=low, high=high, step=step, log=log, whole=whole)


def _types(annotation: Any) -> set[Any]:
    """The types that occur in an annotation."""
    inside = get_args(annotation)
    return set().union(*map(_types, inside)) if inside else {annotation} if isinstance(annotation, type) else set()
