"""From one messy csv to a decision: every step is one command without a config file, and rows can be found again."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli

ROOT = Path(__file__).parents[1]
COLUMNS = ("data.text=message", "data.label=topic", "data.id=ticket", "data.group=customer", "data.on_bad_row=skip")
SMALL = ("training.epochs=3", "model.hidden_size=32", "model.vectors.source=random", "output.audit_examples=10")


@pytest.fixture(scope="module")
def desk(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file and the tickets that were planted in it."""
    folder = tmp_path_factory.mktemp("desk")
    script = runpy.run_path(str(ROOT / "scripts" / "messy_csv.py"))
    rows, planted = script["messy"](shared / "data" / "trec", 1500, np.random.default_rng(0))
    script["write"](folder / "tickets.csv", script["COLUMNS"], rows)
    script["write"](folder / "new.csv", script["COLUMNS"][:-1], [row[:-1] for row in rows[:200] if row[4]])
    (folder / "planted.json").write_text(json.dumps(planted))
    return folder


@pytest.mark.slow
def test_every_step_is_one_command(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    planted = json.loads(Path("planted.json").read_text())
    with Path("tickets.csv").open(encoding="cp1252", newline="") as file:
        rows = {row["ticket"]: row for row in csv.DictReader(file, delimiter=";")}

    hint = cli("check", "tickets.csv", "--no-forecast").err.splitlines()[-1]
    assert hint == "Hint: data.text=message data.label=topic"

    checked = cli("check", "tickets.csv", *COLUMNS, "--no-forecast", "--json")
    findings = {finding["kind"]: finding for finding in json.loads(checked.out)["findings"]}
    assert "read as cp1252" in checked.err
    assert "read with a semicolon between the columns" in checked.err
    missing = findings["missing_labels"]["message"]
    assert f"'n/a' ({len(planted['label_n_a'])} rows) may stand for a missing label" in missing
    assert "differ only in case" in findings["look_alike_labels"]["message"]
    label_map = findings["missing_labels"]["hint"].partition("=")[2].strip("'")
    in_two = {frozenset(pair["places"]) for pair in findings.get("duplicates", {"examples": []})["examples"]}
    for pair in in_two:
        assert len({rows[ticket]["message"] for ticket in pair}) == 1

    trained = cli("train", "tickets.csv", *COLUMNS, *SMALL, f"data.label_map={label_map}", "output.dir=run")
    assert trained.code == 0, trained.err
    usable = [row for row in rows.values() if row["message"] and row["topic"]]
    assert f"skipped {len(rows) - len(usable)} of {len(rows)} rows" in trained.err
    assert f"left out {sum(row['topic'] == 'n/a' for row in usable)} of" in trained.err

    report = json.loads(cli("report", "run", "--by", "product", "--json").out)
    assert sorted(report["labels"]) == sorted({row["topic"].strip().lower() for row in rows.values()} - {"", "n/a"})
    assert {one["value"] for one in report["slices"]["product"]} <= {row["product"] for row in rows.values()}
    for error in report["errors"]["surest"]:
        row = rows[error["id"]]
        assert (row["message"], [row["topic"].strip().lower()]) == (error["text"], error["label"])

    measured = set(pq.read_table("run/predictions/test.parquet")["id"].to_pylist())
    assert report["num_examples"] == len(measured)
    customers = {rows[ticket]["customer"] for ticket in measured}
    same = {row["ticket"] for row in usable if row["customer"] in customers and row["topic"] != "n/a"}
    assert same == measured, "all rows of a customer are on one side"

    (threshold,) = [one["threshold"] for one in report["selective"]["thresholds"] if one["target"] == 0.9]
    chosen = ["--min-score", str(threshold)] if threshold is not None else []
    done = cli("predict", "-m", "run", "-i", "new.csv", "-o", "answers.csv", "--text-column", "message", *chosen)
    assert done.code == 0, done.err
    with Path("answers.csv").open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    assert [answer["ticket"] for answer in answers] == [t for t in list(rows)[:200] if rows[t]["message"]]
    assert all(answer["message"] == rows[answer["ticket"]]["message"] for answer in answers)
