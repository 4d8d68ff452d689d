"""`predict --input … --output …`: the columns that are added, and those of the input, of which none is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import bulk_jobs
import pytest
from bulk_jobs import FORMATS, ROWS, SCHEMA, TEXTS, answered, bulk, expected, read, write

import textattn
from textattn.api import Model

# pytest looks for fixtures among the names of a file.
here, model, small = bulk_jobs.here, bulk_jobs.model, bulk_jobs.small
multi_label_run = bulk_jobs.multi_label_run


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


@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_names_that_the_input_uses_are_not_overwritten(model: Model, target: str) -> None:
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
def test_attention_is_that_of_explain(model: Model, target: str) -> None:
    write("in.parquet", ROWS, SCHEMA)
    assert bulk("-i", "in.parquet", "-o", f"out.{target}", "--attention").code == 0
    names = ("tokens", "starts", "ends", "weights", "contributions")
    for row, explanation in zip(read(f"out.{target}"), model.explain(TEXTS), strict=True):
        tokens, starts, ends, weights, contributions = (
            (json.loads if target == "csv" else list)(row[name]) for name in names
        )
        assert tokens == explanation.tokens
        assert list(zip(starts, ends, strict=True)) == explanation.offsets
        assert weights == pytest.approx(explanation.attention_weights, abs=1e-6)
        assert contributions == pytest.approx(explanation.weights, abs=1e-5)
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


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_every_output_gives_the_labels_that_are_printed(
    trained_run: Path, multi_label_run: Path, several: bool, share: float
) -> None:
    """`--min-score` at a share of the scores: `?` where no label is probable enough, nothing where none is given."""
    run = multi_label_run if several else trained_run
    texts = [f"{word} thing {i}" for i in range(4) for word in ("good", "bad", "both", "nothing", "?")]
    write("in.txt", [{"text": text} for text in texts])
    classifier = textattn.load(run)
    scores = sorted(prediction.score for prediction in classifier.predict(texts))
    limit = scores[int(share * len(scores))] if share else 0.0
    options = ("--model", str(run), "--min-score", repr(limit))
    printed = bulk(*options, "-i", "in.txt").out
    for target in FORMATS:
        assert bulk(*options, "-i", "in.txt", "-o", f"out.{target}").code == 0
    assert Path("out.txt").read_text("utf-8") == printed
    lines = [line.split("\t") for line in printed.splitlines()]
    predictions = classifier.predict(texts, min_score=limit)
    assert [line[0] for line in lines] == ["?" if p.score < limit else ",".join(p.labels) for p in predictions]
    assert (lines[0] == ["?", f"{predictions[0].score:.4f}"]) == (predictions[0].score < limit)
    assert any(line[0] == "?" for line in lines) == bool(share)
    assert share or any(line[0] == "" for line in lines) == several
    for target in set(FORMATS) - {"txt"}:
        for (labels, _), row in zip(lines, read(f"out.{target}"), strict=True):
            if labels == "?":
                assert row["label"] in ("", None)
            given = [] if labels in ("?", "") else labels.split(",")
            if several:
                assert (json.loads(row["labels"]) if isinstance(row["labels"], str) else row["labels"]) == given
            else:
                assert (row["label"] or None) == (given[0] if given else None)
