"""Rows keep their identity from the user's file to every report, and are set aside by groups and by time."""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli

from textattn.config.data_section import DataConfig
from textattn.data.read import Corpus, read_corpus
from textattn.data.row_info import TimeProblem, parse_times
from textattn.data.splits import prepare_splits
from textattn.errors import ConfigError, InputError

WORDS = {"bug": ["crash", "error", "broken", "fails", "bug"], "praise": ["love", "great", "thanks", "lovely", "fine"]}
TINY = [
    *(
        "recipe=plain",
        "training.epochs=1",
        "model.embedding_dim=4",
        "model.hidden_size=4",
        "model.vectors.source=random",
    ),
    *("output.audit_examples=0", "output.plots=false"),
]


def write_tickets(path: Path, rows: int = 120, **columns: Any) -> Path:
    """A file with a ticket of each label in turn; more columns are functions of the row."""
    generator = np.random.default_rng(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", *columns])
        for row in range(rows):
            label = ["bug", "praise"][row % 2]
            text = f"ticket {row} " + " ".join(generator.choice(WORDS[label], 6))
            writer.writerow([text, label, *(column(row) for column in columns.values())])
    return path


def corpus_of(path: Path, seed: int = 0, **more: Any) -> Corpus:
    config = DataConfig.model_validate({"path": str(path), **more})
    return prepare_splits(read_corpus(config), config, seed)


def test_a_single_file_gets_a_test_split_and_every_command_works_on_it(tmp_path: Path) -> None:
    file, run = write_tickets(tmp_path / "tickets.csv"), tmp_path / "run"
    done = cli("train", file, *TINY, f"output.dir={run}")
    assert done.code == 0, done.err
    assert "no test split: 24 of 120 rows are set aside for it (data.test_fraction=0 trains on all)" in done.err
    assert "no validation split: 10 of 96 training rows are set aside for it" in done.err
    assert json.loads((run / "metrics.json").read_text())["test"]["num_examples"] == 24
    again = json.loads(cli("evaluate", "-m", run, "--json").out)
    assert again["num_examples"] == 24 and "data_changed" not in again
    assert cli("words", "-m", run).code == 0
    written = pq.read_table(run / "predictions" / "test.parquet")
    lines = file.read_text(encoding="utf-8").splitlines()
    for place, text in zip(written["id"].to_pylist(), written["text"].to_pylist(), strict=True):
        name, _, line = place.rpartition(":")
        assert name == str(file) and lines[int(line) - 1].startswith(text)


def test_the_config_of_the_run_sets_the_same_rows_aside(tmp_path: Path) -> None:
    file, run = write_tickets(tmp_path / "tickets.csv"), tmp_path / "run"
    assert cli("train", file, *TINY, f"output.dir={run}").code == 0
    again = cli("train", run / "training_config.yaml", f"output.dir={tmp_path / 'again'}")
    assert again.code == 0, again.err
    for name in ("predictions/test.parquet", "model.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(
    "wanted",
    [
        ["data.test_fraction=0"],
        ["data.test_split=null"],
        ["training.cross_validation=3", "data.validation_fraction=0"],
    ],
)
def test_no_test_split_where_none_is_wanted(wanted: list[str], tmp_path: Path) -> None:
    file, run = write_tickets(tmp_path / "tickets.csv", 60), tmp_path / "run"
    done = cli("train", file, *TINY, f"output.dir={run}", *wanted)
    assert done.code == 0, done.err
    assert "no test split" not in done.err
    assert "test" not in json.loads((run / "metrics.json").read_text())


def test_few_rows_stay_in_training_and_that_is_said(tmp_path: Path) -> None:
    found = corpus_of(write_tickets(tmp_path / "few.csv", 40))
    assert found.test is None
    assert "no test split is set aside: 40 rows are few; data.test_fraction=0.2 sets one aside" in found.notes
    asked = corpus_of(tmp_path / "few.csv", test_fraction=0.25)
    assert asked.test is not None and len(asked.test) == 10


def test_a_rare_label_stays_in_training_and_the_test_says_what_it_lacks(tmp_path: Path) -> None:
    file = write_tickets(tmp_path / "tickets.csv", 100)
    with file.open("a", encoding="utf-8") as more:
        more.write("the only one of its kind,rare\n")
    found = corpus_of(file)
    rare = found.labels.index("rare")
    assert rare in found.train.labels
    assert "the test split has no row with the label 'rare': its figures say nothing of it" in found.notes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 1000))
