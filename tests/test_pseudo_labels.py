"""`data.teacher`: texts without labels are trained on with the answers of another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import run as cli

import textattn
from textattn.config import load_config
from textattn.report import Report
from textattn.runs.prepare import prepare

Rows = list[dict[str, Any]]
WORDS = {label: [f"{label}{i}" for i in range(60)] for label in ("bad", "good")}
FILLERS = [f"filler{i}" for i in range(100)]
SMALL = {
    "recipe": "plain",
    "tokenizer": {"min_frequency": 1},
    "model": {"embedding_dim": 16, "hidden_size": 8},
    "training": {"epochs": 12, "batch_size": 16, "learning_rate": 1e-2},
    "output": {"plots": False, "audit_examples": 0, "attention_examples": 0},
}


def rows_of(number: int, seed: int) -> Rows:
    """Two words of the label in each text, of 60 there are: few texts do not have them all."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(number):
        label = ("bad", "good")[i % 2]
        words = [*generator.choice(WORDS[label], 2), *generator.choice(FILLERS, 8)]
        generator.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, and `teacher`, a run on all of them that has seen every word."""
    folder = tmp_path_factory.mktemp("pseudo")
    write(folder / "many.jsonl", rows_of(600, 1))
    write(folder / "few.jsonl", rows_of(30, 2))
    write(folder / "test.jsonl", rows_of(200, 3))
    write(folder / "texts.jsonl", [{"text": row["text"]} for row in rows_of(500, 4)])
    train(folder, "teacher", {"files": {"train": str(folder / "many.jsonl"), "test": str(folder / "test.jsonl")}})
    return folder


def train(folder: Path, name: str, data: dict[str, Any], **sections: Any) -> dict[str, Any]:
    textattn.train({**SMALL, **sections, "data": data, "output": {**SMALL["output"], "dir": str(folder / name)}})  # type: ignore[dict-item]
    metrics: dict[str, Any] = json.loads((folder / name / "metrics.json").read_text())
    return metrics


def taught(folder: Path, **more: Any) -> dict[str, Any]:
    files = {"train": "few.jsonl", "validation": "few.jsonl", "test": "test.jsonl"}
    paths = {split: str(folder / file) for split, file in files.items()}
    unlabelled = {"path": str(folder / "texts.jsonl")}
    return {"files": paths, "unlabelled": unlabelled, "teacher": str(folder / "teacher"), **more}


def test_a_few_labels_and_a_teacher_are_as_good_as_the_teacher(folder: Path) -> None:
    training = {**SMALL["training"], "baseline": True}  # type: ignore[dict-item]
    alone = train(folder, "alone", taught(folder, teacher=None), training=training)
    student = train(folder, "student", taught(folder), training=training)
    teacher = json.loads((folder / "teacher" / "metrics.json").read_text())
    assert teacher["test"]["accuracy"] > 0.95
    assert student["test"]["accuracy"] > 0.93 > 0.85 > alone["test"]["accuracy"]
    # The linear model learns from what people said.
    assert student["baseline"]["test"] == alone["baseline"]["test"]
    environment = json.loads((folder / "student" / "environment.json").read_text())
    assert environment["dataset"]["splits"]["train"]["num_examples"] == 530
    (note,) = environment["dataset"]["notes"]
    assert "The labels of 500 training texts are predictions of" in (folder / "student" / "README.md").read_text()
    assert "training texts are predictions of" not in (folder / "alone" / "README.md").read_text()
    assert note.startswith(f"500 texts without labels were labelled by {folder / 'teacher'}: bad 2")


def prepared(data: dict[str, Any]) -> Any:
    config = load_config(
        "quickstart",
        [*(f"data.{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in data.items())],
    )
    return prepare(config, Report())


def test_the_labels_are_the_teachers_by_name(folder: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in rows_of(500, 4)]
    answers = [given.label for given in textattn.load(folder / "teacher").predict(texts)]
    # Numbers, with names in the other order.
    numbered = [row | {"label": int(row["label"] == "bad")} for row in rows_of(30, 2)]
    few = str(write(tmp_path / "few.jsonl", numbered))
    data = taught(folder, label_names=["good", "bad"], evidence="evidence")
    for row in numbered:
        row["evidence"] = [row["text"].split()[0]]
    write(tmp_path / "few.jsonl", numbered)
    data["files"] |= {"train": few, "validation": few}
    del data["files"]["test"]
    found = prepared(data)
    train = found.corpus.train
    assert found.corpus.labels == ["good", "bad"] and found.corpus.num_pseudo_labelled == 500
    assert list(train)[30:] == texts
    assert [found.corpus.labels[i] for i in train.labels[30:]] == answers
    assert train.labels[:30].tolist() == [row["label"] for row in numbered]
    assert [e is None for e in train.evidence[:30]] == [False] * 30 and train.evidence[30:] == [None] * 500
    assert len(found.tokens["train"]) == 530
    labelled = found.labelled_by_people()
    assert list(labelled.corpus.train) == [row["text"] for row in numbered] and len(labelled.tokens["train"]) == 30
    assert labelled.corpus.num_pseudo_labelled == 0 and len(labelled.corpus.train.labels) == 30


def test_several_labels_a_text_from_their_thresholds_on(folder: Path, tmp_path: Path) -> None:
    def several(number: int, seed: int) -> Rows:
        rows = rows_of(number, seed)
        return [
            {"text": f"{a['text']} {b['text']}", "label": sorted({a["label"], b["label"]})}
            for a, b in zip(rows, [*rows[2:], *rows[:3]], strict=False)
        ] + [{"text": " ".join(FILLERS[:9]), "label": []}]

    files = {
        name: str(write(tmp_path / f"{name}.jsonl", several(number, seed)))
        for name, number, seed in (("many", 200, 1), ("few", 30, 2), ("texts", 60, 4))
    }
    train(tmp_path, "teacher", {"files": {"train": files["many"]}})
    teacher = textattn.load(tmp_path / "teacher")
    data = {
        "files": {"train": files["few"], "validation": files["few"]},
        "unlabelled": {"path": files["texts"]},
        "teacher": str(tmp_path / "teacher"),
    }
    found = prepared(data).corpus
    texts = list(found.train)[-found.num_pseudo_labelled :]
    assert len(texts) == 61
    for text, row in zip(texts, found.train.labels[-61:], strict=True):
        assert [found.labels[i] for i in np.flatnonzero(row)] == teacher.predict(text)[0].labels


def test_another_teacher_has_other_labels_whatever_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTATTN_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "teacher"
    data = taught(folder, teacher=str(run))
    turned = {"bad": "good", "good": "bad"}
    found = []
    shutil.copytree(folder / "teacher", run)
    for rows in (None, [row | {"label": turned[row["label"]]} for row in rows_of(600, 1)]):
        if rows is not None:
            path = write(tmp_path / "many.jsonl", rows)
            output = {**SMALL["output"], "dir": str(run)}  # type: ignore[dict-item]
            textattn.train({**SMALL, "data": {"path": str(path)}, "output": output}, overwrite=True)
        first, again = prepared(data).corpus, prepared(data).corpus
        assert (first.train.labels == again.train.labels).all() and again.num_pseudo_labelled == 500
        found.append(first.train.labels[30:])
    assert (found[0] != found[1]).mean() > 0.9


def test_the_splits_of_a_run_are_found_again(folder: Path, tmp_path: Path) -> None:
    """`evaluate`, `audit` and `explain --split` need neither the texts without labels nor the teacher."""
    data = tmp_path / "hub" / "data"
    data.mkdir(parents=True)
    files = {
        name: str(write(data / f"{name}-00000-of-00001.jsonl", rows))
        for name, rows in (("train", rows_of(40, 2)), ("test", rows_of(40, 3)), ("unsupervised", rows_of(30, 4)))
    }
    unlabelled = files.pop("unsupervised")
    teacher = str(folder / "teacher")
    train(tmp_path, "split", {"path": str(data.parent), "unlabelled": {"splits": ["unsupervised"]}, "teacher": teacher})
    train(tmp_path, "files", {"files": files, "unlabelled": {"path": unlabelled}, "teacher": teacher})
    Path(unlabelled).unlink()
    for run in (tmp_path / "split", tmp_path / "files"):
        measured = json.loads((run / "metrics.json").read_text())
        for split in ("validation", "test"):
            done = cli("evaluate", "--model", run, "--split", split, "--json")
            assert done.code == 0, done.err
            assert json.loads(done.out)["accuracy"] == measured[split]["accuracy"]
        done = cli("evaluate", files["test"], "--model", run, "--json")
        assert json.loads(done.out)["accuracy"] == measured["test"]["accuracy"]
        assert cli("audit", "--model", run, "--examples", 5, "--quiet").code == 0
        assert cli("explain", "--model", run, "--split", "test", "--examples", 2).code == 0


def test_check_speaks_of_the_rows_that_people_have(folder: Path, tmp_path: Path) -> None:
    """A text without a label that stands in test is no row of train."""
    test = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    texts = str(write(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in test]))
    data = taught(folder)
    data["unlabelled"]["path"] = texts
    config = write(tmp_path / "config.yaml", [{**SMALL, "data": data}])
    done = cli("check", config, "--json", "--no-forecast")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["splits"]["train"]["num_examples"] == 230
    rows = [row for finding in facts["findings"] for e in finding["examples"] for s, row in e["rows"] if s == "train"]
    assert max(rows, default=1) <= 30


def test_what_cannot_teach_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    write(other, [row | {"label": {"bad": "no", "good": "yes"}[row["label"]]} for row in rows_of(30, 2)])
    several = write(tmp_path / "several.jsonl", [row | {"label": [row["label"]]} for row in rows_of(30, 2)])
    columns = write(tmp_path / "columns.jsonl", [row | {"title": "a"} for row in rows_of(30, 2)])
    wrong: list[tuple[dict[str, Any], dict[str, str], list[str]]] = [
        ({}, {"train": str(other)}, ["predicts the labels bad, good, but the labels of the data are no, yes"]),
        ({}, {"train": str(several)}, ["predicts one label per text, but the data have several labels per text"]),
        (
            {"text": ["title", "text"], "unlabelled": {"path": str(columns)}},
            {"train": str(columns)},
            ["reads texts from 1 column, but data.text names 2 columns"],
        ),
        (
            {"teacher": str(tmp_path / "none")},
            {},
            [f"data.teacher: no such folder: {tmp_path}", f"textattn train CONFIG output.dir={tmp_path}"],
        ),
    ]
    for settings, files, parts in wrong:
        data = taught(folder, **settings)
        data["files"] = {"train": data["files"]["train"]} | files
        config = write(tmp_path / "config.yaml", [{**SMALL, "data": data, "output": {"dir": str(tmp_path / "x")}}])
        done = cli("train", config)
        assert done.code != 0
        for part in parts:
            assert part in " ".join(done.err.split()), done.err
        assert not (tmp_path / "x").exists()
    data = taught(folder)
    del data["unlabelled"]
    config = write(tmp_path / "config.yaml", [{"data": data}])
    done = cli("train", config)
    assert done.code == 2
    assert "data.teacher needs texts without labels: data.unlabelled" in " ".join(done.err.split())
