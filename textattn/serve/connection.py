"""A connection that ends when its request does not come (uvicorn itself would wait for ever), and says when it ends."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from textattn.serve.refusal import Refusal

# Of an ASGI scope: a function that tells whether the client has gone.
IS_GONE = "textattn.is_gone"


def connections_with(seconds: float) -> type[HttpToolsProtocol]:
    """The class of connections for uvicorn.

    Args:
        seconds: the time for the head of a request, and again for its body.
    """

    class TimedConnection(_Connection):
        seconds_to_send = seconds

    return TimedConnection


class _Connection(HttpToolsProtocol):
    seconds_to_send: float
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._begin()
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[IS_GONE] = self.transport.is_closing

    def on_headers_complete(self) -> Any:
        self._begin()
        return super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end()
        super().on_message_complete()

    def _begin(self) -> None:
        self._end()
        self._timer = self.loop.call_later(self.seconds_to_send, self._give_up)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            refusal = Refusal(408, f"the request did not arrive within {self.seconds_to_send:g} seconds")
            content = bytes(refusal.response().body)
            head = (
                "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(content)}\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()
