"""A linear model on the same splits, which a larger model has to beat to be worth its cost."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from textattn.data.read import Split
from textattn.errors import InputError
from textattn.measure.compare import Predictions, compare_pair
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.tasks import Task
from textattn.training.processors import available_processors, limited_blas

Floats = NDArray[np.float64]
# Tokenizers for texts without words between spaces.
BY_CHARACTERS = ("char", "formula", "composition")
# Inverse strengths of the regularisation. The validation split selects one of STRENGTHS or, if the last of them is the
# best, goes on to WEAKER until it falls. Without a validation split, USUAL is used, which is common for TF-IDF.
STRENGTHS, WEAKER, USUAL = (1.0, 3.0, 10.0, 30.0), (100.0, 300.0, 1000.0, 3000.0), 10.0
# With fewer training texts, all words are features; with more, only words that occur in at least two texts.
FEW = 100
NAME, MODEL = "baseline", "model"


def train_baseline(data: TrainingData, report: Report) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Train a logistic regression on the TF-IDF of words and pairs of words; for numbers a ridge regression.

    Characters are used instead of words if the tokenizer reads characters or formulas.

    Args:
        data: the texts that people labelled are learned from. The metric that selects checkpoints also selects the
            strength of the regularisation, on the validation split.
        report: shows progress.

    Returns:
        A description of the model with its metrics on validation and test, in the form of metrics.json; and the
        probabilities by split, (rows, labels).

    Raises:
        InputError: the training texts contain no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    started = time.perf_counter()
    corpus, task, metric, tokenizer_type = data.corpus.labelled(), data.task, data.metric, data.config.tokenizer.type
    train, validation = corpus.train, corpus.validation
    unit = "characters" if tokenizer_type in BY_CHARACTERS else "words"
    vectorizer = TfidfVectorizer(
        analyzer="char" if unit == "characters" else "word",
        lowercase=tokenizer_type not in ("formula", "composition"),
        ngram_range=(1, 2),
        min_df=1 if len(train) < FEW else 2,
        sublinear_tf=True,
    )
    try:
        features = vectorizer.fit_transform(iter(train))
    except ValueError as error:
        raise InputError(f"the training texts contain no {unit} for the baseline ({error})") from None
    found = {name: vectorizer.transform(iter(split)) for name, split in corpus.splits().items() if name != train.name}
    with limited_blas(1), _without_warnings():
        if validation is None:
            strength, model = USUAL, _fit(features, train, USUAL)
        else:
            strength, model = _select(data, features, found["validation"], report)
    probs_of = {name: _answers(model, part, task) for name, part in found.items()}
    thresholds = task.neutral_thresholds
    if validation is not None:
        thresholds = task.choose_thresholds(validation.labels, probs_of["validation"])
        task = task.calibrated(validation.labels, probs_of["validation"])
    facts: dict[str, Any] = {
        "model": f"TF-IDF of {unit} and pairs of them, {'ridge' if train.is_numeric else 'logistic'} regression",
        "num_features": features.shape[1],
        "C": strength,
    }
    for name in ("validation", "test"):
        if name in probs_of:
            facts[name] = task.measure(
                corpus.splits()[name].labels, probs_of[name],
                headline=metric, thresholds=thresholds, seed=data.config.seed,
            )  # fmt: skip
    facts["seconds"] = round(time.perf_counter() - started, 1)
    return facts, probs_of


def against_baseline(
    data: TrainingData,
    facts: dict[str, Any],
    baseline: dict[str, Floats],
    probs: dict[str, Floats],
    model: dict[str, Any],
) -> dict[str, Any] | None:
    """Compare the model with the baseline on the test split or, if there is none, on the validation split.

    Args:
        data: the splits and the task.
        facts: first result of `train_baseline`.
        baseline: second result of `train_baseline`.
        probs: probabilities of the model by split, (rows, labels).
        model: metrics of the model by split.

    Returns:
        The result of `compare_pair` with the name of the split; None if there is neither split.
    """
    name = next((name for name in ("test", "validation") if name in baseline and name in probs), None)
    if name is None:
        return None
    split = data.corpus.splits()[name]
    a = _predictions(NAME, split, data.task, baseline[name], facts[name])
    b = _predictions(MODEL, split, data.task, probs[name], model[name])
    return {"split": name} | compare_pair(a, b, str(facts[name]["headline"]), examples=3, seed=0)


def _predictions(name: str, split: Split, task: Task, probs: Floats, metrics: dict[str, Any]) -> Predictions:
    texts = pa.chunked_array(list(split.texts.pieces()), pa.large_string())
    decided = task.decide(probs, metrics.get("thresholds"))
    return Predictions(Path(name), texts, task.labels, split.labels, decided, probs, metrics)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """An almost converged model is good enough, and a label of no training text or of all cannot be learned anyway."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Label .* is present in all training examples")
        warnings.filterwarnings("ignore", message="Label not .* is present in all training examples")
        yield


