"""Where a person's answers come from: single keys of a terminal, or lines of a pipe."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from textattn.cli.console import out
from textattn.errors import InputError

# What a terminal sends for an arrow and the like.
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
_LINE_END = re.compile("[\r\n]")
ENTER, END = "\n", "\x04"
"""END: there is nothing more to come, or Ctrl-D."""


class Lines:
    """Lines of stdin; each is an answer."""

    reads_keys = False

    def __init__(self) -> None:
        self._number = 0

    def key(self) -> str:
        """The next answer: a line without its end, ENTER for an empty one, END after the last one.

        Raises:
            InputError: it is not UTF-8.
        """
        line = self.line("")
        return END if line is None else line or ENTER

    def line(self, prompt: str) -> str | None:
        """The next line without white space around it; None after the last one."""
        if prompt:
            out(prompt)
        content = sys.stdin.buffer.readline()
        self._number += 1
        if not content:
            return None
        try:
            return content.decode("utf-8-sig" if self._number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"stdin:{self._number}: byte {error.start + 1} of the line is not UTF-8") from None


class Keys:
    """Keys of a terminal, which need no Enter. Only on systems with termios."""

    reads_keys = True

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed = ""

    def key(self) -> str:
        """The next key; arrows and the like are not handed over."""
        while not self._typed:
            if not self._receive():
                return END
            self._typed = _SEQUENCE.sub("", self._typed)
        key, self._typed = self._typed[0], self._typed[1:]
        return ENTER if key == "\r" else key

    def line(self, prompt: str) -> str | None:
        """A line that is typed with the editing of the terminal; None at Ctrl-D."""
        import termios

        sys.stdout.write(prompt)
        sys.stdout.flush()
        now = termios.tcgetattr(self._descriptor)
        _set(self._descriptor, termios.ICANON | termios.ECHO, True)
        try:
            while not (end := _LINE_END.search(self._typed)):
                if not self._receive():
                    return None
            line, self._typed = self._typed[: end.start()], self._typed[end.end() :]
            return _edited(line).strip()
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, now)

    def _receive(self) -> bool:
        content = os.read(self._descriptor, 4096)
        self._typed += self._decoder.decode(content)
        return bool(content)


def _edited(line: str) -> str:
    """A line after its backspaces, which the terminal does not see to if they were typed before it was asked to."""
    kept: list[str] = []
    for character in _SEQUENCE.sub("", line):
        if character in "\x7f\b":
            del kept[-1:]
        else:
            kept.append(character)
    return "".join(kept)


Answers = Keys | Lines


@contextlib.contextmanager
def answers() -> Iterator[Answers]:
    """The keys of a terminal, which is as it was before when the block ends, or else lines."""
    try:
        import termios
    except ImportError:  # Windows: a key and Enter
        yield Lines()
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Lines()
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    # SIGTERM would leave a terminal that shows nothing of what is typed.
    terminate = signal.signal(signal.SIGTERM, _terminate)
    try:
        _set(descriptor, termios.ICANON | termios.ECHO, False)
        yield Keys()
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _set(descriptor: int, flags: int, on: bool) -> None:
    import termios

    settings: list[Any] = termios.tcgetattr(descriptor)
    settings[3] = settings[3] | flags if on else settings[3] & ~flags
    termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
