"""Runs beside each other on the same texts: is one better, or only luckier?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from textattn.errors import ConfigError, InputError
from textattn.measure.metrics import BOOTSTRAP_SAMPLES, Labels, headline_value
from textattn.storage.run_dir import RunDir

SCORE = "score:"


@dataclass(frozen=True)
class Predictions:
    """What a run said of a split."""

    run: Path
    texts: pa.ChunkedArray
    labels: list[str]
    truth: Labels
    """(rows,) ids, or (rows, labels) flags"""
    decided: Labels
    """The same"""
    scores: NDArray[np.float64]
    """(rows, labels)"""
    metrics: dict[str, Any]
    """Of the split, from metrics.json"""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(rows,) whether every label of the text is right."""
        equal = self.truth == self.decided
        return np.asarray(equal if equal.ndim == 1 else equal.all(axis=1))


def compare_runs(runs: Sequence[Path], split: str = "test", *, examples: int = 5, seed: int = 0) -> dict[str, Any]:
    """Metrics of each run; for each pair the difference with its interval, McNemar's test, and where they disagree.

    Args:
        examples: of each pair, so many texts that one of them alone got right, or neither, the surest mistakes first.
        seed: of the bootstrap.

    Returns:
        `runs`, `metric` (the headline of the first run) and `pairs`. `difference` is b minus a, `interval_95` its
        percentile interval under resampling of texts, the same for both runs (paired bootstrap; Berg-Kirkpatrick et
        al. 2012); `mcnemar_p` the exact two-sided test on the texts that one of them alone got right.

    Raises:
        ConfigError: fewer than two runs.
        InputError: a run has no predictions of that split, or of other texts.
    """
    if len(runs) < 2:
        raise ConfigError("compare: needs two runs or more", "textattn compare RUN RUN")
    loaded = [load_predictions(run, split) for run in runs]
    for other in loaded[1:]:
        _check_same_texts(loaded[0], other, split)
    metric = str(loaded[0].metrics["headline"])
    return {
        "split": split,
        "num_examples": len(loaded[0].texts),
        "metric": metric,
        "runs": [{"run": str(one.run), "metrics": one.metrics} for one in loaded],
        "pairs": [compare_pair(a, b, metric, examples, seed) for a, b in combinations(loaded, 2)],
    }


def load_predictions(run: Path, split: str) -> Predictions:
    """predictions/<split>.parquet and the metrics beside it.

    Raises:
        InputError: one of them is missing or damaged.
    """
    path = RunDir(run).predictions(split)
    metrics = RunDir(run).metrics()
    if not path.is_file() or split not in metrics:
        raise InputError(
            f"{run}: no predictions of the {split} split", f"train it with output.prediction_splits=[{split}]"
        )
    try:
        table = pq.read_table(path)
        labels = [name.removeprefix(SCORE) for name in table.column_names if name.startswith(SCORE)]
        scores = np.column_stack([table[SCORE + label].to_numpy() for label in labels])
        truth, decided = (_ids(table[name], labels) for name in ("label", "prediction"))
        return Predictions(run, table["text"], labels, truth, decided, scores, metrics[split])
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: damaged ({error})") from None


def _ids(names: pa.ChunkedArray, labels: list[str]) -> Labels:
    number = {label: i for i, label in enumerate(labels)}
    if not pa.types.is_list(names.type):
        return np.array([number[name] for name in names.to_pylist()], np.int64)
    flags = np.zeros((len(names), len(labels)), np.uint8)
    for row, given in enumerate(names.to_pylist()):
        flags[row, [number[name] for name in given]] = 1
    return flags


def _check_same_texts(a: Predictions, b: Predictions, split: str) -> None:
    if a.labels != b.labels:
        reason = f"the labels are {', '.join(a.labels)} there, {', '.join(b.labels)} here"
    elif not a.texts.equals(b.texts):
        reason = "the texts are others"
    elif not np.array_equal(a.truth, b.truth):
        reason = "the same texts have other labels"
    else:
        return
    hint = f"textattn evaluate --model {b.run} DATA measures it on any data"
    raise InputError(f"{b.run}: not the {split} split of {a.run}: {reason}", hint)


def compare_pair(a: Predictions, b: Predictions, metric: str, examples: int, seed: int) -> dict[str, Any]:
    """An entry of `pairs`: of two predictions of the same texts."""
    from scipy.stats import binomtest

    right_a, right_b = a.correct, b.correct
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    apart = int(only_a.sum() + only_b.sum())
    generator = np.random.default_rng(seed)

    def value(one: Predictions, rows: Any) -> float:
        return headline_value(metric, one.truth[rows], one.decided[rows], len(one.labels))

    differences = []
    for _ in range(BOOTSTRAP_SAMPLES):
        rows = generator.integers(0, len(right_a), len(right_a))
        differences.append(value(b, rows) - value(a, rows))
    low, high = np.percentile(differences, [2.5, 97.5])
    everything = slice(None)
    return {
        "a": str(a.run),
        "b": str(b.run),
        "difference": value(b, everything) - value(a, everything),
        "interval_95": [float(low), float(high)],
        "mcnemar_p": float(binomtest(int(only_b.sum()), apart).pvalue) if apart else 1.0,
        "both_right": int((right_a & right_b).sum()),
        "only_a_right": int(only_a.sum()),
        "only_b_right": int(only_b.sum()),
        "both_wrong": int((~right_a & ~right_b).sum()),
        "examples": {
            "only_a_right": _examples(a, b, only_a, examples),
            "only_b_right": _examples(b, a, only_b, examples),
            "both_wrong": _examples(a, b, ~right_a & ~right_b, examples),
        },
    }


def _examples(right: Predictions, wrong: Predictions, rows: NDArray[np.bool_], number: int) -> list[dict[str, Any]]:
    """Texts that `wrong` got wrong, where it was surest."""
    found = np.flatnonzero(rows)
    # How far its scores lie from the truth: for one label a text, one minus the score of that label.
    truth = right.truth if right.truth.ndim == 2 else np.eye(len(right.labels))[right.truth]
    distance = np.abs(wrong.scores[found] - truth[found]).max(axis=1)
    chosen = found[np.argsort(-distance, kind="stable")[:number]]
    return [
        {
            "row": int(row),
            "text": right.texts[int(row)].as_py(),
            "label": _names(right.truth[row], right.labels),
            "said": _names(wrong.decided[row], right.labels),
        }
        for row in chosen
    ]


def _names(ids: Any, labels: list[str]) -> str | list[str]:
    return labels[int(ids)] if np.ndim(ids) == 0 else [labels[i] for i in np.flatnonzero(ids)]
