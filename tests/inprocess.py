"""The command line inside the test's own process: the whole of `main`, without the seconds a process costs."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from textattn.cli import console, main


class Result(NamedTuple):
    code: int
    out: str
    err: str


# Tests have models with few words, so that nearly every text is new to them.
UNKNOWN_WORDS = re.compile(r"Note: [\d,]+ of [\d,]+ texts consist mostly of words that the model has never seen\n")


def run(*arguments: str | Path, stdin: bytes = b"", encoding: str = "utf-8", **environment: str) -> Result:
    """What `textattn ARGUMENTS` prints and ends with, but for a note about unknown words; see `run_with_all_notes`.

    Args:
        stdin: the content of a pipe.
    """
    done = run_with_all_notes(*arguments, stdin=stdin, encoding=encoding, **environment)
    return done._replace(err=UNKNOWN_WORDS.sub("", done.err))


def run_with_all_notes(
    *arguments: str | Path, stdin: bytes = b"", encoding: str = "utf-8", **environment: str
) -> Result:
    """The same with everything that is printed."""
    streams = [io.TextIOWrapper(io.BytesIO(content), encoding) for content in (stdin, b"", b"")]
    terminate = signal.getsignal(signal.SIGTERM)
    names = ("stdin", "stdout", "stderr")
    before = {name: getattr(sys, name) for name in names}
    words: Sequence[str] = [str(argument) for argument in arguments]
    with patch.dict(os.environ, environment), patch.object(sys, "argv", ["textattn", *words]):
        try:
            for name, stream in zip(names, streams, strict=True):
                setattr(sys, name, stream)
            try:
                main()
                code: object = 0
            except SystemExit as stop:
                code = stop.code or 0
            for stream in streams[1:]:
                stream.flush()
        finally:
            for name, stream in before.items():
                setattr(sys, name, stream)
            signal.signal(signal.SIGTERM, terminate)
            console._quiet = console._debug = False
    assert isinstance(code, int)
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams[1:])  # type: ignore[attr-defined]
    assert "Traceback" not in err or "--debug" in words or environment.get("TEXTATTN_DEBUG")
    return Result(code, out, err)
