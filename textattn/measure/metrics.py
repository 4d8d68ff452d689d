"""Metrics from labels and probabilities, defined as in scikit-learn, and those it lacks (ECE, intervals)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
Probabilities = NDArray[np.floating[Any]]

GREATER_IS_BETTER = {
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "micro_f1": True,
    "auroc": True,
    "log_loss": False,
    "quadratic_kappa": True,
    "mae": False,
    "rmse": False,
    "r2": True,
    "spearman": True,
}
LABEL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "auroc", "log_loss")
BOOTSTRAP_SAMPLES = 1000
CALIBRATION_BINS = 15


def decide(probs: Probabilities, thresholds: Sequence[float] | None) -> Labels:
    """The class ids (rows,) of the largest probability; with thresholds, 0/1 for each label (rows, num_labels)."""
    if thresholds is None:
        return np.asarray(probs.argmax(axis=1))
    return (probs >= np.asarray(thresholds)).astype(np.uint8)


def choose_thresholds(labels: Labels, probs: Probabilities) -> list[float]:
    """The threshold of each label with the highest F1 on these (validation) rows; 0.5 for a label that never occurs.

    Candidates lie half-way between neighbouring probabilities, so that a threshold does not depend on a single row.
    """
    thresholds = []
    for truth, score in zip(labels.T, probs.T, strict=True):
        if not truth.any():
            thresholds.append(0.5)
            continue
        order = np.argsort(-score, kind="stable")
        hits = np.cumsum(truth[order])
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + truth.sum())
        # A threshold cannot separate equal probabilities.
        f1[:-1][score[order][:-1] == score[order][1:]] = -1
        best = int(np.argmax(f1))
        above = score[order[best]]
        below = score[order[best + 1]] if best + 1 < len(order) else 0.0
        thresholds.append(float((above + below) / 2))
    return thresholds


def select_metric(name: str, labels: Labels, probs: Probabilities) -> float:
    """The value of the metric that selects the best checkpoint.

    Args:
        name: a key of `GREATER_IS_BETTER`.
        labels: (rows,) class ids, or (rows, num_labels) 0/1 for multi-label.
        probs: (rows, num_labels)
    """
    if name == "log_loss":
        return log_loss(labels, probs)
    if name == "auroc":
        value = _auroc(labels, probs)
        return float("nan") if value is None else value
    decided = decide(probs, choose_thresholds(labels, probs) if labels.ndim == 2 else None)
    return headline_value(name, labels, decided, probs.shape[1])


def compute_metrics(
    labels: Labels,
    probs: Probabilities,
    label_names: Sequence[str],
    *,
    headline: str,
    thresholds: Sequence[float] | None = None,
    uncalibrated: Probabilities | None = None,
    decided: Labels | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all metrics of a split, as plain JSON values. A metric that is undefined is null.

    Args:
        labels: (rows,) class ids, or (rows, num_labels) 0/1 for multi-label.
        probs: (rows, num_labels)
        label_names: names of the labels.
        headline: the metric that gets a 95 % bootstrap interval over rows.
        thresholds: for multi-label, one for each label.
        uncalibrated: (rows, num_labels), probabilities before calibration; None: the same as `probs`.
        decided: the predicted labels in the form of `labels`; None: those that `decide` gives.
        seed: of the bootstrap.
    """
    from sklearn import metrics as sk

    num_labels = len(label_names)
    multi_label = labels.ndim == 2
    if decided is None:
        decided = decide(probs, thresholds if multi_label else None)
    ids = list(range(num_labels))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, decided, labels=ids, average=None, zero_division=0
    )
    average_precision = _average_precision(labels, probs)
    result: dict[str, Any] = {
        "num_examples": len(labels),
        "headline": headline if headline in ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1") else "accuracy",
        "accuracy": float((labels == decided).all(axis=1).mean() if multi_label else (labels == decided).mean()),
    }
    for average in ("macro", "micro"):
        p, r, f, _ = sk.precision_recall_fscore_support(labels, decided, labels=ids, average=average, zero_division=0)
        result |= {f"{average}_precision": float(p), f"{average}_recall": float(r), f"{average}_f1": float(f)}
    if not multi_label:
        result["balanced_accuracy"] = headline_value("balanced_accuracy", labels, decided, num_labels)
    result |= {
        "auroc": _auroc(labels, probs),
        "average_precision": _mean(average_precision),
        "log_loss": log_loss(labels, probs),
        "brier": brier(labels, probs),
        "ece": expected_calibration_error(labels, probs),
        "ece_uncalibrated": expected_calibration_error(labels, probs if uncalibrated is None else uncalibrated),
        "reliability": reliability(labels, probs),
        "majority_class": _majority(labels, label_names),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
                "average_precision": average_precision[i],
            }
            for i, name in enumerate(label_names)
        },
    }
    if multi_label:
        result["thresholds"] = list(map(float, thresholds or []))
    else:
        result["confusion_matrix"] = sk.confusion_matrix(labels, decided, labels=ids).tolist()
    low, high = bootstrap_interval(result["headline"], labels, decided, num_labels, seed)
    result["interval_95"] = {"metric": result["headline"], "low": low, "high": high, "samples": BOOTSTRAP_SAMPLES}
    return result


