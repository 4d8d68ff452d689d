"""`textattn serve` in a process of its own, as a user starts it, and a client that says what came back."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

TEXT = "Delicious food, friendly staff."
TEXTS = [TEXT, "The room was noisy and the bed was far too soft.", "It is not bad.", "ok"]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of an error; fails if it is none."""
        assert self.headers["content-type"] == "application/json"
        error = self.json()["error"]
        assert set(error) <= {"message", "hint"} and error["message"], error
        return str(error["message"])


class Running:
    """A server."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self.lines: list[str] = []
        """Of stderr."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Bytes are sent as they are, everything else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, content, dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection((self.host, self.port), timeout=30)

    def waits_for(self, text: str, seconds: float = 20) -> str:
        """The line of stderr with a text, as soon as it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if text in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"{text!r} is not in {self.lines}")

    def stop(self) -> int:
        """By SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return code

    def megabytes(self) -> float:
        """Resident memory; 0 where the system does not say."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1000
        return 0.0


def start(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Running:
    """Starts a server on a free port, and returns when it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "textattn", "serve", "--port", "0", *map(str, arguments)],
        env={**os.environ, "PYTHONUTF8": "1", **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    url = process.stdout.readline().strip()
    if not url:
        raise AssertionError(process.stderr.read())
    server = Running(process, url.replace("0.0.0.0", "127.0.0.1"))
    while True:
        with contextlib.suppress(OSError):
            server.ask("/health")
            return server
        assert process.poll() is None, server.lines
        time.sleep(0.05)


@contextlib.contextmanager
def running(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Iterator[Running]:
    """A server that is stopped at the end."""
    server = start(*arguments, env=env, cwd=cwd)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def own_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run that may be changed."""
    return Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("served") / "reviews"))


@pytest.fixture(scope="module")
def server(trained_run: Path) -> Iterator[Running]:
    """A server of the small run; shared by the tests of a file."""
    with running("--model", f"reviews={trained_run}", "--max-texts", "64") as found:
        yield found


@pytest.fixture(scope="session")
def number_run(make_once: Any) -> Path:
    """A run that predicts numbers; tests must not change it."""
    from test_regression import SMALL, rows_of, write

    def make(folder: Path) -> None:
        import textattn

        data = write(folder / "data.csv", rows_of(200))
        textattn.train(data, [*SMALL, f"output.dir={folder / 'run'}"])

    return Path(make_once("served_numbers", make)) / "run"
