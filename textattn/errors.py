"""The errors that a user may meet. Each class carries the exit code that the command line ends with.

An error keeps what is wrong in fields: the setting or option, the place, the problem, the remedy. The command line
renders an option as `--max-drop 1.0`, Python as the argument `max_drop=1.0`. Only these errors are shown as `Error: …`
and `Hint: …`; any other exception is a bug and is reported as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Option:
    """An option of a command, which is an argument of the same name in Python."""

    name: str
    """As Python spells it: `max_drop`."""
    value: object = None
    """A value to give it; None: the option by its name."""
    flag: bool = False
    """It takes no value."""

    def render(self, command_line: bool) -> str:
        """`--max-drop 1.0` or `max_drop=1.0`."""
        if command_line:
            shown = "--" + self.name.replace("_", "-")
            return shown if self.value is None else f"{shown} {self.value}"
        if self.flag:
            return f"{self.name}=True"
        return self.name if self.value is None else f"{self.name}={self.value!r}"


@dataclass(frozen=True)
class Setting:
    """A setting of a config with a value to give it, in a hint."""

    name: str
    value: str

    def render(self, command_line: bool) -> str:
        """`data.path=FOLDER`, on the command line and in Python."""
        return f"{self.name}={self.value}"


Part = str | Option | Setting
Hint = Part | Sequence[Part] | None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    problem: str
    setting: Part | None = None
    """The setting (`training.metric`) or the option that is wrong."""
    place: str | None = None
    """Where it stands: `reviews.csv:17`, a file, an override."""

    def render(self, command_line: bool) -> str:
        """place: setting: problem."""
        setting = None if self.setting is None else _rendered(self.setting, command_line)
        return ": ".join(part for part in (self.place, setting, self.problem) if part)


class TextattnError(Exception):
    """Something that the user can correct."""

    exit_code = 1

    def __init__(
        self,
        problem: str | Sequence[Problem],
        hint: Hint = None,
        *,
        setting: Part | None = None,
        place: str | None = None,
    ) -> None:
        """Keeps what is wrong.

        Args:
            problem: one sentence, or several problems that were found together.
            hint: the remedy, one line that can be pasted or acted on; in parts where it names options.
            setting, place: see `Problem`.
        """
        self.problems = [Problem(problem, setting, place)] if isinstance(problem, str) else list(problem)
        self.remedy = hint
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """What is wrong, in Python's terms; a line for each problem."""
        return self.render(command_line=False)[0]

    @property
    def hint(self) -> str | None:
        """The remedy, in Python's terms."""
        return self.render(command_line=False)[1]

    def render(self, command_line: bool) -> tuple[str, str | None]:
        """The message and the hint, with options as the command line or as Python spells them."""
        message = "\n".join(problem.render(command_line) for problem in self.problems)
        parts = self._parts()
        return message, None if parts is None else "".join(_rendered(part, command_line) for part in parts)

    def in_section(self, section: str, other: str) -> tuple[list[Problem], Hint]:
        """Problems and hint for the same settings in another section of the config, to raise anew."""

        def moved(name: str) -> str:
            return other + name.removeprefix(section) if name.startswith(f"{section}.") else name

        problems = [
            replace(problem, setting=moved(problem.setting) if isinstance(problem.setting, str) else problem.setting)
            for problem in self.problems
        ]
        parts = self._parts()
        if parts is None:
            return problems, None
        return problems, [replace(p, name=moved(p.name)) if isinstance(p, Setting) else p for p in parts]

    def _parts(self) -> Sequence[Part] | None:
        return [self.remedy] if isinstance(self.remedy, (str, Option, Setting)) else self.remedy


def _rendered(part: Part, command_line: bool) -> str:
    return part if isinstance(part, str) else part.render(command_line)


class ConfigError(TextattnError):
    """A config, an override or an argument is wrong (exit code 2)."""

    exit_code = 2


class InputError(TextattnError):
    """A data set, a model or a file is missing, unreadable or damaged (exit code 3)."""

    exit_code = 3


class CheckFailed(TextattnError):
    """A check the user asked for did not hold (exit code 4)."""

    exit_code = 4


class TrainingError(TextattnError):
    """Training cannot go on, for instance because the loss is not a number (exit code 1)."""


class Diverged(TrainingError):
    """The loss is not a finite number: the settings are to blame."""


class Pruned(Exception):
    """Ends a trial of a search that has fallen behind. No user sees it."""


class MissingExtra(TextattnError):
    """An optional dependency is not installed (exit code 2)."""

    exit_code = 2

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs the package {package}", f"pip install 'textattn[{extra}]'")


class Elsewhere(TextattnError):
    """Another process of the same training has said what is wrong; this one ends with the same code, and silently."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this training has stopped")
        self.exit_code = exit_code
