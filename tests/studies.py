"""Small searches, and what they found but for the time it took."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from inprocess import Result
from inprocess import run as cli

from textattn.data.sources import CORPUS

SPACE = """\
training.learning_rate: {low: 1e-3, high: 1e-2, log: true}
model.hidden_size: [8, 16, 32]
training.batch_size: {low: 16, high: 80, step: 32}
model.dropout.words: {low: 0.0, high: 0.3, step: 0.05}
"""
SMALLER = [
    "tokenizer.vocab_size=2000", "tokenizer.max_length=60", "model.embedding_dim=32", "training.epochs=4",
    "data.max_train_examples=120", "model.anchor=none", "training.attention_alignment=0.0",
]  # fmt: skip


def write_data(folder: Path) -> list[str]:
    """The bundled reviews, without the test split; overrides that read it, and `folder`/test.jsonl."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        shutil.copy(CORPUS / "reviews" / f"{split}.jsonl", folder)
    return [f"data.files.{split}={folder}/{split}.jsonl" for split in ("train", "validation", "test")] + SMALLER


def write_space(folder: Path, text: str = SPACE) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def search(folder: Path, *words: str | Path, space: Path | None = None) -> Result:
    """`textattn tune` in this process, with the quickstart's config."""
    spaces = [] if space is None else ["--space", str(space)]
    return cli("tune", "quickstart", "--dir", folder, *spaces, *words)


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tune.json").read_text())
    return found


def outcome(folder: Path) -> list[dict[str, Any]]:
    """Of each trial what does not tell the time."""
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in summary(folder)["trials"]]