def test_groups_are_never_divided(
    tmp_path_factory: pytest.TempPathFactory, seed: int, number: int, fraction: float, drawn: int
) -> None:
    customers = np.random.default_rng(drawn).integers(0, number, 200)
    path = tmp_path_factory.mktemp("groups") / "tickets.csv"
    write_tickets(path, 200, customer=lambda row: f"C{customers[row]}" if row else "")
    try:
        found = corpus_of(path, seed, group="customer", test_fraction=fraction)
    except ConfigError:
        assert len(set(customers[1:])) < 10
        return
    of_split = {}
    for name, split in found.splits().items():
        assert split.info is not None
        rows = {int(text.split()[1]) for text in split}
        of_split[name] = {f"C{customers[row]}" if row else "" for row in rows}
    names = list(of_split)
    assert sum(len(split) for split in found.splits().values()) == 200
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not of_split[one] & of_split[other]


def test_groups_hold_in_cross_validation(tmp_path: Path) -> None:
    file = write_tickets(tmp_path / "tickets.csv", customer=lambda row: row // 8)
    done = cli(
        *("train", file, *TINY, f"output.dir={tmp_path / 'run'}", "data.group=customer"),
        *("training.cross_validation=3", "data.validation_fraction=0"),
    )
    assert done.code == 0, done.err


def test_a_single_group_is_refused(tmp_path: Path) -> None:
    file = write_tickets(tmp_path / "tickets.csv", customer=lambda row: "ACME")
    done = cli("check", file, "data.group=customer", "--no-forecast")
    assert done.code == 2
    assert "data.group: all rows have the same value in the column 'customer'" in done.err


START = datetime(2025, 1, 30, 10)
WRITTEN = {
    "iso": lambda moment: moment.isoformat(),
    "space": lambda moment: moment.strftime("%Y-%m-%d %H:%M"),
    "day": lambda moment: moment.strftime("%Y-%m-%d"),
    "zulu": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "german": lambda moment: moment.strftime("%d.%m.%Y"),
    "british": lambda moment: moment.strftime("%d/%m/%Y %H:%M"),
    "american": lambda moment: moment.strftime("%m/%d/%Y"),
    "number": lambda moment: moment.timestamp(),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_last_rows_by_date_are_the_test_and_those_before_them_validation(kind: str, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(120)
    file = write_tickets(tmp_path / "tickets.csv", opened=lambda row: WRITTEN[kind](START + timedelta(int(order[row]))))
    found = corpus_of(file, time="opened")
    days = {name: [order[int(text.split()[1])] for text in split] for name, split in found.splits().items()}
    assert sorted(days["test"]) == list(range(96, 120))
    assert sorted(days["validation"]) == list(range(86, 96))
    assert sorted(days["train"]) == list(range(86))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("soon", "column 'opened': 'soon' is no date (write 2025-12-31) and no number"),
        ("", "column 'opened': '' is no date (write 2025-12-31) and no number"),
        ("2025-02-30", "column 'opened': '2025-02-30' is no date (write 2025-12-31) and no number"),
    ],
)
def test_a_row_without_a_date_is_named(value: str, message: str, tmp_path: Path) -> None:
    file = write_tickets(tmp_path / "t.csv", opened=lambda row: value if row == 7 else f"2025-01-{row % 28 + 1:02}")
    with pytest.raises(InputError, match=r"t\.csv:9: ") as caught:
        corpus_of(file, time="opened")
    assert caught.value.message.endswith(f"t.csv:9: {message}")


def test_days_and_months_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(TimeProblem, match="'03/04/2025' may mean day and month or month and day; write 2025-12-31"):
        parse_times(["03/04/2025", "05/06/2025"])
    assert np.all(np.diff(parse_times(["03/04/2025", "13/04/2025"])) == 10 * 86400)


@given(st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)), min_size=2))
def test_dates_keep_their_order_however_they_are_written(moments: list[datetime]) -> None:
    for kind in ("iso", "space", "day", "zulu", "german"):
        times = parse_times([WRITTEN[kind](moment) for moment in moments])
        for a, b, x, y in zip(moments, moments[1:], times, times[1:], strict=False):
            assert (x <= y) if a <= b else (x >= y)


