"""`predict --input … --output …`: every format to every format, bad rows, interruptions at any moment, little memory.

Chunks are made small here, so that a few rows are many parts.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import Result
from inprocess import run as cli

import textattn
from textattn.cli.console import display_width
from textattn.data import chunks
from textattn.runtime.classifier import Classifier, Prediction

FORMATS = ("txt", "csv", "tsv", "jsonl", "parquet")
Record = dict[str, Any]

# What a cell can hold and a format can lose.
COLUMNS: dict[str, list[Any]] = {
    "id": [1, 2, -3, None, 2**53 + 1, 6, 7],
    "text": [
        "The film was a joy.",
        "Cold soup,\nrude waiter.",
        "",
        "Ein schönes Buch 😀\u2028 x\u0085",
        'a, "quoted" b',
        "tab\there",
        "  spaces stay  ",
    ],
    "ratio": [0.1, math.nan, 0.25, 1e30, None, 2.0, 1 / 3],
    "ok": [True, False, None, True, True, True, False],
    "tags": [["a", "b"], [], None, ["😀", None], ["\n"], ["c"], ["c"]],
    "more": [
        {"x": 1, "y": ["é"]},
        {"x": 2, "y": []},
        {"x": None, "y": None},
        {"x": 2**53 + 1, "y": ['"']},
        {"x": 5, "y": [","]},
        {"x": 6, "y": ["\t"]},
        {"x": 7, "y": ["\\"]},
    ],
    "note": ["plain", 'say "hi"', "two\nlines", "a,b", "a\tb", "", "NULL"],
}
ROWS: list[Record] = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "text": pa.string(),
        "ratio": pa.float32(),
        "ok": pa.bool_(),
        "tags": pa.list_(pa.string()),
        "more": pa.struct({"x": pa.int64(), "y": pa.list_(pa.string())}),
        "note": pa.dictionary(pa.int32(), pa.string()),
    }
)
TEXTS: list[str] = COLUMNS["text"]


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Classifier:
    return textattn.load(trained_run)


@pytest.fixture(scope="module")
def multi_label_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that gives several labels, or none."""
    folder = tmp_path_factory.mktemp("multi")
    words = {"good": ["pos"], "bad": ["neg"], "both": ["pos", "neg"], "nothing": []}
    rows = [{"text": f"{word} thing {i}", "labels": labels} for i in range(20) for word, labels in words.items()]
    write(folder / "data.jsonl", rows)
    sizes = ["tokenizer.vocab_size=100", "model.embedding_dim=8", "model.hidden_size=8", "training.epochs=1"]
    columns = [f"data.path={folder / 'data.jsonl'}", "data.text=text", "data.label=labels"]
    run = textattn.train("goemotions", [*columns, *sizes, f"output.dir={folder / 'run'}"])
    # It learned nothing in so short a time; thresholds in the middle give it something to say.
    config = json.loads((run / "config.json").read_text())
    scores = textattn.load(run).predict_proba([row["text"] for row in rows])
    config["thresholds"] = [float(sorted(column)[len(rows) // 2]) for column in scores.T]
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of rows of a chunk."""

    def set_rows(rows: int) -> None:
        monkeypatch.setattr(chunks, "MAX_ROWS", rows)
        monkeypatch.setattr(chunks, "BATCH_ROWS", rows)

    set_rows(3)
    return set_rows


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_run: Path) -> Path:
    """Each test in an empty folder, with the tiny model as the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTATTN_MODEL", str(trained_run))
    return tmp_path


def write(path: Path | str, rows: list[Record], schema: pa.Schema | None = None, encoding: str = "utf-8") -> None:
    """Rows in the format of the suffix, by other means than our own."""
    path = Path(path)
    kind = path.suffix[1:]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=5)
    elif kind == "jsonl":
        # Python's JSON, and so pandas', has a NaN.
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding, newline="\n")
    elif kind == "txt":
        path.write_text("".join(f"{row['text']}\n" for row in rows), encoding, newline="\n")
    else:
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            names = list(rows[0])
            writer.writerows([names, *([cell(row[name]) for name in names] for row in rows)])


def read(path: Path | str) -> list[Record]:
    """Rows from the format of the suffix; every cell of csv and tsv is a string."""
    path = Path(path)
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        # json.loads would take NaN for JSON.
        return [json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").split("\n")[:-1]]
    return from_csv(path.read_bytes().decode(), "\t" if path.suffix == ".tsv" else ",")


def from_csv(content: str, delimiter: str = ",") -> list[Record]:
    header, *rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def cell(value: Any) -> str:
    """How a value stands in csv."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def bulk(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> Result:
    return cli("predict", *arguments, stdin=stdin, **environment)


def answered(rows: list[Record]) -> Any:
    """Label, score and the score of each label, to compare with `==`."""
    return [
        (row["label"], *(pytest.approx(float(row[name]), abs=1e-6) for name in ("score", "score:neg", "score:pos")))
        for row in rows
    ]


def expected(predictions: list[Prediction]) -> Any:
    return [(p.label, p.score, p.scores["neg"], p.scores["pos"]) for p in predictions]


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def content(folder: Path | str) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


# Formats


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
    assert (done.code, done.err.count("has no text; skipped\n")) == (0, 3)
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


@pytest.mark.parametrize("target", ["csv", "tsv"])
def test_a_key_of_a_late_object_is_not_lost_without_a_word(target: str) -> None:
    """Where the header is written already."""
    write("in.jsonl", [{"text": "good"} for _ in range(150)] + [{"text": "bad", "late": "precious"}])
    done = bulk("-i", "in.jsonl", "-o", f"out.{target}")
    assert done.code == 3
    assert done.err.startswith(
        "Error: in.jsonl:151: key 'late' was not in the first rows, and the output has no column"
    )


@pytest.mark.parametrize("target", ["jsonl", "parquet"])
def test_keys_that_come_and_go_are_kept(small: Callable[[int], None], target: str) -> None:
    small(2)
    rows = [{"text": "a"}, {"text": "b"}, {"text": "c", "n": 1}, {"n": 2, "text": "d", "l": ["x"]}, {"text": "e"}]
    write("in.jsonl", rows)
    assert bulk("-i", "in.jsonl", "-o", f"out.{target}").code == 0
    for row, out in zip(rows, read(f"out.{target}"), strict=True):
        kept = {key: value for key, value in out.items() if key in ("text", "n", "l") and value is not None}
        assert kept == row


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\ufeff")), min_size=1),
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


# Columns that are added


@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_names_that_the_input_uses_are_not_overwritten(model: Classifier, target: str) -> None:
    write("in.csv", [{"label": "mine", "predicted_score": "1", "score": "2", "text": "good", "file": "3"}])
    assert bulk("-i", "in.csv", "-o", f"out.{target}").code == 0
    (row,) = read(f"out.{target}")
    added = ["predicted_label", "predicted_predicted_score", "score:neg", "score:pos"]
    assert list(row) == ["label", "predicted_score", "score", "text", "file", *added]
    assert [row[name] for name in ("label", "predicted_score", "score", "file")] == ["mine", "1", "2", "3"]
    (prediction,) = model.predict("good")
    assert row["predicted_label"] == prediction.label
    assert float(row["predicted_predicted_score"]) == pytest.approx(prediction.score, abs=1e-6)


@pytest.mark.usefixtures("small")
def test_a_name_that_only_a_late_object_uses_is_a_bad_row() -> None:
    """By then the columns have their names."""
    write("in.jsonl", [{"text": "good"} for _ in range(150)] + [{"text": "bad", "label": "mine"}])
    done = bulk("-i", "in.jsonl", "-o", "out.jsonl")
    assert done.code == 3
    assert done.err.startswith("Error: in.jsonl:151: key 'label' was not in the first rows")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_attention_is_that_of_explain(model: Classifier, target: str) -> None:
    write("in.parquet", ROWS, SCHEMA)
    assert bulk("-i", "in.parquet", "-o", f"out.{target}", "--attention").code == 0
    names = ("tokens", "starts", "ends", "weights")
    for row, explanation in zip(read(f"out.{target}"), model.explain(TEXTS), strict=True):
        tokens, starts, ends, weights = ((json.loads if target == "csv" else list)(row[name]) for name in names)
        assert tokens == explanation.tokens
        assert list(zip(starts, ends, strict=True)) == explanation.offsets
        assert weights == pytest.approx(explanation.weights, abs=1e-6)
        assert sum(weights) == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_a_multi_label_model_gives_all_labels_of_a_row(multi_label_run: Path, target: str) -> None:
    texts = [f"{word} thing {i}" for i in range(4) for word in ("good", "bad", "both", "nothing", "?")]
    write("in.csv", [{"text": text} for text in texts])
    assert bulk("--model", multi_label_run, "-i", "in.csv", "-o", f"out.{target}").code == 0
    predictions = textattn.load(multi_label_run).predict(texts)
    found = read(f"out.{target}")
    assert answered(found) == expected(predictions)
    assert len({tuple(p.labels) for p in predictions}) >= 3
    assert any(p.labels != [p.label] for p in predictions)
    labels = [json.loads(row["labels"]) if target == "csv" else row["labels"] for row in found]
    assert labels == [p.labels for p in predictions]
    assert list(found[0]) == ["text", "label", "score", "labels", "score:neg", "score:pos"]


# Several files, stdin, stdout


@pytest.mark.usefixtures("small")
def test_several_files_are_answered_in_order_and_named(model: Classifier) -> None:
    Path("in").mkdir()
    for name, first in (("b", 4), ("a", 0), ("c", 9)):
        rows = [{"text": f"good {i}", "id": str(i)} for i in range(first, first + 4)]
        # The order of the columns may differ.
        write(f"in/{name}.csv", [dict(reversed(row.items())) for row in rows] if name == "b" else rows)
    texts = [f"good {i}" for i in (*range(8), *range(9, 13))]
    for arguments in (["-i", "in/*.csv"], ["-i", "in/a.csv", "-i", "in/[b-c].csv"]):
        for target in ("csv", "jsonl", "parquet"):
            assert bulk(*arguments, "-o", f"out.{target}", "--overwrite").code == 0
            found = read(f"out.{target}")
            assert [row["text"] for row in found] == texts
            assert [row["id"] for row in found] == [text[5:] for text in texts]
            assert [row["file"] for row in found] == [f"in/{name}.csv" for name in "abc" for _ in range(4)]
            assert answered(found) == expected(model.predict(texts))
    assert bulk("-i", "in/c.csv", "-i", "in/a.csv", "-o", "out.jsonl", "-f").code == 0
    assert [row["text"] for row in read("out.jsonl")] == texts[8:] + texts[:4]
    # A name is a name first, whatever it looks like.
    Path("in/a.csv").rename("in/[b].csv")
    assert bulk("-i", "in/[b].csv", "-o", "out.jsonl", "-f").code == 0
    assert [row["text"] for row in read("out.jsonl")] == texts[:4]
    write("in/d.csv", [{"text": "x", "other": "y"}])
    done = bulk("-i", "in/*.csv", "-o", "new.csv")
    assert done.code == 3
    assert done.err.startswith("Error: in/d.csv: columns text, other, but in/[b].csv has text, id\n")
    done = bulk("-i", "out/*.csv", "-o", "new.csv")
    assert (done.code, done.err) == (3, "Error: out/*.csv: no such file\n")
    assert files() == ["in", "out.csv", "out.jsonl", "out.parquet"]


@pytest.mark.parametrize("source", FORMATS)
def test_stdin_and_stdout_stand_for_files(small: Callable[[int], None], source: str) -> None:
    rows = [row for row in ROWS if "\n" not in row["text"]]
    write(f"in.{source}", rows, SCHEMA)
    assert bulk("-i", f"in.{source}", "-o", "out.csv").code == 0
    kept = Path("out.csv").read_text("utf-8")
    piped = Path(f"in.{source}").read_bytes()
    form = [] if source == "txt" else ["--input-format", source]
    done = bulk("-i", "-", *form, "-o", "-", "--output-format", "csv", stdin=piped)
    assert (done.code, done.out.splitlines()) == (0, kept.splitlines())
    assert re.fullmatch(r"6 rows answered in \d+\.\d s\n", done.err)
    done = bulk("-i", f"in.{source}", "-o", "-", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert bulk("-i", f"in.{source}", "-o", "out.jsonl").code == 0
    assert [json.loads(line) for line in done.out.split("\n")[:-1]] == read("out.jsonl")


@pytest.mark.parametrize("more", [["-o", "out.csv"], ["-o", "-"], []])
def test_a_bad_row_of_stdin_is_named_as_such(more: list[str]) -> None:
    done = bulk("-i", "-", "--input-format", "csv", *more, stdin=b"id,text\n1,good\n2\n")
    assert done.code == 3
    assert done.err.startswith("Error: stdin:3: 1 field, but the header has 2 (id, text)\n")


@pytest.mark.parametrize(
    ("kind", "stdin", "message"),
    [
        ("csv", b"", "stdin: empty file; expected a header line with the column names"),
        ("csv", b"id,id\n1,2\n", "stdin:1: a column name stands twice in the header: id, id"),
        ("csv", b"text\n" + b"good\n" * 9999 + b"na\xefve\n", "stdin:10001: byte 3 of the line (0xef) is not utf-8"),
        ("jsonl", b"", "stdin: no rows; expected one JSON object a line"),
        ("jsonl", b"{\n", "stdin:1: not JSON: "),
        ("parquet", b"PK", "stdin: not a parquet file"),
    ],
)
def test_what_is_wrong_with_stdin_is_said_of_stdin(kind: str, stdin: bytes, message: str) -> None:
    done = bulk("-i", "-", "--input-format", kind, "-o", "out.csv", stdin=stdin)
    assert done.code == 3
    assert done.err.startswith(f"Error: {message}")


@pytest.mark.parametrize("source", ["txt", "csv", "tsv", "jsonl"])
@pytest.mark.parametrize(
    ("encoding", "mark", "end"),
    [("cp1252", b"", b"\n"), ("utf-8", b"\xef\xbb\xbf", b"\r\n"), ("utf-8", b"", b"\r\n"), ("utf-16", b"", b"\n")],
    ids=["cp1252", "Windows UTF-8", "Windows", "UTF-16"],
)
def test_what_windows_writes_is_read(source: str, encoding: str, mark: bytes, end: bytes) -> None:
    texts = ["naïve", "café – good", "", "end"]
    write(f"in.{source}", [{"text": text, "id": str(i)} for i, text in enumerate(texts)], encoding=encoding)
    raw = Path(f"in.{source}").read_bytes()
    if encoding == "utf-8":
        raw = mark + raw.replace(b"\r\n", b"\n").replace(b"\n", end)
    Path(f"in.{source}").write_bytes(raw)
    assert bulk("-i", f"in.{source}", "-o", "out.jsonl", "--encoding", encoding).code == 0
    assert [row["text"] for row in read("out.jsonl")] == texts
    if source != "txt":
        assert list(read("out.jsonl")[0])[:2] == ["text", "id"]


# Empty, wrong, refused


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


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        ("-o a.docx", 2, "--output: a.docx has none of the suffixes .txt, .csv, .tsv, .jsonl, .parquet", "--output"),
        ("-o a", 2, "--output: a has none of the suffixes .txt, .csv, .tsv, .jsonl, .parquet", "--output-format jsonl"),
        ("-o - --output-format parquet", 2, "--output -: parquet needs a file", "--output answers.parquet"),
        ("-o a.csv --output-format x", 2, "--output-format: must be one of txt, csv, tsv, jsonl, parquet, got 'x'", ""),
        ("-o a.csv --on-error go", 2, "--on-error: must be stop or skip, got 'go'", "--on-error skip"),
        ("-o - --resume", 2, "--resume needs a file that was written to", ""),
        ("-o folder --output-format csv", 2, "--output: folder is a folder", "--output folder/predictions.csv"),
        ("-o old.csv", 2, "--output: old.csv exists; nothing was changed", "--overwrite"),
        ("-o old.csv --resume", 2, "--output: old.csv exists; nothing was changed", "--overwrite"),
        ("-o half.csv", 2, "half.csv.partial: an interrupted run is there; nothing was changed", "--resume goes on"),
        ("-o half.csv", 2, "half.csv.partial: an interrupted run is there; nothing was changed", "--overwrite begins"),
        ("-o a.csv --text-column x", 3, "column 'x' not found in in.csv; columns are: text, id", "--text-column text"),
        ("-o a.csv --encoding latin-99", 3, "unknown encoding 'latin-99'", "--encoding utf-8"),
        ("-o a.csv -i old.csv -f", 3, "old.csv:2: byte 3 of the line (0xef) is not utf-8", "--encoding cp1252"),
        ("--attention", 2, "--attention needs --output", ""),
        ("--resume", 2, "--resume needs --output", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_nothing_is_changed(
    small: Callable[[int], None], arguments: str, code: int, message: str, hint: str
) -> None:
    small(1)
    write("in.csv", [{"text": "good", "id": 1}, {"text": "bad", "id": 2}])
    Path("folder").mkdir()
    Path("old.csv").write_text("text,id\nnaïve,1\n", encoding="cp1252")
    Path("half.csv.partial").mkdir()
    Path("half.csv.partial/state.json").write_text("{}")
    before = content(".")
    source = [] if "-i" in arguments else ["-i", "in.csv"]
    done = bulk(*source, *arguments.split())
    assert (done.code, done.out) == (code, "")
    first, second = done.err.splitlines()
    assert first == f"Error: {message}"
    assert second.startswith("Hint: ") and hint in second
    assert content(".") == before
    assert not Path("a.csv").exists() and not Path("a.csv.partial").exists()


def test_overwrite_replaces_what_is_there() -> None:
    write("in.csv", [{"text": "good"}])
    Path("new/deep").mkdir(parents=True)
    for path in ("old.csv", "half.csv"):
        Path(path).write_text("old\n")
    Path("half.csv.partial").mkdir()
    Path("half.csv.partial/state.json").write_text("{}")
    Path("half.csv.partial/000000.csv").write_text("old\n")
    assert bulk("-i", "in.csv", "-o", "folder/that/is/new/out.csv").code == 0
    for path in ("old.csv", "half.csv"):
        assert bulk("-i", "in.csv", "-o", path, "--overwrite").code == 0
        assert content(".")[path] == content(".")["folder/that/is/new/out.csv"]
    assert not Path("half.csv.partial").exists()
    # But not the input, by whatever name.
    Path("link.csv").symlink_to("in.csv")
    done = bulk("-i", "in.csv", "-o", "link.csv", "-f")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --output: link.csv is the input; nothing was changed")
    assert list(read("in.csv")[0]) == ["text"]


@pytest.mark.parametrize("output", ["file/out.csv", "/proc/out.csv", "taken.csv"])
def test_an_output_that_cannot_be_written_is_the_users_to_mend(output: str) -> None:
    write("in.csv", [{"text": "good"}])
    Path("file").write_text("a file, no folder")
    Path("taken.csv.partial").write_text("precious")
    done = bulk("-i", "in.csv", "-o", output)
    assert "this is a bug" not in done.err
    assert done.code == 2


def test_a_folder_that_is_not_ours_is_left_alone() -> None:
    write("in.csv", [{"text": "good"}])
    Path("out.csv.partial").mkdir()
    Path("out.csv.partial/thesis.md").write_text("precious")
    bulk("-i", "in.csv", "-o", "out.csv")
    assert Path("out.csv.partial/thesis.md").read_text() == "precious"


# Bad rows

GOOD = ["good 1", "bad 2", "good 3", "bad 4", "good 5", "bad 6", "good 7"]
# Name, the file with row 5 spoilt, what is said of it; the line of a csv file is one more than the row.
BAD_ROWS = {
    "too few fields": ("csv", 6, b"5,good 5\r\n", b"5\r\n", "1 field, but the header has 2 (id, text)"),
    "too many fields": ("tsv", 6, b"5\tgood 5", b"5\tgood\t5", "3 fields, but the header has 2 (id, text)"),
    "an open quote": ("csv", 6, b"5,good 5\r\n", b'5,"good" 5\r\n', "not csv: ',' expected after '\"'"),
    "broken JSON": ("jsonl", 5, b'"good 5"}', b'"good 5"', "not JSON: "),
    "no object": ("jsonl", 5, b'{"id": 5, "text": "good 5"}', b"[5]", "expected a JSON object"),
    "null": ("jsonl", 5, b'"good 5"', b"null", "column 'text' has no text"),
    "no key": ("jsonl", 5, b', "text": "good 5"', b"", "column 'text' has no text"),
    "a list": ("jsonl", 5, b'"good 5"', b'["good 5"]', "column 'text' has no text"),
    "half a character": ("jsonl", 5, b'"good 5"', b'"\\ud83d"', "not JSON: a \\u escape is half of a character"),
    "not UTF-8": ("txt", 5, b"good 5", b"g\xefod 5", "byte 2 of the line is not UTF-8"),
    "no text": ("parquet", 5, b"", b"", "column 'text' has no text"),
}


def spoilt(name: str) -> tuple[str, int, str]:
    """Writes good.KIND, and in.KIND with one bad row; gives KIND, the number of the row and what is said of it."""
    kind, number, right, wrong, message = BAD_ROWS[name]
    rows = [{"id": i, "text": text} for i, text in enumerate(GOOD, 1)]
    write(f"good.{kind}", rows)
    if kind == "parquet":
        write("in.parquet", [row | {"text": None if row["id"] == 5 else row["text"]} for row in rows])
    else:
        good = Path(f"good.{kind}").read_bytes()
        assert good.count(right) == 1
        Path(f"in.{kind}").write_bytes(good.replace(right, wrong))
    return kind, number, message


@pytest.mark.parametrize("target", ["csv", "parquet"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_ends_the_job_and_once_mended_it_goes_on(
    small: Callable[[int], None], name: str, target: str
) -> None:
    small(2)
    kind, number, message = spoilt(name)
    job = ("-i", f"in.{kind}", "-o", f"out.{target}")
    for arguments in ((), ("--resume",)):
        done = bulk(*job, *arguments)
        assert (done.code, done.out) == (3, "")
        first, second = done.err.splitlines()
        assert first.startswith(f"Error: in.{kind}:{number}: {message}")
        for word in ("--resume", f"4 rows are answered in out.{target}.partial", "--on-error skip"):
            assert word in second
        assert not Path(f"out.{target}").exists()
        parts = sorted(Path(f"out.{target}.partial").glob(f"0*.{target}"))
        assert [part.name for part in parts] == [f"000000.{target}", f"000001.{target}"]
    Path(f"in.{kind}").write_bytes(Path(f"good.{kind}").read_bytes())
    done = bulk(*job, "--resume", "--json")
    assert done.code == 0
    summary = json.loads(done.out)
    assert 0 <= summary.pop("seconds") < 60
    assert summary == {
        "output": f"out.{target}", "rows": 7, "skipped": 0, "truncated": 0, "tokens": 14, "resumed": 4,
    }  # fmt: skip
    assert re.fullmatch(rf"7 rows answered, 4 of them before in \d+\.\d s: out\.{target}\n", done.err)
    assert not Path(f"out.{target}.partial").exists()
    assert bulk("-i", f"good.{kind}", "-o", f"undisturbed.{target}").code == 0
    assert Path(f"out.{target}").read_bytes() == Path(f"undisturbed.{target}").read_bytes()


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_left_out_and_listed_where_wanted(small: Callable[[int], None], name: str) -> None:
    small(2)
    kind, number, message = spoilt(name)
    done = bulk("-i", f"in.{kind}", "-o", "out.jsonl", "--on-error", "skip", "--json")
    assert done.code == 0
    assert {"rows": 6, "skipped": 1}.items() <= json.loads(done.out).items()
    warning, end = done.err.splitlines()
    assert warning.startswith(f"Warning: in.{kind}:{number}: {message}") and warning.endswith("; skipped")
    assert end.startswith("6 rows answered, 1 skipped in ")
    assert [row["text"] for row in read("out.jsonl")] == [text for text in GOOD if text != "good 5"]


def test_many_bad_rows_are_counted_and_the_first_are_listed() -> None:
    write("in.jsonl", [{"text": None if i % 2 else "good"} for i in range(1, 3001)])
    done = bulk("-i", "in.jsonl", "-o", "out.csv", "--on-error", "skip", COLUMNS="60")
    lines = done.err.splitlines()
    assert lines[:10] == [f"Warning: in.jsonl:{i}: column 'text' has no text; skipped" for i in range(1, 20, 2)]
    assert lines[10] == "Warning: … and 1,490 more"
    assert lines[11].startswith("1,500 rows answered, 1,500 skipped in ")
    assert max(map(len, lines)) <= 60
    assert len(read("out.csv")) == 1500


def test_texts_that_are_too_long_are_counted(model: Classifier) -> None:
    longest = model.tokenizer.max_length
    write("in.txt", [{"text": "good " * length} for length in (longest, longest + 1, 500)])
    done = bulk("-i", "in.txt", "-o", "out.csv", "--json")
    assert {"truncated": 2, "tokens": 3 * longest}.items() <= json.loads(done.out).items()
    assert done.err.startswith(f"Note: 2 of 3 texts are longer than the {longest} tokens ")


# Interruptions


def interrupted(monkeypatch: pytest.MonkeyPatch, number: int, *job: str) -> Result:
    """Ctrl-C as the file number so and so has been written, but has not got its name yet."""
    calls = iter(range(1, number))

    def fsync(_: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        return bulk(*job)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("source", "target"), [("csv", "csv"), ("jsonl", "parquet"), ("parquet", "jsonl")])
def test_ctrl_c_between_any_two_writes_loses_nothing(monkeypatch: pytest.MonkeyPatch, source: str, target: str) -> None:
    write(f"in.{source}", ROWS, SCHEMA)
    assert bulk("-i", f"in.{source}", "-o", f"whole.{target}").code == 0
    whole = Path(f"whole.{target}").read_bytes()
    job = ("-i", f"in.{source}", "-o", f"out.{target}")
    for number in range(1, 20):
        done = interrupted(monkeypatch, number, *job)
        if done.code == 0:
            break
        assert (done.code, done.out) == (130, "")
        assert not Path(f"out.{target}").exists()
        # And once more, somewhere behind.
        assert interrupted(monkeypatch, 2, *job, "--resume").code in (0, 130)
        if not Path(f"out.{target}").exists():
            assert bulk(*job, "--resume").code == 0
        assert Path(f"out.{target}").read_bytes() == whole
        assert files() == sorted([f"in.{source}", f"out.{target}", f"whole.{target}"])
        Path(f"out.{target}").unlink()
    # Seven rows are three parts, each with its state, and then the whole.
    assert number == 8


def test_a_job_goes_on_after_chunks_in_which_every_row_was_bad(
    small: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(2)
    write("in.jsonl", [{"text": text} for text in (None, None, "a", "b", None, None, None, "c", "d", "e", "f")])
    job = ("-i", "in.jsonl", "--on-error", "skip")
    assert bulk(*job, "-o", "whole.csv").code == 0
    interrupted(monkeypatch, 6, *job, "-o", "out.csv")
    done = bulk(*job, "-o", "out.csv", "--resume")
    assert (done.code, done.err.count("; skipped\n")) == (0, 5)
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


def change_row(column: str, old: str, new: str) -> None:
    rows = read("in.csv")
    write("in.csv", [row | {column: new} if row[column] == old else row for row in rows])


@pytest.fixture
def half(small: Callable[[int], None]) -> tuple[str, ...]:
    """A job that ended at row 5."""
    small(2)
    spoilt("too few fields")
    job = ("-i", "in.csv", "-o", "out.csv")
    assert bulk(*job).code == 3
    Path("in.csv").write_bytes(Path("good.csv").read_bytes())
    return job


CHANGES: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "MULTI"], "model was '"),
    "runtime": (["--runtime", "torch"], "model was '"),
    "attention": (["--attention"], "attention was False"),
    "on_error": (["--on-error", "skip"], "on_error was 'stop'"),
    "text": (["--text-column", "id"], "text was ['text']"),
    "format": (["--output-format", "jsonl"], "format was 'csv'"),
    "input": (["-i", "good.csv"], "input was ['in.csv']"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_job_does_not_go_on_with_this_one(half: tuple[str, ...], multi_label_run: Path, name: str) -> None:
    more, message = CHANGES[name]
    before = content(".")
    done = bulk(*half, "--resume", *(str(multi_label_run) if word == "MULTI" else word for word in more))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: --resume: not the same job as in out.csv.partial: ")
    assert message in done.err and "; nothing was changed\n" in done.err
    assert done.err.endswith("Hint: --overwrite begins again\n")
    assert content(".") == before
    # The right one still does.
    assert bulk(*half, "--resume").code == 0


@pytest.mark.parametrize("change", ["a text", "a row less", "columns"])
def test_a_changed_input_does_not_go_on(half: tuple[str, ...], change: str) -> None:
    rows = read("in.csv")
    if change == "a text":
        change_row("text", "bad 2", "bad two")
    else:
        write("in.csv", rows[1:] if change == "a row less" else [row | {"new": "1"} for row in rows])
    before = content(".")
    done = bulk(*half, "--resume")
    assert done.code == 2
    assert "rows that were answered before have changed" in done.err or "columns was ['id', 'text']" in done.err
    assert content(".") == before
    assert bulk(*half, "--overwrite").code == 0
    assert len(read("out.csv")) == len(read("in.csv"))


def test_a_changed_cell_beside_the_text_does_not_go_on(half: tuple[str, ...]) -> None:
    change_row("id", "2", "changed")
    done = bulk(*half, "--resume")
    assert done.code == 2 or "changed" in Path("out.csv").read_text()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"settings": {}, "summary": {"x": 1}, "digest": "", "parts": 1}'])
def test_a_damaged_state_is_refused(half: tuple[str, ...], damage: str) -> None:
    Path("out.csv.partial/state.json").write_text(damage)
    done = bulk(*half, "--resume")
    assert done.code == 3
    assert done.err.startswith("Error: out.csv.partial/state.json: damaged (")


# Processes of their own

MAIN = """
import os, signal, sys
import textattn.data.chunks as chunks
import textattn.data.write as write
chunks.MAX_ROWS = chunks.BATCH_ROWS = int(os.environ["ROWS"])
{more}
from textattn.__main__ import run
run()
"""
# Of this program, in kB; getrusage would count what the parent had as well.
SHOW_PEAK = """
import atexit, re
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
"""


def start(
    rows: int,
    *job: str,
    more: str = "",
    stdout: int | None = None,
    stderr: int | None = None,
    **environment: str | None,
) -> subprocess.Popen[bytes]:
    """A job with chunks of so many rows."""
    variables = {**os.environ, "ROWS": str(rows), "PYTHONUTF8": "1", **environment}
    known = {name: value for name, value in variables.items() if value is not None}
    words = [sys.executable, "-c", MAIN.format(more=more), "predict", *job]
    return subprocess.Popen(words, env=known, stdout=stdout, stderr=stderr)


def wait_for_parts(process: subprocess.Popen[bytes], folder: Path, number: int) -> None:
    while process.poll() is None and not (folder / f"{number:06d}{folder.with_suffix('').suffix}").exists():
        time.sleep(0.002)


@pytest.fixture
def many() -> list[Record]:
    texts = ["good film", "bad soup, cold", "a rather long text about nothing " * 3]
    return [{"id": i, "text": f"{texts[i % 3]} {i}"} for i in range(1000)]


@pytest.mark.parametrize(("source", "target"), [("csv", "csv"), ("jsonl", "parquet")])
def test_kills_at_random_moments_change_no_byte(
    many: list[Record], small: Callable[[int], None], source: str, target: str
) -> None:
    small(25)
    write(f"in.{source}", many)
    assert bulk("-i", f"in.{source}", "-o", f"whole.{target}").code == 0
    job = ("-i", f"in.{source}", "-o", f"out.{target}", "-q")
    folder = Path(f"out.{target}.partial")
    moments = random.Random(source)
    reached = 0
    for attempt in range(3):
        # Of forty parts, so never in the last ones; then a moment later, which may be amid a write.
        reached += moments.randrange(2, 10)
        with start(25, *job, *(["--resume"] if attempt else [])) as process:
            wait_for_parts(process, folder, reached)
            time.sleep(moments.random() * 0.005)
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
        assert not Path(f"out.{target}").exists()
        assert len(list(folder.glob(f"0*.{target}"))) > reached
    done = bulk(*job, "--resume", "--json")
    assert done.code == 0
    assert json.loads(done.out)["resumed"] >= 25 * reached
    assert Path(f"out.{target}").read_bytes() == Path(f"whole.{target}").read_bytes()
    assert files() == sorted([f"in.{source}", f"out.{target}", f"whole.{target}"])


def test_a_kill_while_the_parts_are_put_together_leaves_nothing_either(
    many: list[Record], small: Callable[[int], None]
) -> None:
    small(50)
    write("in.csv", many[:100])
    job = ("-i", "in.csv", "-o", "out.csv", "-q")
    kill = "write.join_texts = lambda parts, head, out: (out.write(head), out.flush(), os.kill(os.getpid(), 9))"
    with start(50, *job, more=kill) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert not Path("out.csv").exists()
    assert bulk(*job, "--resume").code == 0
    assert [row["text"] for row in read("out.csv")] == [row["text"] for row in many[:100]]
    assert files() == ["in.csv", "out.csv"]


def test_ctrl_c_on_a_narrow_terminal_ends_with_130_and_the_bar_fits(
    many: list[Record], small: Callable[[int], None]
) -> None:
    write("in.csv", many)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with start(20, "-i", "in.csv", "-o", "out.csv", stderr=follower, COLUMNS=None, TERM="xterm") as process:
        os.close(follower)
        wait_for_parts(process, Path("out.csv.partial"), 10)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    # All of it: no more than a terminal holds until it is read.
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"Predicting .* \d+% \d+/1,001 rows [-\d]+:", plain)
    lines = re.split(r"[\r\n]+", plain)
    # A bar that is wider is drawn below itself again and again; sentences may wrap.
    assert max(display_width(line) for line in lines if line.startswith("Predicting")) <= 60
    assert sum(line.startswith("Interrupted") and "--resume" in line for line in lines) == 1
    # The bar is wiped and the cursor is back.
    assert lines[-1] == "" and lines[-2].startswith("Predicting") and shown.count("\x1b[?25h") == 1
    assert files() == ["in.csv", "out.csv.partial"]
    small(20)
    assert bulk("-i", "in.csv", "-o", "out.csv", "--resume", COLUMNS="60").err.startswith("1,000 rows answered, ")
    assert [row["text"] for row in read("out.csv")] == [row["text"] for row in many]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_ten_times_the_rows_take_no_more_memory() -> None:
    peaks = []
    for number in (3_000, 30_000):
        for name in ("in.csv", "in.parquet"):
            write(name, [{"text": f"good {i % 97}", "id": str(i)} for i in range(number)])
        job = ("-i", "in.*", "-o", f"{number}.parquet", "-q")
        with start(1000, *job, more=SHOW_PEAK, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            peaks.append(int(process.stdout.read()) // 1024)
            assert process.wait(60) == 0
        assert pq.read_metadata(f"{number}.parquet").num_rows == 2 * number
    assert peaks[1] - peaks[0] < 25, "MB"
