"""Find common faults of labelled data: leaks between splits, contradictory labels, giveaways, imbalance."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.checks.finding import Finding
from textattn.config.data_section import DataConfig
from textattn.data.label_faults import label_faults
from textattn.data.read import Corpus, Split
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer

Int64s = NDArray[np.int64]
# Tokens named with a finding, and the largest number of rows that are listed with one.
TOKENS, ROWS = 5, 10_000
# Near-duplicates are found by their shingles (Broder 1997): sequences of this many tokens.
SHINGLE = 5
# If there are more shingles than this, only every second, third, … is kept. The choice is made by hash, so that it is
# the same in every text.
MAX_SHINGLES = 4_000_000
# A text with fewer kept shingles is too short to count as a near-duplicate.
FEWEST_SHINGLES = 8
# Two texts are near-duplicates if at least this share of the shorter text's shingles also occurs in the other text.
NEARLY = 0.8
# A shingle that occurs in more texts than this is a common phrase or boilerplate and is ignored.
MOST_TEXTS = 20
# A giveaway is a token that occurs in at least this share (and this number) of a label's texts, while at least
# GIVEAWAY_PRECISION of the texts that contain it have that label.
GIVEAWAY_SHARE, GIVEAWAY_PRECISION, GIVEAWAY_TEXTS = 0.02, 0.98, 50
# Imbalance is reported if the most frequent label has at least this many times as many texts as the rarest.
IMBALANCE = 10
# The rows count as sorted if they have fewer runs of equal labels than this share of the number in random order.
SORTED = 0.1
FEWEST_ROWS = 100
# Neighbouring rows count as related if at least this number and this share of texts share a rare word with the next
# text, and this many times as many as share one with a text far away.
FEWEST_NEIGHBOURS, NEIGHBOURS_SHARE, NEIGHBOURS_TIMES = 20, 0.02, 5
_NO_WORD = re.compile(r"\W+")


def lint(corpus: Corpus, tokenizer: TextTokenizer, tokens: dict[str, TokenArrays], data: DataConfig) -> list[Finding]:
    """Run all checks; findings that make test metrics wrong come first, then those that make models worse.

    Args:
        data: the settings that the corpus was read with, which hints extend.
    """
    splits = corpus.splits()
    hashes = {name: _hashes(split) for name, split in splits.items()}
    found = [
        *_duplicates(splits, hashes),
        *_near_duplicates(splits, tokens, hashes),
        *_neighbours(corpus, tokenizer, tokens["train"]),
        *(Finding(f.kind, f.message, f.hint, f.count, f.examples) for f in label_faults(corpus, data)),
        *_contradictions(splits, hashes, corpus.labels),
        *([] if corpus.train.is_numeric else _of_labels(corpus, tokenizer, tokens["train"])),
    ]
    return found


def _of_labels(corpus: Corpus, tokenizer: TextTokenizer, tokens: TokenArrays) -> Iterator[Finding]:
    yield from _giveaways(corpus, tokenizer, tokens)
    yield from _sorted(corpus.train)
    yield from _imbalance(corpus)


def _hashes(split: Split) -> Int64s:
    """Hash each text in lower case, without punctuation and spacing: (rows,)."""

    def each() -> Iterator[int]:
        for text in split:
            plain = _NO_WORD.sub(" ", text.casefold()).strip()
            yield int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little", signed=True)

    return np.fromiter(each(), np.int64, len(split))


def _pairs_of_splits(splits: dict[str, Split]) -> Iterator[tuple[str, str]]:
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            yield first, second


def _duplicates(splits: dict[str, Split], hashes: dict[str, Int64s]) -> Iterator[Finding]:
    for first, second in _pairs_of_splits(splits):
        order = np.argsort(hashes[first], kind="stable")
        place = np.searchsorted(hashes[first][order], hashes[second])
        match = order[np.minimum(place, len(order) - 1)]
        rows = np.flatnonzero(hashes[first][match] == hashes[second])
        if len(rows):
            yield Finding(
                "duplicates",
                f"{first} also contains {_texts(len(rows))} of {second} ({len(rows) / len(splits[second]):.1%}), so "
                f"metrics on {second} will be too good",
                f"remove these texts from {first}",
                len(rows),
                _examples(splits, [(first, int(match[row]), second, int(row)) for row in rows[:ROWS]]),
            )


def _near_duplicates(
    splits: dict[str, Split], tokens: dict[str, TokenArrays], hashes: dict[str, Int64s]
) -> Iterator[Finding]:
    """Find texts of different splits that share most of their shingles but are not equal."""
    names = list(tokens)
    a, b = _near_pairs(tokens, across=True)
    hashed = np.concatenate([hashes[name] for name in names])
    others = hashed[a] != hashed[b]
    a, b = a[others], b[others]
    starts = np.cumsum([0, *(len(part) for part in tokens.values())])
    of_split = np.repeat(np.arange(len(tokens)), np.diff(starts))
    for i, first in enumerate(names):
        for j, second in enumerate(names[i + 1 :], i + 1):
            chosen = np.flatnonzero((of_split[a] == i) & (of_split[b] == j))
            rows, where = np.unique(b[chosen], return_index=True)
            if len(rows):
                yield Finding(
                    "near_duplicates",
                    f"{first} contains near-duplicates of {_texts(len(rows))} of {second} "
                    f"({len(rows) / len(splits[second]):.1%}), which share at least {NEARLY:.0%} of their passages, so "
                    f"metrics on {second} will be too good",
                    f"remove these near-duplicates from {first}",
                    len(rows),
                    _examples(
                        splits,
                        [
                            (first, int(a[chosen[k]] - starts[i]), second, int(row - starts[j]))
                            for row, k in list(zip(rows, where, strict=True))[:ROWS]
                        ],
                    ),
                )


def duplicate_groups(splits: dict[str, Split], tokens: dict[str, TokenArrays]) -> Int64s:
    """Number the groups of equal and nearly equal texts from 0: (rows of all splits,) the group of each text."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    hashed = np.concatenate([_hashes(split) for split in splits.values()])
    order = np.argsort(hashed, kind="stable")
    equal = np.flatnonzero(np.diff(hashed[order]) == 0)
    a, b = _near_pairs({name: tokens[name] for name in splits}, across=False)
    a, b = np.concatenate([a, order[equal]]), np.concatenate([b, order[equal + 1]])
    pairs = coo_matrix((np.ones(len(a), np.int8), (a, b)), (len(hashed), len(hashed)))
    return np.asarray(connected_components(pairs, directed=False)[1], dtype=np.int64)


