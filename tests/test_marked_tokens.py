"""Which tokens people marked as the reason, from the column in the file to a batch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bulk_jobs import write

from textattn.config import config_from_mapping
from textattn.report import Report
from textattn.runs import prepare, training_data
from textattn.tokens.batches import collate
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.training.examples import Examples


def test_flags_are_spread_over_a_batch_as_its_tokens_are() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 12, 40)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = TokenArrays(np.arange(1, starts[-1] + 1, dtype=np.int32), starts, 0, 0)  # the id says which token it is
    marked = generator.random(starts[-1]) < 0.4
    for count in (1, 2, 7, 40):
        indices = generator.permutation(40)[:count]
        input_ids, _ = collate(tokens, indices, pad_id=0)
        examples = Examples(tokens, np.zeros(40, np.int64), 0, marked)
        found = examples.batch(indices, torch.device("cpu")).evidence
        assert found is not None
        assert found.dtype == torch.bool
        expected = [[bool(token and marked[token - 1]) for token in row] for row in input_ids.tolist()]
        assert found.tolist() == expected
    assert 0 < marked.sum() < len(marked)


FILLERS = [f"w{i}" for i in range(40)]


def prepared(
    folder: Path, rows: list[dict[str, Any]], **tokenizer: Any
) -> tuple[Any, TextTokenizer, dict[str, TokenArrays]]:
    write(folder / "rows.jsonl", rows)
    config = config_from_mapping(
        {
            "data": {"path": str(folder / "rows.jsonl"), "evidence": "why", "validation_fraction": 0.3},
            "tokenizer": {"min_frequency": 1, **tokenizer},
        }
    )
    data = prepare.prepare(config, Report())
    return data.corpus, data.tokenizer, data.tokens


@pytest.mark.parametrize("rows_at_once", [1000, 3])
def test_the_marked_tokens_of_a_split_are_those_of_its_texts(
    rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text i has a word of its own, which is marked but in every fourth text; a part is set aside for validation."""
    monkeypatch.setattr(training_data, "ROWS_AT_ONCE", rows_at_once)
    generator = random.Random(0)
    rows = []
    for i in range(20):
        words = generator.choices(FILLERS, k=generator.randint(1, 9))
        words.insert(generator.randint(0, len(words)), f"own{i}")
        rows.append({"text": " ".join(words), "label": i % 2, "why": [f"own{i}"] if i % 4 else []})
    corpus, tokenizer, tokens = prepared(tmp_path, rows)
    marked = training_data.evidence_of(corpus.train, tokenizer, tokens["train"])
    assert marked is not None
    assert marked.dtype == np.bool_
    assert len(corpus.train) == 14
    names = [tokenizer.backend.id_to_token(i) for i in tokens["train"].ids]
    expected = [name.startswith("own") and int(name[3:]) % 4 > 0 for name in names]
    assert marked.tolist() == expected
    assert sum(expected) > 8
    aside = training_data.evidence_of(corpus.validation, tokenizer, tokens["validation"])
    assert aside is not None
    assert aside.shape == tokens["validation"].ids.shape


def test_without_evidence_in_the_data_there_are_no_marks(tmp_path: Path) -> None:
    rows = [{"text": f"w{i} w{i}", "label": i % 2, "why": [[0, 1]]} for i in range(10)]
    corpus, tokenizer, tokens = prepared(tmp_path, rows)
    split = type(corpus.train)("train", corpus.train.texts, corpus.train.labels)
    assert training_data.evidence_of(split, tokenizer, tokens["train"]) is None


HARD = [
    {"text": "The ABOMINABLE,  ﬁne<br />splendid plot", "label": 0, "why": ["ABOMINABLE", "splendid"]},
    {"text": "half of a wonderful word", "label": 1, "why": [[12, 15]]},
    {"text": "<br />", "label": 0, "why": [[0, 6]]},
    {"text": "w1 w2 w3", "label": 1, "why": []},
    {"text": "dull " + "w1 " * 6 + "dull " + "w2 " * 6 + "dull", "label": 0, "why": [[0, 4], [23, 27], [46, 50]]},
    {
        "text": "dull " + "w1 " * 300 + "dull " + "w2 " * 300 + "dull", "label": 1,
        "why": [[0, 4], [905, 909], [1810, 1814]],
    },
    {"text": "w1 " * 300 + "dull " + "w2 " * 300, "label": 0, "why": ["dull"]},
]  # fmt: skip


@pytest.mark.parametrize("truncation", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece", "char"])
def test_marks_are_on_the_tokens_that_share_a_character_with_the_evidence(
    kind: str, truncation: str, tmp_path: Path
) -> None:
    """The library's tokenizer reads the whole text, and truncation is written a second time."""
    settings = {"type": kind, "truncation": truncation, "max_length": 9, "vocab_size": 300 if kind == "word" else 60}
    corpus, tokenizer, tokens = prepared(tmp_path, [*HARD, *HARD], **settings)
    marked = training_data.evidence_of(corpus.train, tokenizer, tokens["train"])
    assert marked is not None
    head = {"head": 9, "tail": 0, "head_tail": 5}[truncation]
    seen = set()
    for i, text in enumerate(corpus.train):
        row = next(row for row in HARD if row["text"] == text)
        places: set[int] = set()
        for why in row["why"]:
            first, last = (text.index(why), text.index(why) + len(why)) if isinstance(why, str) else why
            places |= set(range(first, last))
        encoding = tokenizer.backend.encode(text, add_special_tokens=False)
        expected = [bool(places & set(range(*offset))) for offset in encoding.offsets] or [True]
        if len(expected) > 9:
            expected = expected[:head] + expected[len(expected) - (9 - head) :]
            seen.add("truncated")
        assert marked[tokens["train"].starts[i] : tokens["train"].starts[i + 1]].tolist() == expected, text
        seen.add(text)
    assert len(seen) > 4
    assert "truncated" in seen


def test_the_marked_tokens_of_texts_that_are_truncated(tmp_path: Path) -> None:
    corpus, tokenizer, tokens = prepared(tmp_path, [*HARD, *HARD, *HARD], truncation="head_tail", max_length=6)
    marked = training_data.evidence_of(corpus.train, tokenizer, tokens["train"])
    assert marked is not None
    found = {}
    for i, text in enumerate(corpus.train):
        part = slice(tokens["train"].starts[i], tokens["train"].starts[i + 1])
        names = [tokenizer.backend.id_to_token(token) for token in tokens["train"].ids[part]]
        found[text] = " ".join(f"*{n}*" if flag else n for n, flag in zip(names, marked[part], strict=True))
    assert [found[row["text"]] for row in HARD] == [
        "the *abominable* , fine *splendid* plot",
        "half of a *wonderful* word",
        "*[UNK]*",
        "w1 w2 w3",
        "*dull* w1 w1 w2 w2 *dull*",
        "*dull* w1 w1 w2 w2 *dull*",
        "w1 w1 w1 w2 w2 w2",
    ]
