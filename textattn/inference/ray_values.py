"""What goes between the steps of `textattn.inference.ray_engine`, as JSON and Arrow: nothing that can run code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textattn.data.chunks import Chunk
from textattn.data.table import RowProblem
from textattn.errors import Hint, InputError, Option, Part, Problem, Setting
from textattn.inference.bulk import FinishedPart
from textattn.inference.partial import Summary

Packed = tuple[str, bytes]
"""JSON, and bytes for which JSON would be too large."""


def pack_chunk(chunk: Chunk) -> Packed:
    """Rows to answer; those of typed files as an Arrow stream."""
    import pyarrow as pa

    facts = {
        "origin": chunk.origin, "last_row": chunk.last_row, "texts": chunk.texts, "records": chunk.records,
        "problems": [[problem.origin, problem.row, problem.message] for problem in chunk.problems],
        "places": chunk.places,
    }  # fmt: skip
    if not chunk.batches:
        return json.dumps(facts), b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.batches[0].schema) as writer:
        for batch in chunk.batches:
            writer.write_batch(batch)
    return json.dumps(facts), sink.getvalue().to_pybytes()


def unpack_chunk(packed: Packed) -> Chunk:
    """The result of `pack_chunk` as it was."""
    import pyarrow as pa

    facts = json.loads(packed[0])
    batches = list(pa.ipc.open_stream(packed[1])) if packed[1] else []
    problems = [RowProblem(*problem) for problem in facts.pop("problems")]
    return Chunk(**facts, batches=batches, problems=problems)


def pack_part(part: FinishedPart) -> Packed:
    """A part of the output."""
    facts = {"rows": part.rows, "read": part.read, "summary": asdict(part.summary)}
    return json.dumps(facts), part.content


def unpack_part(packed: Packed) -> FinishedPart:
    """The result of `pack_part` as it was."""
    facts = json.loads(packed[0])
    return FinishedPart(facts["rows"], facts["read"], packed[1], Summary(**facts["summary"]))


def pack_error(error: InputError, path: str = "", name: str = "") -> Packed:
    """What is wrong.

    Args:
        error: the error.
        path: a file as it is called here.
        name: the same as the user called it, which takes the place of the path.
    """

    def named(text: str | None) -> str | None:
        return text.replace(path, name) if text and path else text

    problems = [[named(each.problem), _pack(each.setting), named(each.place)] for each in error.problems]
    remedy = error.remedy
    if remedy is not None:
        remedy = [remedy] if isinstance(remedy, str | Option | Setting) else remedy
        remedy = [_pack(part) for part in remedy]
    return json.dumps({"problems": problems, "remedy": remedy}), b""


def unpack_error(packed: Packed) -> InputError:
    """The result of `pack_error`."""
    facts = json.loads(packed[0])
    problems = [Problem(problem, _unpack(setting), place) for problem, setting, place in facts["problems"]]
    remedy: Hint = None
    if facts["remedy"] is not None:
        parts: Sequence[Part | None] = [_unpack(part) for part in facts["remedy"]]
        remedy = [part for part in parts if part is not None]
    return InputError(problems, remedy)


def _pack(part: Part | None) -> Any:
    if isinstance(part, Option):
        value = str(part.value) if isinstance(part.value, Path) else part.value
        return {"option": [part.name, value, part.flag]}
    if isinstance(part, Setting):
        return {"setting": [part.name, part.value]}
    return part


def _unpack(value: Any) -> Part | None:
    if isinstance(value, dict):
        return Option(*value["option"]) if "option" in value else Setting(*value["setting"])
    found: str | None = value
    return found
