"""The bundled corpora: enough rows, balanced, evidence that stands on words, and no row that gives away another."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest

from textattn.config.data_section import DataConfig
from textattn.data.read import read_corpus
from textattn.data.sources import CORPUS

SPLITS = ("train", "validation", "test")
# Two texts share this many of the runs of three words in them only by a common idiom ("from start to finish").
MOST_ALIKE = 0.45


def load(split: str) -> list[dict[str, Any]]:
    lines = (CORPUS / f"reviews/{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def reviews() -> dict[str, list[dict[str, Any]]]:
    return {split: load(split) for split in SPLITS}


@pytest.fixture(scope="module")
def rows(reviews: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in reviews[split]]


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def near_duplicates(texts: Sequence[str], most: float = MOST_ALIKE) -> list[tuple[float, str, str]]:
    """Pairs that share more than `most` of their word trigrams (Jaccard); short texts are padded, so they have some."""
    runs = []
    for text in texts:
        padded = ["", *words(text), ""]
        runs.append(set(zip(padded, padded[1:], padded[2:], strict=False)))
    holders = defaultdict(list)
    for number, run in enumerate(runs):
        for trigram in run:
            holders[trigram].append(number)
    shared = Counter(pair for numbers in holders.values() for pair in combinations(numbers, 2))
    alike = ((common / len(runs[a] | runs[b]), texts[a], texts[b]) for (a, b), common in shared.items())
    return sorted((pair for pair in alike if pair[0] > most), reverse=True)


def test_sizes_and_balance(reviews: dict[str, list[dict[str, Any]]], rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 1200
    assert len(reviews["train"]) >= 800 and min(len(reviews["validation"]), len(reviews["test"])) >= 200
    for split in SPLITS:
        counts = Counter(row["label"] for row in reviews[split])
        assert set(counts) == {"neg", "pos"} and max(counts.values()) <= 0.52 * len(reviews[split])


def test_every_row_is_a_tidy_text_of_five_to_sixty_words(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert list(row) == ["text", "label", "domain", "evidence"]
        assert row["text"] == " ".join(row["text"].split())
        assert 5 <= len(words(row["text"])) <= 60, row["text"]


def test_many_domains_each_with_both_labels_in_every_split(reviews: dict[str, list[dict[str, Any]]]) -> None:
    for split in SPLITS:
        domains = defaultdict(Counter)
        for row in reviews[split]:
            domains[row["domain"]][row["label"]] += 1
        assert len(domains) >= 20
        assert all(len(labels) == 2 for labels in domains.values())
        assert max(labels.total() for labels in domains.values()) < 0.2 * len(reviews[split])


def test_a_domain_does_not_give_away_the_label(rows: list[dict[str, Any]]) -> None:
    for domain in {row["domain"] for row in rows}:
        positive = [row["label"] == "pos" for row in rows if row["domain"] == domain]
        assert 0.35 < sum(positive) / len(positive) < 0.65, domain


def test_evidence_stands_on_whole_words_inside_the_text(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        text, last = row["text"], 0
        bounds = {place for match in re.finditer(r"\w+(?:['’]\w+)*", text) for place in match.span()}
        assert row["evidence"], text
        for start, end in row["evidence"]:
            assert last <= start < end <= len(text), text
            assert start in bounds and end in bounds, (text, text[start:end])
            last = end


def test_evidence_is_a_part_of_the_text(rows: list[dict[str, Any]]) -> None:
    shares = [sum(end - start for start, end in row["evidence"]) / len(row["text"]) for row in rows]
    assert sum(shares) / len(shares) < 0.5 and sum(share > 0.9 for share in shares) < 0.01 * len(shares)


def test_no_text_is_nearly_another(rows: list[dict[str, Any]]) -> None:
    texts = [row["text"] for row in rows]
    assert len({" ".join(words(text)) for text in texts}) == len(texts)
    assert near_duplicates(texts) == []


def test_near_duplicates_once_found_in_the_corpus() -> None:
    short, long = "I wouldn't watch it again if you paid me", ", and the ticket cost fourteen dollars"
    texts = ["Hated it, and so did the cat.", short, "Rubbish. I hated it, and so did the cat.", short + long]
    assert [set(pair[1:]) for pair in near_duplicates(texts)] == [set(texts[::2]), set(texts[1::2])]


@pytest.mark.parametrize(
    "change",
    [
        lambda words: words,
        lambda words: ["Honestly,", *words],
        lambda words: words[1:],
        lambda words: [*words[:-1], "indeed", words[-1]],
        lambda words: [*words[: len(words) // 2], "really", *words[len(words) // 2 + 1 :]],
    ],
)
def test_a_near_duplicate_would_be_found(rows: list[dict[str, Any]], change: Any) -> None:
    texts = [row["text"] for row in rows]
    for original in (text for text in texts[::50] if len(words(text)) >= 9):
        copied = " ".join(change(original.split()))
        others = [text for text in texts[:100] if text != original]
        assert [pair[1:] for pair in near_duplicates([*others, original, copied])] == [(original, copied)]


def test_the_corpus_is_read_as_any_other(reviews: dict[str, list[dict[str, Any]]]) -> None:
    corpus = read_corpus(DataConfig(path="bundled:reviews"))
    assert corpus.labels == ["neg", "pos"] and corpus.notes == []
    for name, split in corpus.splits().items():
        assert list(split) == [row["text"] for row in reviews[name]]
        assert [corpus.labels[i] for i in split.labels] == [row["label"] for row in reviews[name]]


def test_four_sentences() -> None:
    corpus = read_corpus(DataConfig(path="bundled:four_sentences"))
    assert corpus.labels == ["negative", "positive"] and corpus.train.labels.tolist() == [1, 0, 1, 0]
    assert all(len(words(text)) >= 4 for text in corpus.train) and corpus.test is None
