"""Ctrl-C in the process of a command: it interrupts once, and nothing that it interrupts ends in a traceback.

Python raises KeyboardInterrupt anew for every Ctrl-C, also while the first one is being handled, and swallows one that
meets a finaliser. Here the first one is raised, and is raised again if it was swallowed. Those that follow at once are
a person who presses the keys twice, or a terminal and a parent that both pass the signal on: they change nothing. One
that comes later ends the process, as SIGKILL would; files are written so that this loses none of them.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

# A second Ctrl-C within this time is the same wish.
SECONDS = 2.0
EXIT_CODE = 128 + signal.SIGINT

_raised: float | None = None


def install() -> None:
    """Handle Ctrl-C in this process from now on; whoever has it ignored, such as a shell script, is obeyed."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable


def ignore() -> None:
    """Ignore Ctrl-C: all is done, and the process is about to end."""
    if signal.getsignal(signal.SIGINT) == _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def has_come() -> bool:
    """Whether Ctrl-C has interrupted the command."""
    return _raised is not None


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _raised
    now = time.monotonic()
    if _raised is None:
        _raised = now
        raise KeyboardInterrupt
    if now - _raised > SECONDS:
        os._exit(EXIT_CODE)


def _unraisable(what: Any) -> None:
    global _raised
    if issubclass(what.exc_type, KeyboardInterrupt):
        _raised = None
        _thread.interrupt_main()
    else:
        sys.__unraisablehook__(what)
