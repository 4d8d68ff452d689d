"""Requests for each second, and how long they take: `textattn serve` and what people write themselves. For bench.py."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import textattn

HERE = Path(__file__).parent
SENTENCES = 500
START_SECONDS = 60
# Before the memory is looked at: caches fill, and allocators settle.
WARM_SECONDS = 10
# Name in the table -> (what runs, its path).
CANDIDATES = {
    "textattn serve, /predict": ("serve", "/predict"),
    "textattn serve, /explain": ("serve", "/explain"),
    "the same model, plain FastAPI, /predict": ("plain", "/predict"),
    "the same model, plain FastAPI, /explain": ("plain", "/explain"),
    "TF-IDF, logistic regression, plain FastAPI, /predict": ("tf_idf", "/predict"),
}


def serve(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Loads each candidate in turn."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder, "bodies.jsonl")
        texts = sentences(arguments.model, arguments.tokens)
        bodies.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        for name, (kind, path) in CANDIDATES.items():
            seconds = arguments.seconds if kind == "serve" else min(arguments.seconds, arguments.peer_seconds)
            with running(kind, arguments.model) as (process, url), Memory(process.pid) as memory:
                load(url + path, bodies, arguments.connections, WARM_SECONDS)
                memory.begin()
                found = load(url + path, bodies, arguments.connections, seconds)
            rows.append(
                {
                    "candidate": name,
                    "seconds": seconds,
                    "requests/s": round(found["requests"] / seconds),
                    "errors": found["errors"],
                    "median ms": round(1000 * found["median"], 1),
                    "p99 ms": round(1000 * found["p99"], 1),
                    "memory MB": round(memory.first),
                    "growth MB": round(memory.most - memory.first, 1),
                }
            )
    return rows


def sentences(run: Path, tokens: int) -> list[str]:
    """Texts of exactly so many tokens, cut from the bundled reviews."""
    model = textattn.load(run)
    corpus = Path(textattn.__file__).parent / "corpus" / "reviews" / "train.jsonl"
    rows = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    joined = [" ".join(rows[first : first + 4]) for first in range(0, len(rows), 2)]
    found = [
        text[: row.offsets[tokens - 1][1]]
        for text, row in zip(joined, model.tokenizer.encode_with_offsets(joined), strict=True)
        if len(row.offsets) >= tokens
    ]
    return found[:SENTENCES]


@contextmanager
def running(kind: str, run: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server in a process of its own, with its URL; stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if kind == "serve":
        command = [sys.executable, "-m", "textattn", "serve", "--model", str(run), "--port", str(port), "--quiet"]
    else:
        command = [sys.executable, str(HERE / "serve_peers.py"), kind, str(run), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/openapi.json", process)
        yield process, url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                answer.read()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server did not start: {process.args!r}")
            time.sleep(0.1)


def load(url: str, bodies: Path, connections: int, seconds: float) -> dict[str, Any]:
    """Runs the load generator."""
    command = [sys.executable, str(HERE / "serve_load.py"), url, "--bodies", str(bodies)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=seconds + START_SECONDS)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Memory:
    """Looks at the resident memory of a process every second (on Linux; elsewhere it is 0)."""

    def __init__(self, pid: int) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.first = self.most = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def begin(self) -> None:
        """What comes from now on is growth."""
        self.first = self.most = self._now()

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            self.most = max(self.most, self._now())

    def _now(self) -> float:
        """Megabytes."""
        try:
            lines = self.status.read_text().splitlines()
        except OSError:
            return 0.0
        return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS:")), 0.0)
