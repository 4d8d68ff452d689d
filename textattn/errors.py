"""The errors that a user may see. Each class has the exit code with which the command line ends.

An error has fields for the setting or option, the place, the problem and the remedy. The command line renders an option
as `--max-drop 1.0`, Python renders it as the argument `max_drop=1.0`. Hints are meant to be pasted, so names and values
from elsewhere are quoted for a shell: by `Option` and `Setting`, and in whole commands by `shell_command`. Only these
errors are shown as `Error: …` and `Hint: …`; every other exception is a bug and is reported as such.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Option:
    """An option of a command; in Python it is an argument of the same name."""

    name: str
    """The name in Python's spelling: `max_drop`."""
    value: object = None
    """The value that is shown with the option; None shows the name only."""
    flag: bool = False
    """Whether the option is a flag, which takes no value."""

    def render(self, command_line: bool) -> str:
        """Render the option as `--max-drop 1.0` (command line) or `max_drop=1.0` (Python)."""
        if command_line:
            shown = "--" + self.name.replace("_", "-")
            return shown if self.value is None else f"{shown} {shlex.quote(str(self.value))}"
        if self.flag:
            return f"{self.name}=True"
        return self.name if self.value is None else f"{self.name}={self.value!r}"


@dataclass(frozen=True)
class Setting:
    """A setting of a config with a value to give it, in a hint."""

    name: str
    value: str

    def render(self, command_line: bool) -> str:
        """`data.path=FOLDER`; on the command line with quotes where a shell needs them."""
        return f"{self.name}={shlex.quote(self.value) if command_line else self.value}"


def shell_command(text: str, *names: object) -> str:
    """A command that can be pasted: each `{}` in the text becomes a name, quoted for a shell."""
    return text.format(*(shlex.quote(str(name)) for name in names))


Part = str | Option | Setting
Hint = Part | Sequence[Part] | None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    problem: str
    setting: Part | None = None
    """The setting (`training.metric`) or the option that is wrong."""
    place: str | None = None
    """Where the problem is: `reviews.csv:17`, a file, an override."""

    def render(self, command_line: bool) -> str:
        """Render the problem as `place: setting: problem`."""
        setting = None if self.setting is None else _rendered(self.setting, command_line)
        return ": ".join(part for part in (self.place, setting, self.problem) if part)


class TextattnError(Exception):
    """An error that the user can correct."""

    exit_code = 1

    def __init__(
        self,
        problem: str | Sequence[Problem],
        hint: Hint = None,
        *,
        setting: Part | None = None,
        place: str | None = None,
    ) -> None:
        """Create the error.

        Args:
            problem: one sentence, or several problems that were found together.
            hint: the remedy, one line that can be pasted or acted on; a sequence of parts if it names options.
            setting, place: see `Problem`.
        """
        self.problems = [Problem(problem, setting, place)] if isinstance(problem, str) else list(problem)
        self.remedy = hint
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The problems, one per line, with options in Python's spelling."""
        return self.render(command_line=False)[0]

    @property
    def hint(self) -> str | None:
        """The remedy, with options in Python's spelling."""
        return self.render(command_line=False)[1]

    def render(self, command_line: bool) -> tuple[str, str | None]:
        """The message and the hint, with options in the spelling of the command line or of Python."""
        message = "\n".join(problem.render(command_line) for problem in self.problems)
        parts = self.hint_parts
        return message, None if parts is None else "".join(_rendered(part, command_line) for part in parts)

    def in_section(self, section: str, other: str) -> tuple[list[Problem], Hint]:
        """Problems and hint for the same settings in another section of the config, to raise anew."""

        def moved(name: str) -> str:
            return other + name.removeprefix(section) if name.startswith(f"{section}.") else name

        problems = [
            replace(problem, setting=moved(problem.setting) if isinstance(problem.setting, str) else problem.setting)
            for problem in self.problems
        ]
        parts = self.hint_parts
        if parts is None:
            return problems, None
        return problems, [replace(p, name=moved(p.name)) if isinstance(p, Setting) else p for p in parts]

    @property
    def hint_parts(self) -> Sequence[Part] | None:
        """The remedy in parts, as text, options and settings."""
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
    """A check that the user asked for has failed (exit code 4)."""

    exit_code = 4


class TrainingError(TextattnError):
    """Training cannot continue, for instance because the loss is not a number (exit code 1)."""


class Diverged(TrainingError):
    """The loss is not a finite number, which is a result of the settings."""


class Pruned(Exception):
    """Ends a trial of a search that has fallen behind. The user does not see this exception."""


class MissingExtra(TextattnError):
    """An optional dependency is not installed (exit code 2)."""

    exit_code = 2

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs the package {package}", f"pip install 'textattn[{extra}]'")


class Elsewhere(TextattnError):
    """Another process of the same training has reported the error; this process ends silently with the same code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this training has stopped")
        self.exit_code = exit_code
