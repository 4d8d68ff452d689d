"""Runs the application: the socket and the signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from textattn.errors import ConfigError, Option
from textattn.serve.app import Service, create_app
from textattn.serve.connection import connections_with
from textattn.serve.models import Models
from textattn.serve.refusal import Refusal
from textattn.serve.settings import ServerSettings

BACKLOG = 1024
# A client keeps its connection for so long between two requests.
SECONDS_IDLE = 30
# Beyond the time limit of requests, before what is still running when the server stops is given up.
SECONDS_TO_STOP = 5
STDIN = 0


def listen(settings: ServerSettings) -> socket.socket:
    """The socket on which the server will listen.

    Raises:
        ConfigError: the address does not exist here, or the port is in use or not allowed.
    """
    host, port = settings.access.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        hint = Option("port", 0 if port < 1024 else port + 1 if port < 65535 else port - 1)
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}", hint) from None


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server:
    """Answers on a socket until it is told to stop."""

    def __init__(self, models: Models, settings: ServerSettings, say: Callable[[str], None]) -> None:
        """
        Args:
            say: prints a line for the person who started the server; called from the event loop.
        """
        self._service = Service(models, settings.limits)
        self._say = say
        app = create_app(self._service, settings.access, self._report, self._on_start)
        # Its own log would repeat what is said here.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        limits = settings.limits

        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=connections_with(settings.limits.seconds_to_send),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=limits.max_connections,
                timeout_keep_alive=SECONDS_IDLE,
                timeout_graceful_shutdown=int(limits.seconds + SECONDS_TO_STOP),
                backlog=BACKLOG,
            )
        )
        self._reloading: set[asyncio.Task[None]] = set()
        self._has_terminal = os.isatty(STDIN)

    def run(self, listener: socket.socket) -> None:
        """Answers until SIGTERM or SIGINT, and then what has been asked already."""
        self._server.run(sockets=[listener])

    def stop(self) -> None:
        """Stops as a signal does; from another thread."""
        self._server.should_exit = True

    def _on_start(self) -> None:
        if hasattr(signal, "SIGHUP"):
            with_signals = asyncio.get_running_loop().add_signal_handler
            try:
                with_signals(signal.SIGHUP, self._start_reload)
            except (RuntimeError, ValueError):  # not the main thread, which is the only one that gets signals
                return

    def _start_reload(self) -> None:
        if self._has_terminal and not os.isatty(STDIN):
            # The signal does not ask for a reload: the window in which the server was started has been closed.
            self.stop()
            return
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload(self) -> None:
        try:
            changed = await self._service.reload()
        except Refusal as refusal:
            self._say(refusal.message)
        else:
            self._say(f"Reloaded: {', '.join(changed)}" if changed else "Reloaded: no model has changed")

    def _report(self, error: Exception) -> None:
        import traceback

        self._say("".join(traceback.format_exception(error)).rstrip())


class _Uvicorn(uvicorn.Server):
    """Ends without an error when it is told to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At a second signal, what is still running is given up."""
        self.force_exit = self.should_exit
        self.should_exit = True
