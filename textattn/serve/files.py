"""The files that a browser shows: the page at / and the report of a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.responses import Response

from textattn.errors import InputError
from textattn.explain.html import asset
from textattn.serve.models import ServedModel
from textattn.serve.refusal import Refusal
from textattn.storage.run_dir import REPORT

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Styles that the pages of explanations have as well.
SHARED = ("colors.css", "marks.css")
OWN = ("index.html", "page.css", "page.js", "drawing.js")
PAGE_FILES = OWN[1:] + SHARED
# Nothing but the files of the page, no script or style inside it, and no frame around it.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report may come from a stranger's bundle: its script runs, but apart from this server.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'none'"
)


@cache
def _content(name: str) -> bytes:
    if name in SHARED:
        return asset(name).encode()
    return (Path(__file__).parent / "page" / name).read_bytes()


def page_file(name: str) -> Response:
    """A file of the page."""
    kind = TYPES[Path(name).suffix]
    return Response(_content(name), media_type=kind, headers={"Content-Security-Policy": PAGE_POLICY})


def report_of(served: ServedModel) -> Response:
    """The report.html of a model.

    Raises:
        Refusal: there is none (404).
    """
    if not served.has_report:
        raise Refusal(404, f"the model {served.name!r} has no {REPORT}", "`textattn report` writes it for a run")
    try:
        content = served.model.files.read(REPORT)
    except InputError as error:
        raise Refusal(404, error.message, error.hint) from None
    return Response(content, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})
