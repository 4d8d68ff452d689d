"""One table means the same in every format and to every command: its texts, its empty cells and its labels."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inprocess import run as cli

import textattn
from textattn.api import Model
from textattn.config.data_section import DataConfig
from textattn.data.read import read_corpus, read_split
from textattn.errors import InputError

Rows = list[dict[str, Any]]
FORMATS = ("csv", "tsv", "jsonl", "parquet")
# Half of them with text.
CELLS = st.sampled_from(["", "  ", "\u3000", None, "good", "bad food", " fine ", "7"])
ROWS = st.lists(st.fixed_dictionaries({"title": CELLS, "body": CELLS, "label": st.sampled_from(["no", "yes"])}))


def write(path: Path, rows: Rows, columns: list[str]) -> None:
    """A table; None is null where the format has one, and an empty cell elsewhere."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), path)
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        writer.writerows([columns, *([row[name] for name in columns] for row in rows)])
        path.write_text(text.getvalue())


def has_text(row: dict[str, Any]) -> bool:
    return any((row[name] or "").strip() for name in ("title", "body"))


@pytest.fixture(scope="module")
def pairs(make_once: Any) -> Path:
    """A run of two text columns."""

    def make(folder: Path) -> None:
        kinds = [("good", "yes"), ("bad", "no")] * 30
        rows = [{"title": f"word{i % 7}", "body": body, "label": label} for i, (body, label) in enumerate(kinds)]
        write(folder / "train.csv", rows, ["title", "body", "label"])
        settings = {
            "data": {"path": str(folder / "train.csv"), "text": ["title", "body"]},
            "recipe": "plain",
            "model": {"embedding_dim": 8, "hidden_size": 8},
            "training": {"epochs": 1},
            "output": {"dir": str(folder / "run"), "audit_examples": 0, "plots": False},
        }
        textattn.train(settings)

    return Path(make_once("pairs of columns", make)) / "run"


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(rows=ROWS)
@example(rows=[{"title": None, "body": "good", "label": "no"}, {"title": "", "body": " ", "label": "yes"}])
def test_training_evaluation_and_prediction_take_the_same_rows_of_every_format(pairs: Path, rows: Rows) -> None:
    columns = ["title", "body", "label"]
    rows = [*rows, {"title": "a", "body": None, "label": "no"}, {"title": "b", "body": None, "label": "yes"}]
    answered = [f"{row['title'] or ''}\t{row['body'] or ''}" for row in rows if has_text(row)]
    bad = [number for number, row in enumerate(rows, 1) if not has_text(row)]
    scores = set()
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS:
            path, out = Path(folder) / f"in.{kind}", Path(folder) / f"out-{kind}.jsonl"
            write(path, rows, columns)
            first = 2 if kind in ("csv", "tsv") else 1  # csv and tsv number their lines, and the first is the header
            config = DataConfig.model_validate({"path": str(path), "text": ["title", "body"]})
            if bad:
                with pytest.raises(InputError) as caught:
                    read_corpus(config)
                assert f"in.{kind}:{bad[0] + first - 1}: columns title, body are all empty" in caught.value.message
            skipping = config.model_copy(update={"on_bad_row": "skip"})
            assert list(read_corpus(skipping).train) == answered
            assert list(read_split(skipping, "test", ["no", "yes"], multi_label=False)[0]) == answered
            strict = cli("predict", "-m", pairs, "-i", path, "-o", out)
            assert (strict.code == 0) == (not bad)
            if bad:
                assert f"in.{kind}:{bad[0] + first - 1}: columns title, body are all empty" in strict.err
            done = cli("predict", "-m", pairs, "-i", path, "-o", out, "--on-error", "skip", "-f")
            assert done.code == 0, done.err
            scores.add(tuple(round(json.loads(line)["score"], 6) for line in out.read_text().splitlines()))
            printed = cli("predict", "-m", pairs, "-i", path, "--on-error", "skip").out.splitlines()
            assert [line == "?\t" for line in printed] == [not has_text(row) for row in rows]
    (found,) = scores
    assert found == tuple(round(p.score, 6) for p in textattn.load(pairs).predict(answered))


