"""`textattn check` finds what was planted, and keeps quiet about what was not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli
from sklearn.feature_extraction.text import CountVectorizer

Rows = list[dict[str, Any]]
WORDS = [f"{a}{b}" for a in "bcdfghjklmnp" for b in "aeiou"]


def words(generator: np.random.Generator, number: int) -> str:
    return " ".join(generator.choice(WORDS, number))


@pytest.fixture
def clean() -> dict[str, Rows]:
    """Texts that have nothing in common; labels in random order."""
    generator = np.random.default_rng(0)
    return {
        split: [
            {"text": words(generator, generator.integers(30, 60)), "label": str(generator.choice(["no", "yes"]))}
            for _ in range(number)
        ]
        for split, number in (("train", 600), ("validation", 150), ("test", 150))
    }


def findings(folder: Path, splits: dict[str, Rows], *overrides: str) -> dict[str, dict[str, Any]]:
    """Of `check --json`, by kind."""
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli(
        "check", "quickstart", f"data.path={folder}", "tokenizer.min_frequency=1", "--no-forecast", "--json", *overrides
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)["findings"]
    assert len({finding["kind"] for finding in found}) == len(found)
    return {finding["kind"]: finding for finding in found}


def duplicate(splits: dict[str, Rows]) -> None:
    # Not to the letter: another case, other punctuation and spacing.
    splits["test"][7]["text"] = splits["train"][42]["text"].upper().replace(" ", ",  ", 3) + "!"
    splits["test"][7]["label"] = splits["train"][42]["label"]


def nearly(splits: dict[str, Rows]) -> None:
    text = splits["train"][42]["text"].split()
    splits["test"][7]["text"] = " ".join([*text[:-2], "other", "end"])


def contradict(splits: dict[str, Rows]) -> None:
    row = splits["train"][42]
    splits["train"][43] = {"text": row["text"], "label": "no" if row["label"] == "yes" else "yes"}


def give_away(splits: dict[str, Rows]) -> None:
    chosen = [row for row in splits["train"] if row["label"] == "yes"][:60]
    for row in chosen:
        row["text"] = "ref77 " + row["text"]


def sort_by_label(splits: dict[str, Rows]) -> None:
    splits["train"].sort(key=lambda row: str(row["label"]))


def thin_out(splits: dict[str, Rows]) -> None:
    kept = [row for row in splits["train"] if row["label"] == "no"]
    splits["train"] = kept + [row for row in splits["train"] if row["label"] == "yes"][:20]
    np.random.default_rng(0).shuffle(splits["train"])  # type: ignore[arg-type]


PLANTED: list[tuple[Callable[[dict[str, Rows]], None], str, int]] = [
    (duplicate, "duplicates", 1),
    (nearly, "near_duplicates", 1),
    (contradict, "contradictions", 1),
    (give_away, "giveaways", 1),
    (sort_by_label, "sorted", 2),
    (thin_out, "imbalance", 1),
]


def test_nothing_is_said_of_clean_data(clean: dict[str, Rows], tmp_path: Path) -> None:
    assert findings(tmp_path, clean) == {}


@pytest.mark.parametrize(("plant", "kind", "count"), PLANTED)
def test_what_is_planted_is_found_and_nothing_else(
    plant: Callable[[dict[str, Rows]], None], kind: str, count: int, clean: dict[str, Rows], tmp_path: Path
) -> None:
    plant(clean)
    found = findings(tmp_path, clean)
    assert set(found) == {kind}
    assert found[kind]["count"] == count


def test_pairs_are_named_by_split_and_row(clean: dict[str, Rows], tmp_path: Path) -> None:
    duplicate(clean)
    contradict(clean)
    found = findings(tmp_path, clean)
    assert [pair["rows"] for pair in found["duplicates"]["examples"]] == [[["train", 42], ["test", 7]]]
    (pair,) = found["contradictions"]["examples"][:1]
    assert {tuple(place) for place in pair["rows"]} <= {("train", 42), ("train", 43), ("test", 7)}
    assert sorted(pair["labels"]) == ["no", "yes"]
    done = cli("check", "quickstart", f"data.path={tmp_path}", "tokenizer.min_frequency=1", "--no-forecast")
    assert "duplicates: train also contains 1 text of test (0.7%)" in done.out
    assert re.search(r"  \S*train\S*:43 = \S*test\S*:8  ", done.out), "lines are counted from 1"
    assert done.out.splitlines()[-1] == "The config is valid, 2 things to look at; nothing was trained."


def test_a_giveaway_is_named_with_its_figures(clean: dict[str, Rows], tmp_path: Path) -> None:
    give_away(clean)
    (example,) = findings(tmp_path, clean)["giveaways"]["examples"]
    assert example == {"token": "ref77", "label": "yes", "texts": 60, "precision": 1.0}


def test_rows_that_belong_together_and_follow_one_another(clean: dict[str, Rows], tmp_path: Path) -> None:
    """A third of the texts name their film, which three of them are about."""
    for row, text in enumerate(clean["train"]):
        if row // 3 % 3 == 0:
            text["text"] += f" film{row // 3}"
    own_validation = findings(tmp_path, clean)
    assert own_validation == {}
    (tmp_path / "validation.jsonl").unlink()
    del clean["validation"]
    found = findings(tmp_path, clean)
    assert set(found) == {"neighbours"}
    assert 100 < found["neighbours"]["count"] < 125  # 134 pairs, less those that a row was set aside of
    for example in found["neighbours"]["examples"]:
        (_, row), (_, following) = example["rows"]
        assert following == row + 1 and "film" in example["text"]
    assert findings(tmp_path, clean, "data.validation_rows=last") == {}
    np.random.default_rng(0).shuffle(clean["train"])  # type: ignore[arg-type]
    assert findings(tmp_path, clean) == {}


def test_several_labels_a_text(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    splits = {
        split: [{"text": words(generator, 40), "label": ["a"] if i % 12 else ["a", "b"]} for i in range(number)]
        for split, number in (("train", 300), ("test", 60))
    }
    splits["train"][5] = {"text": splits["train"][6]["text"], "label": ["b"]}
    assert set(findings(tmp_path, splits)) == {"contradictions", "imbalance"}


def test_shared_phrases_are_no_near_duplicates(clean: dict[str, Rows], tmp_path: Path) -> None:
    """Boilerplate at the end of every text: long, but no more than half of each."""
    for rows in clean.values():
        for row in rows:
            row["text"] += " posted from my mobile phone with regards"
    assert findings(tmp_path, clean) == {}


@pytest.fixture(scope="module")
def reviews(shared: Path) -> dict[str, Rows]:
    """Reviews of IMDB, mixed, without those that share a third of their passages: the set has some twice."""
    generator = np.random.default_rng(0)
    splits = {}
    for name, number in (("train", 5000), ("test", 1000)):
        table = pq.read_table(shared / "data" / "imdb" / f"{name}.parquet", columns=["text", "label"])
        rows = table.take(np.sort(generator.choice(len(table), number, replace=False))).to_pylist()
        splits[name] = [
            {"text": rows[i]["text"], "label": ["no", "yes"][rows[i]["label"]]} for i in generator.permutation(number)
        ]
    # All pairs, by scikit-learn, with runs of five words.
    texts = [row["text"] for rows in splits.values() for row in rows]
    counts = CountVectorizer(ngram_range=(5, 5), binary=True, dtype=np.float32).fit_transform(texts)
    shared_runs = (counts @ counts.T).tocoo()
    size = np.asarray(counts.sum(axis=1)).ravel()
    share = shared_runs.data / np.maximum(1, np.minimum(size[shared_runs.row], size[shared_runs.col]))
    twice = set(shared_runs.row[(share > 1 / 3) & (shared_runs.row != shared_runs.col)].tolist())
    assert 10 < len(twice) < 200
    first = len(splits["train"])
    train = [row for i, row in enumerate(splits["train"]) if i not in twice]
    return {
        "train": train[:4500],
        "validation": train[4500:],
        "test": [row for i, row in enumerate(splits["test"], first) if i not in twice],
    }


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "kind", "count"), [(None, "", 0), *PLANTED])
def test_on_real_reviews(
    plant: Callable[[dict[str, Rows]], None] | None, kind: str, count: int, reviews: dict[str, Rows], tmp_path: Path
) -> None:
    splits = {name: [dict(row) for row in rows] for name, rows in reviews.items()}
    if plant is give_away:  # a share of the label, as above
        for row in [row for row in splits["train"] if row["label"] == "yes"][:100]:
            row["text"] = "ref77 " + row["text"]
    elif plant is not None:
        plant(splits)
    found = findings(tmp_path, splits)
    assert set(found) == ({kind} if kind else set())
    if kind:
        assert found[kind]["count"] == count


def test_texts_too_short_for_near_duplicates(tmp_path: Path) -> None:
    rows = [{"text": f"Anna{i} Berg{i}", "label": ["no", "yes"][i % 2]} for i in range(80)]
    (tmp_path / "names.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("check", "quickstart", f"data.path={tmp_path / 'names.jsonl'}", "--no-forecast", "--deep")
    assert done.code == 0, done.err
