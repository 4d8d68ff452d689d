"""Compares runs on the same texts: is one better, or is the difference due to chance?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from textattn.config import config_from_mapping, flat_settings
from textattn.config.yaml12 import parse_yaml
from textattn.errors import ConfigError, Hint, InputError, Option, shell_command
from textattn.measure.compare_numbers import compare_number_pair
from textattn.measure.metrics import BOOTSTRAP_SAMPLES, GREATER_IS_BETTER, headline_value
from textattn.measure.multiple_tests import LEVEL, holm
from textattn.storage.run_dir import RunDir

SCORE = "score:"
# The splits that a run measures, if its data have them.
MEASURED = ("validation", "test")


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run for a split."""

    run: Path
    texts: pa.ChunkedArray
    labels: list[str]
    """Label names; none for numbers."""
    truth: NDArray[Any]
    """True labels: (rows,) ids, or (rows, labels) flags; or (rows,) numbers."""
    decided: NDArray[Any]
    """Predicted labels, in the same form."""
    scores: NDArray[np.float64]
    """Probabilities, (rows, labels); of numbers the predicted ones, (rows, 1)."""
    metrics: dict[str, Any]
    """Metrics of the split, from metrics.json."""
    places: list[str] | None = None
    """The names of the rows; None in runs of earlier versions."""

    @property
    def is_numeric(self) -> bool:
        """Whether numbers are predicted."""
        return self.truth.dtype.kind == "f"

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(rows,) whether all labels of the text are predicted correctly."""
        equal = self.truth == self.decided
        return np.asarray(equal if equal.ndim == 1 else equal.all(axis=1))


def compare_runs(runs: Sequence[Path], split: str = "test", *, examples: int = 5, seed: int = 0) -> dict[str, Any]:
    """Compare every pair of runs: the difference with its interval, McNemar's test, and examples of disagreement.

    Args:
        runs: two or more run directories.
        split: the split to compare on.
        examples: how many texts to list for each pair that only the first, only the second or neither run predicted
            correctly. The most confident mistakes come first.
        seed: of the bootstrap.

    Returns:
        `runs` with the metrics of each, `settings` that are not the same in all runs (see `differing_settings`),
        `metric` (the headline of the first run) and `pairs`. In a pair, `difference` is b minus a. `interval_95` is its
        percentile interval when the same resampled texts are used for both runs (paired bootstrap; Berg-Kirkpatrick et
        al. 2012). `mcnemar_p` is the exact two-sided test on the texts that only one of the two predicted correctly.
        `p` is of a two-sided test of the difference: for accuracy McNemar's, for other metrics that of a normal
        distribution with the standard error of the bootstrap. `adjusted_p` is `p` after Holm's correction for all
        pairs, and `better` is the run that is better by more than chance according to it, or null.

    Raises:
        ConfigError: fewer than two runs are given.
        InputError: a run has no predictions of that split, or its split consists of other texts.
    """
    loaded = [load_predictions(run, split) for run in runs]
    return compare_predictions(loaded, split, examples=examples, seed=seed)


def compare_predictions(
    loaded: Sequence[Predictions], split: str, *, examples: int = 5, seed: int = 0
) -> dict[str, Any]:
    """`compare_runs` for predictions that are loaded.

    Raises:
        ConfigError: there are fewer than two.
        InputError: they are of other texts or labels.
    """
    if len(loaded) < 2:
        raise ConfigError("compare needs two or more runs", "textattn compare RUN RUN")
    for other in loaded[1:]:
        _check_same_texts(loaded[0], other, split)
    metric = str(loaded[0].metrics["headline"])
    pairs = [compare_pair(a, b, metric, examples, seed) for a, b in combinations(loaded, 2)]
    for pair, adjusted in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        better = pair["b"] if (pair["difference"] > 0) == GREATER_IS_BETTER[metric] else pair["a"]
        pair |= {"adjusted_p": adjusted, "better": better if adjusted <= LEVEL and pair["difference"] else None}
    return {
        "split": split,
        "num_examples": len(loaded[0].texts),
        "metric": metric,
        "runs": [{"run": str(one.run), "metrics": one.metrics} for one in loaded],
        "settings": differing_settings([one.run for one in loaded]),
        "pairs": pairs,
    }


def load_predictions(run: Path, split: str) -> Predictions:
    """Read predictions/<split>.parquet and the metrics of the split.

    Raises:
        InputError: one of them is missing or damaged.
    """
    path = RunDir(run).predictions(split)
    metrics = RunDir(run).metrics()
    if not path.is_file() or split not in metrics:
        raise _not_written(run, split, metrics)
    try:
        table = pq.read_table(path)
        labels = [name.removeprefix(SCORE) for name in table.column_names if name.startswith(SCORE)]
        places = table["id"].to_pylist() if "id" in table.column_names else None
        if pa.types.is_floating(table["label"].type):
            truth, decided = (table[name].to_numpy() for name in ("label", "prediction"))
            return Predictions(run, table["text"], [], truth, decided, decided[:, None], metrics[split], places)
        truth, decided = (_ids(table[name], labels) for name in ("label", "prediction"))
        scores = np.column_stack([table[SCORE + label].to_numpy() for label in labels])
        return Predictions(run, table["text"], labels, truth, decided, scores, metrics[split], places)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"damaged ({error})", place=str(path)) from None


def _not_written(run: Path, split: str, metrics: Mapping[str, Any]) -> InputError:
    """The error for a run without predictions of a split: its data may not have the split at all."""
    if split in metrics:
        hint: Hint = f"train it with output.prediction_splits=[{split}]"
        return InputError(f"no predictions of the {split} split", hint, place=str(run))
    measured = [name for name in MEASURED if name in metrics]
    written = [name for name in measured if RunDir(run).predictions(name).is_file()]
    problem, hint = f"the run measured no {split} split", None
    if measured:
        problem += f"; splits that it measured: {', '.join(measured)}"
        option = Option("split", (written or measured)[-1])
        again = f"train it with output.prediction_splits=[{measured[-1]}], and compare with "
        hint = option if written else [again, option]
    elif split == "test":
        problem += ", because the data have none"
        hint = "train it with data.test_fraction=0.2" if _settings(run).get("data.test_split") is not None else None
    return InputError(problem, hint, place=str(run))


def _ids(names: pa.ChunkedArray, labels: list[str]) -> NDArray[Any]:
    number = {label: i for i, label in enumerate(labels)}
    if not pa.types.is_list(names.type):
        return np.array([number[name] for name in names.to_pylist()], np.int64)
    flags = np.zeros((len(names), len(labels)), np.uint8)
    for row, given in enumerate(names.to_pylist()):
        flags[row, [number[name] for name in given]] = 1
    return flags


def are_of_same_texts(a: Predictions, b: Predictions) -> bool:
    """Whether the texts, their labels and the labels of the models are the same."""
    return (
        a.is_numeric == b.is_numeric
        and a.labels == b.labels
        and a.texts.equals(b.texts)
        and np.array_equal(a.truth, b.truth)
    )


def _check_same_texts(a: Predictions, b: Predictions, split: str) -> None:
    if are_of_same_texts(a, b):
        return
    if a.is_numeric != b.is_numeric:
        reason = "one predicts numbers, the other labels"
    elif a.labels != b.labels:
        reason = f"its labels are {', '.join(b.labels)} instead of {', '.join(a.labels)}"
    elif not a.texts.equals(b.texts):
        reason = "its texts are different"
    else:
        reason = "its texts are the same, but their labels are different"
    hint = shell_command("textattn evaluate --model {} DATA", b.run) + " measures it on any data"
    raise InputError(f"the {split} split is not that of {a.run}: {reason}", hint, place=str(b.run))


def compare_pair(a: Predictions, b: Predictions, metric: str, examples: int, seed: int) -> dict[str, Any]:
    """Compare two predictions of the same texts: an entry of `pairs` in `compare_runs`."""
    if a.is_numeric:
        return compare_number_pair(a, b, metric, examples, seed)
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
    difference = value(b, everything) - value(a, everything)
    mcnemar = float(binomtest(int(only_b.sum()), apart).pvalue) if apart else 1.0
    return {
        "a": str(a.run),
        "b": str(b.run),
        "difference": difference,
        "interval_95": [float(low), float(high)],
        "mcnemar_p": mcnemar,
        "p": mcnemar if metric == "accuracy" else _p_value(difference, float(np.std(differences))),
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


def _p_value(difference: float, standard_error: float) -> float:
    """Of a two-sided test whether a normally distributed difference is zero."""
    if not standard_error:
        return 0.0 if difference else 1.0
    return math.erfc(abs(difference) / standard_error / math.sqrt(2))


def differing_settings(runs: Sequence[Path]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs: by dotted name, the value in each run; without `output`.

    A setting that a run does not have, because its version did not know it, is null.

    Raises:
        InputError: a training_config.yaml is damaged.
    """
    settings = [_settings(run) for run in runs]
    names = [name for name in dict.fromkeys(chain(*settings)) if not name.startswith("output.")]
    values = {name: [own.get(name) for own in settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _settings(run: Path) -> dict[str, Any]:
    file = RunDir(run).training_config
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"), str(file)).value
        return flat_settings(config_from_mapping(content, origin=str(file), of_finished_run=True))
    except FileNotFoundError:
        return {}
    except (ConfigError, OSError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(f"damaged ({error})", place=str(file)) from None


def _examples(right: Predictions, wrong: Predictions, rows: NDArray[np.bool_], number: int) -> list[dict[str, Any]]:
    """The most confident mistakes of `wrong` among `rows`."""
    found = np.flatnonzero(rows)
    # Distance of the scores from the truth. With one label for each text, this is one minus the score of that label.
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
