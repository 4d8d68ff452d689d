"""Confident learning: labels that contradict the confident predictions of models that have not seen the texts.

See Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels". The threshold of a
label is its mean predicted probability among the texts that were given it. A text is counted as an example of a label
if the predicted probability of that label reaches the threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Labels are suspected if at least the share SUSPICIOUS of the most confidently predicted texts (the share SUREST of all
# texts) was given a different label. In clean data that share is below 2 % (IMDB 0.2 %, TREC 0.3 %, SST-2 1.2 %),
# whatever the models get wrong in other texts.
SUREST, SUSPICIOUS = 0.1, 0.02
# Models can judge labels if their balanced accuracy covers at least this share of the way from chance to 1.
LEAST_LEARNED = 0.2


def disagreement_of_surest(labels: NDArray[np.int64], probs: Floats) -> float:
    """The share of texts with a different label than predicted, among the most confidently predicted texts.

    Args:
        labels: (texts,) the given labels.
        probs: (texts, labels) probabilities predicted by models that have not seen the texts.
    """
    order = np.argsort(-probs.max(axis=1), kind="stable")
    order = order[: max(1, round(SUREST * len(order)))]
    return float((probs[order].argmax(axis=1) != labels[order]).mean())


def confident_disagreements(labels: NDArray[np.int64], probs: Floats) -> NDArray[np.int64]:
    """Find the off-diagonal texts of the confident joint.

    Args:
        labels: (texts,) the given labels.
        probs: (texts, labels) probabilities predicted by models that have not seen the texts.

    Returns:
        (texts,) the label that each text should probably have; the given label if nothing speaks against it.
    """
    number, num_labels = probs.shape
    everyone = np.arange(number)
    sizes = np.bincount(labels, minlength=num_labels)
    totals = np.bincount(labels, probs[everyone, labels], minlength=num_labels)
    # A label that was given to no text has no mean, so its threshold is never reached.
    thresholds = np.where(sizes > 0, totals / np.maximum(sizes, 1), np.inf)
    reached = probs >= thresholds
    counted = np.where(reached, probs, -1.0).argmax(axis=1)
    confident = reached.any(axis=1)
    return np.where(confident, counted, labels)


def has_learned(labels: NDArray[np.int64], probs: Floats) -> bool:
    """Whether the models are much better than chance in balanced accuracy."""
    present = np.flatnonzero(np.bincount(labels, minlength=probs.shape[1]))
    if len(present) < 2:
        return False
    answers = probs.argmax(axis=1)
    recall = np.mean([(answers[labels == label] == label).mean() for label in present])
    chance = 1 / len(present)
    return bool(recall - chance >= LEAST_LEARNED * (1 - chance))
