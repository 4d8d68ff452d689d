"""The errors a user may meet. Each class carries the exit code the command line ends with.

Only these are turned into `Error: …` and `Hint: …`; any other exception is a bug and is reported as one.
"""

from __future__ import annotations


class TextattnError(Exception):
    """Something the user can mend. `hint` is one line that can be pasted or acted on."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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
