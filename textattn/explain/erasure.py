"""Erases tokens from texts and runs the model on what is left. Needs no torch.

To erase tokens is to delete them (`deletion`, as in ERASER and leave-one-out) or to put the unknown token in their
place (`mask`), which keeps the others where they are. A text that loses all its tokens becomes one unknown token, like
an empty text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from textattn.inference.classifier import Classifier
from textattn.inference.session import Floats, run_in_batches
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer

Variant = Literal["deletion", "mask"]
Kept = NDArray[np.bool_]
# Tokens of the erased texts that are held in memory before they run.
TOKENS_AT_ONCE = 4_000_000


def rows_of(tokens: TokenArrays) -> list[NDArray[np.int32]]:
    """(tokens,) token ids of each text."""
    return [tokens.ids[first:last] for first, last in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


def pack(rows: Sequence[NDArray[np.int32]]) -> TokenArrays:
    """The texts as one array: the inverse of `rows_of`, with the counts of unknown and truncated ones at 0."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    return TokenArrays(np.concatenate(rows) if rows else np.zeros(0, np.int32), starts, 0, 0)


def erase(ids: NDArray[np.int32], kept: Kept, unk_id: int, variant: Variant = "deletion") -> NDArray[np.int32]:
    """`ids`, (tokens,), without the tokens where `kept`, (tokens,), is False."""
    if variant == "mask":
        return np.where(kept, ids, np.int32(unk_id))
    return ids[kept] if kept.any() else np.array([unk_id], np.int32)


def logits_of(
    classifier: Classifier, rows: Iterable[NDArray[np.int32]], on_rows: Callable[[int], None] | None = None
) -> Floats:
    """Logits of texts, (rows, num_outputs), in the order of the rows.

    Args:
        rows: (tokens,) token ids of each text; consumed a part at a time, so there may be very many.
        on_rows: called with the number of rows done.
    """
    return answers_of(classifier, rows, on_rows)[0]


def answers_of(
    classifier: Classifier, rows: Iterable[NDArray[np.int32]], on_rows: Callable[[int], None] | None = None
) -> tuple[Floats, Floats]:
    """Logits of texts, (rows, num_outputs), and their pooled vectors, (rows, context_dim).

    The arguments are those of `logits_of`.
    """
    logits: list[Floats] = []
    contexts: list[Floats] = []
    done = 0
    # The model must run once even without texts, for the sizes of what it gives.
    for group in itertools.chain(_groups(rows), [[]]):
        if group or not logits:
            outputs = run_in_batches(classifier.session, pack(group), classifier.tokenizer.pad_id, with_context=True)
            assert outputs.context is not None
            logits.append(outputs.logits)
            contexts.append(outputs.context)
            done += len(group)
            if on_rows is not None and group:
                on_rows(done)
    return np.concatenate(logits), np.concatenate(contexts)


def _groups(rows: Iterable[NDArray[np.int32]]) -> Iterator[list[NDArray[np.int32]]]:
    group: list[NDArray[np.int32]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row)
        if size >= TOKENS_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def leave_one_out(
    classifier: Classifier,
    tokens: TokenArrays,
    words: Sequence[NDArray[np.int64]],
    on_row: Callable[[int], None] | None = None,
) -> list[Floats]:
    """For each text the logits without each of its words, (words, num_outputs).

    Args:
        words: for each text the word of each token, (tokens,), numbered from 0.
        on_row: called with the number of texts done.
    """
    if not len(tokens):
        return []
    tokenizer: TextTokenizer = classifier.tokenizer
    counts = [int(word_of.max()) + 1 for word_of in words]
    ends = np.cumsum(counts)
    variants = (
        erase(ids, word_of != word, tokenizer.unk_id)
        for ids, word_of, count in zip(rows_of(tokens), words, counts, strict=True)
        for word in range(count)
    )

    def on_rows(done: int) -> None:
        assert on_row is not None
        on_row(int(np.searchsorted(ends, done, side="right")))

    logits = logits_of(classifier, variants, None if on_row is None else on_rows)
    return np.split(logits, ends[:-1])
