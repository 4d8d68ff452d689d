"""Setting part of the training split aside, for the test and for validation. A given test split is never touched."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.data_section import DataConfig
from textattn.data.duplicates import without_duplicates
from textattn.data.numbers import strata_of
from textattn.data.read import Corpus, Split
from textattn.errors import ConfigError

Rows = NDArray[np.int64]
TEST_FRACTION = 0.2
# With fewer rows, or fewer of every label, no test split is set aside unless `data.test_fraction` asks for one.
FEWEST_ROWS, FEWEST_OF_A_LABEL = 50, 5


def prepare_splits(corpus: Corpus, data: DataConfig, seed: int) -> Corpus:
    """Sets a test split and a validation split aside where there is none, and limits the training split.

    What is set aside depends on the seed, `data.group`, `data.time` and `data.validation_rows`. Where the rows are too
    few for one of each label, or none is wanted, training goes without, and a note says so. What `data.duplicates` says
    comes first, and again after splits were made here.

    Raises:
        ConfigError: `max_train_examples` leaves a single label, or `data.group` a single group.
        InputError: see `without_duplicates`.
    """
    corpus = without_duplicates(corpus, data.duplicates)
    train, test, validation = corpus.train, corpus.test, corpus.validation
    notes = list(corpus.notes)
    if data.time is not None and (corpus.test is None or corpus.validation is None):
        assert train.info is not None
        assert train.info.times is not None
        train = train.take(np.argsort(train.info.times, kind="stable"))
    used = 0.0
    if test is None and data.test_split is not None:
        fraction, because = _test_fraction(corpus, data)
        if fraction > 0:
            # A generator of its own: what data with a test split draw for validation stays as it is.
            aside = _aside(train, fraction, data, np.random.default_rng([seed, 1]))
            how = "data.test_fraction=0 trains on all" if data.test_fraction is None else "data.test_fraction"
            notes.append(f"no test split: {len(aside):,} of {len(train):,} rows are set aside for it ({how})")
            train, test = _divided(train, aside, "test")
            used = fraction
            notes += unseen_labels(test, corpus)
        elif because is not None:
            notes.append(f"no test split is set aside: {because}; data.test_fraction={TEST_FRACTION} sets one aside")
    generator = np.random.default_rng(seed)
    if data.max_train_examples is not None and data.max_train_examples < len(train):
        chosen = generator.permutation(len(train))[: data.max_train_examples]
        train = train.take(np.sort(chosen))
        if (train.labels.any(axis=0).sum() if corpus.multi_label else len(np.unique(train.labels))) < 2:
            raise ConfigError(
                f"the {len(train)} drawn have one label only",
                "data.max_train_examples=null",
                setting="data.max_train_examples",
            )
    is_drawn = False
    if validation is None and data.validation_fraction == 0:
        notes.append("data.validation_fraction is 0: training without a validation split")
    elif validation is None:
        aside = _aside(train, data.validation_fraction, data, generator)
        smallest = 2 if corpus.multi_label else len(np.unique(strata_of(train.labels)))
        if len(aside) < smallest:
            notes.append(
                f"{len(train)} training rows are too few to set {data.validation_fraction:.0%} aside for validation: "
                "training without it, the last epoch is kept"
            )
        else:
            notes.append(f"no validation split: {len(aside)} of {len(train)} training rows are set aside for it")
            train, validation = _divided(train, aside, "validation")
            is_drawn = data.validation_rows == "random" and data.group is None and data.time is None
    drawn = replace(
        corpus,
        train=train,
        validation=validation,
        test=test,
        notes=notes,
        validation_is_drawn=is_drawn,
        test_fraction=used,
    )
    # The same text with two labels may now stand on both sides.
    return without_duplicates(drawn, data.duplicates)


def _test_fraction(corpus: Corpus, data: DataConfig) -> tuple[float, str | None]:
    """The share of rows for the test and, if there is none for want of rows, the reason."""
    if data.test_fraction is not None:
        return data.test_fraction, None
    if data.files is not None:
        return 0.0, None
    if len(corpus.train) < FEWEST_ROWS:
        return 0.0, f"{len(corpus.train)} rows are few"
    labels = corpus.train.labels
    counts = labels.sum(axis=0, dtype=np.int64) if corpus.multi_label else np.bincount(strata_of(labels))
    if counts.max() < FEWEST_OF_A_LABEL:
        return 0.0, f"every label has fewer than {FEWEST_OF_A_LABEL} rows"
    return TEST_FRACTION, None


def _divided(train: Split, aside: Rows, name: str) -> tuple[Split, Split]:
    rest = np.setdiff1d(np.arange(len(train)), aside)
    return train.take(rest), replace(train.take(aside), name=name)


def unseen_labels(test: Split, corpus: Corpus) -> list[str]:
    """A note about labels that occur in no test row."""
    labels = test.labels
    if test.is_numeric:
        return []
    counts = labels.sum(axis=0) if corpus.multi_label else np.bincount(labels, minlength=len(corpus.labels))
    missing = [name for name, count in zip(corpus.labels, counts.tolist(), strict=True) if not count]
    if not missing:
        return []
    names = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
    return [f"the test split has no row with the label {names}: its figures say nothing of it"]


def _aside(train: Split, fraction: float, config: DataConfig, generator: np.random.Generator) -> Rows:
    """The rows to set aside, in ascending order.

    With `data.time` (the rows are in this order) the last ones, with `data.group` whole groups with about the same
    share of every label, else random or the last rows of each label (single-label) or of all.
    """
    if config.time is not None:
        number = min(round(len(train) * fraction), len(train) - 1)
        return np.arange(len(train) - number, len(train))
    if config.group is not None:
        assert train.info is not None
        assert train.info.groups is not None
        number = max(2, round(1 / fraction))  # more than half of the groups cannot be one fold
        return grouped_folds(train.labels, train.info.groups, number, int(generator.integers(2**31)), config)[0]
    ordered = _reversed if config.validation_rows == "last" else generator.permutation
    return _choose(train.labels, fraction, ordered)


def grouped_folds(labels: NDArray[Any], groups: Rows, number: int, seed: int, config: DataConfig) -> list[Rows]:
    """Folds of whole groups, each with about the same share of every label (of single-label data).

    Raises:
        ConfigError: there are fewer than two groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found = len(np.unique(groups))
    if found < 2:
        raise ConfigError(f"all rows have the same value in the column {config.group!r}", setting="data.group")
    # For several labels a text, their number: rows with many labels are spread at least.
    strata = strata_of(labels) if labels.ndim == 1 else labels.sum(axis=1)
    splitter = StratifiedGroupKFold(min(number, found), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels with fewer rows than folds
        try:
            return [np.sort(rows) for _, rows in splitter.split(strata, strata, groups)]
        except ValueError:
            raise ConfigError(
                f"no label has {min(number, found)} rows, too few to keep groups of {config.group!r} apart",
                "data.group=null",
                setting="data.group",
            ) from None


def _choose(labels: NDArray[Any], fraction: float, ordered: Callable[[Rows], Rows]) -> Rows:
    """The first rows, of each label where a row has one, in the order that `ordered` gives them."""
    if labels.ndim == 2:
        return np.sort(ordered(np.arange(len(labels)))[: min(round(len(labels) * fraction), len(labels) - 1)])
    parts = []
    strata = strata_of(labels)
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        # A label with a single row stays in training: it could not be learned otherwise.
        parts.append(ordered(members)[: min(round(len(members) * fraction), len(members) - 1)])
    return np.sort(np.concatenate(parts))


def _reversed(rows: Rows) -> Rows:
    return rows[::-1]
