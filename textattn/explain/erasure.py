"""Texts with some of their tokens erased, through the model. Needs no torch.

Erasing means to take the tokens out (`deletion`, as in ERASER and leave-one-out) or to put the unknown token in their
place (`mask`), which keeps the others where they were. A text with nothing left is one unknown token, as an empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier
from textattn.inference.session import Floats, run_in_batches
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer

Variant = Literal["deletion", "mask"]
Kept = NDArray[np.bool_]
# Tokens of the variants that are put together before they run: bounds memory.
TOKENS_AT_ONCE = 4_000_000


def rows_of(tokens: TokenArrays) -> list[NDArray[np.int32]]:
    """The ids of each text."""
    return [tokens.ids[first:last] for first, last in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


def pack(rows: Sequence[NDArray[np.int32]]) -> TokenArrays:
    """The opposite of `rows_of`."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    return TokenArrays(np.concatenate(rows) if rows else np.zeros(0, np.int32), starts, 0, 0)


def erase(ids: NDArray[np.int32], kept: Kept, unk_id: int, variant: Variant = "deletion") -> NDArray[np.int32]:
    """`ids` without the tokens where `kept` is False."""
    if variant == "mask":
        return np.where(kept, ids, np.int32(unk_id))
    return ids[kept] if kept.any() else np.array([unk_id], np.int32)


def logits_of(
    classifier: Classifier, rows: Iterable[NDArray[np.int32]], on_rows: Callable[[int], None] | None = None
) -> Floats:
    """(rows, num_outputs), in the order of the rows, which may be very many.

    Args:
        on_rows: called with the number of rows done.
    """
    found: list[Floats] = []
    done = 0
    for group in _groups(rows):
        found.append(run_in_batches(classifier.session, pack(group), classifier.tokenizer.pad_id).logits)
        done += len(group)
        if on_rows is not None:
            on_rows(done)
    if not found:
        return run_in_batches(classifier.session, pack([]), classifier.tokenizer.pad_id).logits
    return np.concatenate(found)


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


def occlusion(
    classifier: Classifier,
    tokens: TokenArrays,
    targets: Targets,
    words: Sequence[NDArray[np.int64]],
    on_row: Callable[[int], None] | None = None,
) -> list[NDArray[np.float64]]:
    """For each text how far the log-odds fall without each of its words, (words,)."""
    without = leave_one_out(classifier, tokens, words, on_row)
    return falls(logits_of(classifier, rows_of(tokens)), without, targets)


def falls(whole: Floats, without: Sequence[Floats], targets: Targets) -> list[NDArray[np.float64]]:
    """From the logits of texts, (rows, num_outputs), and those `leave_one_out` gave: how far the log-odds fall."""
    odds = targets.log_odds(whole)
    return [odds[row] - targets.take([row] * len(logits)).log_odds(logits) for row, logits in enumerate(without)]
