"""Find labels that may be wrong: a quick model that has not seen the text confidently predicts a different label.

This is confident learning (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels"). The threshold of a label is its mean predicted probability among the texts that were given it. A text is
counted as an example of a label if the predicted probability of that label reaches the threshold. The model is a
logistic regression on the TF-IDF of the run's tokens and of pairs of neighbouring tokens, so it works with any
tokenizer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.checks.finding import Finding
from textattn.checks.lint import duplicate_groups
from textattn.data.read import Corpus
from textattn.measure.confident_learning import (
    SUREST,
    SUSPICIOUS,
    confident_disagreements,
    disagreement_of_surest,
    has_learned,
)
from textattn.tokens.token_arrays import TokenArrays

Floats = NDArray[np.float64]
FOLDS = 5
# Labels are judged if there are at least this many groups of texts that differ from each other.
FEWEST_GROUPS = 50
# Inverse strength of the regularisation; this value suits TF-IDF features with pairs.
C = 10.0
# A token or pair that occurs in fewer texts than this tells nothing about other texts.
FEWEST_TEXTS = 2
MAX_FEATURES = 500_000
# Examples listed with the finding.
SHOWN = 10


def num_models(corpus: Corpus) -> int:
    """The number of models that are fitted: one per fold, and with multi-label data one per fold and label."""
    return FOLDS * (len(corpus.labels) if corpus.multi_label else 1)


def find_label_errors(
    corpus: Corpus, tokens: dict[str, TokenArrays], on_model: Callable[[int], None], on_note: Callable[[str], None]
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Find texts that may have a wrong label, in all splits.

    There is no finding if nearly all labels agree with the most confident predictions: then the disagreements that
    remain are as likely to be the models' mistakes. The models learn from the texts of all splits, but never from the
    text that they judge or from a near-duplicate of it.

    Args:
        on_model: called with the number of models fitted so far.
        on_note: called with the reason if there is no finding.

    Returns:
        At most one finding, and all texts whose labels are in question, the most confident predictions first.
    """
    splits = corpus.splits()
    given = np.concatenate([split.labels for split in splits.values()])
    groups = duplicate_groups(splits, tokens)
    if groups.max() + 1 < FEWEST_GROUPS:
        on_note(f"label errors: {len(given):,} texts are too few; at least {FEWEST_GROUPS} different texts are needed")
        return [], []
    fold = _folds(groups)
    features = _tfidf([tokens[name] for name in splits])
    # (texts, questions): single-label data ask one question (which label?), multi-label data one per label (has the
    # text this label?).
    columns = given.astype(np.int64).reshape(len(given), -1)
    suggested, margin = columns.copy(), np.zeros(columns.shape)
    probability = np.zeros((*columns.shape, 2))
    among_surest, judged = 0.0, 0
    for i, column in enumerate(columns.T):
        probs = np.zeros((len(column), int(column.max(initial=1)) + 1))
        for number in range(FOLDS):
            _fit(features, column, fold == number, probs)
            on_model(i * FOLDS + number + 1)
        if not has_learned(column, probs):
            continue
        judged += 1
        suggested[:, i] = confident_disagreements(column, probs)
        among_surest = max(among_surest, disagreement_of_surest(column, probs))
        rows = np.arange(len(column))
        probability[:, i] = np.stack([probs[rows, column], probs[rows, suggested[:, i]]], axis=1)
        margin[:, i] = probability[:, i, 1] - probability[:, i, 0]
    if not judged:
        on_note("label errors: quick models learn too little from these texts to judge their labels")
    rows = np.flatnonzero((suggested != columns).any(axis=1))
    if not len(rows):
        return [], []
    rows = rows[np.argsort(-margin[rows].max(axis=1), kind="stable")]
    starts = np.cumsum([0, *map(len, splits.values())])
    examples = []
    for row in rows.tolist():
        name = list(splits)[int(np.searchsorted(starts, row, side="right")) - 1]
        within = row - int(starts[list(splits).index(name)])
        question = int(margin[row].argmax())
        examples.append(
            {
                "rows": [[name, within]],
                "places": [splits[name].place(within)],
                "text": splits[name].texts[within : within + 1][0],
                "labels": [_names(columns[row], corpus)],
                "suggested": _names(suggested[row], corpus),
                "probability": float(probability[row, question, 1]),
                "probability_of_given": float(probability[row, question, 0]),
            }
        )
    tenth = f"the {SUREST:.0%} of the texts that quick models predict most confidently"
    if among_surest < SUSPICIOUS:
        on_note(
            f"label errors: none suspected. Among {tenth}, {among_surest:.1%} have a different label, which is normal "
            f"for clean data. --json lists {len(rows):,} text{'s' * (len(rows) != 1)} that may still be worth reading"
        )
        return [], examples
    numbers = zip(splits, np.histogram(rows, bins=starts)[0].tolist(), strict=True)
    where = ", ".join(f"{number:,} of {name}" for name, number in numbers if number)
    message = (
        f"{len(rows):,} text{'s' * (len(rows) != 1)} ({where}) may have a wrong label: quick models trained without "
        f"these texts confidently predict a different one. Among {tenth}, {among_surest:.1%} have a different label; "
        "about the same share of all labels is probably wrong"
    )
    hint = "read these texts in the order listed (--json lists all of them under label_errors) and correct the data"
    return [Finding("label_errors", message, hint, len(rows), examples[:SHOWN])], examples


def _folds(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign the texts to folds, all texts of a group to the same fold: (texts,)."""
    order = np.random.default_rng(0).permutation(int(groups.max()) + 1)
    return np.asarray(order[groups] % FOLDS, dtype=np.int64)


def _tfidf(parts: list[TokenArrays]) -> Any:
    """Compute TF-IDF with sublinear counts, of tokens and pairs of neighbouring tokens: (texts, features), sparse."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

    ids = np.concatenate([part.ids[:] for part in parts]).astype(np.int64)
    lengths = np.concatenate([part.lengths for part in parts])
    rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    base = int(ids.max(initial=0)) + 1
    inside = rows[1:] == rows[:-1]
    keys = np.concatenate([ids, base + ids[:-1][inside] * base + ids[1:][inside]])
    rows = np.concatenate([rows, rows[:-1][inside]])
    features, columns = np.unique(keys, return_inverse=True)
    del keys
    counts = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(lengths), len(features)))
    del rows, columns
    counts.sum_duplicates()
    texts = np.bincount(counts.indices, minlength=len(features))
    kept = np.flatnonzero(texts >= FEWEST_TEXTS)
    kept = np.sort(kept[np.argsort(-texts[kept], kind="stable")[:MAX_FEATURES]])
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, kept])


def _fit(features: Any, labels: NDArray[np.int64], held_out: NDArray[np.bool_], probs: Floats) -> None:
    """Fit a model on the other texts and write the probabilities of the held-out texts into their rows of `probs`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels[~held_out])
    if len(known) == 1:
        probs[held_out, known[0]] = 1.0
        return
    with warnings.catch_warnings():
        # A model that has nearly converged is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(solver="newton-cg", C=C, max_iter=50).fit(features[~held_out], labels[~held_out])
    probs[np.ix_(held_out, model.classes_)] = model.predict_proba(features[held_out])


def _names(row: NDArray[np.int64], corpus: Corpus) -> str | list[str]:
    """The names of the labels in a row of the columns above."""
    return [corpus.labels[i] for i in np.flatnonzero(row)] if corpus.multi_label else corpus.labels[int(row[0])]
