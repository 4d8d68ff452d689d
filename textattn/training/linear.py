"""Fits the linear part to convergence: one logistic regression for each logit, or a ridge regression for numbers."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.tasks import Task
from textattn.tasks.base import Labels, Question
from textattn.training.processors import available_processors, limited_blas

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
# The bias of a question whose answer is the same for all training texts: a probability of 0.007.
ALWAYS = 5.0
# Of a fit; liblinear's own for this problem. Scikit-learn's, a hundredth of it, takes half as long again and is no
# better (docs/results.md).
TOLERANCE = 0.01


@dataclass(frozen=True)
class LinearModel:
    """Logits that are linear in the features."""

    weights: Floats
    """(features, num_outputs)"""
    bias: Floats
    """(num_outputs,)"""

    def logits(self, features: csr_matrix) -> Floats:
        """(rows, features) -> (rows, num_outputs)."""
        return np.asarray(features @ self.weights + self.bias)

    def divided_by(self, temperature: float) -> LinearModel:
        """The model whose logits are these divided by a number."""
        return LinearModel(self.weights / temperature, self.bias / temperature)


@dataclass(frozen=True)
class LinearTask:
    """What linear models are fitted to: features with the labels of their rows."""

    features: csr_matrix
    """(rows, features)"""
    labels: Labels
    task: Task
    weights: NDArray[np.float32] | None = None
    """(num_labels,) the weight of each label, as `training.class_weights` gives it."""
    scaled: bool = True
    """Whether features are multiplied by their `unevenness` first."""

    def fit(self, strength: float, rows: Rows | None = None) -> LinearModel:
        """Fit a model to all rows or to some.

        Args:
            strength: C, the inverse strength of the regularisation.
            rows: which rows to learn from.
        """
        return self.fit_several([(strength, rows)])[0]

    def fit_several(self, wanted: list[tuple[float, Rows | None]]) -> list[LinearModel]:
        """Fit a model for each pair of a strength and rows, side by side in threads. The results do not depend on their
        number."""
        from sklearn.exceptions import ConvergenceWarning

        if self.task.output == "number":
            return [self._ridge(strength, rows) for strength, rows in wanted]
        questions = self.task.questions(self.labels, self.weights)
        # With two labels and two logits the second question is the first one, negated.
        mirrored = self.task.output == "softmax" and len(questions) == 2
        asked = questions[1:] if mirrored else questions
        jobs = [(strength, rows, question) for strength, rows in wanted for question in asked]
        threads = min(available_processors(), len(jobs))
        with limited_blas(1), ThreadPoolExecutor(threads) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # almost converged is good enough
            found = list(pool.map(lambda job: self._logistic(*job), jobs))
        models = []
        for first in range(0, len(found), len(asked)):
            weights = np.stack([w for w, _ in found[first : first + len(asked)]], axis=1)
            bias = np.array([b for _, b in found[first : first + len(asked)]])
            if mirrored:
                weights, bias = np.hstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
            models.append(LinearModel(weights, bias))
        return models

    def out_of_fold(self, strength: float, folds: list[Rows]) -> Floats:
        """The logits of every row by a model that was fitted to the other folds, (rows, num_outputs).

        Args:
            strength: C.
            folds: disjoint rows; together all of them.
        """
        everything = np.arange(len(self.labels))
        models = self.fit_several([(strength, np.setdiff1d(everything, fold)) for fold in folds])
        logits = np.zeros((len(everything), self.task.num_outputs))
        for fold, model in zip(folds, models, strict=True):
            logits[fold] = model.logits(self.features[fold])
        return logits

    def _logistic(self, strength: float, rows: Rows | None, question: Question) -> tuple[Floats, float]:
        from scipy.sparse import diags
        from sklearn.linear_model import LogisticRegression

        chosen = np.flatnonzero(question.asked) if rows is None else rows[question.asked[rows]]
        yes = question.yes[chosen]
        if not len(yes) or yes.all() or not yes.any():
            return np.zeros(self.features.shape[1]), 0.0 if not len(yes) else ALWAYS if yes[0] else -ALWAYS
        features = self.features if len(chosen) == self.features.shape[0] else self.features[chosen]
        scales = unevenness(features, yes) if self.scaled else np.ones(features.shape[1])
        model = LogisticRegression(C=strength, solver="liblinear", max_iter=300, tol=TOLERANCE)
        weights = None if question.weights is None else question.weights[chosen]
        model.fit(features @ diags(scales) if self.scaled else features, yes, sample_weight=weights)
        return model.coef_[0] * scales, float(model.intercept_[0])

    def _ridge(self, strength: float, rows: Rows | None) -> LinearModel:
        from sklearn.linear_model import Ridge

        chosen = np.arange(len(self.labels)) if rows is None else rows
        numbers = self.task.encode(self.labels)[chosen].astype(np.float64)
        # `sparse_cg` is what centres sparse features without making them dense.
        model = Ridge(alpha=1 / strength, solver="sparse_cg", tol=1e-6).fit(self.features[chosen], numbers)
        return LinearModel(model.coef_[:, None].astype(np.float64), np.array([float(model.intercept_)]))


def unevenness(features: csr_matrix, yes: NDArray[np.bool_]) -> Floats:
    """How unevenly each feature is divided between rows with the answer yes and no, (features,), of mean square 1.

    It is the absolute log ratio of naive Bayes (Wang & Manning 2012). Features that are multiplied by it are
    regularised the less, the more they tell by themselves.

    Args:
        features: (rows, features), at least 0.
        yes: (rows,) with both answers.
    """
    smoothing = features.data.mean() if features.nnz else 1.0
    with_yes, with_no = (np.asarray(features.T @ rows.astype(np.float64)) + smoothing for rows in (yes, ~yes))
    ratios = np.abs(np.log(with_yes / with_yes.sum()) - np.log(with_no / with_no.sum()))
    size = np.sqrt(np.mean(ratios**2))
    return np.asarray(ratios / size if size else np.ones_like(ratios))