def test_lines_without_text(trained_run: Path) -> None:
    """Line N of the output answers line N of the input, also where there is no answer."""
    for arguments in ([], ["-"], ["-i", "-"]):
        done = cli("predict", "-m", trained_run, *arguments, stdin=b"good\n\n  \nbad\n")
        assert (done.code, len(done.out.splitlines())) == (3, 1)
        assert done.err == "Error: stdin:2: the line is empty; expected a text\nHint: --on-error skip\n"
        done = cli("predict", "-m", trained_run, "--on-error", "skip", *arguments, stdin=b"good\n\n  \nbad\n")
        assert done.code == 0
        assert [line.startswith("?\t") for line in done.out.splitlines()] == [False, True, True, False]
        done = cli("predict", "-m", trained_run, "--on-error", "skip", "--json", *arguments, stdin=b"\nbad\n")
        assert json.loads(done.out.splitlines()[0]) == {"label": None, "score": None, "text": ""}
    done = cli("explain", "-m", trained_run, stdin=b"good\n\n")
    assert (done.code, done.err) == (3, "Error: stdin:2: the line is empty; expected a text\n")
    for command in ("predict", "explain"):
        done = cli(command, "-m", trained_run, "good", " ")
        assert (done.code, done.out) == (3, "")
        assert done.err == "Error: text 2 of the command line is empty; expected a text\n"


# Labels

SPELLINGS: list[tuple[list[Any], list[Any]]] = [
    ([False, True], ["False", "True"]),
    (["FALSE", "TRUE"], [False, True]),
    (["false", "true"], ["False", "True"]),
    ([False, True], [0, 1]),
    (["False", "True"], ["0", "1"]),
    (["0.0", "1.0"], [0.0, 1.0]),
    ([0, 1], ["0.0", "1.0"]),
    ([1.5, 2.0], ["1.50", "2"]),
    (["1", "01"], [1, "01"]),
    (["no", "yes"], [" no", "yes "]),
]


@pytest.mark.parametrize(("train", "test"), [*SPELLINGS, *(pair[::-1] for pair in SPELLINGS)])
@pytest.mark.parametrize("kinds", [("csv", "jsonl"), ("jsonl", "csv"), ("jsonl", "jsonl")])
def test_the_same_label_matches_however_it_is_spelled(
    train: list[Any], test: list[Any], kinds: tuple[str, str], tmp_path: Path
) -> None:
    files = []
    for name, kind, labels in zip(("train", "test"), kinds, (train, test), strict=True):
        files.append(tmp_path / f"{name}.{kind}")
        write(files[-1], [{"text": f"{i}", "label": label} for i, label in enumerate(labels)], ["text", "label"])
    corpus = read_corpus(DataConfig.model_validate({"files": {"train": str(files[0]), "test": str(files[1])}}))
    assert corpus.test is not None
    assert corpus.test.labels.tolist() == corpus.train.labels.tolist()
    own = DataConfig.model_validate({"path": str(files[1])})
    assert read_split(own, "test", corpus.labels, multi_label=False)[0].labels.tolist() == corpus.train.labels.tolist()


