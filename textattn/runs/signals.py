"""Ctrl-C and SIGTERM while something is written or trained: a step is finished first, a second signal ends at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from textattn.errors import Hint, TextattnError


class Interrupted(TextattnError):
    """Ctrl-C or SIGTERM during training; says what was kept."""

    def __init__(self, signal_number: int, message: str, hint: Hint) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


class Terminated(BaseException):
    """Raised in the main thread by the handler of SIGTERM, to share the way out with KeyboardInterrupt."""


def signal_number(stop: BaseException) -> int:
    """Of the signal that raised it."""
    return int(signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)


class Signals:
    """Inside `with`, a first signal waits for `check`, or for `at_once`; a second one is answered as before it."""

    def __init__(self) -> None:
        self.forced = False
        """A second signal broke off whatever was being done."""
        self._previous: dict[int, Any] = {}
        self.waiting = 0
        """The number of a signal that came and was not answered yet."""
        self._may_break = False

    def __enter__(self) -> Signals:
        # Only the main thread has signals; what ignores a signal, or dies of it, may go on doing so.
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
        """Raises what a signal that came meanwhile would have raised, here or (its `number`) in another process."""
        number = self.waiting if number is None else number
        if number:
            self._previous[number](number, None)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, nothing is lost by breaking off: a first signal does not wait."""
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
