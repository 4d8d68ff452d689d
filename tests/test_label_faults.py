"""Dirty labels are found and named, what is named is mended by the setting that is shown, and clean ones stay quiet."""

from __future__ import annotations

import csv
import json
import shlex
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli

from textattn.config.data_section import DataConfig
from textattn.config.load import config_from_mapping
from textattn.config.yaml12 import parse_value
from textattn.data.label_faults import label_faults
from textattn.data.read import Corpus, read_corpus, read_split
from textattn.data.splits import prepare_splits
from textattn.errors import ConfigError, InputError

Labelled = list[tuple[str, Any]]
TINY = ["recipe=plain", "tokenizer.min_frequency=1", "model.embedding_dim=8", "model.hidden_size=8"]
SHORT = [*TINY, "training.epochs=1", "output.audit_examples=0", "output.plots=false"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str | Path, rows: Labelled) -> str:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def rows_of(*labels: Any, times: int = 1) -> Labelled:
    return [(f"text {i}", label) for i, label in enumerate(labels * times)]


def read(path: str | Path, **more: Any) -> tuple[Corpus, DataConfig]:
    config = DataConfig.model_validate({"path": str(path), **more})
    return read_corpus(config), config


def found(path: str | Path, **more: Any) -> dict[str, Any]:
    return {fault.kind: fault for fault in label_faults(*read(path, **more))}


def pasted(hint: str) -> dict[str, str | None]:
    """The value of data.label_map as a shell and the config would read it."""
    (word,) = shlex.split(hint)
    value = parse_value(word.removeprefix("data.label_map="))
    assert isinstance(value, dict)
    return value


# Two spellings of one label, and what they differ in.
TWINS = {
    "case": ("pos", "POS"),
    "white space": ("not good", "not\u00a0good"),
    "invisible characters": ("pos", "p\u200bos"),
    "Unicode form (NFC, NFD)": ("caf\u00e9", "cafe\u0301"),
    "the way a number is written": ("1", "1.0"),
    "case and white space": ("not good", "Not  good"),
}


@pytest.mark.parametrize("kind", TWINS)
def test_labels_that_look_alike_are_named_and_mended(kind: str) -> None:
    one, other = TWINS[kind]
    write("a.csv", rows_of(one, "neg", one, other))
    fault = found("a.csv")["look_alike_labels"]
    assert fault.message.endswith(f" differ only in {kind}") and "(2 rows)" in fault.message
    assert "(1 row)" in fault.message
    assert pasted(fault.hint) == {other: one}
    assert found("a.csv", label_map=pasted(fault.hint)) == {}
    corpus, _ = read("a.csv", label_map=pasted(fault.hint))
    assert corpus.labels == sorted(["neg", one]) and len(corpus.train) == 4


BASES = ["pos", "neg", "caf\u00e9", "not good", "b-1", "\u0130x"]
CHANGES = [
    str.upper,
    str.title,
    lambda label: unicodedata.normalize("NFD", label),
    lambda label: label.replace(" ", "\u2009"),
    lambda label: label[:1] + "\u200d" + label[1:],
    lambda label: label + "\ufeff",
]


@settings(max_examples=60, deadline=None)
@given(
    base=st.sampled_from(BASES),
    changes=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3),
    counts=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_every_twin_is_found_and_the_hint_merges_it(base: str, changes: list[Any], counts: tuple[int, int]) -> None:
    twin = base
    for change in changes:
        twin = change(twin)
    labels = [base] * counts[0] + [twin] * counts[1] + ["something else"]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.csv", rows_of(*labels))
        faults = found(path)
        if twin == base:
            assert faults == {}
            return
        fault = faults["look_alike_labels"]
        assert {base, twin} == set(fault.examples[0]["labels"])
        assert found(path, label_map=pasted(fault.hint)) == {}


def test_labels_that_differ_in_more_are_no_twins() -> None:
    write("a.csv", rows_of("01", "1", "10", "pos", "post", "a b", "ab", "a-b", "C", "C++", "\u00b2", "2", times=2))
    assert found("a.csv") == {}


@pytest.mark.parametrize("label", ["nan", "NULL", "N/A", "None", "-", "<NA>", "NaN", "#N/A"])
def test_labels_that_are_none_are_named_and_left_out(label: str) -> None:
    write("a.csv", rows_of("pos", "neg", label))
    fault = found("a.csv")["missing_labels"]
    assert fault.message == f"{label!r} (1 row) may stand for a missing label, but is a class of its own"
    corpus, config = read("a.csv", label_map=pasted(fault.hint))
    assert corpus.labels == ["neg", "pos"] and list(corpus.train) == ["text 0", "text 1"]
    assert corpus.notes == ["left out 1 of 3 rows, whose labels data.label_map maps to null"]
    split, notes = read_split(config, "test", ["neg", "pos"], multi_label=False)
    assert (list(split), notes) == (["text 0", "text 1"], corpus.notes)


