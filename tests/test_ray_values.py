"""What goes between the steps of the Ray engine comes back as it was, and is JSON and Arrow."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from textattn.data.chunks import Chunk
from textattn.data.table import RowProblem
from textattn.errors import InputError, Option, Problem, Setting
from textattn.inference.bulk import FinishedPart
from textattn.inference.partial import Summary
from textattn.inference.ray_values import pack_chunk, pack_error, pack_part, unpack_chunk, unpack_error, unpack_part

VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()


@given(st.lists(st.tuples(st.text(), st.dictionaries(st.text(), VALUES | st.lists(VALUES, max_size=2)))))
def test_chunks(rows: list[tuple[str, dict[str, Any]]]) -> None:
    problems = [RowProblem("a.csv", 3, "odd \ud800")]
    chunk = Chunk("a.csv", 9, [text for text, _ in rows], [record for _, record in rows], [], problems, [0])
    packed = pack_chunk(chunk)
    json.loads(packed[0])
    assert repr(unpack_chunk(packed)) == repr(chunk)


def test_typed_rows() -> None:
    batches = [pa.record_batch({"text": ["a", "b"], "day": pa.array([1, None], pa.date32())}).slice(1)]
    found = unpack_chunk(pack_chunk(Chunk("a.parquet", 2, ["b"], [], batches)))
    assert found.batches == batches


def test_parts_and_errors() -> None:
    part = FinishedPart(3, "digest", b"\x00\xff", Summary(rows=3, problems=["x"]))
    assert unpack_part(pack_part(part)) == part
    problems = [Problem("bad", Option("input"), "/tmp/x/a.csv:3"), Problem("worse", None, None)]
    error = InputError(problems, ["do ", Option("on_error", "skip"), Setting("data.text", "x")])
    found = unpack_error(pack_error(error, "/tmp/x/a.csv", "a.csv"))
    assert found.hint == error.hint
    assert [one.place for one in found.problems] == ["a.csv:3", None]
    assert found.problems[0].setting == Option("input")
    assert unpack_error(pack_error(InputError("alone"))).hint is None
