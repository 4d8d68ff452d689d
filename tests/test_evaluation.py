"""Data that have changed since training: every command that reads a split of the model's own data says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inprocess import run as cli

import textattn
from textattn.inference.evaluation import load_split

Rows = list[dict[str, str]]
WORDS = {"pos": "good lovely warm", "neg": "bad awful cold"}


def rows_of(split: str, count: int) -> Rows:
    return [{"text": f"{words} {split} {i}", "label": label} for i in range(count) for label, words in WORDS.items()]


def write(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and the run that was trained on them; the validation split is drawn."""
    folder = tmp_path_factory.mktemp("own")
    for split in ("train", "test"):
        write(folder / f"{split}.jsonl", rows_of(split, 20))
    textattn.train(
        {
            "recipe": "plain",
            "data": {"files": {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}},
            "tokenizer": {"vocab_size": 100, "min_frequency": 1},
            "model": {"embedding_dim": 8, "hidden_size": 8},
            "training": {"epochs": 1},
            "output": {"dir": str(folder / "run"), "plots": False, "audit_examples": 0},
        }
    )
    return folder


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy whose data a test may change."""
    folder = tmp_path / "own"
    shutil.copytree(trained, folder)
    config = folder / "run/training_config.yaml"
    config.write_text(config.read_text().replace(str(trained), str(folder)))
    return folder


def relabelled(rows: Rows) -> Rows:
    return [rows[0] | {"label": rows[1]["label"]}, *rows[1:]]


SAME_NUMBER = "40 rows then and now, but their texts, labels or order differ"
CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "a row fewer": (lambda rows: rows[1:], "40 rows then, 39 now"),
    "rows more": (lambda rows: rows + rows_of("new", 600), "40 rows then, 1,240 now"),
    "another text": (lambda rows: [rows[0] | {"text": "other"}, *rows[1:]], SAME_NUMBER),
    "another label": (relabelled, SAME_NUMBER),
    "another order": (lambda rows: rows[::-1], SAME_NUMBER),
}


def evaluate(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    done = cli("evaluate", "--model", folder / "run", "--json", *arguments)
    assert done.code == 0
    return json.loads(done.out), done.err


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_same_data_pass_without_a_word(own: Path, split: str) -> None:
    metrics, err = evaluate(own, "--split", split)
    assert "data_changed" not in metrics and "Warning" not in err


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_changed_are_measured_with_a_warning(own: Path, change: str) -> None:
    edit, message = CHANGES[change]
    write(own / "test.jsonl", edit(rows_of("test", 20)))
    metrics, err = evaluate(own)
    assert metrics["data_changed"] is True
    assert f"Warning: the test split has changed since training: {message}\n" in err
    # The other splits are those of training, and data that are named are no split of it.
    for arguments in (["--split", "validation"], ["--split", "train"], [str(own / "test.jsonl")]):
        metrics, err = evaluate(own, *arguments)
        assert "data_changed" not in metrics and "Warning" not in err
    assert evaluate(own, "-q")[1] == ""


def test_a_change_of_the_training_data_is_one_of_both_splits_drawn_from_them(own: Path) -> None:
    write(own / "train.jsonl", rows_of("train", 21))
    for split, before, now in (("train", 36, 38), ("validation", 4, 4)):
        metrics, err = evaluate(own, "--split", split)
        assert metrics["data_changed"] is True
        rows = f"{before} rows then, {now} now" if before != now else f"{now} rows then and now, but "
        assert f"Warning: the {split} split has changed since training: {rows}" in err


@pytest.mark.parametrize(
    "command", [["audit", "--examples", "5", "--methods", "attention"], ["explain", "--split", "test"], ["words"]]
)
def test_other_commands_on_the_own_data_say_it_too(own: Path, command: list[str]) -> None:
    write(own / "test.jsonl", rows_of("test", 19))
    done = cli(*command, "--model", own / "run")
    assert done.code == 0
    assert "Note: the test split has changed since training: 40 rows then, 38 now\n" in done.err


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text('{"dataset": {"splits": {"test": {"num_examples": 40}}}}'),
        lambda path: path.write_text('{"dataset": {"splits": []}}'),
    ],
    ids=["no file", "nothing", "no digest", "another shape"],
)
def test_a_run_that_does_not_say_what_it_was_trained_on(own: Path, damage: Callable[[Path], Any]) -> None:
    damage(own / "run/environment.json")
    metrics, err = evaluate(own)
    assert "data_changed" not in metrics and "Warning" not in err


def test_what_a_teacher_labelled_is_no_change(own: Path) -> None:
    """The record of the training split covers those rows, which evaluation does not read."""
    write(own / "more.jsonl", [{"text": f"good lovely {i}"} for i in range(9)])
    files = {split: str(own / f"{split}.jsonl") for split in ("train", "test")}
    run = textattn.train(
        {
            "recipe": "plain",
            "data": {"files": files, "unlabelled": {"path": str(own / "more.jsonl")}, "teacher": str(own / "run")},
            "tokenizer": {"vocab_size": 100, "min_frequency": 1},
            "model": {"embedding_dim": 8, "hidden_size": 8},
            "training": {"epochs": 1},
            "output": {"dir": str(own / "taught"), "plots": False, "audit_examples": 0},
        }
    )
    model = textattn.load(run)
    notes: list[str] = []
    assert len(load_split(model, None, "train", {}, notes.append)) == 36
    assert not any("changed" in note for note in notes)
    write(own / "train.jsonl", rows_of("train", 21))
    load_split(model, None, "train", {}, notes.append)
    assert notes[-1] == "the train split has changed since training: 36 rows then, 38 now"