def test_ids_name_rows_everywhere(tmp_path: Path) -> None:
    file = write_tickets(tmp_path / "tickets.csv", number=lambda row: f"T-{row:04}" if row != 3 else "")
    with file.open("a", encoding="utf-8") as more:
        for i in range(3):
            more.write(f"the very same ticket twice,{['bug', 'praise'][i % 2]},T-9{i}\n")
    findings = tmp_path / "findings.csv"
    done = cli("check", file, "data.id=number", "--no-forecast", "-o", findings)
    assert done.code == 0, done.err
    assert re.search(r"  T-9[02] bug = T-91 praise  |  T-91 praise = T-9[02] bug  ", done.out)
    with findings.open(encoding="utf-8", newline="") as written:
        rows = list(csv.DictReader(written))
    assert {row["finding"] for row in rows} >= {"contradictions"}
    assert all(row["place"].startswith("T-") and row["other_place"].startswith("T-") for row in rows)
    run = tmp_path / "run"
    assert cli("train", file, *TINY, f"output.dir={run}", "data.id=number").code == 0
    ids = set(pq.read_table(run / "predictions" / "test.parquet")["id"].to_pylist())
    assert len(ids) == 24
    assert all(place.startswith("T-") or place == f"{file}:5" for place in ids)
    attention = pq.read_table(next((run / "attention").iterdir()))["id"].to_pylist()
    assert set(attention) <= ids


def test_what_the_terminal_leaves_out_is_in_the_file_it_names(tmp_path: Path) -> None:
    file = write_tickets(tmp_path / "tickets.csv")
    with file.open("a", encoding="utf-8") as more:
        for i in range(40):
            more.write(f"copy {i // 2} of some ticket,{['bug', 'praise'][i % 2]}\n")
    findings = tmp_path / "findings.csv"
    shown = cli("check", file, "--no-forecast")
    assert "and 18 more; --output FILE writes all" in shown.out
    done = cli("check", file, "--no-forecast", "--output", findings)
    assert f"and 18 more; all are in {findings}" in done.out
    with findings.open(encoding="utf-8", newline="") as written:
        rows = [row for row in csv.DictReader(written) if row["finding"] == "contradictions"]
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(rows) == 20
    for row in rows:
        for place in (row["place"], row["other_place"]):
            assert lines[int(place.rpartition(":")[2]) - 1].startswith(row["text"])
    refused = cli("check", file, "--no-forecast", "--output", findings)
    assert refused.code == 2 and "exists; nothing was changed" in refused.err


def test_places_survive_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTATTN_CACHE", str(tmp_path / "cache"))
    file = write_tickets(
        tmp_path / "tickets.csv", number=lambda row: f"T{row}", day=lambda row: f"2025-01-{row % 28 + 1:02}"
    )
    written = []
    for name in ("one", "two"):
        done = cli("train", file, *TINY, f"output.dir={tmp_path / name}", "data.id=number", "data.time=day")
        assert done.code == 0, done.err
        written.append((tmp_path / name / "predictions/test.parquet").read_bytes())
    assert written[0] == written[1]
