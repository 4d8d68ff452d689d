"""The linear part of a run, fitted before the network or in its place (`model.linear: first` and `only`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.data.splits import grouped_folds
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.model.classifier import TOGETHER, TextClassifier
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.training.linear import LinearModel, LinearTask
from textattn.training.ngram_features import Features, NgramSpace
from textattn.training.processors import limited_blas

# The validation split, or with cross-validation the folds, selects whether features are multiplied by the log ratios of
# naive Bayes, which suits sentiments more than topics, and the inverse strength of the regularisation. Without either,
# USUAL is used.
SCALED, STRENGTHS = (True, False), (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
USUAL = (True, 10.0)
# The network learns from logits for each training text by a model that was fitted to the other folds.
FOLDS = 5
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class LinearPart:
    """A fitted linear part."""

    features: Features
    model: LinearModel
    out_of_fold: NDArray[np.float32] | None
    """(rows, num_outputs) for `first`: the logits of the training texts without the bias of `model`, each by a model
    that was fitted to other texts."""
    scaled: bool
    """Whether features were multiplied by the log ratios of naive Bayes."""
    strength: float
    """C, the inverse strength of the regularisation."""
    facts: dict[str, Any]
    """For metrics.json: C, the number of features and the metric on validation."""
    seconds: float

    @property
    def rows(self) -> int:
        """The number of rows of the weights: one for each feature, and one for all other n-grams."""
        return len(self.features.kept) + 1

    def install(self, network: TextClassifier, *, begins: bool = True) -> None:
        """Write the weights into a network.

        Args:
            network: has as many rows of weights.
            begins: the network is not trained yet; its own part of the logits is then 0.
        """
        part, idf = network.ngrams, self.features.idf
        assert part is not None
        assert part.places is not None
        assert part.squares is not None
        device = part.places.device
        with torch.no_grad():
            rows = torch.arange(1, self.rows, dtype=torch.int32, device=device)
            part.places[torch.from_numpy(self.features.kept).to(device)] = rows
            part.weights.weight[1:] = torch.from_numpy(self.model.weights * np.sqrt(idf)[:, None])
            part.squares[1:, 0] = torch.from_numpy(idf)
            network.classifier.bias.copy_(torch.from_numpy(self.model.bias))
            if begins:
                network.classifier.weight.zero_()
            if network.architecture.linear == "only":
                network.embedding.weight.zero_()


def is_fitted(data: TrainingData) -> bool:
    """Whether a run fits its linear part.

    Else it trains it with the network, or it keeps that of the model that it goes on from, whose rows it does not see.
    """
    if data.config.model.linear == TOGETHER:
        return False
    return data.start is None or (data.corpus.joined is not None and data.config.start.replay > 0)


def fit_linear_part(data: TrainingData, report: Report) -> LinearPart:
    """Fit the linear part of a config to its training split, with the strength that is best on the validation split.

    The result depends on the config and the data alone, so that a resumed run has the same one.

    Args:
        data: its `model.linear` is `first` or `only`.
        report: shows progress.
    """
    started = time.perf_counter()
    m = data.config.model
    report.stage(f"Fitting a linear model on n-grams of {len(data.corpus.train):,} texts")
    space = NgramSpace(m.ngrams, m.ngram_buckets, data.tokenizer.unk_id)
    counts = space.counts(data.tokens["train"])
    features = Features.of(space, counts)
    everything = LinearTask(features.matrix(counts), data.corpus.train.labels, data.task, _weights(data))
    with limited_blas():
        best = _select(data, features, everything, report)
        rows = np.arange(len(data.corpus.train))
        model = best.model or best.fitted.fit(best.strength)
        model, out_of_fold = _for_network(data, best.fitted, best.strength, rows, model)
    facts: dict[str, Any] = {
        "num_features": len(features.kept), "C": best.strength, "naive_bayes": best.fitted.scaled
    }  # fmt: skip
    if best.value is not None and data.corpus.validation is not None:
        facts["validation"] = {data.metric: best.value}
    seconds = round(time.perf_counter() - started, 1)
    return LinearPart(features, model, out_of_fold, best.fitted.scaled, best.strength, facts, seconds)


def fit_again(part: LinearPart, data: TrainingData, rows: Rows) -> LinearPart:
    """Fit a linear part to some of its training texts, with the same features and the same strength.

    Args:
        part: the result of `fit_linear_part`.
        data: what it was fitted to.
        rows: which rows of the training split; `out_of_fold` has these rows.
    """
    features, labels = part.features, data.corpus.train.labels[rows]
    matrix = features.matrix(features.space.counts(data.tokens["train"].take(rows)))
    fitted = LinearTask(matrix, labels, data.task, _weights(data), part.scaled)
    with limited_blas():
        model, out_of_fold = _for_network(data, fitted, part.strength, rows, fitted.fit(part.strength))
    return replace(part, model=model, out_of_fold=out_of_fold)


def _for_network(
    data: TrainingData, fitted: LinearTask, strength: float, rows: Rows, model: LinearModel
) -> tuple[LinearModel, NDArray[np.float32] | None]:
    """The model as the network needs it, and the logits that the network learns from.

    Args:
        data: the data.
        fitted: of the rows.
        strength: C.
        rows: rows of the training split.
        model: fitted to the rows.

    Returns:
        The model, whose logits have the size that is best for the rows if a network follows; and then the logits of the
        rows without the bias, each by a model that was fitted to other rows.
    """
    if data.config.model.linear != "first":
        return model, None
    logits = fitted.out_of_fold(strength, _folds(data, rows))
    # Regularised logits are too small, and those of one-against-the-rest too large. The network should not have to mend
    # that.
    temperature = data.task.temperature(logits, fitted.labels)
    model = model.divided_by(temperature)
    return model, (logits / temperature - model.bias).astype(np.float32)


@dataclass(frozen=True)
class _Candidate:
    """A linear model and how it was fitted."""

    fitted: LinearTask
    strength: float
    model: LinearModel | None
    """Fitted to all training texts; None if folds were measured, each with a model of its own."""
    value: float | None
    """The metric on validation or on folds."""
    rank: float = -np.inf
    """The larger, the better; an undefined metric is the worst."""


def _select(data: TrainingData, features: Features, task: LinearTask, report: Report) -> _Candidate:
    """Fit linear models and select the one that is best on validation or, with cross-validation, on folds.

    The usual strength decides whether features are multiplied; then the strength goes up, or down, until it is worse.
    All pairs would take twice as long.
    """
    if data.corpus.validation is None and data.config.training.cross_validation is None:
        fitted = replace(task, scaled=USUAL[0])
        return _Candidate(fitted, USUAL[1], fitted.fit(USUAL[1]), None)
    value_of = _measure_on_folds(data) if data.corpus.validation is None else _measure_on_validation(data, features)
    sign = 1 if GREATER_IS_BETTER[data.metric] else -1
    choices = SCALED[:1] if data.task.target else SCALED  # numbers have no log ratios
    with report.progress("Linear model", len(choices) + len(STRENGTHS) - 1, "models") as advance:
        done = 0

        def candidate(scaled: bool, strength: float) -> _Candidate:
            nonlocal done
            fitted = replace(task, scaled=scaled)
            model, value = value_of(fitted, strength)
            done += 1
            advance(done)
            return _Candidate(fitted, strength, model, value, -np.inf if np.isnan(value) else sign * value)

        best = usual = before = max((candidate(scaled, USUAL[1]) for scaled in choices), key=lambda each: each.rank)
        for strength in (each for each in STRENGTHS if each > USUAL[1]):
            found = candidate(usual.fitted.scaled, strength)
            best = max(best, found, key=lambda each: each.rank)
            if found.rank < before.rank:
                break
            before = found
        if best is usual:
            for strength in (each for each in reversed(STRENGTHS) if each < USUAL[1]):
                found = candidate(usual.fitted.scaled, strength)
                if found.rank < best.rank:
                    break
                best = found  # of equal ones that which is regularised most
    return best


Measured = tuple[LinearModel | None, float]


def _measure_on_validation(data: TrainingData, features: Features) -> Callable[[LinearTask, float], Measured]:
    validation = data.corpus.validation
    assert validation is not None
    held_out = features.matrix(features.space.counts(data.tokens["validation"]))

    def measure(fitted: LinearTask, strength: float) -> Measured:
        model = fitted.fit(strength)
        probs = data.task.probabilities(model.logits(held_out))
        return model, data.task.selection_value(data.metric, validation.labels, probs)

    return measure


def _measure_on_folds(data: TrainingData) -> Callable[[LinearTask, float], Measured]:
    labelled = len(data.corpus.labelled().train)
    folds = _folds(data, np.arange(len(data.corpus.train)))

    def measure(fitted: LinearTask, strength: float) -> Measured:
        probs = data.task.probabilities(fitted.out_of_fold(strength, folds)[:labelled])
        return None, data.task.selection_value(data.metric, data.corpus.train.labels[:labelled], probs)

    return measure


def _weights(data: TrainingData) -> NDArray[np.float32] | None:
    """`training.class_weights`; sampling every label equally often is the same as weighting each by its rarity."""
    training, labels = data.config.training, data.corpus.train.labels
    if training.sampling == "balanced":
        return data.task.balanced_weights(labels).astype(np.float32)
    return data.task.class_weights(training.class_weights, labels)


def _folds(data: TrainingData, rows: Rows) -> list[Rows]:
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
