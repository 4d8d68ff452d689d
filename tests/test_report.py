"""`textattn report` and report.html of a run: its numbers against scikit-learn, its page, and what is missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from html_pages import Page
from inprocess import run as cli
from report_runs import NASTY
from sklearn import metrics as sk

import textattn
from textattn.measure.selective import TARGETS, Answers, selective


def numbers(run: Path, *options: str) -> dict[str, Any]:
    done = cli("report", run, "--json", *options)
    assert done.code == 0, done.err
    value: dict[str, Any] = json.loads(done.out)
    return value


def predictions(run: Path, split: str = "test") -> Any:
    return pq.read_table(run / "predictions" / f"{split}.parquet").to_pydict()


@pytest.fixture(params=["trained_run", "ticket_run", "tag_run"])
def run(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_every_run_has_a_page_and_the_command_writes_the_same_bytes(run: Path, tmp_path: Path) -> None:
    page = (run / "report.html").read_bytes()
    for name in "ab":
        assert cli("report", run, "--output", tmp_path / name).code == 0
        assert (tmp_path / name).read_bytes() == page
    Page(page.decode())  # its tags match


def test_numbers_of_labels_are_those_of_scikit_learn(run: Path) -> None:
    found, table = numbers(run), predictions(run)
    labels = found["labels"]

    def flags(column: str) -> Any:
        rows = [value if isinstance(value, list) else [value] for value in table[column]]
        return np.array([[label in row for label in labels] for row in rows])

    truth, decided = flags("label"), flags("prediction")
    confusion = sk.multilabel_confusion_matrix(truth, decided)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, decided, zero_division=0)
    for i, label in enumerate(labels):
        row = found["per_label"][label]
        assert [[row["tn"], row["fp"]], [row["fn"], row["tp"]]] == confusion[i].tolist()
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((precision[i], recall[i], f1[i]))
    assert found["errors"]["count"] == (truth != decided).any(axis=1).sum()


def test_thresholds_are_chosen_on_validation_and_measured_on_test(run: Path) -> None:
    found = numbers(run)["selective"]
    model = textattn.load(run)
    splits = {}
    for split in ("validation", "test"):
        rows = textattn.inference.evaluation.read_labelled(model, None, split, {}).rows
        probs = model.predict_proba(list(rows))
        decided = model.task.decide(probs, model.config.thresholds)
        splits[split] = Answers.of(rows.labels, decided, probs)
    expected = selective(("validation", splits["validation"]), ("test", splits["test"]))
    assert expected is not None
    assert [entry["target"] for entry in found["thresholds"]] == list(TARGETS)
    for own, wanted in zip(found["thresholds"], expected["thresholds"], strict=True):
        assert own["threshold"] == wanted["threshold"]
        assert own["test"] == wanted["test"]


def test_predict_answers_alone_what_the_report_says(ticket_run: Path, tmp_path: Path) -> None:
    entry = next(e for e in numbers(ticket_run)["selective"]["thresholds"] if e["threshold"])
    table = predictions(ticket_run)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in table["text"]))
    arguments = ("--input", tmp_path / "texts.jsonl", "--model", ticket_run, "--min-score", str(entry["threshold"]))
    done = cli("predict", *arguments, "--json")
    labels = [json.loads(line)["label"] for line in done.out.splitlines()]
    answered = [(label, gold) for label, gold in zip(labels, table["label"], strict=True) if label is not None]
    assert len(answered) == entry["test"]["answered"]
    assert sum(label == gold for label, gold in answered) == entry["test"]["right"]


def test_slices_by_a_column(ticket_run: Path) -> None:
    found = numbers(ticket_run, "--by", "product", "--by", "price")["slices"]
    assert list(found) == ["length of the text in words", "product", "price"]
    table = predictions(ticket_run)
    right = np.array([a == b for a, b in zip(table["label"], table["prediction"], strict=True)])
    # The row that was skipped in the file is in no slice.
    products = np.array(["old" if i % 4 == 0 else f"new {i % 3}" for i in range(len(right))])
    by_value = {one["value"]: one for one in found["product"]}
    assert set(by_value) == set(products)
    for value, one in by_value.items():
        assert one["count"] == (products == value).sum()
        assert one["figure"] == pytest.approx(right[products == value].mean())
    assert by_value["old"]["verdict"] == "worse"
    assert found["product"][0]["value"] == "old"
    assert sum(one["count"] for one in found["price"]) == len(right)


def test_columns_of_rows_that_were_set_aside(tmp_path: Path) -> None:
    """Rows that were drawn from the training file get the values of their own rows."""
    lines = [f"{word} number {i},{label},{word}" for i in range(60) for word, label in (("good", "a"), ("bad", "b"))]
    (tmp_path / "data.csv").write_text("text,label,kind\n" + "\n".join(lines) + "\n")
    run = tmp_path / "run"
    small = ["recipe=plain", "training.epochs=1", "model.hidden_size=8", "model.embedding_dim=8", "output.plots=false"]
    textattn.train(tmp_path / "data.csv", [*small, "data.validation_fraction=0.5", f"output.dir={run}"])
    found = numbers(run, "--by", "kind")
    assert found["split"] == "test"
    assert {one["value"]: one["count"] for one in found["slices"]["kind"]} == {"good": 12, "bad": 12}


def test_strangers_are_escaped_everywhere(ticket_run: Path, tag_run: Path, tmp_path: Path) -> None:
    for run in (ticket_run, tag_run):
        cli("report", run, "--output", tmp_path / f"{run.parent.name}.html")
        text = (tmp_path / f"{run.parent.name}.html").read_text()
        assert "boom()" in text
        assert "<script>boom" not in text
        assert "<img/src" not in text
        assert "<b>bold" not in text
        assert "\x07" not in text
        page = Page(text)
        assert len(page.all("script")) == 1
        policy = page.all("meta", http_equiv="Content-Security-Policy")[0].attributes["content"]
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
        assert not re.search(r"(?:src|href)=\"(?!#)", text)


def test_errors_are_the_surest_first_with_reasons(ticket_run: Path) -> None:
    table = predictions(ticket_run)
    wrong = [i for i, gold in enumerate(table["label"]) if gold != table["prediction"][i]]
    wrong.sort(key=lambda i: -table["score"][i])
    page = Page((ticket_run / "report.html").read_text())
    places = [element.text for element in page.all("p", "place")]
    assert places == [f"{n} · {table['id'][row].rpartition('/')[2]}" for n, row in enumerate(wrong[:50], 1)]
    assert page.all("mark", "p4")
    whys = [element.text for element in page.all("p", "why")]
    assert all(re.match("why .* rather than ", why, re.DOTALL) for why in whys)


def test_labels_in_doubt_are_marked_where_many_are_wrong(ticket_run: Path) -> None:
    found = numbers(ticket_run)["errors"]
    assert 0 < found["suspect_labels"] <= found["count"]
    page = Page((ticket_run / "report.html").read_text())
    shown = page.all("article", data_suspect="1")
    assert len(shown) == min(found["suspect_labels"], len(page.all("p", "doubt")))
    assert "may be wrong" in page.all("main")[0].text


def test_the_baseline_is_shown_where_there_is_one(ticket_run: Path, tmp_path: Path) -> None:
    assert "No linear model was trained" in (ticket_run / "report.html").read_text()
    assert numbers(ticket_run)["baseline"] is None
    run = tmp_path / "run"
    shutil.copytree(ticket_run, run)
    metrics = json.loads((run / "metrics.json").read_text())
    other = metrics["test"] | {"accuracy": 0.5, "interval_95": {"metric": "accuracy", "low": 0.4, "high": 0.6}}
    against = {"split": "test", "difference": 0.2, "interval_95": [0.1, 0.3]}
    metrics["baseline"] = {"test": other, "against": against}
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert numbers(run)["baseline"] == {"value": 0.5, "verdict": "better"}
    assert "better than a linear model" in Path(cli("report", run).out.strip()).read_text()


def without(*names: str) -> Callable[[Path], None]:
    def remove(run: Path) -> None:
        for name in names:
            (run / name).unlink()

    return remove


def drop_selective(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["selective"]
    (run / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    "change",
    [drop_selective, without("predictions/test.parquet"), without("attention/test.parquet", "environment.json")],
)
def test_runs_that_lack_something_are_reported_all_the_same(
    change: Callable[[Path], None], tag_run: Path, tmp_path: Path
) -> None:
    """What an earlier version did not write is computed again, or left out."""
    before = numbers(tag_run)
    shutil.copytree(tag_run, tmp_path / "run")
    change(tmp_path / "run")
    after = numbers(tmp_path / "run")
    for key in ("value", "per_label", "errors", "slices"):
        assert after[key] == before[key]
    assert [e["threshold"] for e in after["selective"]["thresholds"]] == [
        e["threshold"] for e in before["selective"]["thresholds"]
    ]
    page = Page(Path(cli("report", tmp_path / "run").out.strip()).read_text())
    assert bool(page.all("section", id="words")) == (tmp_path / "run/attention/test.parquet").exists()


def test_what_cannot_be_reported_is_said(ticket_run: Path, tmp_path: Path) -> None:
    done = cli("report", ticket_run, "--by", "prodct")
    assert done.code == 3
    assert "test.csv: --by: no column 'prodct'; columns are: text, label, product, price" in done.err
    assert "Hint: --by product" in done.err
    done = cli("report", ticket_run, "--split", "train")
    assert done.code == 3
    assert "has not measured a split 'train'; splits are: test, validation" in done.err
    (tmp_path / "page.html").write_text("mine")
    done = cli("report", ticket_run, "--output", tmp_path / "page.html")
    assert done.code == 2
    assert (tmp_path / "page.html").read_text() == "mine"
    assert cli("report", ticket_run, "--overwrite").code == 2
    bundle = tmp_path / "model.zip"
    assert cli("export", "--model", ticket_run, "--bundle", bundle).code == 0
    done = cli("report", bundle)
    assert done.code == 3
    assert "nothing to report" in done.err
    linked = tmp_path / "linked"
    shutil.copytree(ticket_run, linked)
    (linked / "report.html").unlink()
    (linked / "report.html").symlink_to(tmp_path / "page.html")
    done = cli("report", linked)
    assert done.code == 2
    assert (tmp_path / "page.html").read_text() == "mine"


def test_json_writes_no_page(ticket_run: Path, tmp_path: Path) -> None:
    shutil.copytree(ticket_run, tmp_path / "run")
    (tmp_path / "run/report.html").unlink()
    numbers(tmp_path / "run")
    assert not (tmp_path / "run/report.html").exists()
    done = cli("report", tmp_path / "run", "--json", "--output", tmp_path / "page.html")
    assert json.loads(done.out)["split"] == "test"
    assert (tmp_path / "page.html").exists()


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["training.epochs=1", "model.hidden_size=8", "model.embedding_dim=8", "output.plots=false"]
    textattn.train("four_sentences", [*small, f"output.dir={run}"])
    text = (run / "report.html").read_text()
    assert "Nothing was measured" in text
    assert "selective" not in json.loads((run / "metrics.json").read_text())
    assert numbers(run)["selective"] is None


def test_no_report_is_written_where_none_is_wanted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["training.epochs=1", "model.hidden_size=8", "model.embedding_dim=8", "output.plots=false"]
    textattn.train("four_sentences", [*small, f"output.dir={run}", "output.report=false"])
    assert not (run / "report.html").exists()
    assert "report.html" not in (run / "README.md").read_text()


def test_labels_are_listed_in_json_as_they_are(tag_run: Path) -> None:
    assert set(numbers(tag_run)["per_label"]) == set(NASTY)
