"""What the tests of `predict --input … --output …` share: rows, good and bad, in every format, and small chunks."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import MakeOnce, unsealed
from inprocess import Result
from inprocess import run as cli

import textattn
from textattn.data import chunks
from textattn.inference.classifier import Classifier, Prediction

FORMATS = ("txt", "csv", "tsv", "jsonl", "parquet")
Record = dict[str, Any]

# What a cell can hold and a format can lose.
COLUMNS: dict[str, list[Any]] = {
    "id": [1, 2, -3, None, 2**53 + 1, 6, 7],
    "text": [
        "The film was a joy.",
        "Cold soup,\nrude waiter.",
        ".",
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
def multi_label_run(make_once: MakeOnce) -> Path:
    """A tiny model that gives several labels, or none; tests must not change it."""
    return make_once("several-labels", train_with_several_labels) / "run"


def train_with_several_labels(folder: Path) -> None:
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
    (unsealed(run) / "config.json").write_text(json.dumps(config))


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


GOOD = ["good 1", "bad 2", "good 3", "bad 4", "good 5", "bad 6", "good 7"]
# Name, the file with row 5 spoilt, what is said of it; the line of a csv file is one more than the row.
BAD_ROWS = {
    "too few fields": ("csv", 6, b"5,good 5\r\n", b"5\r\n", "1 field, but the header has 2 (id, text)"),
    "too many fields": ("tsv", 6, b"5\tgood 5", b"5\tgood\t5", "3 fields, but the header has 2 (id, text)"),
    "an open quote": ("csv", 6, b"5,good 5\r\n", b'5,"go,od" 5\r\n', "not csv: ',' expected after '\"'"),
    "broken JSON": ("jsonl", 5, b'"good 5"}', b'"good 5"', "not JSON: "),
    "no object": ("jsonl", 5, b'{"id": 5, "text": "good 5"}', b"[5]", "expected a JSON object"),
    "null": ("jsonl", 5, b'"good 5"', b"null", "column 'text' is empty; expected a text"),
    "no key": ("jsonl", 5, b', "text": "good 5"', b"", "column 'text' is empty; expected a text"),
    "a list": ("jsonl", 5, b'"good 5"', b'["good 5"]', "column 'text' holds list \"['good 5']\"; expected a text"),
    "half a character": ("jsonl", 5, b'"good 5"', b'"\\ud83d"', "not JSON: a \\u escape is half of a character"),
    "not UTF-8": ("txt", 5, b"good 5", b"g\xefod 5", "byte 2 of the line is not UTF-8"),
    "no text": ("parquet", 5, b"", b"", "column 'text' is empty; expected a text"),
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
