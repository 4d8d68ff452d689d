"""`predict --input … --output …`: from every format to every format no value changes, with rows or without."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bulk_jobs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_jobs import FORMATS, ROWS, SCHEMA, answered, bulk, cell, expected, files, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.data import chunks
from textattn.inference.classifier import Classifier

# pytest looks for fixtures among the names of a file.
here, model, small = bulk_jobs.here, bulk_jobs.model, bulk_jobs.small


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_format_to_every_format_keeps_every_column(model: Classifier, source: str, target: str) -> None:
    rows = [row | {"text": row["text"].replace("\n", " ")} for row in ROWS] if source == "txt" else ROWS
    write(f"in.{source}", rows, SCHEMA)
    done = bulk("--input", f"in.{source}", "--output", f"out.{target}")
    assert (done.code, done.out) == (0, "")
    assert files() == sorted([f"in.{source}", f"out.{target}"])
    predictions = model.predict([row["text"] for row in rows])
    if target == "txt":
        lines = Path("out.txt").read_text().splitlines()
        assert lines == [f"{p.label}\t{p.score:.4f}" for p in predictions]
        return
    columns = ["text"] if source == "txt" else list(SCHEMA.names)
    found = read(f"out.{target}")
    assert [list(row) for row in found] == [[*columns, "label", "score", "score:neg", "score:pos"]] * len(rows)
    assert answered(found) == expected(predictions)
    if source == "parquet":
        rows = read("in.parquet")
    for row, out in zip(rows, found, strict=True):
        for column in columns:
            value = cell(row[column]) if source in ("csv", "tsv") else row[column]
            if target in ("csv", "tsv"):
                value = cell(value)
            if target == "jsonl" and value != value:
                value = None
            if (source, target) == ("jsonl", "parquet") and isinstance(value, dict):
                # Objects of one column may have any keys: text whatever they are.
                value = json.dumps(value, ensure_ascii=False)
            # repr tells True from 1 and 2.0 from 2, and one NaN is as good as another.
            assert repr(out[column]) == repr(value)
    if target == "parquet":
        schema = pq.read_schema("out.parquet")
        if source == "parquet":
            assert [schema.field(name).type for name in columns] == SCHEMA.types
        if source == "jsonl":
            types = ["int64", "large_string", "double", "bool", "list<element: large_string>"]
            assert [str(schema.field(name).type) for name in columns[:5]] == types
        assert [str(schema.field(name).type) for name in ("score", "score:neg", "score:pos")] == ["double"] * 3


def test_parquet_types_of_all_kinds_survive_with_rows_left_out(small: Callable[[int], None]) -> None:
    import datetime
    import decimal

    small(2)
    now = datetime.datetime(2020, 1, 2, 3, 4, 5)
    columns = {
        "text": pa.array(["a", None, "b", "c", None, None], pa.large_string()),
        "u64": pa.array([2**64 - 1] * 6, pa.uint64()),
        "i8": pa.array([1, None, -128, 2, 3, 4], pa.int8()),
        "half": pa.array([1.5, None, math.inf, math.nan, 0, 1], pa.float32()),
        "when": pa.array([now] * 6, pa.timestamp("us", "UTC")),
        "day": pa.array([now.date(), None] * 3),
        "price": pa.array([decimal.Decimal("1.10")] * 6),
        "bytes": pa.array([b"\xff\x00"] * 6),
        "kind": pa.array(["x", "y", None, "z", "z", "q"]).dictionary_encode(),
        "fixed": pa.array([[1.0, 2.0]] * 6, pa.list_(pa.float32(), 2)),
        "map": pa.array([[("k", 1)], None] * 3, pa.map_(pa.string(), pa.int64())),
        "empty": pa.nulls(6),
    }
    table = pa.table(columns)
    pq.write_table(table, "in.parquet")
    done = bulk("-i", "in.parquet", "-o", "out.parquet", "--on-error", "skip")
    assert (done.code, done.err.count("is empty; expected a text; skipped\n")) == (0, 3)
    out = pq.read_table("out.parquet").select(table.column_names)
    assert out.schema.types == table.schema.types
    kept = pa.concat_tables([table.slice(0, 1), table.slice(2, 2)])
    assert repr(out.to_pylist()) == repr(kept.to_pylist())


@pytest.mark.parametrize(
    "values",
    [
        [{"x": 1}, {"x": 2}, {"x": 3}, None, {"x": 4}],
        [1, 2, 3, "x", "y"],
        ["x", "y", "z", 4, "v"],
        [{}, {}, {}, {"x": 1}, {"x": 2}],
        [True, False, True, 1, 0],
        [[1], [2], [3], ["x"], None],
    ],
    ids=["object or null", "number, then text", "text, then both", "empty object", "truth and number", "lists"],
)
def test_what_a_json_value_becomes_in_parquet_does_not_depend_on_the_chunks(
    small: Callable[[int], None], values: list[Any]
) -> None:
    write("in.jsonl", [{"text": "good", "value": value} for value in values])
    found = []
    for size in (3, 100):
        small(size)
        done = bulk("-i", "in.jsonl", "-o", f"{size}.parquet")
        assert (done.code, done.err.startswith("Error")) == (0, False)
        column = pq.read_table(f"{size}.parquet").column("value")
        found.append((str(column.type), column.to_pylist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("values", [[2**64 + 1, 2**53 + 1], [-0.0, 1.5]])
def test_a_number_of_json_keeps_its_digits_in_parquet(values: list[float]) -> None:
    write("in.jsonl", [{"text": "good", "value": value} for value in values])
    assert bulk("-i", "in.jsonl", "-o", "out.parquet").code == 0
    assert [str(row["value"]) for row in read("out.parquet")] == [str(value) for value in values]


@pytest.mark.parametrize("target", ["csv", "tsv"])
def test_a_carriage_return_in_a_cell_stays_in_its_cell(target: str) -> None:
    rows = [{"text": "one\rtwo", "id": "a\r"}, {"text": "three\r\nfour", "id": "\rb"}]
    write("in.jsonl", rows)
    assert bulk("-i", "in.jsonl", "-o", f"out.{target}").code == 0
    assert [{"text": row["text"], "id": row["id"]} for row in read(f"out.{target}")] == rows


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\ufeff")).filter(str.strip),
        min_size=1,
    ),
    size=st.integers(1, 5),
    kind=st.sampled_from(FORMATS),
)
@settings(deadline=None, max_examples=20, derandomize=True, database=None)
def test_a_file_is_answered_like_a_list_and_like_stdin_whatever_the_chunks(
    model: Classifier, texts: list[str], size: int, kind: str
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path, out = Path(folder) / f"in.{kind}", Path(folder) / "out.jsonl"
        write(path, [{"text": text, "id": i} for i, text in enumerate(texts)])
        patch.setattr(chunks, "MAX_ROWS", size)
        patch.setattr(chunks, "BATCH_ROWS", 1 + size // 2)
        assert bulk("-i", path, "-o", out).code == 0
        piped = bulk("-i", "-", "--input-format", kind, "-o", "-", stdin=path.read_bytes())

        found = read(out)
    assert [row["text"] for row in found] == texts
    assert answered(found) == expected(model.predict(texts))
    assert [json.loads(line) for line in piped.out.split("\n")[:-1]] == found


# No rows


def empty(source: str) -> None:
    if source == "parquet":
        pq.write_table(SCHEMA.empty_table(), "in.parquet")
    else:
        names = {"csv": ",".join(SCHEMA.names) + "\n", "tsv": "\t".join(SCHEMA.names) + "\r\n"}
        Path(f"in.{source}").write_text(names.get(source, ""))


@pytest.mark.parametrize("target", ["txt", "csv", "tsv", "jsonl"])
@pytest.mark.parametrize("source", ["txt", "csv", "tsv", "parquet"])
def test_no_rows_are_a_file_without_rows(source: str, target: str) -> None:
    empty(source)
    done = bulk("-i", f"in.{source}", "-o", f"out.{target}")
    assert done.code == 0
    assert done.err.startswith("0 rows answered in ")
    names = ["text"] if source == "txt" else SCHEMA.names
    header = {"csv": ",", "tsv": "\t"}.get(target)
    lines = [header.join([*names, "label", "score", "score:neg", "score:pos"])] if header else []
    assert Path(f"out.{target}").read_text().splitlines() == lines
    assert files() == sorted([f"in.{source}", f"out.{target}"])


@pytest.mark.parametrize("source", ["txt", "csv", "tsv", "parquet"])
def test_no_rows_are_a_parquet_file_with_all_columns(source: str) -> None:
    empty(source)
    assert bulk("-i", f"in.{source}", "-o", "out.parquet").code == 0
    schema = pq.read_schema("out.parquet")
    names = ["text"] if source == "txt" else SCHEMA.names
    assert schema.names == [*names, "label", "score", "score:neg", "score:pos"]
    if source == "parquet":
        assert schema.types[: len(SCHEMA)] == SCHEMA.types


def test_an_object_file_without_objects_has_no_columns() -> None:
    Path("in.jsonl").write_text("\n")
    done = bulk("-i", "in.jsonl", "-o", "out.csv")
    assert (done.code, done.err) == (3, "Error: in.jsonl: no rows; expected one JSON object a line\n")


FORMULAS = ["=1+1", "+1", "-5", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


@pytest.mark.parametrize("target", ["csv", "tsv"])
def test_formulas_are_escaped_only_where_asked_for(target: str) -> None:
    rows = [{"text": text, "=name": "a=b", "number": -1.5} for text in [*FORMULAS, "good =1", "'=1"]]
    write("in.jsonl", rows)
    for option, name, front in (("", "=name", ""), ("--escape-formulas", "'=name", "'")):
        assert bulk("-i", "in.jsonl", "-o", f"out.{target}", "-f", *option.split()).code == 0
        found = read(f"out.{target}")
        assert [row["text"] for row in found] == [*(front + text for text in FORMULAS), "good =1", "'=1"]
        assert {(row[name], row["number"]) for row in found} == {("a=b", "-1.5")}
        streamed = bulk("-i", "in.jsonl", "-o", "-", "--output-format", target, *option.split())
        assert streamed.out.encode() == Path(f"out.{target}").read_bytes()


@pytest.mark.parametrize(("arguments", "error"), [
    ("-o a.jsonl", "--escape-formulas: jsonl has no cells that a spreadsheet would take for formulas"),
    ("-o a.parquet", "--escape-formulas: parquet has no cells that a spreadsheet would take for formulas"),
    ("", "--escape-formulas needs --output"),
])  # fmt: skip
def test_formulas_are_escaped_only_in_what_spreadsheets_open(arguments: str, error: str) -> None:
    write("in.jsonl", [{"text": "good"}])
    done = bulk("-i", "in.jsonl", "--escape-formulas", *arguments.split())
    assert (done.code, done.out, done.err.splitlines()[0]) == (2, "", f"Error: {error}")
    assert files() == ["in.jsonl"]


@pytest.mark.usefixtures("small")
def test_a_job_goes_on_only_with_formulas_as_it_began() -> None:
    rows = [{"text": f"=good {i}", "n": i} for i in range(7)]
    write("in.jsonl", [*rows[:5], {"text": None, "n": 5}, rows[6]])
    assert bulk("-i", "in.jsonl", "-o", "out.csv", "--escape-formulas").code == 3
    write("in.jsonl", rows)
    done = bulk("-i", "in.jsonl", "-o", "out.csv", "--resume")
    assert done.code == 2
    assert "escape_formulas was True; nothing was changed" in done.err
    assert bulk("-i", "in.jsonl", "-o", "out.csv", "--resume", "--escape-formulas").code == 0
    assert [row["text"] for row in read("out.csv")] == [f"'=good {i}" for i in range(7)]
