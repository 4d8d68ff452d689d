"""Selective prediction: from which score on may a model answer alone, and how many texts does it then answer?

A selective classifier answers a text only if its score reaches a threshold, and leaves the others to people. Raising
the threshold lowers the coverage, which is the share of texts that are answered, and usually lowers the risk, which is
the share of wrong answers among them (El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective
Classification"; Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks"). A threshold is chosen on
one split and measured on another one, because on the rows on which it was chosen it looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.measure.intervals import wilson
from textattn.measure.metrics import Labels, Probabilities

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# The shares of right answers for which a threshold is sought.
TARGETS = (0.90, 0.95, 0.99)
# A threshold with fewer answers than this on the split where it is chosen is chance.
LEAST_ANSWERS = 20
# Points of a curve that are kept, at equal steps of coverage.
POINTS = 50
MOST_DIGITS = 17


@dataclass(frozen=True)
class Answers:
    """The answers of a model to a split, each with its score and whether it is right.

    For a model of one label per text these are all texts. A multi-label model gives any number of labels, and each
    given label counts as an answer.
    """

    scores: Floats
    """(answers,)"""
    right: Flags
    """(answers,)"""

    @classmethod
    def of(cls, truth: Labels, decided: Labels, probs: Probabilities) -> Answers:
        """The answers from labels and probabilities.

        Args:
            truth: (rows,) class ids, or (rows, labels) 0/1 for multi-label.
            decided: the predicted labels, in the same form.
            probs: (rows, labels)
        """
        if truth.ndim == 1:
            return cls(probs.max(axis=1).astype(np.float64), np.asarray(truth == decided))
        given = decided == 1
        return cls(probs[given].astype(np.float64), truth[given] == 1)

    def __len__(self) -> int:
        return len(self.scores)


def selective(chosen_on: tuple[str, Answers] | None, measured_on: tuple[str, Answers] | None) -> dict[str, Any] | None:
    """Choose the thresholds of `TARGETS` on one split, and measure them on another.

    Args:
        chosen_on: the name of the validation split and its answers; None: no threshold is chosen.
        measured_on: the name of the test split and its answers; None if there is none.

    Returns:
        Plain JSON values: `chosen_on` and `measured_on`, names of splits or null; `thresholds`, one entry per target
        with `target`, `threshold` (null if none reaches the target on enough answers) and what `at_threshold` says of
        both splits; `curve`, pairs of coverage and accuracy on the last of the two splits; and `aurc`, the area under
        the risk-coverage curve there. None without any answers.
    """
    named = [(name, answers) for name, answers in filter(None, (chosen_on, measured_on)) if len(answers)]
    if not named:
        return None
    curve = coverage_curve(named[-1][1])
    found: dict[str, Any] = {
        "chosen_on": chosen_on[0] if chosen_on else None,
        "measured_on": measured_on[0] if measured_on else None,
        "curve": curve,
        "aurc": aurc(named[-1][1]),
        "thresholds": [],
    }
    for target in TARGETS if chosen_on else ():
        assert chosen_on is not None
        threshold = choose_threshold(chosen_on[1], target)
        entry: dict[str, Any] = {"target": target, "threshold": threshold}
        for name, answers in named:
            entry[name] = None if threshold is None else at_threshold(answers, threshold)
        found["thresholds"].append(entry)
    return found


def choose_threshold(answers: Answers, target: float, least: int = LEAST_ANSWERS) -> float | None:
    """The threshold with the largest coverage at which at least the share `target` of the answers is right.

    It lies between two neighbouring scores and has as few digits as keep them apart; 0 if all answers together are
    right often enough; None if no threshold with at least `least` answers reaches the target.
    """
    order = np.argsort(-answers.scores, kind="stable")
    scores, right = answers.scores[order], np.cumsum(answers.right[order])
    counts = np.arange(1, len(scores) + 1)
    reached = (right >= target * counts - 1e-9) & (counts >= least)
    # A threshold cannot separate equal scores.
    reached[:-1] &= scores[:-1] > scores[1:]
    found = np.flatnonzero(reached)
    if not len(found):
        return None
    last = int(found[-1])
    return 0.0 if last + 1 == len(scores) else _between(float(scores[last + 1]), float(scores[last]))


def _between(below: float, above: float) -> float:
    """A number with few digits that is greater than the first and at most the second."""
    middle = (below + above) / 2
    short = (round(middle, digits) for digits in range(2, MOST_DIGITS))
    return next((number for number in short if below < number <= above), above)


def at_threshold(answers: Answers, threshold: float) -> dict[str, Any]:
    """How many answers have at least that score, and how many of them are right, with Wilson's 95 % interval."""
    given = answers.scores >= threshold
    count, right = int(given.sum()), int((answers.right & given).sum())
    low, high = wilson(right / count, count) if count else (None, None)
    return {
        "total": len(answers),
        "answered": count,
        "right": right,
        "coverage": count / len(answers) if len(answers) else None,
        "accuracy": right / count if count else None,
        "interval_95": [low, high] if count else None,
    }


def coverage_curve(answers: Answers) -> list[list[float]]:
    """Pairs of coverage and accuracy, from few answers to all; at most `POINTS`, where the score changes."""
    order = np.argsort(-answers.scores, kind="stable")
    scores, right = answers.scores[order], np.cumsum(answers.right[order])
    number = len(scores)
    ends = np.flatnonzero(np.append(scores[:-1] > scores[1:], True))
    wanted = np.linspace(0, number - 1, POINTS + 1)[1:]
    chosen = np.unique(ends[np.searchsorted(ends, wanted).clip(0, len(ends) - 1)])
    return [[float((end + 1) / number), float(right[end] / (end + 1))] for end in chosen.tolist()]


def aurc(answers: Answers) -> float:
    """The area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019). 0 is best.

    Answers with equal scores are answered together, so that their order does not count.
    """
    order = np.argsort(-answers.scores, kind="stable")
    scores, wrong = answers.scores[order], np.cumsum(~answers.right[order])
    ends = np.flatnonzero(np.append(scores[:-1] > scores[1:], True))
    risks = wrong[ends] / (ends + 1)
    return float((risks * np.diff(ends, prepend=-1)).sum() / len(scores))


def standing(target: float, measured: dict[str, Any] | None) -> str:
    """What a measurement says of a target.

    Returns:
        `kept` (the whole interval is at or above it), `missed` (the whole interval is below it), `open` (neither), or
        `unknown` (nothing was answered).
    """
    interval: Sequence[float] | None = None if measured is None else measured["interval_95"]
    if interval is None:
        return "unknown"
    low, high = interval
    return "kept" if low >= target else "missed" if high < target else "open"
