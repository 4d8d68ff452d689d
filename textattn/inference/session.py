"""A session computes logits and attention weights for a padded batch. numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.tokens.batches import collate, sorted_batches
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from concurrent.futures import Executor

Floats = NDArray[np.float32]


class BatchOutput(NamedTuple):
    """One batch."""

    logits: Floats
    """(batch, num_outputs)"""
    attention_weights: Floats
    """(batch, seq)"""
    context: Floats
    """(batch, context_dim)"""
    contributions: Floats | None = None
    """(batch, seq, num_outputs) the logits divided among the tokens; see `TextClassifier.contributions`"""
    ngram_contributions: Floats | None = None
    """(batch, seq, num_outputs) the part of the n-grams in them; None without n-grams"""


def check_finite(output: BatchOutput, where: str) -> None:
    """Check that everything in a batch is a finite number.

    Raises:
        InputError: it is not, so the weights are damaged.
    """
    with np.errstate(invalid="ignore"):
        for name, array in zip(output._fields, output, strict=True):
            # A sum of fp32 numbers in float64 is finite only if all of them are, and is faster than a look at each.
            if array is not None and not np.isfinite(array.sum(dtype=np.float64)):
                raise InputError(f"damaged (its {name.replace('_', ' ')} are not finite numbers)", place=where)


class Session(Protocol):
    """Anything that can run the model, from several threads at once."""

    workers: int
    """Batches worth running at a time."""
    threads: Callable[[int], AbstractContextManager[Executor]] | None
    """Opens that many threads that each compute alone what they run; None where the session sees to that itself."""
    max_tokens: int
    """Tokens of a batch with its padding."""
    metadata: Mapping[str, str]
    """What the weights were trained with, see `textattn.storage.model_files.check_metadata`."""

    gives_contributions: bool
    """Whether it can divide logits among the tokens."""

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], *, with_contributions: bool = False
    ) -> BatchOutput:
        """Answers a batch.

        Args:
            input_ids: (batch, seq)
            attention_mask: (batch, seq)
            with_contributions: also divide the logits among the tokens; only if `gives_contributions`.
        """
        ...


class Outputs(NamedTuple):
    """Many texts."""

    logits: Floats
    """(rows, num_outputs)"""
    attention_weights: list[Floats]
    """(seq,) for each row; empty unless asked for"""
    context: Floats | None
    """(rows, context_dim); None unless asked for"""
    contributions: list[Floats]
    """(seq, num_outputs) for each row; empty unless asked for"""
    ngram_contributions: list[Floats]
    """(seq, num_outputs) for each row; empty unless asked for, and for a model without n-grams"""


def run_in_batches(
    session: Session,
    tokens: TokenArrays,
    pad_id: int,
    *,
    with_attention: bool = False,
    with_context: bool = False,
    with_contributions: bool = False,
    rows: NDArray[np.int64] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Outputs:
    """All rows through the session, in batches of similar length; the results are in the order of the rows.

    Args:
        rows: only these, in ascending order.
        on_batch: called with the number of rows done.
    """
    logits: list[Floats] = []
    contexts: list[Floats] = []
    by_row: tuple[dict[int, Floats], ...] = ({}, {}, {})
    order = []
    done = 0
    for indices, output in _run_all(session, tokens, rows, pad_id, with_contributions):
        order.append(indices)
        logits.append(output.logits)
        if with_context:
            contexts.append(output.context)
        of_tokens = (
            output.attention_weights if with_attention else None,
            output.contributions,
            output.ngram_contributions,
        )
        for found, values in zip(by_row, of_tokens, strict=True):
            if values is not None:
                found |= {int(i): row[:n] for i, n, row in zip(indices, tokens.lengths[indices], values, strict=True)}
        done += len(indices)
        if on_batch is not None:
            on_batch(done)
    if not order:
        # One text that nobody asked for, for the sizes of the model.
        output = session.run(np.full((1, 1), pad_id, np.int64), np.ones((1, 1), np.int64))
        return Outputs(output.logits[:0], [], output.context[:0] if with_context else None, [], [])
    back = np.argsort(np.concatenate(order))
    weights, contributions, ngram_contributions = ([found[i] for i in sorted(found)] for found in by_row)
    context = np.concatenate(contexts)[back] if with_context else None
    return Outputs(np.concatenate(logits)[back], weights, context, contributions, ngram_contributions)


def _run_all(
    session: Session, tokens: TokenArrays, rows: NDArray[np.int64] | None, pad_id: int, with_contributions: bool
) -> Iterator[tuple[NDArray[np.int64], BatchOutput]]:
    """Row numbers and results of each batch, longest texts first, so that several workers end together."""
    if rows is None:
        rows = np.arange(len(tokens))
    batches = [rows[batch] for batch in sorted_batches(tokens.lengths[rows], session.max_tokens)[::-1]]

    def run(indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], BatchOutput]:
        return indices, session.run(*collate(tokens, indices, pad_id), with_contributions=with_contributions)

    # A batch alone is a thread's as well: what several threads that share it come to depends on their number.
    if session.threads is None and (session.workers == 1 or len(batches) < 2):
        yield from map(run, batches)
        return
    from concurrent.futures import ThreadPoolExecutor

    with (session.threads or ThreadPoolExecutor)(session.workers) as pool:
        yield from pool.map(run, batches)
