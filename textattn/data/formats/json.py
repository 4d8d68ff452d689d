"""json: one array of JSON objects, whose keys are the columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textattn.data.formats.jsonl import Jsonl


class Json(Jsonl):
    """One array of JSON objects; a file with one object a line is read as well."""

    suffixes: tuple[str, ...] = (".json",)
    streams = False

    def join(self, parts: Sequence[Path], columns: Sequence[str], output: Path) -> None:
        """One array; the parts hold one object a line."""
        with output.open("wb") as out:
            between = b"[\n"
            for part in parts:
                with part.open("rb") as file:
                    for line in file:
                        out.write(between + line.rstrip(b"\n"))
                        between = b",\n"
            out.write(b"\n]\n" if between == b",\n" else b"[]\n")
