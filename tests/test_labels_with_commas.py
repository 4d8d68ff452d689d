"""Labels that hold a comma are labels like others: no list of labels is joined and split again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from html_pages import Page
from inprocess import run as cli

import textattn
from textattn.explain.lexicon import lexicon

FOOD = "Food, drink"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts with several labels; "Food" and "drink" are labels of their own beside "Food, drink"."""
    folder = tmp_path_factory.mktemp("commas")
    cues = {"Food": "soap", FOOD: "soup", "drink": "wine", "Staff": "waiter"}
    kinds: list[list[str]] = [[FOOD], ["Food"], ["drink"], ["Staff"], [FOOD, "Staff"], ["Food", "drink"], []]
    rows = [
        {"text": " ".join(["the", *(cues[label] for label in labels), "and", "that"]), "label": labels}
        for labels in kinds * 20
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return textattn.train(
        {
            "seed": 3,
            "recipe": "plain",
            "data": {"files": {"train": str(folder / "data.jsonl"), "test": str(folder / "data.jsonl")}},
            "tokenizer": {"min_frequency": 1},
            "model": {"embedding_dim": 16, "hidden_size": 16},
            "training": {"epochs": 12, "batch_size": 8, "learning_rate": 2e-2},
            "output": {"dir": str(folder / "run"), "audit_examples": 0, "plots": False},
        }
    )


def test_words_counts_no_label_against_itself(run: Path) -> None:
    found = json.loads(cli("words", "--model", run, "--json", "--split", "test").out)["labels"]
    entries = {(label, entry["word"]): entry for label in found for entry in found[label]}
    for label, word in ((FOOD, "soup"), ("Food", "soap")):
        entry = entries[label, word]
        assert (entry["num_against"], entry["counter_example"]) == (0, ""), (label, word)


def test_words_counts_the_parts_of_a_name_against_it(run: Path) -> None:
    """Texts with the labels "Food" and "drink" are not texts with "Food, drink"."""
    model = textattn.load(run)
    texts = ["the soup and that"] * 5
    for golds, against in (([["Food", "drink"]] * 5, 5), ([[FOOD]] * 5, 0), ([["Staff", FOOD]] * 5, 0)):
        entries = lexicon(model, texts, golds)[FOOD]
        assert {entry.num_against for entry in entries} == {against}
        assert entries


def test_explain_tells_right_from_wrong_by_whole_labels(run: Path) -> None:
    lines = cli("explain", "--model", run, "--split", "test", "--json", "--examples", "140").out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [FOOD, "Staff"] in [value["gold"] for value in found]
    assert ["Food", "drink"] in [value["gold"] for value in found]
    assert [] in [value["gold"] for value in found]
    rights = [{label["label"] for label in value["labels"]} == set(value["gold"]) for value in found]
    printed = cli("explain", "--model", run, "--split", "test", "--examples", "140").out
    assert (printed.count(" (right)"), printed.count(" (wrong)")) == (sum(rights), len(rights) - sum(rights))
    assert sum(rights) > 100


def test_the_page_filters_by_whole_labels(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert cli("explain", "--model", run, "--split", "test", "--examples", "140", "--html", page).code == 0
    read = Page(page.read_text(encoding="utf-8"))
    options = [e.text for e in read.all("option") if e.inside[-1].attributes.get("id") == "gold"]
    assert sorted(options) == ["(none) (20)", "Food (40)", "Food, drink (40)", "Staff (40)", "any", "drink (40)"]


def test_one_label_a_text_is_a_name_and_no_list(trained_run: Path) -> None:
    (line,) = cli("explain", "--model", trained_run, "--split", "test", "--json", "--examples", "1").out.splitlines()
    assert json.loads(line)["gold"] in textattn.load(trained_run).labels