def test_control_characters_and_whole_texts() -> None:
    write("a.csv", rows_of("pos", "two\nlines", "x" * 10_000))
    faults = found("a.csv")
    assert list(faults) == ["control_characters", "long_labels"]
    assert faults["control_characters"].message.startswith(r"'two\nlines' (1 row): line breaks")
    assert pasted(faults["control_characters"].hint) == {"two\nlines": "two lines"}
    assert faults["long_labels"].message.startswith("1 label of up to 10,000 characters, 'xxx")
    assert len(faults["long_labels"].message) < 200


def test_a_new_hint_keeps_the_names_that_are_given() -> None:
    write("a.csv", rows_of("a", "b", "B", "B", "B", "other"))
    fault = found("a.csv", label_map={"a": "b"})["look_alike_labels"]
    assert pasted(fault.hint) == {"a": "B", "b": "B"}
    assert found("a.csv", label_map=pasted(fault.hint)) == {}


def test_names_of_several_labels_are_mapped_one_by_one() -> None:
    Path("a.jsonl").write_text(
        "".join(
            json.dumps({"text": "x", "label": label}) + "\n" for label in (["a", "nan"], ["B", "a"], ["b"], ["nan"])
        )
    )
    corpus, _ = read("a.jsonl", label_map={"B": "b", "nan": None})
    assert corpus.labels == ["a", "b"] and corpus.train.labels.tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]


def test_names_that_the_data_give_to_numbers_are_mapped() -> None:
    features = {"label": {"names": ["POS", "pos", "nan", "neg"], "_type": "ClassLabel"}}
    table = pa.table({"text": list("abcd"), "label": [0, 1, 2, 3]})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), "a.parquet"
    )
    corpus, config = read("a.parquet", label_map={"POS": "pos", "nan": None})
    assert corpus.labels == ["pos", "neg"]
    assert [corpus.labels[i] for i in corpus.train.labels] == ["pos", "pos", "neg"]
    assert read_split(config, "test", ["neg", "pos"], multi_label=False)[0].labels.tolist() == [1, 1, 0]


def test_check_and_train_name_them_and_the_hint_can_be_pasted() -> None:
    write("a.csv", rows_of("pos", "neg", "POS", "nan", times=12))
    done = cli("check", "a.csv", *TINY, "--no-forecast")
    assert done.code == 0, done.err
    assert "look alike labels: labels 'POS' (12 rows) and 'pos' (12 rows) differ only in case" in done.out
    assert "missing labels: 'nan' (12 rows)" in done.out
    assert "look clean" not in done.out
    (hint,) = {line.strip() for line in done.out.splitlines() if "data.label_map" in line}
    done = cli("train", "a.csv", *SHORT, "output.dir=one")
    assert f"labels 'POS' (12 rows) and 'pos' (12 rows) differ only in case; {hint}" in done.err
    done = cli("check", "a.csv", *TINY, "--no-forecast", *shlex.split(hint))
    assert (done.code, "label_map" in done.out) == (0, False)
    assert cli("train", "a.csv", *SHORT, "output.dir=two", *shlex.split(hint)).code == 0
    # The setting belongs to the model: it is measured on the same column.
    measured = json.loads(cli("evaluate", "-m", "two", "a.csv", "--json").out)
    assert (list(measured["per_class"]), measured["num_examples"]) == (["neg", "pos"], 36)


@pytest.mark.parametrize("name", ["case", "nfd", "zero-width", "nbsp", "ints-and-floats", "missing"])
def test_tables_that_were_met(name: str, shared: Path) -> None:
    path = shared / "cases" / "12-labels-that-look-alike" / f"{name}.csv"
    done = cli("check", path, *TINY, "--no-forecast", "--json")
    assert done.code == 0, done.err
    faults = {finding["kind"]: finding for finding in json.loads(done.out)["findings"]}
    fault = faults["missing_labels" if name == "missing" else "look_alike_labels"]
    done = cli("check", path, *TINY, "--no-forecast", *shlex.split(fault["hint"]))
    assert "the data look clean" in done.out


def test_booleans_that_were_met(shared: Path) -> None:
    folder = shared / "cases" / "14-booleans-as-text"
    for one, other, names in (
        ("pandas.csv", "bools.jsonl", ["False", "True"]),
        ("bools.jsonl", "pandas.csv", ["false", "true"]),
    ):
        files = {"train": str(folder / one), "test": str(folder / other)}
        corpus = read_corpus(DataConfig.model_validate({"files": files}))
        assert corpus.labels == names and corpus.test is not None
        assert np.bincount(corpus.test.labels).tolist() == np.bincount(corpus.train.labels).tolist()