def _near_pairs(tokens: dict[str, TokenArrays], *, across: bool) -> tuple[Int64s, Int64s]:
    """Find pairs of texts that share most of their shingles.

    Args:
        across: find only pairs of texts from different splits.

    Returns:
        (pairs,) the first text and (pairs,) the second text of each pair. Texts are numbered through all splits, and
        the first number is the smaller one.
    """
    every = max(1, sum(len(part.ids) for part in tokens.values()) // MAX_SHINGLES)
    parts, owners = [], []
    total = 0
    for part in tokens.values():
        for shingles, rows in _shingles(part, every):
            parts.append(shingles)
            owners.append(rows + total)
        total += len(part)
    none = np.zeros(0, np.int64)
    if not sum(map(len, parts)):
        return none, none
    shingle, owner = np.concatenate(parts), np.concatenate(owners)
    # Keep each shingle once per text.
    order = np.lexsort((owner, shingle))
    shingle, owner = shingle[order], owner[order]
    new = np.append(True, (np.diff(shingle) != 0) | (np.diff(owner) != 0))
    shingle, owner = shingle[new], owner[new]
    size = np.bincount(owner, minlength=total)
    starts = np.flatnonzero(np.diff(shingle, prepend=shingle[0] - 1))
    lengths = np.diff(starts, append=len(shingle))
    of_split = np.repeat(np.arange(len(tokens)), [len(part) for part in tokens.values()])
    pairs: list[Int64s] = []
    for length in range(2, MOST_TEXTS + 1):
        groups = owner[starts[lengths == length][:, None] + np.arange(length)[None, :]]
        for i in range(length):
            for j in range(i + 1, length):
                wanted = (of_split[groups[:, i]] != of_split[groups[:, j]]) | (not across)
                pairs.append(groups[wanted, i] * total + groups[wanted, j])
    shared, counts = np.unique(np.concatenate(pairs), return_counts=True) if pairs else (none, none)
    a, b = np.divmod(shared, total)
    smaller = np.minimum(size[a], size[b])
    near = (counts >= NEARLY * smaller) & (smaller >= FEWEST_SHINGLES)
    return a[near], b[near]


def _shingles(tokens: TokenArrays, every: int) -> Iterator[tuple[Int64s, Int64s]]:
    """Hash every sequence of SHINGLE tokens and keep one in `every`; yields the hashes and the text of each."""
    # The odd multiplier spreads the tokens over 64 bits; the overflow is intended.
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    for first in range(0, len(tokens), 10_000):
        last = min(first + 10_000, len(tokens))
        start = tokens.starts[first]
        ids = tokens.ids[start : tokens.starts[last]].astype(np.uint64)
        rows = np.repeat(np.arange(first, last), tokens.lengths[first:last])
        if len(ids) < SHINGLE:
            continue
        value = np.zeros(len(ids) - SHINGLE + 1, np.uint64)
        for k in range(SHINGLE):
            value = (value ^ ids[k : len(value) + k]) * multiplier
            value ^= value >> np.uint64(29)
        inside = rows[: len(value)] == rows[SHINGLE - 1 :]
        kept = inside & (value % np.uint64(every) == 0)
        yield value[kept].view(np.int64), rows[: len(value)][kept]


def _contradictions(splits: dict[str, Split], hashes: dict[str, Int64s], labels: list[str]) -> Iterator[Finding]:
    names = list(splits)
    hashed = np.concatenate([hashes[name] for name in names])
    given = np.concatenate([_label_keys(splits[name]) for name in names])
    split = np.repeat(np.arange(len(names)), [len(splits[name]) for name in names])
    row = np.concatenate([np.arange(len(splits[name])) for name in names])
    order = np.lexsort((given, hashed))
    differs = (hashed[order][1:] == hashed[order][:-1]) & (given[order][1:] != given[order][:-1])
    pairs = np.flatnonzero(differs)
    if len(pairs):
        texts = len(np.unique(hashed[order][pairs]))
        is_numeric = splits["train"].is_numeric
        places = [(order[i], order[i + 1]) for i in pairs[:ROWS]]
        yield Finding(
            "contradictions",
            f"copies of the same text have different {'numbers' if is_numeric else 'labels'} ({_texts(texts)})",
            f"choose one {'number' if is_numeric else 'label'} for each text",
            texts,
            _examples(
                splits, [(names[split[a]], int(row[a]), names[split[b]], int(row[b])) for a, b in places], labels
            ),
        )


def _label_keys(split: Split) -> Int64s:
    if split.is_numeric:
        return split.labels.view(np.int64)
    if split.labels.ndim == 1:
        return split.labels.astype(np.int64)
    weights = np.random.default_rng(0).integers(1, 2**40, split.labels.shape[1])
    return np.asarray(split.labels.astype(np.int64) @ weights)


def _words_of_texts(tokens: TokenArrays, vocab_size: int) -> Iterator[Int64s]:
    """Yield the distinct tokens of each text as sorted values row * vocab_size + id, some texts at a time."""
    for first in range(0, len(tokens), 10_000):
        last = min(first + 10_000, len(tokens))
        ids = tokens.ids[tokens.starts[first] : tokens.starts[last]].astype(np.int64)
        rows = np.repeat(np.arange(first, last), tokens.lengths[first:last])
        yield np.unique(rows * vocab_size + ids)


def _neighbours(corpus: Corpus, tokenizer: TextTokenizer, tokens: TokenArrays) -> Iterator[Finding]:
    """Find related rows that follow one another, if the validation split was drawn from among them."""
    if not corpus.validation_is_drawn or len(tokens) < FEWEST_ROWS:
        return
    vocab_size = tokenizer.vocab_size
    texts = np.zeros(vocab_size, np.int64)
    for pairs in _words_of_texts(tokens, vocab_size):
        texts += np.bincount(pairs % vocab_size, minlength=vocab_size)
    rare = (texts >= 2) & (texts <= MOST_TEXTS)
    words = np.concatenate([pairs[rare[pairs % vocab_size]] for pairs in _words_of_texts(tokens, vocab_size)])

    def sharing(distance: int) -> Int64s:
        """The rows that share a rare word with the row at this distance after them."""
        return np.unique(words[np.isin(words + distance * vocab_size, words)] // vocab_size)

    rows = sharing(1)
    near = len(rows) / (len(tokens) - 1)
    far = max(len(sharing(d)) / (len(tokens) - d) for d in (len(tokens) // 3, len(tokens) // 2))
    if len(rows) >= FEWEST_NEIGHBOURS and near >= max(NEIGHBOURS_SHARE, NEIGHBOURS_TIMES * far):
        yield Finding(
            "neighbours",
            f"{near:.0%} of the training texts share a rare word with the next text, but only {far:.1%} with a text "
            "far away. This suggests that related rows (about the same film, by the same author, from the same day) "
            "follow one another. Metrics on a validation split drawn at random from such rows will be too good",
            "data.validation_rows=last",
            len(rows),
            _examples(corpus.splits(), [("train", int(row), "train", int(row) + 1) for row in rows[:ROWS]]),
        )


def _giveaways(corpus: Corpus, tokenizer: TextTokenizer, tokens: TokenArrays) -> Iterator[Finding]:
    labels = corpus.train.labels
    if labels.ndim != 1:
        return
    num_labels, vocab_size = len(corpus.labels), tokenizer.vocab_size
    texts = np.zeros((num_labels, vocab_size), np.int64)
    for pairs in _words_of_texts(tokens, vocab_size):
        np.add.at(texts, (labels[pairs // vocab_size], pairs % vocab_size), 1)
    of_label = np.bincount(labels, minlength=num_labels)
    everywhere = texts.sum(axis=0)
    for label in range(num_labels):
        if of_label[label] > GIVEAWAY_PRECISION * len(labels) or not of_label[label]:
            continue
        precision = texts[label] / np.maximum(everywhere, 1)
        enough = texts[label] >= max(GIVEAWAY_TEXTS, GIVEAWAY_SHARE * of_label[label])
        found = np.flatnonzero(enough & (precision >= GIVEAWAY_PRECISION))
        found = found[np.argsort(-texts[label][found], kind="stable")]
        if len(found):
            name = corpus.labels[label]
            words = [str(tokenizer.backend.id_to_token(int(token))) for token in found[:TOKENS]]
            listed = ", ".join(map(repr, words)) + (", …" if len(found) > TOKENS else "")
            tokens_give = "a token gives" if len(found) == 1 else f"{len(found)} tokens give"
            top = found[0]
            yield Finding(
                "giveaways",
                f"{tokens_give} the label {name!r} away: {listed}. Of the {everywhere[top]:,} texts that contain "
                f"{words[0]!r}, {precision[top]:.1%} have this label",
                "remove such tokens from the texts if they will not occur in the texts that the model is used on",
                len(found),
                [
                    {"token": word, "label": name, "texts": int(everywhere[t]), "precision": float(precision[t])}
                    for word, t in zip(words, found[:TOKENS], strict=True)
                ],
            )


def _sorted(train: Split) -> Iterator[Finding]:
    if train.labels.ndim != 1 or len(train) < FEWEST_ROWS:
        return
    shares = np.bincount(train.labels) / len(train)
    expected = 1 + (len(train) - 1) * (1 - (shares**2).sum())
    runs = 1 + int((np.diff(train.labels) != 0).sum())
    if expected > 10 and runs < SORTED * expected:
        yield Finding(
            "sorted",
            f"train is sorted by label: it has {runs:,} runs of equal labels, where random order would give about "
            f"{expected:,.0f}. Training shuffles the rows, but a part cut from the file would contain only some labels",
            "shuffle the file before you split it",
            runs,
        )


def _imbalance(corpus: Corpus) -> Iterator[Finding]:
    labels = corpus.train.labels
    counts = (
        labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=len(corpus.labels))
    )
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= IMBALANCE * max(1, int(counts[least])):
        yield Finding(
            "imbalance",
            f"in train, {corpus.labels[most]!r} has {_texts(int(counts[most]))}, but {corpus.labels[least]!r} has only "
            f"{_texts(int(counts[least]))}. Accuracy will say little about the rare labels",
            "training.class_weights=balanced training.metric=macro_f1",
            int((counts * IMBALANCE <= counts[most]).sum()),
        )


def _examples(
    splits: dict[str, Split], places: list[tuple[str, int, str, int]], labels: list[str] | None = None
) -> list[dict[str, Any]]:
    """Describe pairs of rows, numbered from 0 within their splits."""
    found = []
    for first, a, second, b in places:
        example: dict[str, Any] = {
            "rows": [[first, a], [second, b]],
            "places": [splits[first].place(a), splits[second].place(b)],
            "text": splits[second].texts[b : b + 1][0],
        }
        if labels is not None:
            example["labels"] = [_names(splits[first].labels[a], labels), _names(splits[second].labels[b], labels)]
        found.append(example)
    return found


def _texts(number: int) -> str:
    return f"{number:,} text{'s' * (number != 1)}"


def _names(ids: Any, labels: list[str]) -> str | list[str]:
    if isinstance(ids, np.floating):
        return f"{ids:g}"
    return labels[int(ids)] if np.ndim(ids) == 0 else [labels[i] for i in np.flatnonzero(ids)]
