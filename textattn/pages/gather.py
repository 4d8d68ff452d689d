"""What the report of a run says, as numbers and texts; how it looks is the business of `textattn.pages.html`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textattn.errors import InputError
from textattn.explain.verdict import level, verdict
from textattn.measure.metrics import headline_value
from textattn.measure.selective import Answers, selective
from textattn.measure.slices import Slicing, corrected, row_scores, slice_by
from textattn.pages.answers import SplitAnswers
from textattn.pages.cases import Case, Cells, Errors, find_cells, find_errors
from textattn.pages.numbers import Numbers, numbers_of
from textattn.pages.words import stored_lexicon
from textattn.storage.files import read_json
from textattn.storage.records import Environment
from textattn.storage.run_dir import TRAINER_STATE, RunDir

if TYPE_CHECKING:
    from textattn.explain.lexicon import Entry
    from textattn.inference.classifier import Classifier

LENGTH = "length of the text in words"
CHARACTERS = "length of the text in characters"


@dataclass(frozen=True)
class Figure:
    """The value of a metric with its 95 % interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LabelRow:
    """How well one label is recognised."""

    name: str
    precision: float
    recall: float
    f1: float
    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True)
class Measured:
    """All figures of one split."""

    split: str
    count: int
    metric: str
    """The headline metric."""
    model: Figure
    baseline: Figure | None
    """A linear model on TF-IDF; None if the run trained none."""
    baseline_verdict: str | None
    majority_label: str
    majority: Figure
    """What always predicting the most frequent label would give."""
    metrics: Mapping[str, Any]
    """The entry of the split in metrics.json."""
    labels: list[LabelRow]
    multi_label: bool


@dataclass(frozen=True)
class RunReport:
    """Everything that the report of a run says. What was not computed is None or empty."""

    name: str
    environment: Environment | None
    labels: list[str]
    model: str
    """The parts of the model in one line."""
    metrics: Mapping[str, Any]
    """The content of metrics.json."""
    log: Sequence[Mapping[str, Any]]
    """The lines of log.jsonl."""
    measured: Measured | None = None
    selective: Mapping[str, Any] | None = None
    """See `textattn.measure.selective.selective`."""
    errors: Errors | None = None
    cells: Cells | None = None
    slicings: list[Slicing] = field(default_factory=list)
    words: Mapping[str, list[Entry]] = field(default_factory=dict)
    num_weighed: int = 0
    """The number of texts from which the words come."""
    numbers: Numbers | None = None
    """Of a model that predicts numbers, in place of all above that is about labels."""

    @property
    def audit(self) -> tuple[str, str] | None:
        """How far highlights can be trusted, as a level and in a sentence; None without an audit."""
        found = self.metrics.get("audit")
        try:
            return (level(found), verdict(found)) if found else None
        except (KeyError, TypeError):  # an audit of an early version
            return None


def gather(
    run: RunDir,
    metrics: Mapping[str, Any],
    classifier: Classifier,
    answers: SplitAnswers | None,
    columns: Mapping[str, Sequence[object]] | None = None,
) -> RunReport:
    """Put together the report of a run.

    Args:
        run: the run directory; its metrics.json need not exist yet.
        metrics: the content of metrics.json, with `selective` if it was computed.
        classifier: the model of the run.
        answers: the answers to the split that is reported; None if nothing was measured.
        columns: for slices, the values of each row by column.
    """
    report = RunReport(
        name=run_name(run.path),
        environment=_environment(run),
        labels=classifier.labels,
        model=classifier.config.summary(),
        metrics=metrics,
        log=_log(run),
    )
    if answers is None or answers.split not in metrics:
        return report
    words, num_weighed = stored_lexicon(run.attention(answers.split), classifier)
    sliced = {**dict([_lengths(answers)]), **(columns or {})}
    if classifier.config.target is not None:
        numbers = numbers_of(answers, metrics, classifier, sliced)
        return replace(report, numbers=numbers, words=words, num_weighed=num_weighed)
    scores = row_scores(answers.truth, answers.decided)
    return replace(
        report,
        measured=_measured(answers, metrics),
        selective=metrics.get("selective"),
        errors=find_errors(answers, classifier),
        cells=find_cells(answers),
        slicings=corrected([slice_by(name, values, scores) for name, values in sliced.items()]),
        words=words,
        num_weighed=num_weighed,
    )


def selective_of(splits: Mapping[str, Answers]) -> dict[str, Any] | None:
    """The entry `selective` of metrics.json: thresholds chosen on validation and measured on test.

    Args:
        splits: the scored answers to `validation` and `test`, as far as there are such splits.
    """
    chosen = ("validation", splits["validation"]) if "validation" in splits else None
    return selective(chosen, ("test", splits["test"]) if "test" in splits else None)


def run_name(path: Path) -> str:
    """A name that people recognise: `imdb/2026-11-27T06-56-41` for the default directory of a run, else its own."""
    path = path.absolute()
    return f"{path.parent.name}/{path.name}" if path.parent.parent.name == "runs" else path.name


def _environment(run: RunDir) -> Environment | None:
    try:
        return run.environment()
    except InputError:  # a model that was copied without it
        return None


def _log(run: RunDir) -> list[dict[str, Any]]:
    try:
        return list(read_json(run.path / TRAINER_STATE)["log_history"])
    except (InputError, KeyError, TypeError):
        return []


