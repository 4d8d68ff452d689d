"""The linear part of a run, fitted before the network or in its place (`model.linear: first` and `only`)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.data.splits import grouped_folds
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.model.classifier import TextClassifier
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.training.linear import LinearModel, LinearTask
from textattn.training.ngram_features import Features, NgramSpace
from textattn.training.processors import limited_blas

# The validation split selects whether features are multiplied by the log ratios of naive Bayes, which suits sentiments
# more than topics, and the inverse strength of the regularisation. Without a validation split, USUAL is used.
SCALED, STRENGTHS = (True, False), (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
USUAL = (True, 10.0)
# The network learns from logits for each training text by a model that was fitted to the other folds.
FOLDS = 5
Rows = NDArray[np.int64]

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class LinearPart:
    """A fitted linear part."""

    features: Features
    model: LinearModel
    out_of_fold: NDArray[np.float32] | None
    """(rows, num_outputs) for `first`: the logits of the training texts without the bias of `model`, each by a model
    that was fitted to other texts."""
    facts: dict[str, Any]
    """For metrics.json: C, the number of features and the metric on validation."""
    seconds: float

    @property
    def rows(self) -> int:
        """The number of rows of the weights: one for each feature, and one for all other n-grams."""
        return len(self.features.kept) + 1

    def install(self, network: TextClassifier) -> None:
        """Write the weights into a network on a CPU, whose own part of the logits is then 0."""
        part, idf = network.ngrams, self.features.idf
        assert part is not None
        assert part.places is not None
        assert part.squares is not None
        with torch.no_grad():
            part.places[torch.from_numpy(self.features.kept)] = torch.arange(1, self.rows, dtype=torch.int32)
            part.weights.weight[1:] = torch.from_numpy(self.model.weights * np.sqrt(idf)[:, None])
            part.squares[1:, 0] = torch.from_numpy(idf)
            network.classifier.weight.zero_()
            network.classifier.bias.copy_(torch.from_numpy(self.model.bias))
            if network.architecture.linear == "only":
                network.embedding.weight.zero_()


def fit_linear_part(data: TrainingData, report: Report) -> LinearPart:
    """Fit the linear part of a config to its training split, with the strength that is best on the validation split.

    The result depends on the config and the data alone, so that a resumed run has the same one.

    Args:
        data: its `model.linear` is `first` or `only`.
        report: shows progress.
    """
    started = time.perf_counter()
    m, task = data.config.model, data.task
    report.stage(f"Fitting a linear model on n-grams of {len(data.corpus.train):,} texts")
    space = NgramSpace(m.ngrams, m.ngram_buckets, data.tokenizer.unk_id)
    counts = space.counts(data.tokens["train"])
    features = Features.of(space, counts)
    everything = LinearTask(features.matrix(counts), data.corpus.train.labels, task, _weights(data))
    with limited_blas():
        best = _select(data, features, everything, report)
        model = best.model
        facts: dict[str, Any] = {
            "num_features": len(features.kept), "C": best.strength, "naive_bayes": best.fitted.scaled
        }  # fmt: skip
        out_of_fold = None
        if m.linear == "first":
            logits = best.fitted.out_of_fold(best.strength, _folds(data))
            # Regularised logits are too small, and those of one-against-the-rest too large. The network should not have
            # to mend that.
            temperature = task.temperature(logits, data.corpus.train.labels)
            model = model.divided_by(temperature)
            out_of_fold = (logits / temperature - model.bias).astype(np.float32)
    if best.value is not None:
        facts["validation"] = {data.metric: best.value}
    return LinearPart(features, model, out_of_fold, facts, round(time.perf_counter() - started, 1))


@dataclass(frozen=True)
class _Candidate:
    """A linear model and how it was fitted."""

    fitted: LinearTask
    strength: float
    model: LinearModel
    value: float | None
    """The metric on validation."""


def _select(data: TrainingData, features: Features, task: LinearTask, report: Report) -> _Candidate:
    """Fit linear models and select the one that is best on validation."""
    validation, metric = data.corpus.validation, data.metric
    if validation is None:
        fitted = replace(task, scaled=USUAL[0])
        return _Candidate(fitted, USUAL[1], fitted.fit(USUAL[1]), None)
    held_out = features.matrix(features.space.counts(data.tokens["validation"]))
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    choices = SCALED[:1] if data.task.target else SCALED  # numbers have no log ratios
    found: list[_Candidate] = []
    with report.progress("Linear model", len(choices) * len(STRENGTHS), "models") as advance:
        for number, scaled in enumerate(choices):
            fitted, before = replace(task, scaled=scaled), -np.inf
            for done, strength in enumerate(STRENGTHS, 1):
                model = fitted.fit(strength)
                probs = data.task.probabilities(model.logits(held_out))
                value = data.task.selection_value(metric, validation.labels, probs)
                found.append(_Candidate(fitted, strength, model, value))
                advance(number * len(STRENGTHS) + done)
                # The weaker the regularisation, the longer a fit takes, and it only gets worse from here.
                if sign * value < before:
                    break
                before = sign * value
    # Of equal ones the first, which is regularised most; an undefined metric is the worst.
    return max(found, key=lambda one: -np.inf if one.value is None or np.isnan(one.value) else sign * one.value)


def _weights(data: TrainingData) -> NDArray[np.float32] | None:
    """`training.class_weights`; sampling every label equally often is the same as weighting each by its rarity."""
    training, labels = data.config.training, data.corpus.train.labels
    if training.sampling == "balanced":
        return data.task.balanced_weights(labels).astype(np.float32)
    return data.task.class_weights(training.class_weights, labels)


def _folds(data: TrainingData) -> list[Rows]:
    """Disjoint rows with about the same share of every label; rows of a group are in one fold."""
    labelled, rows = data.corpus.labelled().train, len(data.corpus.train)
    generator = np.random.default_rng(data.config.seed)
    # The texts that a teacher labelled come last, and belong to no group.
    others = generator.permutation(np.arange(len(labelled), rows))
    if data.config.data.group is not None and labelled.info is not None and labelled.info.groups is not None:
        groups = labelled.info.groups
        folds = grouped_folds(labelled.labels, groups, FOLDS, data.config.seed, data.config.data)
        return [
            np.concatenate([fold, part]) for fold, part in zip(folds, np.array_split(others, len(folds)), strict=True)
        ]
    strata = [generator.permutation(stratum) for stratum in data.task.strata(labelled.labels)]
    order = np.concatenate([*strata, others])
    return [np.sort(order[first::FOLDS]) for first in range(min(FOLDS, len(order)))]
