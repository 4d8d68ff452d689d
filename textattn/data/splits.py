"""Setting part of the training split aside for validation. The test split is never touched here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.schema import DataConfig
from textattn.data.duplicates import without_duplicates
from textattn.data.read import Corpus
from textattn.errors import ConfigError


def prepare_splits(corpus: Corpus, config: DataConfig, seed: int) -> Corpus:
    """Limits the training split to `max_train_examples` and makes a validation split where there is none.

    What `data.duplicates` says comes first, and again for the validation split that is made here.

    The part set aside is stratified by label (single-label) and depends only on `seed`; where it is the last rows, on
    nothing. Where the rows are too few for one of each label, or none is wanted, training goes without a validation
    split, and a note says so.

    Raises:
        ConfigError: `max_train_examples` leaves a single label.
        InputError: see `without_duplicates`.
    """
    corpus = without_duplicates(corpus, config.duplicates)
    generator = np.random.default_rng(seed)
    train, notes = corpus.train, list(corpus.notes)
    if config.max_train_examples is not None and config.max_train_examples < len(train):
        chosen = generator.permutation(len(train))[: config.max_train_examples]
        train = train.take(np.sort(chosen))
        if (train.labels.any(axis=0) if corpus.multi_label else np.bincount(train.labels) > 0).sum() < 2:
            raise ConfigError(
                f"the {len(train)} drawn have one label only",
                "data.max_train_examples=null",
                setting="data.max_train_examples",
            )
    if corpus.validation is not None:
        return replace(corpus, train=train)
    if config.validation_fraction == 0:
        notes.append("data.validation_fraction is 0: training without a validation split")
        return replace(corpus, train=train, notes=notes)
    from_the_end = config.validation_rows == "last"
    aside = _choose(train.labels, config.validation_fraction, _reversed if from_the_end else generator.permutation)
    smallest = 2 if corpus.multi_label else len(np.unique(train.labels))
    if len(aside) < smallest:
        notes.append(
            f"{len(train)} training rows are too few to set {config.validation_fraction:.0%} aside for validation: "
            "training without it, the last epoch is kept"
        )
        return replace(corpus, train=train, notes=notes)
    rest = np.setdiff1d(np.arange(len(train)), aside)
    notes.append(f"no validation split: {len(aside)} of {len(train)} training rows are set aside for it")
    validation = replace(train.take(aside), name="validation")
    drawn = replace(
        corpus,
        train=train.take(rest),
        validation=validation,
        notes=notes,
        validation_is_drawn=not from_the_end,
    )
    # The same text with two labels may now stand on both sides.
    return without_duplicates(drawn, config.duplicates)


def _choose(
    labels: NDArray[np.integer[Any]], fraction: float, ordered: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """The first rows, of each label where a row has one, in the order that `ordered` gives them."""
    if labels.ndim == 2:
        return np.sort(ordered(np.arange(len(labels)))[: min(round(len(labels) * fraction), len(labels) - 1)])
    parts = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # A label with a single row stays in training: it could not be learned otherwise.
        parts.append(ordered(members)[: min(round(len(members) * fraction), len(members) - 1)])
    return np.sort(np.concatenate(parts))


def _reversed(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[::-1]
