"""A light load generator: so many connections, each with one request at a time, for so many seconds. For bench.py.

    .venv/bin/python scripts/serve_load.py http://127.0.0.1:8000/predict --bodies bodies.jsonl --connections 32

Prints one JSON object: requests, errors, and quantiles of the seconds from sending a request to its whole answer. It
runs in a process of its own, reads no more of an answer than it must, and takes any other status than 200 for an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

QUANTILES = {"median": 0.5, "p99": 0.99, "slowest": 1.0}
LENGTH = b"content-length: "
HEAD_END = b"\r\n\r\n"


@dataclass
class Load:
    """What is sent, and what came back."""

    requests: list[bytes]
    ends: float
    """The time at which no more requests are sent."""
    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    sent: int = 0

    def next_request(self) -> bytes:
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]


class Connection(asyncio.Protocol):
    """Sends a request, waits for the whole answer, and sends the next one."""

    def __init__(self, load: Load, done: asyncio.Future[None]) -> None:
        self.load = load
        self.done = done
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        if self.started >= self.load.ends:
            self.transport.close()
            return
        self.received = b""
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(HEAD_END)
        if end < 0:
            return
        place = self.received.find(LENGTH) + len(LENGTH)
        length = int(self.received[place : self.received.find(b"\r\n", place)])
        if len(self.received) < end + len(HEAD_END) + length:
            return
        if self.received.startswith(b"HTTP/1.1 200"):
            self.load.seconds.append(time.perf_counter() - self.started)
        else:
            self.load.errors += 1
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self.load.ends:
            self.load.errors += 1
        if not self.done.done():
            self.done.set_result(None)


async def run(url: str, bodies: list[bytes], connections: int, seconds: float) -> Load:
    """Loads a server."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    load = Load([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies], time.perf_counter() + seconds)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_future() for _ in range(connections)]
    for done in waiting:
        await loop.create_connection(partial(Connection, load, done), str(parts.hostname), parts.port or 80)
    await asyncio.gather(*waiting)
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--bodies", type=Path, required=True, help="a body on each line")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    bodies = arguments.bodies.read_bytes().splitlines()
    work = run(arguments.url, bodies, arguments.connections, arguments.seconds)
    try:
        import uvloop
    except ImportError:
        load = asyncio.run(work)
    else:
        load = uvloop.run(work)
    took = sorted(load.seconds) or [0.0]
    quantiles = {name: took[int(share * (len(took) - 1))] for name, share in QUANTILES.items()}
    print(json.dumps({"requests": len(load.seconds), "errors": load.errors} | quantiles))


if __name__ == "__main__":
    main()