# Columns that are no labels

GENERATOR = np.random.default_rng(0)
NO_LABELS: dict[str, list[Any]] = {
    "numbers": GENERATOR.normal(50, 20, 300).round(2).tolist(),
    "dates": [f"2024-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(120)],
    "ids": [f"user-{i}" for i in range(100)],
    "texts": [f"this review of film {i} is a text" for i in range(100)],
}


@pytest.mark.parametrize("kind", NO_LABELS)
def test_a_column_that_is_no_label_is_refused_by_every_format(kind: str) -> None:
    values = NO_LABELS[kind]
    write("a.csv", rows_of(*values))
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(len(values))], "label": values}), "a.parquet")
    told = []
    for name in ("a.csv", "a.parquet"):
        for command in ("check", "train"):
            done = cli("-q", command, name, *SHORT, "output.dir=run")
            assert done.code == 3
            told.append(done.err.replace(name, "FILE"))
    assert len(set(told)) == 1
    assert f"look like {'ids, or' if kind == 'ids' else kind.replace('texts', 'whole texts')}" in told[0]
    assert "Hint: " in told[0]


def test_many_labels_that_repeat_go_on() -> None:
    many = {
        "classes by number": [i % 100 for i in range(250)],
        "intents": [f"intent {i % 77}" for i in range(154)],
        "one example each of a few": [f"kind {i}" for i in range(15)],
        "stars": [i % 10 / 2 for i in range(60)],
    }
    for name, values in many.items():
        write("a.csv", rows_of(*values))
        assert found("a.csv") == {}, name


def test_numbers_that_repeat_are_told_and_trained() -> None:
    write("a.csv", rows_of(*[f"{i * 1.7:.1f}" for i in range(40)], times=8))
    fault = found("a.csv")["label_column"]
    assert fault.message.startswith("40 different labels in 320 rows ('") and "look like numbers" in fault.message


# Duplicates

SPLITS = {
    "train": [("same", "a"), ("other", "b"), ("same", "a"), ("same", "b"), ("leak", "a"), ("end", "b")],
    "validation": [("leak", "b"), ("v", "a")],
    "test": [("end", "b"), ("t", "a")],
}


def prepared(setting: str) -> Corpus:
    for name, rows in SPLITS.items():
        write(f"{name}.csv", rows)
    files = {name: f"{name}.csv" for name in SPLITS}
    config = DataConfig.model_validate({"files": files, "duplicates": setting})
    return prepare_splits(read_corpus(config), config, seed=0)


def test_duplicates_are_kept_dropped_or_refused() -> None:
    assert len(prepared("keep").train) == 6
    dropped = prepared("drop")
    assert list(dropped.train) == ["same", "other", "same"] and dropped.train.labels.tolist() == [0, 1, 1]
    assert [len(split) for split in dropped.splits().values()] == [3, 2, 2]
    message = "1 that stand there twice and 2 whose texts are in another split (of 6 training rows)"
    assert dropped.notes == [f"data.duplicates: dropped {message}"]
    with pytest.raises(InputError) as caught:
        prepared("error")
    assert caught.value.message.splitlines() == [
        f"duplicates: {message}",
        "train.csv:4 = train.csv:2: same",
        "train.csv:6 = validation.csv:2: leak",
        "train.csv:7 = test.csv:2: end",
    ]
    assert caught.value.hint == "data.duplicates=drop"


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from("stuv"), st.sampled_from("ab")), min_size=12, max_size=40))
def test_nothing_of_a_validation_split_that_is_drawn_is_trained_on(rows: Labelled) -> None:
    rows = [*rows, *((f"{label}{i}", label) for label in "ab" for i in range(12))]
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig.model_validate({"path": write(Path(folder) / "a.csv", rows), "duplicates": "drop"})
        corpus = prepare_splits(read_corpus(config), config, seed=0)
    assert corpus.validation is not None
    assert not set(corpus.train) & set(corpus.validation)
    pairs = list(zip(corpus.train, corpus.train.labels.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


# Settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": ["a", "a"]}, "data.label names the same column twice"),
        ({"label": ["a", "text"]}, "data.text and data.label are both 'text'"),
        ({"label": ["a"]}, "needs at least 2 entries, got 1"),
        ({"label": ["a", "b"], "label_separator": ","}, "data.label_separator is for one label column"),
        ({"label_map": {"a": ""}}, "must not be empty"),
        ({"duplicates": "maybe"}, "duplicates"),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_mapping({"data": {"path": "a.csv", **values}})
