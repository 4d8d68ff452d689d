"""Measures the time before the first step: tokenisation, and how much a second run saves. For scripts/bench.py."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, trainers

from textattn.config import load_config
from textattn.report import Report
from textattn.runs.prepare import prepare as prepare_data
from textattn.tokens.train_tokenizer import train_tokenizer

ROUNDS = 3


def prepare(arguments: argparse.Namespace, textattn: list[str]) -> list[dict[str, Any]]:
    """Time tokenisation, ours and that of the bare library in turns; and whole runs, the first and an equal second."""
    overrides = [f"data.path={arguments.data}", *arguments.overrides]
    config = load_config("imdb", overrides)
    data = prepare_data(config, Report())
    config, corpus, tokenizer = data.config, data.corpus, data.tokenizer
    texts = {name: list(split) for name, split in corpus.splits().items()}

    def ours() -> None:
        trained = train_tokenizer(config.tokenizer, iter(corpus.train), corpus.num_segments)
        for split in corpus.splits().values():
            trained.encode(split)

    def alone() -> None:
        backend = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = tokenizer.backend.normalizer, tokenizer.backend.pre_tokenizer
        settings: dict[str, Any] = {"special_tokens": ["[PAD]", "[UNK]"], "show_progress": False}
        settings |= {"vocab_size": config.tokenizer.vocab_size, "min_frequency": config.tokenizer.min_frequency}
        backend.train_from_iterator(texts["train"], trainers.WordLevelTrainer(**settings))
        for split in texts.values():
            for first in range(0, len(split), 1000):
                [encoding.ids for encoding in backend.encode_batch_fast(split[first : first + 1000])]

    found: dict[str, list[float]] = {"textattn": [], "tokenizers": []}
    for _ in range(ROUNDS):
        for name, what in (("textattn", ours), ("tokenizers", alone)):
            found[name].append(seconds_of(what))
    ratio = statistics.median(a / b for a, b in zip(*found.values(), strict=True))
    seconds = statistics.median(found["textattn"])
    rows = [row("tokenizer and tokens, textattn", seconds, f"{ratio:.2f} times the next row")]
    rows.append(row("tokenizer and tokens, tokenizers alone", statistics.median(found["tokenizers"])))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TEXTATTN_CACHE": str(Path(folder, "cache"))}
        command = [*textattn, "train", "imdb", *overrides, f"output.dir={Path(folder, 'run')}", "--overwrite"]
        begun, ended = run_until(command, environment, ended=True)
        rows.append(row("first run until training starts", begun))
        rows.append(row("first run, whole process", ended, f"{seconds / ended:.1%} of it tokenising"))
        again = [run_until([*command, f"training.learning_rate={n}e-3"], environment)[0] for n in (1, 3, 4)]
        rows.append(row("another learning rate, until training starts", statistics.median(again)))
    return rows


def row(what: str, seconds: float, note: str = "") -> dict[str, Any]:
    return {"what": what, "seconds": round(seconds, 1), "note": note}


def seconds_of(what: Callable[[], None]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def run_until(command: list[str], environment: dict[str, str], *, ended: bool = False) -> tuple[float, float]:
    """Seconds until a training reports its start, and until it ends or, if its end does not matter, is killed."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    )
    assert process.stderr is not None
    begun = None
    for line in process.stderr:
        if line.startswith("Training "):
            begun = time.perf_counter() - started
            if not ended:
                process.kill()
    code = process.wait()
    if begun is None or (ended and code):
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    return begun, time.perf_counter() - started
