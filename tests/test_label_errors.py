"""`textattn check --deep` finds labels that were flipped, and keeps quiet about those that were not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import Result
from inprocess import run as cli

Rows = list[dict[str, Any]]
WORDS = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "lmnr"]
SIZES = {"train": 500, "validation": 100, "test": 100}
LABELS = ["no", "yes", "maybe"]


def corpus(labels: list[str], seed: int = 0) -> dict[str, Rows]:
    """Random words, and among them three of five cues of the label."""
    generator = np.random.default_rng(seed)
    splits = {}
    for split, number in SIZES.items():
        rows = []
        for _ in range(number):
            label = str(generator.choice(labels))
            words = [*generator.choice(WORDS, 15), *(f"{label}cue{i}" for i in generator.permutation(5)[:3])]
            rows.append({"text": " ".join(generator.permutation(words)), "label": label})
        splits[split] = rows
    return splits


def flip(splits: dict[str, Rows], labels: list[str], share: float = 0.05) -> dict[tuple[str, int], str]:
    """Gives that share of the rows another label; place -> the right one."""
    generator = np.random.default_rng(1)
    flipped = {}
    for split, rows in splits.items():
        for i in generator.permutation(len(rows))[: round(share * len(rows))].tolist():
            flipped[split, i] = rows[i]["label"]
            rows[i]["label"] = str(generator.choice([label for label in labels if label != rows[i]["label"]]))
    return flipped


def check(folder: Path, splits: dict[str, Rows], *arguments: str) -> Result:
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("check", "quickstart", f"data.path={folder}", "tokenizer.min_frequency=1", "--no-forecast", *arguments)
    assert done.code == 0, done.err
    return done


def label_errors(done: Result) -> dict[str, Any]:
    """The finding, if there is one, with all texts in question."""
    facts = json.loads(done.out)
    found = [finding for finding in facts["findings"] if finding["kind"] == "label_errors"]
    assert len(found) <= 1
    examples = facts.get("label_errors", [])
    if found:
        assert found[0]["examples"] == examples[: len(found[0]["examples"])]
        assert found[0]["count"] == len(examples)
    return {"count": found[0]["count"] if found else 0, "examples": examples}


def places(finding: dict[str, Any]) -> list[tuple[str, int]]:
    return [(split, row) for example in finding["examples"] for split, row in example["rows"]]


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS])
def test_flipped_labels_are_found_in_every_split(labels: list[str], tmp_path: Path) -> None:
    splits = corpus(labels)
    flipped = flip(splits, labels)
    finding = label_errors(check(tmp_path, splits, "--deep", "--json"))
    found = places(finding)
    right = set(found) & set(flipped)
    assert len(found) == len(set(found)) == finding["count"]
    assert len(right) / len(found) >= 0.9
    assert len(right) / len(flipped) >= 0.8
    assert {split for split, _ in right} == set(SIZES)
    assert finding["count"] > 0
    for example in finding["examples"]:
        ((split, row),) = example["rows"]
        assert example["text"] == splits[split][row]["text"]
        assert example["labels"] == [splits[split][row]["label"]]
        assert 0 <= example["probability_of_given"] < example["probability"] <= 1
        if (split, row) in flipped:
            assert example["suggested"] == flipped[split, row]
    margins = [example["probability"] - example["probability_of_given"] for example in finding["examples"]]
    assert margins == sorted(margins, reverse=True)


def test_nothing_is_said_of_labels_that_are_right(tmp_path: Path) -> None:
    assert label_errors(check(tmp_path, corpus(LABELS), "--deep", "--json"))["count"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("share", "suspected"), [(0.0, False), (0.03, True)])
def test_real_reviews(share: float, suspected: bool, shared: Path, tmp_path: Path) -> None:
    """Whatever a quick model gets wrong of 5,000 reviews by itself is no finding; with 3 % flipped it is one."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(sorted((shared / "data" / "imdb").rglob("train*.parquet"))[0])
    chosen = np.random.default_rng(0).permutation(len(table))[:5000]
    texts, labels = (table.take(chosen).column(name).to_pylist() for name in ("text", "label"))
    splits: dict[str, Rows] = {"train": [{"text": t, "label": str(n)} for t, n in zip(texts, labels, strict=True)]}
    assert pc.count_distinct(table["label"]).as_py() == 2
    flipped = flip(splits, ["0", "1"], share)
    overrides = ["data.test_split=null", "tokenizer.max_length=400"]
    finding = label_errors(check(tmp_path, splits, "--deep", "--json", *overrides))
    assert bool(finding["count"]) == suspected
    if suspected:
        wrong = {splits["train"][row]["text"] for _, row in flipped}
        surest = [example["text"] in wrong for example in finding["examples"][:50]]
        assert sum(surest) >= 30


