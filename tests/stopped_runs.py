"""Small trainings that are stopped like by SIGKILL, and what is left of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from textattn.config import config_from_mapping
from textattn.report import Report
from textattn.runs.train import train

ROWS = 60
SMALL: dict[str, Any] = {
    "recipe": "plain",
    "tokenizer": {"min_frequency": 1, "max_length": 20},
    "model": {"embedding_dim": 8, "hidden_size": 8, "vectors": {"source": "skipgram", "epochs": 1}},
    "training": {
        "epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "evaluations_per_epoch": 2, "checkpoint_steps": 3,
        "device": "cpu",
    },
    "output": {"audit_examples": 0, "attention_examples": 0, "plots": False},
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "bf16": {"training": {"precision": "bf16"}},
    "two layers of GRU": {"model": {"encoder": "gru", "num_layers": 2, "vectors": {"source": "random"}}},
    "masked words, aligned attention": {
        "model": {"anchor": "values", "dropout": {"masking": 0.5}}, "training": {"attention_alignment": 0.2},
    },
    "n-grams": {"model": {"ngrams": 2, "ngram_buckets": 512}},
    "a linear model first": {"model": {"linear": "first", "ngram_buckets": 512}},
    "batches of as many tokens": {"training": {"max_tokens_per_batch": 60, "max_steps": 25}},
    "stopping early": {"training": {"patience": 6, "epochs": 30}},
    "frozen vectors, constant rate": {
        "model": {"vectors": {"source": "skipgram", "epochs": 1, "freeze": True}}, "training": {"schedule": "constant"},
    },
    "stopping where folds were best": {
        "data": {"validation_fraction": 0.0}, "training": {"cross_validation": 3, "epochs": 8},
    },
    "nothing to validate on": {"data": {"path": "bundled:four_sentences"}, "training": {"epochs": 30}},
}  # fmt: skip


class Killed(BaseException):
    """What SIGKILL would do: nothing after it is run. Not one of those that training knows."""


class Killer(Report):
    """Ends a run at its n-th step, or at its n-th evaluation, before anything of it is kept."""

    def __init__(self, step: int | None = None, evaluation: int | None = None) -> None:
        self.step, self.evaluation = step, evaluation
        self.notes: list[str] = []
        self.steps: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Any], None]]:
        def on_step(step: Any) -> None:
            self.steps.append(step.global_step)
            if self.step is not None and step.global_step >= self.step:
                raise Killed

        yield on_step

    def evaluated(self, evaluation: Any, metric: str, step: Any) -> None:
        if self.evaluation is not None and evaluation.global_step >= self.evaluation:
            raise Killed


def merged(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: merged(base.get(key, {}), value) if isinstance(value, dict) else value for key, value in other.items()
    }


def write_texts(path: Path) -> Path:
    """Texts whose label is learnable, not at once."""
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(ROWS):
            words = generator.choice(list("abcdefghijklmnopqrst"), generator.integers(3, 15))
            file.write(json.dumps({"text": " ".join(words), "label": str("a" in words)}) + "\n")
    return path


def settings(data: Path, run: Path, kind: str = "as usual", **sections: Any) -> dict[str, Any]:
    value = merged(
        SMALL,
        {"data": {"path": str(data), "validation_fraction": 0.2, "test_fraction": 0.0}, "output": {"dir": str(run)}},
    )
    return merged(merged(value, KINDS[kind]), sections)


def start(config: dict[str, Any], report: Report | None = None, **how: bool) -> Path:
    return train(config_from_mapping(config), report=report, **how)


def outcome(run: Path) -> dict[str, Any]:
    """All a run leaves that does not tell the time."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "metrics.json").read_text())
    for entry in (*log, metrics):
        del entry["seconds"]
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
    return {
        "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "onnx": hashlib.sha256((run / "model.onnx").read_bytes()).hexdigest(),
        "log": log, "metrics": metrics, "files": names,
    }  # fmt: skip