def _fit(features: Any, train: Split, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if train.is_numeric:
        return Ridge(alpha=1 / strength).fit(features, train.labels)
    model = LogisticRegression(C=strength, solver="liblinear")
    if train.labels.ndim == 1 and len(np.unique(train.labels)) <= 2:
        return model.fit(features, train.labels)
    # One regression for each label, also where a text has one label: softmax regression takes six times as long for
    # 28 labels and was no better (docs/results.md).
    return OneVsRestClassifier(model).fit(features, train.labels)


def _select(data: TrainingData, features: Any, held_out: Any, report: Report) -> tuple[float, Any]:
    """Fit models to the training texts, and choose the strength and the model that are best on validation."""
    corpus, task, metric = data.corpus.labelled(), data.task, data.metric
    validation, train = corpus.validation, corpus.train
    assert validation is not None
    sign = 1 if GREATER_IS_BETTER[metric] else -1

    def value_of(model: Any) -> float:
        return sign * task.selection_value(metric, validation.labels, _answers(model, held_out, task))

    with report.progress("Linear baseline", len(STRENGTHS), "models") as advance:
        # liblinear lets go of Python's lock, so threads fit the models side by side.
        with ThreadPoolExecutor(min(available_processors(), len(STRENGTHS))) as pool:
            best: tuple[float, float, Any] | None = None
            models = pool.map(lambda strength: _fit(features, train, strength), STRENGTHS)
            for number, (strength, model) in enumerate(zip(STRENGTHS, models, strict=True), 1):
                value = value_of(model)
                if best is None or value > best[0]:
                    best = value, strength, model
                advance(number)
        assert best is not None
        # Most data never come here, and those with many labels and long texts, whose fits are long, often do.
        for before, strength in pairwise((STRENGTHS[-1], *WEAKER)):
            if best[1] != before:
                break
            model = _fit(features, train, strength)
            if (value := value_of(model)) > best[0]:
                best = value, strength, model
    return best[1], best[2]


def _answers(model: Any, features: Any, task: Task) -> Floats:
    """The probabilities, (rows, num_labels), which are 0 for a label that no training text has; or the numbers."""
    target, num_labels = task.target, len(task.labels)
    if target is not None:
        return np.asarray(model.predict(features), np.float64).clip(target.minimum, target.maximum)[:, None]
    found = np.asarray(model.predict_proba(features), dtype=np.float64)
    if found.shape[1] == num_labels:
        return found
    probs = np.zeros((len(found), num_labels))
    probs[:, np.asarray(model.classes_)] = found
    return probs


def in_words(against: dict[str, Any], metric: str) -> str:
    """A sentence that says whether the model is better than the baseline."""
    low, high = against["interval_95"]
    if low <= 0 <= high:
        verdict = "not clearly different from the linear baseline"
    else:
        is_better = (against["difference"] > 0) == GREATER_IS_BETTER[metric]
        verdict = f"clearly {'better' if is_better else 'worse'} than the linear baseline"
    if "mcnemar_p" not in against:
        return (
            f"The model is {verdict}: {metric} {against['difference']:+.4g} on {against['split']} "
            f"(95 % interval {low:+.4g} to {high:+.4g}, Wilcoxon p = {against['p']:.2g}). "
            f"It is closer to the truth for {against['b_closer']:,} texts, the baseline for {against['a_closer']:,}."
        )
    p = against["mcnemar_p"]
    return (
        f"The model is {verdict}: {metric} {against['difference']:+.4f} on {against['split']} "
        f"(95 % interval {low:+.4f} to {high:+.4f}, McNemar p = {p:.2g}). "
        f"Both misclassify {against['both_wrong']:,} texts."
    )
