"""What a model cannot know is said: words it has never seen, and texts that are no formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import run_with_all_notes as cli

import textattn
from textattn.tokens.formulas import SYMBOLS, is_formula

UNKNOWN = "zqxv wvqk"


def test_unknown_words_are_counted(trained_run: Path) -> None:
    done = cli("predict", "-m", trained_run, "--json", UNKNOWN, "good food", f"{UNKNOWN} good food food")
    shares = [json.loads(line)["unknown"] for line in done.out.splitlines()]
    assert shares == [1.0, 0.0, 0.4]
    assert "Note: 1 of 3 texts consist mostly of words that the model has never seen\n" in done.err
    model = textattn.load(trained_run)
    assert [prediction.unknown for prediction in model.predict([UNKNOWN, "good food"])] == [1.0, 0.0]


def test_what_is_known_needs_no_note(trained_run: Path) -> None:
    assert "never seen" not in cli("predict", "-m", trained_run, "good food").err


def test_files_are_counted_too(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"text\ngood food\n{UNKNOWN}\n{UNKNOWN}\n")
    done = cli("predict", "-m", trained_run, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--json")
    assert "Note: 2 of 3 texts consist mostly of words that the model has never seen\n" in done.err
    found = json.loads(done.out)
    assert (found["rows"], found["unknown"], found["unreadable"]) == (3, 2, 0)


@pytest.fixture(scope="module")
def formulas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formulas")
    rows = [
        f"{metal}{n}{other},{label}" for n in range(2, 8) for metal, other, label in [("Fe", "", 1), ("Na", "Cl", 0)]
    ]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows * 3) + "\n")
    run = folder / "run"
    small = ["model.embedding_dim=4", "model.hidden_size=4", "training.epochs=1", "output.audit_examples=0"]
    done = cli("train", folder / "data.csv", *small, "output.plots=false", f"output.dir={run}")
    assert done.code == 0, done.err
    return run


def test_what_is_no_formula_gets_no_label(formulas: Path, tmp_path: Path) -> None:
    texts = ["Fe2O3", "garbage", "Xx2O3", "NaCl", "Fe2 and more"]
    done = cli("predict", "-m", formulas, *texts)
    labels = [line.split("\t")[0] for line in done.out.splitlines()]
    assert [label == "?" for label in labels] == [False, True, True, False, True]
    assert "Note: 3 of 5 texts got no label: they are no chemical formulas\n" in done.err
    answers = [json.loads(line) for line in cli("predict", "-m", formulas, "--json", *texts).out.splitlines()]
    assert [answer["label"] is None for answer in answers] == [False, True, True, False, True]
    found = textattn.load(formulas).predict(texts)
    assert [(prediction.labels, prediction.is_readable) for prediction in found[1:3]] == [([], False)] * 2
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(texts) + "\n")
    done = cli("predict", "-m", formulas, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")["label"].to_pylist()
    assert [label is None for label in written] == [False, True, True, False, True]


@given(st.lists(st.tuples(st.sampled_from(sorted(SYMBOLS)), st.integers(1, 99)), min_size=1, max_size=6))
def test_formulas_are_formulas(parts: list[tuple[str, int]]) -> None:
    assert is_formula("".join(f"{symbol}{number}" for symbol, number in parts))


@given(st.text("qjxzw !?", min_size=1))
def test_other_texts_are_not(text: str) -> None:
    assert not is_formula(text)
