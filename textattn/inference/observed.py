"""What drift is measured on: figures of texts that a model has answered, and the reference for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.inference.session import run_in_batches
from textattn.measure.drift import Figures, Observed, Reference, Scale
from textattn.storage.run_dir import REFERENCE
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier

# The tokens that carry the answers: so many of them, found on texts with so many tokens, which takes about a second.
NUM_CARRIERS = 100
TOKENS_DIVIDED = 100_000


def observed(
    classifier: Classifier, tokens: TokenArrays, probs: NDArray[np.float64], carriers: Sequence[int] | None
) -> Observed:
    """Figures of texts.

    Args:
        classifier: the model.
        tokens: the tokens of the texts.
        probs: (texts, num_labels) the answers.
        carriers: ids of the tokens that carry the answers, from the reference; None if it has none.
    """
    task = classifier.task
    ids, num_texts = tokens.ids[:], len(tokens)
    with_carrier = np.zeros(0, np.int64)
    shares = None
    if carriers is not None:
        # Place of each token among the carriers, or one more than the last for all others.
        places = np.full(classifier.tokenizer.vocab_size, len(carriers))
        places[list(carriers)] = np.arange(len(carriers))
        found = places[ids]
        is_carrier = found < len(carriers)
        shares = np.add.reduceat(is_carrier, tokens.starts[:-1], dtype=np.int64) / tokens.lengths if num_texts else None
        rows = np.repeat(np.arange(num_texts), tokens.lengths)
        pairs = np.unique(rows[is_carrier] * len(carriers) + found[is_carrier]) if len(carriers) else rows[:0]
        with_carrier = np.bincount(pairs % max(len(carriers), 1), minlength=len(carriers)).astype(np.int64)
    # A number is the only column, whatever side of the mean it is on.
    scores = probs[:, 0] if probs.shape[1] == 1 else probs[np.arange(num_texts), task.top(probs)]
    return Observed(
        task.counts(task.decide(probs, classifier.config.thresholds)),
        scores,
        tokens.lengths,
        tokens.unknown_shares(classifier.tokenizer.unk_id),
        shares,
        with_carrier,
    )


def reference_of(classifier: Classifier, tokens: TokenArrays, probs: NDArray[np.float64], split: str) -> Reference:
    """The reference from texts that the model has answered, usually its validation split."""
    carriers = _carriers(classifier, tokens, probs)
    seen = observed(classifier, tokens, probs, carriers)
    figures = Figures(np.zeros_like(seen.labels), np.zeros_like(seen.with_carrier), Scale.of(seen.scores))
    figures.add(seen)
    return Reference(split, figures, carriers, exclusive=not classifier.config.multi_label)


def read_reference(classifier: Classifier) -> Reference | None:
    """The reference that is kept with a model; None for models of earlier versions and without a validation split.

    Raises:
        InputError: it is damaged, or of another model.
    """
    files = classifier.files
    if not files.has(REFERENCE):
        return None
    where = files.where(REFERENCE)
    reference = Reference.from_json(files.read_json(REFERENCE), where, len(classifier.labels))
    size = classifier.tokenizer.vocab_size
    if any(not 0 <= token < size for token in reference.carriers or []):
        raise InputError("damaged (a token is not in the vocabulary)", place=where)
    return reference


def _carriers(classifier: Classifier, tokens: TokenArrays, probs: NDArray[np.float64]) -> list[int] | None:
    """Ids of the tokens that contribute most to the answers, for or against them.

    Counted is by how much the contributions of a token are larger than those of a token on average, over all texts: so
    neither a word that is everywhere and says little is among them, nor one that says much and never comes.
    """
    session = classifier.dividing_session
    if session is None:
        return None
    # Texts from everywhere in the split, because its order may mean something.
    step = max(1, -(-int(tokens.starts[-1]) // TOKENS_DIVIDED))
    rows = np.arange(0, len(tokens), step)
    outputs = run_in_batches(session, tokens, classifier.tokenizer.pad_id, rows=rows, with_contributions=True)
    directions = classifier.task.directions(classifier.task.top(probs[rows]), None)
    ids = np.concatenate([tokens.ids[tokens.starts[row] : tokens.starts[row + 1]] for row in rows])
    pairs = zip(outputs.contributions, directions, strict=True)
    sizes = np.abs(np.concatenate([parts @ direction for parts, direction in pairs]))
    totals = np.bincount(ids, sizes - sizes.mean(), minlength=classifier.tokenizer.vocab_size)
    totals[[classifier.tokenizer.unk_id, classifier.tokenizer.pad_id]] = 0
    order = np.argsort(-totals, kind="stable")[:NUM_CARRIERS]
    return [int(token) for token in order if totals[token] > 0]
