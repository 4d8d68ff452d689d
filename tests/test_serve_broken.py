"""Requests that are broken: none is answered with 500, none costs memory, and the next one is answered."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import TEXT, Running, running

pytest.importorskip("fastapi", reason="needs the extra serve")
PATHS = ("/predict", "/explain", "/embed")
# Megabytes by which the memory of the server may grow.
GROWTH = 20
# Values that are no text.
WRONG: list[Any] = [
    None, True, 0, -1.5, 1e308, 10**400, "", " ", "\t", "\u200b\u0000", [], {}, [[]], [None], {"text": None},
    [["a"] * 5], {"text": "a", "more": "b"}, ["a", 1], "\U0001f600" * 3000, "a\tb\tc", "\ufeff",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(trained_run: Path) -> Iterator[Running]:
    with running("--model", trained_run, "--max-texts", "64", "--timeout", "5") as found:
        yield found
        assert not [line for line in found.lines if "Error" in line or "Traceback" in line], found.lines


@pytest.fixture(autouse=True)
def answers_the_next_request(server: Running) -> Iterator[None]:
    yield
    assert server.ask("/predict", {"text": TEXT}).status == 200
    deadline = time.monotonic() + 10
    while "textattn_waiting_texts 0.0" not in (text := server.ask("/metrics").body.decode()):
        assert time.monotonic() < deadline, text
    assert 'status="500"' not in text


def send(server: Running, content: bytes, *, wait: bool = True, seconds: float = 20) -> bytes:
    """Bytes on a connection of their own; what came back before the server closed it, or fell silent."""
    with server.connect() as connection:
        connection.settimeout(seconds)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has seen enough
            connection.sendall(content)
        if not wait:
            return b""
        return answer_of(connection)


def answer_of(connection: socket.socket) -> bytes:
    """A whole answer; empty if the server closed the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
            head, end, body = received.partition(b"\r\n\r\n")
            place = head.lower().find(b"content-length: ") + 16
            if end and place >= 16 and len(body) >= int(head[place:].split(b"\r\n")[0]):
                break
    return received


def request(path: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode() + body


def broken_body(random_: random.Random) -> bytes:
    """A body that is nearly right."""
    good = json.dumps({"texts": [TEXT, TEXT], "top_k": 2, "model": "run"}).encode()
    kind = random_.randrange(6)
    if kind == 0:  # truncated
        return good[: random_.randrange(len(good))]
    if kind == 1:  # bytes changed
        changed = bytearray(good)
        for _ in range(random_.randint(1, 5)):
            changed[random_.randrange(len(changed))] = random_.randrange(256)
        return bytes(changed)
    if kind == 2:  # nested
        opening = random_.choice(["[", '{"text":', '{"texts":['])
        return (opening * random_.randint(1, 50_000)).encode()
    if kind == 3:  # other types
        key = random_.choice(["text", "texts", "top_k", "model", "method", "target", "against", "min_score", "x", ""])
        value = {"text": TEXT} if random_.random() < 0.5 and key != "text" else {}
        return json.dumps(value | {key: random_.choice(WRONG)}).encode()
    if kind == 4:  # a list of them
        return json.dumps({"texts": random_.choices([TEXT, *WRONG], k=random_.randint(0, 80))}).encode()
    return random_.randbytes(random_.randint(0, 2000))


def test_bodies_that_are_nearly_right(server: Running) -> None:
    send_broken(server, 100, seed=1)


@pytest.mark.slow
def test_a_thousand_broken_bodies(server: Running) -> None:
    send_broken(server, 300, seed=2)
    before = server.megabytes()
    send_broken(server, 1000, seed=3)
    assert server.megabytes() - before < GROWTH


def send_broken(server: Running, count: int, seed: int) -> None:
    random_ = random.Random(seed)
    for _ in range(count):
        path, body = random_.choice(PATHS), broken_body(random_)
        answer = server.ask(path, body)
        assert answer.status in (200, 400, 404, 413, 422), (path, body[:200], answer)
        if answer.status != 200:
            assert answer.message


def test_a_body_that_is_too_large_is_not_kept(server: Running) -> None:
    before = server.megabytes()
    body = b'{"text": "' + b"a" * 100_000_000 + b'"}'
    answer = send(server, request("/predict", body))
    assert b" 413 " in answer.split(b"\r\n")[0] and b"--max-body" in answer
    # The same without saying its size first.
    chunked = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [b"a" * 1_000_000] * 50) + b"0\r\n\r\n"
    assert b" 413 " in send(server, chunked + chunks).split(b"\r\n")[0]
    # One that asks for leave first need not be sent.
    head = request("/predict", b"", length=10**11).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    assert b" 413 " in send(server, head).split(b"\r\n")[0]
    assert server.megabytes() - before < GROWTH


