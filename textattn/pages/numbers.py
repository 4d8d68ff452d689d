"""What the report of a run says where numbers are predicted: how far off they are, and which texts are the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from textattn.measure.slices import Slicing, corrected, slice_by
from textattn.pages.answers import SplitAnswers

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.inference.classifier import Classifier

# Texts listed with the largest errors, and the characters of each that are explained.
WORST = 50
LONGEST_TEXT = 2_000
# Points of a scatter plot, drawn at random from more.
MOST_POINTS = 1_500
KEYS = ("mae", "rmse", "median_absolute_error", "r2", "spearman")


@dataclass(frozen=True)
class WrongNumber:
    """A text with the number predicted for it."""

    row: int
    """From 0, in its split."""
    where: str | None
    """Where it stands, such as `prices.csv:54`."""
    text: str
    number: float
    """The true one."""
    predicted: float
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Numbers:
    """All that is said of the numbers of one split."""

    split: str
    name: str
    """What the numbers are: the name of their column."""
    metrics: Mapping[str, Any]
    """The entry of the split in metrics.json."""
    baseline: Mapping[str, Any] | None
    """The same of a linear model; None if the run trained none."""
    against: Mapping[str, Any] | None
    """The comparison with the linear model."""
    points: list[tuple[float, float]]
    """Pairs of a true and a predicted number; at most MOST_POINTS."""
    decimals: int
    """Digits after the decimal point that are worth showing."""
    worst: list[WrongNumber] = field(default_factory=list)
    """The largest errors first."""
    slicings: list[Slicing] = field(default_factory=list)
    """Their figures are mean absolute errors, negated so that larger is better."""

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        metrics = self.metrics
        verdict = None if self.against is None else {key: self.against[key] for key in ("difference", "p")}
        return {
            "split": self.split,
            "num_examples": metrics["num_examples"],
            "metric": metrics["headline"],
            "value": metrics[metrics["headline"]],
            "interval_95": [metrics["interval_95"]["low"], metrics["interval_95"]["high"]],
            **{key: metrics[key] for key in KEYS},
            "mean_baseline": metrics["mean_baseline"],
            "interval": metrics["interval"],
            "baseline": None if self.baseline is None else {key: self.baseline[key] for key in KEYS},
            "against_baseline": verdict,
            "worst": [
                {"id": one.where, "number": one.number, "prediction": one.predicted, "text": one.text}
                for one in self.worst
            ],
            "slices": {
                slicing.column: [
                    {
                        "value": one.value,
                        "count": one.count,
                        "mae": -one.figure,
                        "p": one.p,
                        "adjusted_p": one.adjusted_p,
                        "verdict": one.verdict,
                    }
                    for one in slicing.slices
                ]
                for slicing in self.slicings
            },
        }


def numbers_of(
    answers: SplitAnswers,
    metrics: Mapping[str, Any],
    classifier: Classifier,
    columns: Mapping[str, Sequence[object]],
) -> Numbers:
    """Put together what is said of the numbers of a split.

    Args:
        answers: the predicted numbers.
        metrics: the content of metrics.json.
        classifier: explains the largest errors.
        columns: for slices, the values of each row by column.
    """
    errors = np.abs(answers.decided - answers.truth)
    rows = np.argsort(-errors, kind="stable")[:WORST].tolist()
    texts = [text[:LONGEST_TEXT] for text in answers.texts_of(rows)]
    worst = [
        WrongNumber(row, answers.where(row), text, float(answers.truth[row]), float(answers.decided[row]))
        for row, text in zip(rows, texts, strict=True)
    ]
    shown = np.random.default_rng(0).permutation(len(answers))[:MOST_POINTS]
    baseline = metrics.get("baseline") or {}
    against = baseline.get("against")
    target = classifier.config.target
    assert target is not None
    return Numbers(
        split=answers.split,
        name=classifier.labels[0],
        metrics=metrics[answers.split],
        baseline=baseline.get(answers.split),
        against=against if against and against["split"] == answers.split else None,
        points=list(zip(answers.truth[shown].tolist(), answers.decided[shown].tolist(), strict=True)),
        decimals=target.decimals,
        worst=_explained(worst, classifier),
        slicings=corrected([slice_by(name, values, -errors) for name, values in columns.items()]),
    )


def _explained(worst: list[WrongNumber], classifier: Classifier) -> list[WrongNumber]:
    from textattn.explain.explanations import explain_texts

    explained = explain_texts(classifier, [one.text for one in worst])
    return [replace(one, explanation=found) for one, found in zip(worst, explained, strict=True)]
