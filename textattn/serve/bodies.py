"""Reads the bodies of requests, whose sizes are bounded. (Their times are too, by `textattn.serve.connection`.)"""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from textattn.serve.refusal import Refusal
from textattn.serve.settings import MEGABYTE, Limits

# A body that is too large is read to this size and thrown away, so that its sender sees why; then the connection ends.
MOST_DISCARDED = 256 * MEGABYTE


class Bodies:
    """The bodies that are being received."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The body of a request.

        Raises:
            Refusal: it is too large (413), or too many come at a time (503).
            ClientDisconnect: the client has gone, or has been too slow.
        """
        length = request.headers.get("content-length")
        too_large = length is not None and int(length) > self.limits.max_body
        if too_large and "expect" in request.headers:  # the client waits for leave to send it
            raise self._too_large()
        received = _Received()
        try:
            return await self._receive(request, received, too_large)
        finally:
            self._held -= received.held

    async def _receive(self, request: Request, received: _Received, too_large: bool) -> bytes:
        chunks: list[bytes] = []
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            received.size += len(chunk)
            too_large = too_large or received.size > self.limits.max_body
            if too_large:
                chunks.clear()
                if received.size > MOST_DISCARDED:
                    raise self._too_large()
            else:
                if self._held + len(chunk) > self.limits.max_waiting_bytes:
                    raise Refusal(
                        503, "too many bodies are being received; try again later", headers=CLOSE | {"Retry-After": "1"}
                    )
                self._held += len(chunk)
                received.held += len(chunk)
                chunks.append(chunk)
            if not message.get("more_body", False):
                if too_large:
                    raise self._too_large()
                return b"".join(chunks)

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"the body has more than {self.limits.max_body:,} bytes",
            "send fewer texts at a time, or start the server with a larger --max-body",
            headers=CLOSE,
        )


class _Received:
    """How much of a body has come."""

    def __init__(self) -> None:
        self.size = 0
        self.held = 0


CLOSE = {"Connection": "close"}
