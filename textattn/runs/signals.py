"""Handle Ctrl-C and SIGTERM during training and writing: the current step is finished, unless a second signal comes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from textattn.errors import Hint, TextattnError


class Interrupted(TextattnError):
    """Training was interrupted by Ctrl-C or SIGTERM; the message says what was saved."""

    def __init__(self, signal_number: int, message: str, hint: Hint) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


class Terminated(BaseException):
    """Raised in the main thread by the handler of SIGTERM, so that it is handled like KeyboardInterrupt."""


def signal_number(stop: BaseException) -> int:
    """The number of the signal that raised this exception."""
    return int(signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)


class Signals:
    """Inside `with`, a first signal is held back until `check` or `at_once`; a second one gets its previous handler."""

    def __init__(self) -> None:
        self.forced = False
        """Whether a second signal has interrupted the current work."""
        self._previous: dict[int, Any] = {}
        self.waiting = 0
        """The number of the signal that is held back, or 0."""
        self._may_break = False

    def __enter__(self) -> Signals:
        # Only the main thread receives signals. Signals that are ignored, or that end the process, remain unchanged.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(previous := signal.getsignal(number)):
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def check(self, number: int | None = None) -> None:
        """Handle a signal that was held back.

        Args:
            number: the number of a signal that another process received; the default is that of this process.
        """
        number = self.waiting if number is None else number
        if number:
            self._previous[number](number, None)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Do not hold back a first signal inside this block, because nothing is lost by an interruption."""
        self.check()
        self._may_break = True
        try:
            yield
        finally:
            self._may_break = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.waiting and not self._may_break:
            self.waiting = number
            return
        self.forced = not self._may_break
        self._previous[number](number, frame)