def _measured(answers: SplitAnswers, metrics: Mapping[str, Any]) -> Measured:
    measured = metrics[answers.split]
    metric, interval = measured["headline"], measured["interval_95"]
    baseline = metrics.get("baseline")
    against = baseline and baseline.get("against")
    of_split = baseline and baseline.get(answers.split)
    majority_label = measured["majority_class"]["label"]
    return Measured(
        split=answers.split,
        count=len(answers),
        metric=metric,
        model=Figure(measured[metric], interval["low"], interval["high"]),
        baseline=_figure(of_split, metric) if of_split else None,
        baseline_verdict=_against(against) if against and against["split"] == answers.split else None,
        majority_label=majority_label,
        majority=Figure(_always(answers, majority_label, metric)),
        metrics=measured,
        labels=_label_rows(answers, measured["per_class"]),
        multi_label=answers.multi_label,
    )


def _figure(measured: Mapping[str, Any], metric: str) -> Figure:
    interval = measured.get("interval_95")
    if interval is None or interval["metric"] != metric:
        return Figure(measured[metric])
    return Figure(measured[metric], interval["low"], interval["high"])


def _against(against: Mapping[str, Any]) -> str:
    """`better`, `worse` or `same`: how the model stands to the linear model."""
    low, high = against["interval_95"]
    if low <= 0 <= high:
        return "same"
    return "better" if against["difference"] > 0 else "worse"


def _always(answers: SplitAnswers, label: str, metric: str) -> float:
    """The value of the metric if that label is always predicted."""
    always = np.zeros_like(answers.truth)
    if answers.multi_label:
        always[:, answers.labels.index(label)] = 1
    else:
        always[:] = answers.labels.index(label)
    return headline_value(metric, answers.truth, always, len(answers.labels))


def _label_rows(answers: SplitAnswers, per_class: Mapping[str, Any]) -> list[LabelRow]:
    rows = []
    for i, name in enumerate(answers.labels):
        one_of_many = answers.multi_label
        truth = answers.truth[:, i] == 1 if one_of_many else answers.truth == i
        given = answers.decided[:, i] == 1 if one_of_many else answers.decided == i
        tp, fp, fn, tn = (int(part.sum()) for part in (truth & given, given & ~truth, truth & ~given, ~truth & ~given))
        precision, recall, f1 = (float(per_class[name][key]) for key in ("precision", "recall", "f1"))
        rows.append(LabelRow(name, precision, recall, f1, tp, fp, fn, tn))
    return rows


def _lengths(answers: SplitAnswers) -> tuple[str, list[int]]:
    """The length of each text: in words or, in scripts without spaces and for formulas, in characters."""
    words = [len(text.split()) for text in answers.texts]
    if float(np.median(words)) > 2:
        return LENGTH, words
    return CHARACTERS, [len(text) for text in answers.texts]


def as_json(report: RunReport) -> dict[str, Any]:
    """The numbers of a report as JSON values, for scripts: without texts."""
    value: dict[str, Any] = {"run": report.name, "labels": report.labels}
    if report.environment is not None:
        dataset = report.environment.dataset
        value |= {
            "data": dataset.source,
            "splits": {name: split.num_examples for name, split in dataset.splits.items()},
            "started": report.environment.started,
            "textattn": report.environment.textattn,
            "settings": report.environment.settings,
        }
    if (m := report.measured) is not None:
        value |= {
            "split": m.split,
            "num_examples": m.count,
            "metric": m.metric,
            "value": m.model.value,
            "interval_95": [m.model.low, m.model.high],
            "baseline": None if m.baseline is None else {"value": m.baseline.value, "verdict": m.baseline_verdict},
            "majority_class": {"label": m.majority_label, "value": m.majority.value},
            "per_label": {row.name: {key: getattr(row, key) for key in ROW_KEYS} for row in m.labels},
            "ece": m.metrics["ece"],
        }
    if report.numbers is not None:
        audit = None if report.audit is None else {"level": report.audit[0], "verdict": report.audit[1]}
        return value | report.numbers.to_json() | {"audit": audit}
    value["selective"] = report.selective
    if report.errors is not None:
        errors = report.errors
        surest = [_case_json(case) for case in errors.surest]
        value["errors"] = {"count": errors.count, "suspect_labels": errors.num_suspects, "surest": surest}
    value["slices"] = {slicing.column: [_slice_json(one) for one in slicing.slices] for slicing in report.slicings}
    value["audit"] = None if report.audit is None else {"level": report.audit[0], "verdict": report.audit[1]}
    return value


def _case_json(case: Case) -> dict[str, Any]:
    answer = {"label": case.gold, "prediction": case.given, "about": case.label, "score": case.score}
    return {"id": case.where} | answer | {"suspect_label": case.suspect, "text": case.text}


ROW_KEYS = ("precision", "recall", "f1", "tp", "fp", "fn", "tn")


def _slice_json(one: Any) -> dict[str, Any]:
    keys = ("value", "count", "figure", "low", "high", "difference", "p", "adjusted_p")
    found = {key: getattr(one, key) for key in keys}
    assert all(not isinstance(item, float) or math.isfinite(item) for item in found.values())
    return found | {"verdict": one.verdict}
