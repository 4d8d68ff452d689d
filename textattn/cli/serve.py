"""`textattn serve`."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

from textattn.cli.console import flush, note, out, waiting
from textattn.cli.options import Quiet
from textattn.errors import ConfigError, MissingExtra, Option

TOKEN = "TEXTATTN_TOKEN"
LEAST_TOKEN = 16
NEW_TOKEN = f"export {TOKEN}=$(python3 -c 'import secrets; print(secrets.token_urlsafe())')"
ORIGIN = re.compile(r"\*|https?://[^/\s]+")
PACKAGES = ("fastapi", "uvicorn", "httptools", "prometheus_client")


def serve(  # noqa: PLR0913 (every option of a command is a parameter)
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]MODEL",
            help="Run directory, bundle or hf://user/name, with a name for requests if you like; may be repeated. "
            "Default: $TEXTATTN_MODEL or the newest run in runs/.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help=f"Address to listen on; needs ${TOKEN} if it is not local.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", metavar="N", min=0, max=65535, help="0: one that is free.")
    ] = 8000,
    cors: Annotated[
        list[str] | None,
        typer.Option("--cors", metavar="ORIGIN", help="Pages of this origin may ask, such as https://example.org."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, max=3600, help="Time limit of an answer.")
    ] = 30.0,
    max_body: Annotated[
        int, typer.Option("--max-body", metavar="MB", min=1, max=1024, help="Largest body of a request.")
    ] = 4,
    max_texts: Annotated[
        int, typer.Option("--max-texts", metavar="N", min=1, max=10_000, help="Most texts of a request.")
    ] = 256,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime", metavar="NAME", help="onnx or int8; default: the first the model has.", show_default=False
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Answer texts over HTTP, and show a page to try the model.

    \b
    textattn serve
    textattn serve --model reviews=runs/reviews/TIME --model tickets=runs/tickets/TIME --port 8080
    curl http://127.0.0.1:8000/predict --data '{"text": "Delicious food, friendly staff."}'

    The page is at /. POST /predict, /explain and /embed take {"text": …} or {"texts": [ … ]}; /openapi.json describes
    them. GET /health, /models and /metrics say how the server is. POST /reload, or the signal HUP, loads changed models
    again; TERM and Ctrl-C stop the server after it has answered what was asked.
    """
    check_installed()
    from textattn.serve.settings import MEGABYTE, Access, Limits, ServerSettings

    for origin in cors or []:
        if not ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"must be an origin without a path, got {origin!r}",
                Option("cors", "https://example.org"),
                setting=Option("cors"),
            )
    access = Access(host, os.environ.get(TOKEN) or None, tuple(cors or ()))
    check_token(access.token, access.is_local, host)
    settings = ServerSettings(access, port, Limits(max_body=max_body * MEGABYTE, max_texts=max_texts, seconds=timeout))
    from textattn.serve.models import Models
    from textattn.serve.server import Server, address_of, listen

    # A port that is taken is said before anything is loaded.
    listener = listen(settings)
    with waiting("Loading the model …"):
        models = Models(model or [], runtime)
    server = Server(models, settings, note)
    names = ", ".join(f"{served.name} ({served.model.path})" for served in models)
    note(f"Serving {names}; Ctrl-C stops")
    out(address_of(listener))
    flush()
    server.run(listener)
    note("Stopped")


def check_installed() -> None:
    """Raises MissingExtra unless everything that a server needs is installed."""
    from importlib.util import find_spec

    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra("textattn serve", package.replace("_", "-"), "serve")


def check_token(token: str | None, is_local: bool, host: str) -> None:
    """Raises ConfigError where other machines could ask without a token that cannot be guessed."""
    if token is None:
        if not is_local:
            raise ConfigError(f"{host} can be reached from other machines, so {TOKEN} must be set", NEW_TOKEN)
    elif len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{TOKEN} must be at least {LEAST_TOKEN} printable ASCII characters without spaces", NEW_TOKEN
        )
