"""Compares a run with the one that it went on from: what was won, and what was forgotten.

Both models answer the same texts, the test split of the newer run. It consists of the test rows of the older run and of
new ones, and neither model was trained on any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.inference.classifier import Classifier, fingerprint_of
from textattn.inference.earlier_data import start_record
from textattn.measure.compare import Predictions, are_of_same_texts, compare_predictions, load_predictions
from textattn.storage.model_files import ModelFiles
from textattn.storage.run_dir import WEIGHTS, RunDir

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Answers:
    """The answers of two models to the same texts."""

    before: Predictions
    after: Predictions
    known: Sequence[str]
    """The labels of the older model."""

    def on(self, rows: Mask) -> dict[str, Any] | None:
        """How both answer these rows; None if there are none."""
        if not rows.any():
            return None
        before, after = (self._goodness(one)[rows] for one in (self.before, self.after))
        return {
            "num_examples": int(rows.sum()),
            "before": abs(float(before.mean())),
            "after": abs(float(after.mean())),
            "won": int((after > before).sum()),
            "forgotten": int((after < before).sum()),
        }

    def _goodness(self, one: Predictions) -> NDArray[np.float64]:
        """(rows,) 1 for a correct answer and 0 for another one; of numbers the negated error."""
        if one.is_numeric:
            return np.asarray(-np.abs(one.truth - one.decided), np.float64)
        return np.asarray(one.correct, np.float64)

    def of_label(self, label: int, rows: Mask) -> dict[str, Any]:
        """F1 of a label on these rows before and after."""
        from sklearn.metrics import f1_score

        name = self.after.labels[label]
        truth = _flags(self.after.truth, label)
        before, after = (
            float(f1_score(truth[rows], _flags(one.decided, label)[rows], zero_division=0.0))
            for one in (self.before, self.after)
        )
        is_new = name not in self.known
        return {
            "label": name,
            "is_new": is_new,
            "num_examples": int(truth.sum()),
            "f1_before": None if is_new else before,
            "f1_after": after,
        }


def compare_with_starts(runs: Sequence[Path], split: str = "test", *, examples: int = 5) -> dict[str, Any]:
    """Compare runs as `compare_runs` does, and a run with those that it went on from also by label.

    Where a run went on from all others, the others answer its rows of the split, which their own split lacks.

    Returns:
        The result of `compare_runs`, and in `going_on` an entry for each older run: `known_labels`, `new_labels`,
        `own_rows` and `other_rows` with the number of rows, the share answered correctly before and after, and the
        numbers of answers `won` and `forgotten`, or null if there are no such rows; and `labels` with the F1 of each
        label before and after. Of known labels it is computed on the rows whose labels the older run knows. For
        numbers, `before` and `after` are mean absolute errors, `won` and `forgotten` count the answers that are nearer
        to the truth or farther from it, and there are no `labels`.

    Raises:
        ConfigError, InputError: as for `compare_runs`.
    """
    newest = _newest(runs)
    if newest is None:
        loaded = [load_predictions(run, split) for run in runs]
        return compare_predictions(loaded, split, examples=examples)
    reference = load_predictions(newest, split)
    classifier = Classifier.load(newest)
    loaded, summaries = [], []
    for run in runs:
        if run == newest:
            loaded.append(reference)
            continue
        own = load_predictions(run, split) if RunDir(run).predictions(split).is_file() else None
        if own is not None and are_of_same_texts(own, reference):
            loaded.append(own)
        else:
            loaded.append(_answered(Classifier.load(run), classifier, reference))
        known = own.labels if own is not None else list(Classifier.load(run).config.labels)
        summaries.append(_summary(_Answers(loaded[-1], reference, known), own))
    return compare_predictions(loaded, split, examples=examples) | {"going_on": summaries}


def _newest(runs: Sequence[Path]) -> Path | None:
    """The run that went on from all others, directly or through other runs; None if there is none."""
    if len(set(runs)) < 2:
        return None
    files = {run: ModelFiles(run) for run in runs}
    starts = {run: start for run, one in files.items() if (start := start_record(one)) is not None}
    if not starts or not all(one.has(WEIGHTS) for one in files.values()):
        return None
    fingerprints = {run: fingerprint_of(one) for run, one in files.items()}
    for run, start in starts.items():
        ancestors = {start.fingerprint, *start.ancestors}
        if all(other == run or fingerprints[other] in ancestors for other in runs):
            return run
    return None


def _answered(older: Classifier, newer: Classifier, rows: Predictions) -> Predictions:
    """The answers of an older model to the rows of a newer one, in the labels of the newer one."""
    tokens = older.tokenizer.encode(rows.texts.to_pylist())
    found = older.probabilities(tokens)
    if rows.is_numeric:
        metrics = newer.task.measure(rows.truth, found, headline=str(rows.metrics["headline"]))
        return replace(rows, run=older.path, decided=found[:, 0], scores=found, metrics=metrics)
    decided = older.task.decide(found, older.config.thresholds)
    places = np.array([rows.labels.index(label) for label in older.config.labels])
    probs = np.zeros((len(found), len(rows.labels)))
    probs[:, places] = found
    if decided.ndim == 1:
        decided = places[decided]
    else:
        flags = np.zeros((len(decided), len(rows.labels)), decided.dtype)
        flags[:, places] = decided
        decided = flags
    metrics = newer.task.measure(
        rows.truth, probs, headline=str(rows.metrics["headline"]), thresholds=_thresholds(older, rows.labels)
    )
    return replace(rows, run=older.path, decided=decided, scores=probs, metrics=metrics)


def _thresholds(older: Classifier, labels: Sequence[str]) -> list[float] | None:
    """The thresholds of an older model; labels that it does not know are never predicted."""
    if older.config.thresholds is None:
        return None
    known = dict(zip(older.config.labels, older.config.thresholds, strict=True))
    return [known.get(label, 1.0) for label in labels]


def _summary(answers: _Answers, own: Predictions | None) -> dict[str, Any]:
    after, known = answers.after, answers.known
    new = np.array([label for label, name in enumerate(after.labels) if name not in known], np.int64)
    is_new = np.isin(after.truth, new) if after.truth.ndim == 1 else after.truth[:, new].any(axis=1)
    has_new: Mask = np.asarray(is_new, np.bool_)
    everything = np.ones(len(has_new), np.bool_)
    is_own = np.zeros(len(has_new), np.bool_)
    if own is not None:
        texts = set(own.texts.to_pylist())
        is_own = np.array([text in texts for text in after.texts.to_pylist()], np.bool_)
    return {
        "old": str(answers.before.run),
        "new": str(after.run),
        "known_labels": answers.on(~has_new),
        "new_labels": answers.on(has_new),
        "own_rows": answers.on(is_own),
        "other_rows": answers.on(~is_own) if own is not None else None,
        "labels": [
            answers.of_label(label, everything if name not in known else ~has_new)
            for label, name in enumerate(after.labels)
        ],
    }


def _flags(labels: NDArray[Any], label: int) -> NDArray[Any]:
    return np.asarray(labels == label if labels.ndim == 1 else labels[:, label] == 1)
