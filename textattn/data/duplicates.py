"""Texts of the training split that stand there twice, or in the validation or test split as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from textattn.data.read import Corpus
from textattn.errors import InputError

# Pairs that are named in an error, and characters of their texts.
SHOWN, CHARACTERS = 5, 60


@dataclass(frozen=True)
class _Duplicate:
    """A training row whose text is that of another row."""

    row: int
    """Its number in the training split."""
    split: str
    """The split of the other row."""
    other: int


def without_duplicates(corpus: Corpus, setting: Literal["keep", "drop", "error"]) -> Corpus:
    """The corpus after `data.duplicates`: equal texts to the letter are duplicates.

    In the training split, rows with the same text and the same labels are; of them the first stays. A training row is
    one whatever its label if its text is in the validation or test split.

    Raises:
        InputError: there are some and the setting is `error`, or none but duplicates.
    """
    if setting == "keep":
        return corpus
    found = list(_duplicates(corpus))
    if not found:
        return corpus
    of_train = sum(1 for duplicate in found if duplicate.split == "train")
    parts = [f"{of_train:,} that stand there twice"] * (of_train > 0)
    parts += [f"{len(found) - of_train:,} whose texts are in another split"] * (len(found) > of_train)
    counted = f"{' and '.join(parts)} (of {len(corpus.train):,} training rows)"
    if setting == "error":
        lines = [_shown(duplicate, corpus) for duplicate in found[:SHOWN]]
        lines += [f"… and {len(found) - SHOWN:,} more"] * (len(found) > SHOWN)
        raise InputError("\n".join([f"duplicates: {counted}", *lines]), "data.duplicates=drop")
    kept = np.setdiff1d(np.arange(len(corpus.train)), [duplicate.row for duplicate in found])
    if not len(kept):
        raise InputError(f"data.duplicates leaves no training rows: it drops {counted}", "data.duplicates=keep")
    note = f"data.duplicates: dropped {counted}"
    return replace(corpus, train=corpus.train.take(kept), notes=[*corpus.notes, note])


def _duplicates(corpus: Corpus) -> Iterator[_Duplicate]:
    """In the order of the training rows."""
    elsewhere: dict[bytes, tuple[str, int]] = {}
    for name in ("validation", "test"):
        split = corpus.splits().get(name)
        for row, text in enumerate(split or ()):
            elsewhere.setdefault(_digest(text), (name, row))
    # Labels by themselves, because the same text with another label is a contradiction and no duplicate.
    first: dict[tuple[bytes, bytes], int] = {}
    for row, text in enumerate(corpus.train):
        digest = _digest(text)
        before = first.setdefault((digest, corpus.train.labels[row].tobytes()), row)
        if digest in elsewhere:
            yield _Duplicate(row, *elsewhere[digest])
        elif before != row:
            yield _Duplicate(row, "train", before)


def _digest(text: str) -> bytes:
    # Millions of texts need not be held in memory.
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _shown(duplicate: _Duplicate, corpus: Corpus) -> str:
    train, other = corpus.train, corpus.splits()[duplicate.split]
    text = " ".join(train.texts[duplicate.row : duplicate.row + 1][0].split())
    text = text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"
    return f"{train.place(duplicate.row)} = {other.place(duplicate.other)}: {text}"
