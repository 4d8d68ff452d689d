"""The linear part of a run, fitted before the network or in its place (`model.linear: first` and `only`)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.model.classifier import TOGETHER, TextClassifier
from textattn.report import Report
from textattn.runs.linear_search import Choice, Rows, folds_of, linear_task, search
from textattn.runs.training_data import TrainingData
from textattn.training.linear import LinearModel, LinearTask
from textattn.training.ngram_features import Features, NgramSpace
from textattn.training.processors import limited_blas


@dataclass(frozen=True)
class LinearPart:
    """A fitted linear part."""

    features: Features
    model: LinearModel
    out_of_fold: NDArray[np.float32] | None
    """(rows, num_outputs) for `first`: the logits of the training texts without the bias of `model`, each by a model
    that was fitted to other texts."""
    choice: Choice
    """What it was fitted with."""
    facts: dict[str, Any]
    """For metrics.json: the choice, the number of features and the metric on validation."""
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
        part, features = network.ngrams, self.features
        assert part is not None
        assert part.places is not None
        assert part.squares is not None
        device = part.places.device
        with torch.no_grad():
            rows = torch.arange(1, self.rows, dtype=torch.int32, device=device)
            part.places[torch.from_numpy(features.kept).to(device)] = rows
            part.weights.weight[1:] = torch.from_numpy(self.model.weights * features.factors[:, None])
            part.squares[1:, 0] = torch.from_numpy(features.factors**2)
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
    with limited_blas():
        best = search(data, space, counts, report)
        choice, features = best.choice, replace(Features.of(space, counts), power=best.choice.power)
        fitted = linear_task(data, features.matrix(counts), data.corpus.train.labels, choice)
        model = best.model or fitted.fit(choice.strength)
        model, out_of_fold = _for_network(data, fitted, choice.strength, np.arange(len(data.corpus.train)), model)
    facts: dict[str, Any] = {
        "num_features": len(features.kept), "C": choice.strength, "naive_bayes": choice.scaled,
        "idf_power": choice.power,
    }  # fmt: skip
    if best.value is not None and data.corpus.validation is not None:
        facts["validation"] = {data.metric: best.value}
    return LinearPart(features, model, out_of_fold, choice, facts, round(time.perf_counter() - started, 1))


def fit_again(part: LinearPart, data: TrainingData, rows: Rows) -> LinearPart:
    """Fit a linear part to some of its training texts, with the same features and the same strength.

    Args:
        part: the result of `fit_linear_part`.
        data: what it was fitted to.
        rows: which rows of the training split; `out_of_fold` has these rows.
    """
    features, labels = part.features, data.corpus.train.labels[rows]
    matrix = features.matrix(features.space.counts(data.tokens["train"].take(rows)))
    fitted, strength = linear_task(data, matrix, labels, part.choice), part.choice.strength
    with limited_blas():
        model, out_of_fold = _for_network(data, fitted, strength, rows, fitted.fit(strength))
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
    logits = fitted.out_of_fold(strength, folds_of(data, rows))
    # Regularised logits are too small, and those of one-against-the-rest too large. The network should not have to mend
    # that.
    temperature = data.task.temperature(logits, fitted.labels)
    model = model.divided_by(temperature)
    return model, (logits / temperature - model.bias).astype(np.float32)