def log_loss(labels: Labels, probs: Probabilities) -> float:
    """The mean negative log-likelihood, in nats. For multi-label, it is also averaged over labels."""
    p = np.clip(probs.astype(np.float64), 1e-12, 1 - 1e-12)
    if labels.ndim == 2:
        return float(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean())
    return float(-np.log(p[np.arange(len(labels)), labels]).mean())


def brier(labels: Labels, probs: Probabilities) -> float:
    """The squared error of the probabilities, summed over labels or, for multi-label, averaged (Brier 1950)."""
    if labels.ndim == 2:
        return float(((probs - labels) ** 2).mean())
    truth = np.eye(probs.shape[1])[labels]
    return float(((probs - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(labels: Labels, probs: Probabilities) -> float:
    """The mean gap between confidence and accuracy in 15 equal bins (Naeini et al. 2015).

    For multi-label, each label of each row counts as a prediction.
    """
    confidence, correct, bins = _binned(labels, probs)
    gap = np.bincount(bins, correct - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(bins))


def reliability(labels: Labels, probs: Probabilities) -> list[dict[str, Any]]:
    """The non-empty bins of the expected calibration error, which a reliability diagram shows."""
    confidence, correct, bins = _binned(labels, probs)
    found = []
    for number in range(CALIBRATION_BINS):
        inside = bins == number
        if inside.any():
            means = {"confidence": float(confidence[inside].mean()), "accuracy": float(correct[inside].mean())}
            found.append(means | {"count": int(inside.sum())})
    return found


def _binned(labels: Labels, probs: Probabilities) -> tuple[Probabilities, Probabilities, NDArray[np.int64]]:
    """The confidence, correctness (0 or 1) and bin of each prediction; for multi-label, of each label of each row."""
    if labels.ndim == 2:
        confidence, correct = probs.ravel(), labels.ravel().astype(float)
    else:
        confidence, correct = probs.max(axis=1), (probs.argmax(axis=1) == labels).astype(float)
    return confidence, correct, np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def bootstrap_interval(metric: str, labels: Labels, decided: Labels, num_labels: int, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of a metric when rows are resampled with replacement."""
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(BOOTSTRAP_SAMPLES):
        rows = generator.integers(0, len(labels), len(labels))
        values.append(headline_value(metric, labels[rows], decided[rows], num_labels))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def headline_value(metric: str, labels: Labels, decided: Labels, num_labels: int) -> float:
    """accuracy, balanced_accuracy, macro_f1 or micro_f1, from counts so that a thousand resamples are fast."""
    if labels.ndim == 2:
        if metric == "accuracy":
            return float((labels == decided).all(axis=1).mean())
        hits = (labels & decided).sum(axis=0, dtype=np.int64)
        truth, predicted = labels.sum(axis=0, dtype=np.int64), decided.sum(axis=0, dtype=np.int64)
    else:
        if metric == "accuracy":
            return float((labels == decided).mean())
        truth = np.bincount(labels, minlength=num_labels)
        predicted = np.bincount(decided, minlength=num_labels)
        hits = np.bincount(labels[labels == decided], minlength=num_labels)
    if metric == "balanced_accuracy":
        return float((hits[truth > 0] / truth[truth > 0]).mean())
    if metric == "micro_f1":
        return float(2 * hits.sum() / max(truth.sum() + predicted.sum(), 1))
    return float((2 * hits / np.maximum(truth + predicted, 1)).mean())


def _auroc(labels: Labels, probs: Probabilities) -> float | None:
    """Area under the ROC curve; the one-vs-rest macro mean over labels that have positive and negative cases."""
    from sklearn.metrics import roc_auc_score

    if labels.ndim == 1 and probs.shape[1] == 2:
        return float(roc_auc_score(labels, probs[:, 1])) if 0 < labels.mean() < 1 else None
    truth = labels if labels.ndim == 2 else np.eye(probs.shape[1], dtype=np.uint8)[labels]
    usable = [i for i in range(probs.shape[1]) if 0 < truth[:, i].mean() < 1]
    return _mean([float(roc_auc_score(truth[:, i], probs[:, i])) for i in usable])


def _average_precision(labels: Labels, probs: Probabilities) -> list[float | None]:
    from sklearn.metrics import average_precision_score

    truth = labels if labels.ndim == 2 else np.eye(probs.shape[1], dtype=np.uint8)[labels]
    return [
        float(average_precision_score(truth[:, i], probs[:, i])) if truth[:, i].any() else None
        for i in range(probs.shape[1])
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _majority(labels: Labels, label_names: Sequence[str]) -> dict[str, Any]:
    """The result of always predicting the most frequent label."""
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(label_names))
    top = int(np.argmax(counts))
    if labels.ndim == 2:
        always = np.zeros_like(labels)
        always[:, top] = 1
        return {"label": label_names[top], "micro_f1": headline_value("micro_f1", labels, always, len(label_names))}
    return {"label": label_names[top], "accuracy": float(counts[top] / counts.sum())}
