"""Every setting with values that nobody expects: accepted, or refused with a message; never a bug, never endless."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input import MINE, REVIEWS, alarm
from inprocess import run as cli

from textattn.config import load_config
from textattn.config.fields import FIELDS
from textattn.errors import ConfigError

WILD = [
    "1" + "0" * 400, str(2**63), str(2**53), "999999999", "-1", "0", "1e308", ".nan", "-.inf", "null", "true", "[]",
    "{}", "[[[[]]]]", "[1, 2]", "{a: 1}", "\0", "\ud800", "é", "x" * 5000, "undefined", "idna", "pipe", "/dev/zero",
    "/", ".", "~/x", "a/b/c", "hf://x",
]  # fmt: skip
# What a setting needs so that its value is looked at.
TOGETHER = {
    "data.unlabelled": ["data.unlabelled.path=reviews.csv"],
    "data.teacher": ["data.unlabelled.path=reviews.csv"],
    "tokenizer.path": ["tokenizer.type=pretrained"],
    "model.vectors.path": ["model.vectors.source=file"],
    "model.num_heads": ["model.attention=multi_head"],
    "model.ngram_buckets": ["model.ngrams=1"],
    "training.cross_validation": ["data.validation_fraction=0", "data.validation_split=null"],
}
CASES = list(itertools.product(map(".".join, FIELDS), WILD))
random.Random(0).shuffle(CASES)
CASES = CASES[:1400]
QUICK = 40


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text(REVIEWS)
    Path("mine.yaml").write_text(MINE)
    os.mkfifo("pipe")
    yield
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "pipe", "reviews.csv"]


def words_of(key: str, value: str) -> list[str]:
    needed = next((words for name, words in TOGETHER.items() if key.startswith(name)), [])
    return [*(word for word in needed if not word.startswith(f"{key}=")), f"{key}={value}"]


def check(key: str, value: str) -> None:
    with alarm():
        done = cli("train", "mine.yaml", *words_of(key, value), "--dry-run", "-q")
    told = f"{key}={value[:50]!r}: {done.code}, {done.err[:500]}"
    assert "this is a bug" not in done.err, told
    # A weight of 1e308 in the loss is allowed, and what comes of it is a diverged training.
    assert done.code in (0, 2, 3) or (done.code == 1 and "Error: the loss is " in done.err), told


@pytest.mark.parametrize(("key", "value"), CASES[:QUICK], ids=[f"{key}={value[:12]!a}" for key, value in CASES[:QUICK]])
def test_a_dry_run_with_a_wild_setting(key: str, value: str, here: None) -> None:
    check(key, value)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_dry_runs_with_more_wild_settings(part: int, here: None) -> None:
    for key, value in CASES[QUICK + part :: 20]:
        check(key, value)


def test_all_are_loaded_or_refused(here: None) -> None:
    for key, value in CASES:
        try:
            load_config("mine.yaml", words_of(key, value))
        except ConfigError as error:
            assert error.exit_code == 2 and error.message


def test_the_alarm_of_these_tests_rings() -> None:
    with pytest.raises(TimeoutError), alarm():
        signal.raise_signal(signal.SIGALRM)
