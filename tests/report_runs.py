"""Small finished runs whose reports tests read: of several labels with hostile names, and with columns to slice by."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import MakeOnce

NASTY = ["</script><script>boom()</script>", "quo\"ted' & <b>bold</b>", "line\nfeed \u202eturned\x07"]
TINY = {
    "recipe": "plain",
    "model": {"embedding_dim": 16, "hidden_size": 16},
    "training": {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2},
    "tokenizer": {"min_frequency": 1},
    "output": {"plots": False, "audit_examples": 0},
}
WORDS = {
    NASTY[0]: ["refund", "invoice", "charged"],
    NASTY[1]: ["crash", "error", "<img/src=x>"],
    NASTY[2]: ["parcel", "late", "courier"],
}


def tickets(folder: Path) -> None:
    """Tickets with a product: test tickets of the product `old` are labelled at random.

    A quarter of the texts has no word that tells the label. A row without a text is skipped.
    """
    generator = random.Random(0)
    for split, number in (("train", 300), ("validation", 120), ("test", 240)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["text", "label", "product", "price"])
            for i in range(number):
                label = generator.choice(NASTY)
                words = [generator.choice(WORDS[label])] if generator.random() < 0.75 else []
                words += [generator.choice(["the", "a", "my", "your"]) for _ in range(3)]
                generator.shuffle(words)
                old = i % 4 == 0
                given = generator.choice(NASTY) if old and split == "test" else label
                text = " ".join(words) + f" {NASTY[0] if i == 3 else ''}"
                out.writerow([text, given, "old" if old else f"new {i % 3}", i])
                if i == 5:
                    out.writerow(["", label, "skipped", 0])


def train(folder: Path, **sections: Any) -> Path:
    from textattn.config import config_from_mapping
    from textattn.runs.train import train as run_training

    values = {**TINY, **sections, "output": {**TINY["output"], "dir": str(folder / "run")}}  # type: ignore[dict-item]
    return run_training(config_from_mapping(values))


@pytest.fixture(scope="session")
def ticket_run(make_once: MakeOnce) -> Path:
    """A finished run with one of three labels for each text; tests must not change it."""

    def make(folder: Path) -> None:
        tickets(folder)
        files = {split: str(folder / f"{split}.csv") for split in ("train", "validation", "test")}
        train(folder, data={"files": files, "on_bad_row": "skip"})

    return make_once("tickets", make) / "run"


@pytest.fixture(scope="session")
def tag_run(make_once: MakeOnce) -> Path:
    """A finished run with any of three labels for each text; tests must not change it."""

    def make(folder: Path) -> None:
        generator = random.Random(1)
        for split, number in (("train", 300), ("validation", 100), ("test", 150)):
            with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                for _ in range(number):
                    labels = [label for label in NASTY if generator.random() < 0.5]
                    words = [generator.choice(WORDS[label]) for label in labels]
                    words += ["the", "my", generator.choice(["one", "two"])]
                    if split == "test" and generator.random() < 0.2:
                        labels = [label for label in NASTY if generator.random() < 0.5]
                    file.write(json.dumps({"text": " ".join(words), "label": labels}) + "\n")
        train(folder, data={"files": {s: str(folder / f"{s}.jsonl") for s in ("train", "validation", "test")}})

    return make_once("tags", make) / "run"