@pytest.mark.parametrize(
    ("known", "value", "message"),
    [
        (["01", "2"], "1", "unknown label 1; labels are: 01, 2"),
        (["no", "yes"], True, "unknown label True; labels are: no, yes"),
        (["neg", "pos"], "POS", "unknown label 'POS', which differs from the label 'pos' only in case"),
        (["x", "caf\u00e9"], "cafe\u0301", "which differs from the label 'caf\\xe9' only in Unicode form (NFC, NFD)"),
    ],
)
def test_what_does_not_match_is_not_listed_as_known(known: list[str], value: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "x", "label": value}], ["text", "label"])
    with pytest.raises(InputError) as caught:
        read_split(DataConfig.model_validate({"path": str(tmp_path / "a.jsonl")}), "test", known, multi_label=False)
    assert message in caught.value.message


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    labels=st.lists(st.sampled_from([0, 1, 2.5, -3, "a", "b", "True", "x y"]), min_size=2).filter(
        lambda labels: len({str(label) for label in labels}) > 1
    )
)
def test_every_format_gives_the_same_labels(labels: list[Any]) -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("csv", "tsv", "jsonl"):
            path = Path(folder) / f"a.{kind}"
            write(path, [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)], ["text", "label"])
            corpus = read_corpus(DataConfig.model_validate({"path": str(path)}))
            found.append([corpus.labels[i] for i in corpus.train.labels])
    assert found[0] == found[1] == found[2] == [str(label) for label in labels]


# Several labels


def test_an_empty_cell_is_none_of_several_labels(tmp_path: Path) -> None:
    rows = [("one", "a;b"), ("two", None), ("three", "b"), ("four", "")]
    write(tmp_path / "a.csv", [{"text": text, "label": label} for text, label in rows], ["text", "label"])
    lists: Rows = [{"text": text, "label": label and label.split(";")} for text, label in rows[:3]]
    write(tmp_path / "a.jsonl", [*lists, {"text": "four", "label": []}], ["text", "label"])
    for kind, more in (("csv", {"label_separator": ";"}), ("jsonl", {})):
        config = DataConfig.model_validate({"path": str(tmp_path / f"a.{kind}"), **more})
        for split in (read_corpus(config).train, read_split(config, "test", ["a", "b"], multi_label=True)[0]):
            assert list(split) == ["one", "two", "three", "four"]
            assert split.labels.tolist() == [[1, 1], [0, 0], [0, 1], [0, 0]]


def test_columns_of_zeros_and_ones_are_labels(tmp_path: Path) -> None:
    values: list[list[Any]] = [[1, 0, "true", "False", 1.0], [0, 1, True, "0.0", "1"]]
    rows = [{"text": f"t{i}", "toxic": a, "insult": b} for i, (a, b) in enumerate(zip(*values, strict=True))]
    for kind in ("csv", "jsonl"):
        write(tmp_path / f"a.{kind}", rows, ["text", "toxic", "insult"])
        config = DataConfig.model_validate({"path": str(tmp_path / f"a.{kind}"), "label": ["toxic", "insult"]})
        corpus = read_corpus(config)
        assert (corpus.labels, corpus.multi_label) == (["toxic", "insult"], True)
        expected = [[1, 0], [0, 1], [1, 1], [0, 0], [1, 1]]
        assert corpus.train.labels.tolist() == expected
        # The order of the model's labels is that of the model.
        split, _ = read_split(config, "test", ["insult", "toxic"], multi_label=True)
        assert split.labels.tolist() == [row[::-1] for row in expected]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2, "column 'insult' holds 2; expected 0 or 1"),
        (None, "column 'insult' is empty; expected 0 or 1"),
        ("yes", "column 'insult' holds 'yes'; expected 0 or 1"),
        (-1, "column 'insult': the label is -1, which means unlabelled"),
    ],
)
def test_another_value_in_a_column_that_is_a_label_is_named(value: Any, message: str, tmp_path: Path) -> None:
    rows = [{"text": "a", "toxic": 1, "insult": 0}, {"text": "b", "toxic": 0, "insult": value}]
    write(tmp_path / "a.jsonl", rows, ["text", "toxic", "insult"])
    with pytest.raises(InputError, match=f"a.jsonl:2: {message}"):
        read_corpus(DataConfig.model_validate({"path": str(tmp_path / "a.jsonl"), "label": ["toxic", "insult"]}))


