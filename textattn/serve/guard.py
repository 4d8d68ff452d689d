"""Who may ask: the token, and what keeps pages of other hosts from using a server on this machine. Counts requests."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textattn.serve.metrics import Metrics
from textattn.serve.refusal import Refusal
from textattn.serve.settings import Access, is_loopback

# Without a token; they tell nothing about the models.
OPEN = ("/", "/health")
OPEN_FOLDER = "/page/"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
NO_PAGE = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
UNNAMED = "other"


class Guard:
    """Wraps an application: refuses who may not ask, adds headers, counts, and reports what nobody foresaw."""

    def __init__(
        self, app: ASGIApp, access: Access, metrics: Metrics, endpoints: set[str], on_error: Callable[[Exception], None]
    ) -> None:
        """
        Args:
            app: what answers.
            endpoints: the paths that are counted by name.
            on_error: told about errors that are bugs.
        """
        self.app = app
        self.access = access
        self.metrics = metrics
        self.endpoints = endpoints
        self.on_error = on_error
        self._token = None if access.token is None else access.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = [*message.get("headers", ()), *HEADERS]
                if not any(name == NO_PAGE[0] for name, _ in headers):
                    headers.append(NO_PAGE)
            await send(message)

        try:
            try:
                self._check(scope)
            except Refusal as refusal:
                await refusal.response()(scope, receive, send_marked)
            else:
                await self.app(scope, receive, send_marked)
        except Exception as error:  # which has been answered, see `textattn.serve.app`
            self.on_error(error)
        finally:
            path = scope["path"]
            endpoint = path if path in self.endpoints else f"/{path.split('/')[1]}/"
            endpoint = endpoint if endpoint in self.endpoints else UNNAMED
            self.metrics.request(endpoint, status, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        """Raises Refusal where a request may not be answered."""
        given = {name: value for name, value in scope["headers"] if name in (b"host", b"origin", b"authorization")}
        host = given.get(b"host", b"").decode("latin-1")
        if self.access.is_local and not _is_here(host):
            # Another page has made its own name point to this machine.
            raise Refusal(403, f"the Host {host!r} is not this machine", "ask http://127.0.0.1 or http://localhost")
        origin = given.get(b"origin")
        if origin is not None and scope["method"] != "GET" and not self._is_known(origin.decode("latin-1"), host):
            raise Refusal(
                403,
                f"the page {origin.decode('latin-1')!r} may not ask this server",
                "start the server with --cors and this origin",
            )
        path = scope["path"]
        if self._token is None or path in OPEN or path.startswith(OPEN_FOLDER) or scope["method"] == "OPTIONS":
            return
        scheme, _, token = given.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(token.strip(), self._token)  # in constant time
        if scheme.lower() != b"bearer" or not right:
            raise Refusal(
                401,
                "this server asks for its token",
                "Authorization: Bearer … with the value of TEXTATTN_TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    def _is_known(self, origin: str, host: str) -> bool:
        """Whether a page is this server's own, or one of --cors."""
        if origin in self.access.origins or "*" in self.access.origins:
            return True
        return urlsplit(origin).netloc == host != ""


@lru_cache
def _is_here(host: str) -> bool:
    """Whether a Host header, with a port or without, names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
