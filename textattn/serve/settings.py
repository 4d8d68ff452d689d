"""What the server accepts, and from whom."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Sizes and times that bound what one request, and all of them together, can cost."""

    max_body: int = 4 * MEGABYTE
    """Bytes of the body of a request."""
    max_texts: int = 256
    """Texts of a request."""
    max_characters: int = 100_000
    """Characters of a text."""
    seconds: float = 30.0
    """From the end of a request until its answer is computed."""
    seconds_to_send: float = 10.0
    """For the head of a request, and again for its body."""
    max_waiting_texts: int = 10_000
    """Texts of all requests that wait for an answer."""
    max_waiting_bytes: int = 128 * MEGABYTE
    """Bytes of all bodies that are being received, and characters of all texts that wait for an answer."""
    max_connections: int = 1_000


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    host: str = "127.0.0.1"
    """The address that is listened on."""
    token: str | None = None
    """What `Authorization: Bearer …` must say; None: nothing."""
    origins: tuple[str, ...] = ()
    """The web pages of other hosts that may ask (CORS), such as `https://example.org`."""

    @property
    def is_local(self) -> bool:
        """Whether only programs of the same machine reach the server."""
        return is_loopback(self.host)


@dataclass(frozen=True)
class ServerSettings:
    """Everything that the command line says about the server."""

    access: Access = field(default_factory=Access)
    port: int = 8000
    """0: a free one."""
    limits: Limits = field(default_factory=Limits)


@lru_cache  # asked for each request
def is_loopback(host: str) -> bool:
    """Whether a host is the machine itself: `localhost`, `127.0.0.1`, `::1`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