def test_a_model_of_label_columns_is_trained_checked_and_measured(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    bits = [(i % 2, i // 2 % 2) for i in range(80)]
    rows = [{"text": f"rude{a} loud{b} {i}", "toxic": a, "insult": b} for i, (a, b) in enumerate(bits)]
    write(Path("a.csv"), rows, ["text", "toxic", "insult"])
    words = ["a.csv", "data.label=[toxic, insult]", "recipe=plain", "tokenizer.min_frequency=1"]
    tiny = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=2", "output.audit_examples=0"]
    assert cli("check", *words, *tiny, "--no-forecast").code == 0
    done = cli("train", *words, *tiny, "output.plots=false", "output.dir=run")
    assert done.code == 0, done.err
    done = cli("evaluate", "-m", "run", "a.csv", "--json")
    assert done.code == 0, done.err
    assert list(json.loads(done.out)["per_class"]) == ["toxic", "insult"]
    assert cli("evaluate", "-m", "run", "--split", "validation").code == 0
    assert cli("predict", "-m", "run", "rude loud").code == 0


# Texts given from Python

MISSING = [None, math.nan, "", " \t", b"x", True, {"x": "y"}, [], ["a", "b"], ..., {1, 2}]


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Model:
    return textattn.load(trained_run)


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_what_is_no_text_is_refused_with_its_position(model: Model, value: Any) -> None:
    for method in (model.predict, model.predict_proba, model.embed, model.explain):
        with pytest.raises(InputError, match=r"^texts\[2\] (is|has) "):
            method(["good", "bad", value])  # type: ignore[operator]


@pytest.mark.parametrize("value", [None, math.nan, 5, b"good", {"good"}], ids=repr)
def test_what_holds_no_texts_is_refused(model: Model, value: Any) -> None:
    with pytest.raises(InputError, match=r"^texts is .*; expected a string or a sequence of strings$"):
        model.predict(value)


def test_whatever_holds_texts_gives_the_same_answers(model: Model) -> None:
    import numpy as np
    import pandas as pd
    import polars as pl

    texts = ["good food", "a bad film", "7"]
    expected = model.predict(texts)
    column = {"text": texts}
    for given_as in (
        tuple(texts), iter(texts), (text for text in texts), dict.fromkeys(texts).keys(), np.array(texts),
        np.array(texts, dtype=object), pd.Series(texts, index=[5, 6, 7]), pd.Series(texts, dtype="string"),
        pl.Series(texts), pa.array(texts), pa.chunked_array([texts]), pd.DataFrame(column), pl.DataFrame(column),
        pa.table(column), [{"text": text, "id": 1} for text in texts], [[text] for text in texts],
        [*texts[:2], 7], [*texts[:2], np.int64(7)],
    ):  # fmt: skip
        assert model.predict(given_as) == expected, type(given_as)
    assert model.predict(np.array("good food")) == expected[:1]
    with pytest.raises(InputError, match=r"^texts\[1\] is <NA>; expected a text$"):
        model.predict(pd.Series(["good", None], dtype="string"))
    with pytest.raises(InputError, match=r"^texts\[1\] is nan; expected a text$"):
        model.predict(pd.Series(["good", math.nan]))
    with pytest.raises(InputError, match=r"^texts is a table without the column 'text'; its columns are: review$"):
        model.predict(pd.DataFrame({"review": texts}))


def test_segments_from_python(pairs: Path) -> None:
    import pandas as pd

    model = textattn.load(pairs)
    expected = model.predict(["word1\tgood", "\tbad"])
    frame = pd.DataFrame({"body": ["good", "bad"], "title": ["word1", None]})
    assert model.predict(frame) == model.predict(frame.to_dict("records")) == expected
    assert model.predict([("word1", "good"), (math.nan, "bad")]) == expected
    with pytest.raises(InputError, match=r"^texts\[1\] is empty; expected a text$"):
        model.predict([("word1", "good"), (None, " ")])
    with pytest.raises(InputError, match=r"^texts\[0\] has bytes b'a' as segment 1; expected a text$"):
        model.predict([("word1", b"a")])