@pytest.mark.parametrize(
    "content",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nHost: localhost\r\nOrigin: \xff\xfe\r\n\r\n",
        b"POST /reload HTTP/1.1\r\nHost: \xff\r\nOrigin: http://[\r\n\r\n",
    ],
)  # fmt: skip
def test_heads_that_are_broken(server: Running, content: bytes) -> None:
    answer = send(server, content + b"\r\n\r\n", seconds=15)
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:300]


def test_clients_that_go_away(server: Running) -> None:
    before = server.megabytes()
    body = json.dumps({"texts": [TEXT] * 60}).encode()
    for i in range(150):
        whole = request(PATHS[i % 3], body)
        send(server, whole[: 20 + i * len(whole) // 150] if i % 2 else whole, wait=False)
    assert server.megabytes() - before < GROWTH


def test_clients_that_send_slowly_do_not_keep_others_waiting(trained_run: Path) -> None:
    """Neither a head nor a body that does not come keeps a connection."""
    with running("--model", trained_run) as server:
        found: dict[int, bytes] = {}

        def drip(i: int, content: bytes) -> None:
            with server.connect() as connection:
                connection.settimeout(30)
                try:
                    for byte in content:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.5)
                except (BrokenPipeError, ConnectionResetError):
                    return
                found[i] = answer_of(connection)

        def silent(i: int, content: bytes) -> None:
            with server.connect() as connection:
                connection.sendall(content)
                found[i] = answer_of(connection)

        whole = request("/predict", b'{"text": "a"}', length=100)
        kinds: list[tuple[Callable[[int, bytes], None], bytes]] = [
            (silent, b""), (silent, b"POST /predict HTT"), (silent, whole[:60]), (silent, whole), (drip, whole),
        ]  # fmt: skip
        threads = [
            threading.Thread(target=function, args=(i, content))
            for i, (function, content) in enumerate(kind for kind in kinds for _ in range(8))
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for _ in range(20):
            asked = time.monotonic()
            assert server.ask("/predict", {"text": TEXT}).status == 200
            assert time.monotonic() - asked < 5
        for thread in threads:
            thread.join()
        assert time.monotonic() - started < 25
        late = [answer for answer in found.values() if answer]
        assert late and all(b" 408 " in answer.split(b"\r\n")[0] for answer in late)
        assert server.ask("/predict", {"text": TEXT}).status == 200


@pytest.mark.slow
def test_requests_made_from_the_description(server: Running) -> None:
    """Schemathesis: right and wrong requests from the OpenAPI; answers must be as described, and wrong ones refused."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        response_schema_conformance,
        status_code_conformance,
    )

    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
        negative_data_rejection,
    ]
    modes = schemathesis.GenerationMode
    called = 0
    for operation in schema.get_all_operations():
        # Of a path without a body, no request is wrong.
        for mode in (modes.POSITIVE, modes.NEGATIVE) if operation.ok().body else (modes.POSITIVE,):
            cases = operation.ok().as_strategy(generation_mode=mode)

            @given(case=cases)
            @settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            def check(case: Any) -> None:
                nonlocal called
                called += 1
                case.call_and_validate(checks=checks)

            check()
    assert called > 200
