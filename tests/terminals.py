"""A command on a real terminal, which a test types on and reads from."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS = 20.0
COLOURS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r")


class OnTerminal:
    """`with OnTerminal("label", "pool.csv", cwd=folder) as terminal:`"""

    def __init__(
        self, *arguments: str | Path, cwd: Path, lines: int = 24, env: Mapping[str, str] | None = None
    ) -> None:
        self.leader, self.follower = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": str(lines), **(env or {})}
        self.before: list[Any] = termios.tcgetattr(self.follower)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "textattn", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            stdin=self.follower,
            stdout=self.follower,
            stderr=self.follower,
            start_new_session=True,
            preexec_fn=self._become_terminal,
        )
        self.raw = b""
        self.read_to = 0

    def _become_terminal(self) -> None:
        import fcntl

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        os.close(self.leader)
        os.close(self.follower)

    def settings(self) -> list[Any]:
        """Those of the terminal, as termios gives them."""
        return termios.tcgetattr(self.follower)

    @property
    def shown(self) -> str:
        """All that was printed, without colours."""
        return COLOURS.sub("", self.raw.decode("utf-8", "replace"))

    def expect(self, text: str) -> str:
        """Waits until a text is shown behind the one that was expected before; gives what is shown up to its end."""
        until = time.monotonic() + SECONDS
        while (found := self.shown.find(text, self.read_to)) < 0:
            if not select.select([self.leader], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} was not shown, but: {self.shown[self.read_to :]}")
            self._receive()
        before, self.read_to = self.read_to, found + len(text)
        return self.shown[before : self.read_to]

    def type(self, keys: str) -> None:
        os.write(self.leader, keys.encode())

    def end(self) -> int:
        """Waits for the end; gives the exit code."""
        until = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < until, self.shown
            if select.select([self.leader], [], [], 0.05)[0]:
                self._receive()
        while select.select([self.leader], [], [], 0)[0]:
            self._receive()
        return self.process.returncode

    def _receive(self) -> None:
        self.raw += os.read(self.leader, 65536)
