"""Which linear model suits the data: the features, and the strength of the regularisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.data.splits import grouped_folds
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.training.linear import LinearModel, LinearTask
from textattn.training.ngram_features import Features, NgramSpace

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Whether features are multiplied by the log ratios of naive Bayes, which suits sentiments more than topics; the powers
# of idf, of which higher ones suit long texts with many words that tell nothing; and C, the inverse strengths of the
# regularisation.
SCALED, POWERS, STRENGTHS = (True, False), (0.5, 1.0, 1.5), (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# Compared first, and used where nothing can select.
USUAL_POWER, USUAL_STRENGTH = 0.5, 10.0
# The network learns from logits for each training text by a model that was fitted to the other folds.
FOLDS = 5
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """What a linear model is fitted with."""

    power: float = USUAL_POWER
    """Of idf."""
    scaled: bool = True
    """Whether features are multiplied by the log ratios of naive Bayes."""
    strength: float = USUAL_STRENGTH
    """C."""


@dataclass(frozen=True)
class Candidate:
    """A choice and how good it is."""

    choice: Choice
    model: LinearModel | None = None
    """Fitted to all training texts; None if nothing was fitted, or folds with a model of their own each."""
    value: float | None = None
    """The metric on validation or on folds; None if nothing was measured."""
    rank: float = -np.inf
    """The larger, the better; an undefined metric is the worst."""


def search(data: TrainingData, space: NgramSpace, counts: csr_matrix, report: Report) -> Candidate:
    """Fit linear models and select the one that is best on validation or, with cross-validation, on folds.

    One thing is selected after the other, because all combinations would take many times as long: whether features are
    multiplied, then the power of idf, then the strength, which goes up, or down, until the model is worse.

    Args:
        data: the splits and the task.
        space: of the counts.
        counts: (rows, buckets) of the training texts.
        report: shows progress.
    """
    if data.corpus.validation is None and data.config.training.cross_validation is None:
        return Candidate(Choice())
    choices = SCALED[:1] if data.task.target else SCALED  # numbers have no log ratios
    with report.progress("Linear model", len(choices) + len(POWERS) + len(STRENGTHS) - 2, "models") as advance:
        measure = _Measure(data, space, counts, advance)
        best = max((measure(Choice(scaled=scaled)) for scaled in choices), key=lambda each: each.rank)
        for power in POWERS[1:]:
            found = measure(replace(best.choice, power=power))
            if found.rank <= best.rank:
                break
            best = found
        return _climb(best, measure)


def _climb(usual: Candidate, measure: _Measure) -> Candidate:
    """Select the strength.

    Args:
        usual: with the usual strength.
        measure: fits and measures.
    """
    best = before = usual
    for strength in (each for each in STRENGTHS if each > USUAL_STRENGTH):
        found = measure(replace(usual.choice, strength=strength))
        if found.rank > best.rank:
            best = found
        if found.rank < before.rank:
            break
        before = found
    if best is usual:
        for strength in (each for each in reversed(STRENGTHS) if each < USUAL_STRENGTH):
            found = measure(replace(usual.choice, strength=strength))
            if found.rank < best.rank:
                break
            best = found  # of equal ones that which is regularised most
    return best


class _Measure:
    """Fits the model of a choice and measures it."""

    def __init__(
        self, data: TrainingData, space: NgramSpace, counts: csr_matrix, advance: Callable[[int], None]
    ) -> None:
        """Args as for `search`; `advance` is told how many models there are."""
        self.data, self.counts, self.advance = data, counts, advance
        self.features = Features.of(space, counts)
        has_validation = data.corpus.validation is not None
        self.held_out = space.counts(data.tokens["validation"]) if has_validation else None
        self.folds = [] if has_validation else folds_of(data, np.arange(len(data.corpus.train)))
        self.done = 0
        self._use(USUAL_POWER)

    def _use(self, power: float) -> None:
        """Computes the features of a power of idf; those of the last one are kept."""
        self.features = replace(self.features, power=power)
        self._matrix = self.features.matrix(self.counts)
        self._held_out = None if self.held_out is None else self.features.matrix(self.held_out)

    def __call__(self, choice: Choice) -> Candidate:
        """The candidate of a choice."""
        data = self.data
        if choice.power != self.features.power:
            self._use(choice.power)
        fitted = linear_task(data, self._matrix, data.corpus.train.labels, choice)
        model = None
        if self._held_out is None:
            labels = data.corpus.labelled().train.labels
            logits = fitted.out_of_fold(choice.strength, self.folds)[: len(labels)]
        else:
            assert data.corpus.validation is not None
            labels, model = data.corpus.validation.labels, fitted.fit(choice.strength)
            logits = model.logits(self._held_out)
        value = data.task.selection_value(data.metric, labels, data.task.probabilities(logits))
        self.done += 1
        self.advance(self.done)
        sign = 1 if GREATER_IS_BETTER[data.metric] else -1
        return Candidate(choice, model, value, -np.inf if np.isnan(value) else sign * value)


def linear_task(data: TrainingData, matrix: csr_matrix, labels: NDArray[np.generic], choice: Choice) -> LinearTask:
    """What a model of a choice is fitted to.

    Args:
        data: the task, and how labels are weighted.
        matrix: (rows, features)
        labels: of the rows.
        choice: whether features are multiplied.
    """
    return LinearTask(matrix, labels, data.task, _weights(data), choice.scaled)


def _weights(data: TrainingData) -> NDArray[np.float32] | None:
    """`training.class_weights`; sampling every label equally often is the same as weighting each by its rarity."""
    training, labels = data.config.training, data.corpus.train.labels
    if training.sampling == "balanced":
        return data.task.balanced_weights(labels).astype(np.float32)
    return data.task.class_weights(training.class_weights, labels)


def folds_of(data: TrainingData, rows: Rows) -> list[Rows]:
    """Disjoint positions in `rows` with about the same share of every label; rows of a group are in one fold."""
    labelled = data.corpus.labelled().train
    generator = np.random.default_rng(data.config.seed)
    own = np.flatnonzero(rows < len(labelled))
    # The texts that a teacher labelled come last, and belong to no group.
    others = generator.permutation(np.flatnonzero(rows >= len(labelled)))
    labels = labelled.labels[rows[own]]
    if data.config.data.group is not None and labelled.info is not None and labelled.info.groups is not None:
        folds = grouped_folds(labels, labelled.info.groups[rows[own]], FOLDS, data.config.seed, data.config.data)
        parts = np.array_split(others, len(folds))
        return [np.concatenate([own[fold], part]) for fold, part in zip(folds, parts, strict=True)]
    strata = [generator.permutation(own[stratum]) for stratum in data.task.strata(labels)]
    order = np.concatenate([*strata, others])
    return [np.sort(order[first::FOLDS]) for first in range(min(FOLDS, len(order)))]
