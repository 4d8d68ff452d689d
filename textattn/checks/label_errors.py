"""Labels that may be wrong: where a quick model that has not seen a text confidently says another one.

This is confident learning (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels"). A text counts for the label whose probability reaches the mean that it has among the texts given that label.
The model is a logistic regression on the TF-IDF of the run's own tokens and their pairs, so it goes with any tokenizer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.checks.lint import Finding, duplicate_groups
from textattn.data.read import Corpus
from textattn.tokens.token_arrays import TokenArrays

Floats = NDArray[np.float64]
FOLDS = 5
# Texts that differ from each other.
FEWEST_GROUPS = 50
# Inverse strength of the regularisation: what TF-IDF with pairs wants.
C = 10.0
# A token or pair that stands in fewer texts says nothing of others.
FEWEST_TEXTS = 2
MAX_FEATURES = 500_000
# Examples in the finding itself.
SHOWN = 10
# Of the texts the models are surest of, and how many of those must have another label before labels are suspected: in
# the surest tenth of clean data it is under 2 % (IMDB 0.2 %, TREC 0.3 %, SST-2 1.2 %), whatever is wrong elsewhere.
SUREST, SUSPICIOUS = 0.1, 0.02
# Of the way from chance to all right, in balanced accuracy; models that go less far cannot judge labels.
LEAST_LEARNED = 0.2


def num_models(corpus: Corpus) -> int:
    """How many are fitted: a fold's for each label that a text may have or not, or for all of which it has one."""
    return FOLDS * (len(corpus.labels) if corpus.multi_label else 1)


def find_label_errors(
    corpus: Corpus, tokens: dict[str, TokenArrays], on_model: Callable[[int], None], on_note: Callable[[str], None]
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """At most one finding, about the texts of all splits; and all texts in question, the surest first.

    There is no finding where the models are hardly ever wrong about the texts they are surest of: then what is in
    question is as likely their fault. Each split is judged by models of texts of all splits, never of the text itself
    or of one that is nearly the same.

    Args:
        on_model: called with the number of models fitted.
        on_note: called with the reason where labels cannot be judged.
    """
    splits = corpus.splits()
    given = np.concatenate([split.labels for split in splits.values()])
    groups = duplicate_groups(splits, tokens)
    if groups.max() + 1 < FEWEST_GROUPS:
        on_note(f"label errors: {len(given):,} texts are too few to look for them")
        return [], []
    fold = _folds(groups)
    features = _tfidf([tokens[name] for name in splits])
    # (texts, questions): which label, or for several a text whether it has the first, the second, …
    columns = given.astype(np.int64).reshape(len(given), -1)
    suggested, margin = columns.copy(), np.zeros(columns.shape)
    probability = np.zeros((*columns.shape, 2))
    among_surest, judged = 0.0, 0
    for i, column in enumerate(columns.T):
        probs = np.zeros((len(column), int(column.max(initial=1)) + 1))
        for number in range(FOLDS):
            _fit(features, column, fold == number, probs)
            on_model(i * FOLDS + number + 1)
        if not _has_learned(column, probs):
            continue
        judged += 1
        suggested[:, i] = confident_disagreements(column, probs)
        among_surest = max(among_surest, disagreement_of_surest(column, probs))
        rows = np.arange(len(column))
        probability[:, i] = np.stack([probs[rows, column], probs[rows, suggested[:, i]]], axis=1)
        margin[:, i] = probability[:, i, 1] - probability[:, i, 0]
    if not judged:
        on_note("label errors: a quick model learns too little from these texts to judge their labels")
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
                "text": splits[name].texts[within : within + 1][0],
                "labels": [_names(columns[row], corpus)],
                "suggested": _names(suggested[row], corpus),
                "probability": float(probability[row, question, 1]),
                "probability_of_given": float(probability[row, question, 0]),
            }
        )
    surest = f"of the tenth of the texts that quick models are surest of, {among_surest:.1%} have another label"
    if among_surest < SUSPICIOUS:
        on_note(f"label errors: {surest}, as in clean data; --json lists {len(rows):,} texts to look at all the same")
        return [], examples
    numbers = zip(splits, np.histogram(rows, bins=starts)[0].tolist(), strict=True)
    where = ", ".join(f"{number:,} of {name}" for name, number in numbers if number)
    message = (
        f"{len(rows):,} text{'s' * (len(rows) != 1)} ({where}) may have a wrong label: quick models that have not seen "
        f"them confidently say another. O{surest[1:]}, about the share of wrong ones anywhere"
    )
    hint = "read them, the surest first (--json lists all under label_errors), and mend the data"
    return [Finding("label_errors", message, hint, len(rows), examples[:SHOWN])], examples


def disagreement_of_surest(labels: NDArray[np.int64], probs: Floats) -> float:
    """The share of texts with another label than the models say, among those they are surest of.

    Args:
        labels: (texts,) given.
        probs: (texts, labels) of models that have not seen them.
    """
    order = np.argsort(-probs.max(axis=1), kind="stable")
    order = order[: max(1, round(SUREST * len(order)))]
    return float((probs[order].argmax(axis=1) != labels[order]).mean())


def confident_disagreements(labels: NDArray[np.int64], probs: Floats) -> NDArray[np.int64]:
    """The off-diagonal of the confident joint.

    Args:
        labels: (texts,) given.
        probs: (texts, labels) of models that have not seen them.

    Returns:
        (texts,) the label each should probably have.
    """
    number, num_labels = probs.shape
    everyone = np.arange(number)
    sizes = np.bincount(labels, minlength=num_labels)
    own = np.bincount(labels, probs[everyone, labels], minlength=num_labels)
    # A label that no text was given has no mean to reach.
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    reached = probs >= thresholds
    counted = np.where(reached, probs, -1.0).argmax(axis=1)
    confident = reached.any(axis=1)
    return np.where(confident, counted, labels)


def _folds(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """(texts,) with the texts of a group in the same fold."""
    order = np.random.default_rng(0).permutation(int(groups.max()) + 1)
    return np.asarray(order[groups] % FOLDS, dtype=np.int64)


def _tfidf(parts: list[TokenArrays]) -> Any:
    """(texts, features) sparse: tokens and pairs of neighbours, sublinear counts."""
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
    """Puts the probabilities of the texts held out into their rows: of a model fitted on the others."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels[~held_out])
    if len(known) == 1:
        probs[held_out, known[0]] = 1.0
        return
    with warnings.catch_warnings():
        # Nearly there is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(solver="newton-cg", C=C, max_iter=50).fit(features[~held_out], labels[~held_out])
    probs[np.ix_(held_out, model.classes_)] = model.predict_proba(features[held_out])


def _has_learned(labels: NDArray[np.int64], probs: Floats) -> bool:
    """Whether the models are much better than chance, all labels weighing the same."""
    present = np.flatnonzero(np.bincount(labels, minlength=probs.shape[1]))
    if len(present) < 2:
        return False
    answers = probs.argmax(axis=1)
    recall = np.mean([(answers[labels == label] == label).mean() for label in present])
    chance = 1 / len(present)
    return bool(recall - chance >= LEAST_LEARNED * (1 - chance))


def _names(row: NDArray[np.int64], corpus: Corpus) -> str | list[str]:
    """Of one of the columns above."""
    return [corpus.labels[i] for i in np.flatnonzero(row)] if corpus.multi_label else corpus.labels[int(row[0])]
