"""What training for faithfulness achieves in whole runs, that it repeats itself, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bulk_jobs import write
from inprocess import run as cli

import textattn

FILLERS = [f"w{i}" for i in range(40)]
CUES = {"bad": ["vile", "drab", "grim", "foul"], "good": ["keen", "lush", "glad", "fine"], "none": []}


def planted(number: int, seed: str, marks: Callable[[list[str], int | None], list[str]]) -> list[dict[str, Any]]:
    """Texts of fillers, of which one is a cue word that is all there is to say why the text has its label.

    A third have no cue and a label of their own: with two labels only, one of them can be what there is without the
    other's cue, and then all words speak for it.
    """
    generator, rows = random.Random(seed), []
    for i in range(number):
        label = list(CUES)[i % 3]
        words = generator.choices(FILLERS, k=generator.randint(8, 16))
        place = generator.randrange(len(words)) if CUES[label] else None
        if place is not None:
            words[place] = generator.choice(CUES[label])
        rows.append({"text": " ".join(words), "label": label, "why": marks(words, place)})
    return rows


def mark_the_cue(words: list[str], place: int | None) -> list[str]:
    return [] if place is None else [words[place]]


def fit(folder: Path, marks: Callable[[list[str], int | None], list[str]], *settings: str) -> list[dict[str, Any]]:
    """The attention on 150 test texts after training on 300: words, weights, evidence."""
    test = planted(150, "test", marks)
    for split, rows in {"train": planted(300, "train", marks), "validation": test[:30], "test": test}.items():
        write(folder / f"{split}.jsonl", rows)
    run = textattn.train(
        {
            "recipe": "plain",
            "data": {
                "files": {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")},
                "evidence": "why",
            },
            "tokenizer": {"min_frequency": 1},
            "model": {"embedding_dim": 16, "hidden_size": 16, "attention_size": 16, "dropout": {"embedding": 0.1}},
            "training": {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "precision": "fp32"},
            "output": {"dir": str(folder / "run"), "audit_examples": 0, "plots": False, "prediction_splits": []},
        },
        ["model.dropout.words=0.0", "model.dropout.recurrent=0.0", "model.dropout.classifier=0.0", "seed=1", *settings],
    )
    dumped = pq.read_table(run / "attention" / "test.parquet").to_pylist()
    return [row | {"why": marked["why"]} for row, marked in zip(dumped, test, strict=True)]


def top_is_a_cue(attention: list[dict[str, Any]]) -> float:
    """Share of the texts with a cue whose top word it is."""
    with_cue = [row for row in attention if CUES[row["label"]]]
    assert len(with_cue) == 100
    tops = [row["tokens"][int(np.argmax(row["weights"]))] in CUES[row["label"]] for row in with_cue]
    return float(np.mean(tops))


def right(attention: list[dict[str, Any]]) -> float:
    return float(np.mean([row["prediction"] == row["label"] for row in attention]))


def test_aligned_attention_is_on_the_words_that_decide_and_plain_attention_is_not(tmp_path: Path) -> None:
    plain = fit(tmp_path, mark_the_cue)
    assert right(plain) > 0.9  # it knows the answer all the same
    assert top_is_a_cue(plain) < 0.6
    aligned = fit(
        tmp_path,
        mark_the_cue,
        "training.attention_alignment=1.0",
        "model.anchor=states",
        f"output.dir={tmp_path / 'b'}",
    )
    assert right(aligned) > 0.9
    assert top_is_a_cue(aligned) >= 0.95


def test_supervised_attention_is_where_people_marked(tmp_path: Path) -> None:
    """They marked the last two words of every other text, which decide nothing: no other loss would look there."""

    def marks(words: list[str], place: int | None) -> list[str]:
        return [" ".join(words[-2:])] if len(words) % 2 else []

    attention = fit(tmp_path, marks, "training.attention_supervision=1.0")
    on_marked = [sum(row["weights"][-2:]) for row in attention]
    assert np.mean(on_marked) > 0.9
    assert np.min(on_marked) > 0.5


ALL = [
    "training.attention_alignment=1.0", "training.attention_supervision=0.5",
    "training.state_tying=0.01", "model.dropout.masking=0.3",
]  # fmt: skip


def weights_of(folder: Path, *settings: str, evidence: bool = False) -> bytes:
    """model.safetensors of a run on a few texts, with words dropped at random."""
    folder.mkdir()
    write(folder / "rows.jsonl", planted(36, "few", mark_the_cue))
    run = textattn.train(
        {
            "recipe": "plain",
            "data": {"path": str(folder / "rows.jsonl"), **({"evidence": "why"} if evidence else {})},
            "tokenizer": {"min_frequency": 1},
            "model": {"embedding_dim": 6, "hidden_size": 6, "attention_size": 6},
            "training": {"epochs": 2, "batch_size": 8},
            "output": {
                "dir": str(folder / "run"),
                "audit_examples": 0,
                "plots": False,
                "prediction_splits": [],
                "attention_splits": [],
            },
        },
        settings,
    )
    return (run / "model.safetensors").read_bytes()


def test_the_same_config_gives_the_same_bytes_and_every_key_other_ones(tmp_path: Path) -> None:
    names = map(str, itertools.count())
    plain = weights_of(tmp_path / next(names))
    off = [f"{setting.split('=')[0]}=0.0" for setting in ALL]
    assert weights_of(tmp_path / next(names), *off, "model.anchor=none", evidence=True) == plain
    found = [weights_of(tmp_path / next(names), setting, evidence=True) for setting in ALL]
    assert len({plain, *found}) == len(ALL) + 1
    for anchor in ("none", "states", "values"):
        first, second = (
            weights_of(tmp_path / next(names), *ALL, f"model.anchor={anchor}", evidence=True) for _ in range(2)
        )
        assert first == second
        assert first != plain


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ([], lambda i: ["a", "b", "c"][i % 3]),
        (["model.output=sigmoid"], lambda i: "ab"[i % 2]),
        ([], lambda i: [["a"], ["a", "b"], [], ["c"]][i % 4]),
        (["model.attention=multi_head", "model.num_heads=3", "training.precision=bf16"], lambda i: "ab"[i % 2]),
        (["model.attention=self_attention", "model.encoder=gru", "model.num_layers=2"], lambda i: "ab"[i % 2]),
        (["model.attention=mlp", "model.bidirectional=false", "model.anchor=values"], lambda i: "ab"[i % 2]),
    ],
)
def test_all_losses_together_train_every_kind_of_model(
    settings: list[str], labels: Callable[[int], Any], tmp_path: Path
) -> None:
    rows = planted(36, "few", mark_the_cue)
    write(tmp_path / "rows.jsonl", [row | {"label": labels(i)} for i, row in enumerate(rows)])
    run = textattn.train(
        "quickstart",
        [
            f"data.path={tmp_path / 'rows.jsonl'}", "data.evidence=why", "model.embedding_dim=6", "model.hidden_size=6",
            "training.epochs=1", f"output.dir={tmp_path / 'run'}", "output.audit_examples=0",
            "output.plots=false", *ALL, *settings,
        ],
    )  # fmt: skip
    entry = json.loads((run / "log.jsonl").read_text())
    assert math.isfinite(entry["loss"])
    assert (run / "metrics.json").is_file()


# What is refused.


REVIEWS = ["data.max_train_examples=40"]


def check(*settings: str) -> Any:
    return cli("check", "quickstart", "--no-forecast", *REVIEWS, *settings)


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (
            ["training.attention_supervision=1.0"],
            "training.attention_supervision: needs data.evidence", "data.evidence=COLUMN",
        ),
        (
            ["training.state_tying=0.1", "model.hidden_size=64"],
            "training.state_tying: model.hidden_size (64) and model.embedding_dim (128) must be equal",
            "model.hidden_size=128",
        ),
        (
            ["training.state_tying=0.1", "model.encoder=none", "model.anchor=none"],
            "training.state_tying: model.encoder=none has no states to tie", "training.state_tying=0.0",
        ),
        *(
            (
                [f"training.{key}=1.0", f"model.attention={attention}", "model.anchor=none", "data.evidence=evidence"],
                f"training.{key}: model.attention={attention} has no weights to learn", f"training.{key}=0.0",
            )
            for key in ("attention_alignment", "attention_supervision") for attention in ("mean", "max", "last")
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(settings: list[str], message: str, hint: str, tmp_path: Path) -> None:
    if "attention_supervision" in message:
        settings = ["training.attention_alignment=0.0", *settings]
    done = check(*settings)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"Error: {message}\nHint: {hint}\n")
    done = cli("train", "quickstart", *REVIEWS, *settings, f"output.dir={tmp_path / 'run'}")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"Error: {message}\nHint: {hint}\n")
    assert not (tmp_path / "run").exists()
    # The hint can be pasted.
    assert check(*settings, hint.replace("COLUMN", "evidence")).code == 0


def test_the_other_losses_go_with_every_attention() -> None:
    off = ["training.attention_alignment=0.0", "model.anchor=none"]
    for attention in ("mean", "max", "last"):
        assert check(*off, f"model.attention={attention}", "training.state_tying=0.1").code == 0


@pytest.mark.parametrize("key", ["attention_alignment", "attention_supervision", "state_tying"])
def test_negative_weights_are_refused(key: str) -> None:
    for value, said in (
        ("-1", "at least 0, got -1"),
        ("-1e-9", "at least 0, got -1e-09"),
        (".inf", "finite, got .inf"),
    ):
        done = check(f"training.{key}={value}")
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            f"Error: override 'training.{key}={value}': training.{key}: must be {said}\n"
            "Hint: textattn configs show quickstart\n"
        )


def test_a_negative_share_of_masked_tokens_is_refused() -> None:
    done = check("model.dropout.masking=-0.1")
    assert (done.code, done.out) == (2, "")
    assert "model.dropout.masking: must be at least 0, got -0.1\n" in done.err
    assert check("model.dropout.masking=1").code == 0


def test_a_share_above_one_is_refused_in_the_words_of_the_other_messages() -> None:
    done = check("model.dropout.masking=1.5")
    assert done.code == 2
    assert "model.dropout.masking: must be at most 1, got 1.5\n" in done.err