def test_only_deep_looks_for_them(tmp_path: Path) -> None:
    splits = corpus(LABELS[:2])
    flip(splits, LABELS[:2])
    assert label_errors(check(tmp_path, splits, "--json"))["count"] == 0


def test_how_they_are_shown(tmp_path: Path) -> None:
    splits = corpus(LABELS[:2])
    flipped = flip(splits, LABELS[:2])
    done = check(tmp_path, splits, "--deep")
    lines = done.out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("label errors: "))
    assert "may have a wrong label" in lines[at]
    place, given, _, rather = lines[at + 1].split()[:4]
    split, line = re.fullmatch(r"\S*?(train|validation|test)\S*:(\d+)", place).groups()
    assert flipped[split, int(line) - 1] == rather
    assert given == f"{splits[split][int(line) - 1]['label']},"
    assert lines[-1] == "The config is valid, 1 thing to look at; nothing was trained."


def test_labels_that_cannot_be_learned_are_not_judged(tmp_path: Path) -> None:
    splits = corpus(LABELS[:2])
    generator = np.random.default_rng(2)
    for rows in splits.values():
        for row in rows:
            row["label"] = str(generator.choice(LABELS[:2]))
    done = check(tmp_path, splits, "--deep", "--json")
    assert label_errors(done)["count"] == 0
    assert "quick models learn too little from these texts to judge their labels" in done.err


def test_few_texts_are_not_judged(tmp_path: Path) -> None:
    splits = {name: rows[:12] for name, rows in corpus(LABELS[:2]).items()}
    done = check(tmp_path, splits, "--deep", "--json")
    assert label_errors(done)["count"] == 0
    assert "label errors: 36 texts are too few" in done.err


def test_several_labels_a_text(tmp_path: Path) -> None:
    """Each label is judged by itself: one is missing, one is too many."""
    generator = np.random.default_rng(0)
    splits: dict[str, Rows] = {}
    for split, number in SIZES.items():
        splits[split] = []
        for _ in range(number):
            labels = [label for label in LABELS if generator.random() < 0.4]
            cues = [f"{label}cue{i}" for label in labels for i in generator.permutation(5)[:3]]
            words = generator.permutation([*generator.choice(WORDS, 15), *cues])
            splits[split].append({"text": " ".join(words), "label": labels})
    assert label_errors(check(tmp_path, splits, "--deep", "--json"))["count"] == 0
    right = {}
    for i in range(0, 500, 25):
        row = splits["train"][i]
        right[i] = row["label"]
        row["label"] = [label for label in LABELS if (label in row["label"]) != (label == "yes")]
    finding = label_errors(check(tmp_path, splits, "--deep", "--json"))
    found = {example["rows"][0][1]: example["suggested"] for example in finding["examples"]}
    assert len(set(found) & set(right)) >= 0.5 * len(right)
    assert len(set(found) & set(right)) >= 0.8 * len(found)
    assert all(set(found[i]) == set(right[i]) for i in set(found) & set(right))


def test_a_text_that_stands_twice_is_no_witness_for_itself(tmp_path: Path) -> None:
    """Nearly the same text four times with the same wrong label: apart they would vouch for each other."""
    splits = corpus(LABELS[:2])
    generator = np.random.default_rng(3)
    wrong = []
    for i in range(4):
        label = LABELS[i % 2]
        words = [*generator.choice(WORDS, 15), *(f"{label}cue{j}" for j in generator.permutation(5)[:3])]
        for copy in range(4):
            wrong.append(("train", len(splits["train"])))
            splits["train"].append({"text": " ".join([*words, f"copy{copy}"]), "label": LABELS[1 - i % 2]})
    found = set(places(label_errors(check(tmp_path, splits, "--deep", "--json"))))
    assert len(found & set(wrong)) >= 0.7 * len(wrong)


def test_characters_do_as_well_as_words(tmp_path: Path) -> None:
    splits = corpus(LABELS[:2])
    flipped = flip(splits, LABELS[:2])
    for rows in splits.values():
        for row in rows:  # no spaces; the cues are signs of their own
            row["text"] = row["text"].replace("nocue", "\u5dee").replace("yescue", "\u597d").replace(" ", "")
    finding = label_errors(check(tmp_path, splits, "--deep", "--json", "tokenizer.type=char"))
    right = set(places(finding)) & set(flipped)
    assert len(right) >= 0.8 * max(finding["count"], len(flipped))
