"""The report of a run that finished before, from its files and, where they lack something, its data and its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textattn.data.columns import column_values
from textattn.errors import InputError, Option, shell_command
from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import origin_of, read_labelled, training_config
from textattn.pages.answers import SplitAnswers, computed_answers, stored_answers
from textattn.pages.gather import RunReport, gather, selective_of
from textattn.storage.run_dir import METRICS, RunDir

SPLITS = ("test", "validation")


def stored_report(classifier: Classifier, by: Sequence[str] = (), split: str | None = None) -> RunReport:
    """Put together the report of a finished run.

    Args:
        classifier: the model of the run.
        by: columns of the data for slices.
        split: the split that is reported; default: test, or validation if there is no test split.

    Raises:
        InputError: the model is not a finished run, a file of it is damaged, or the data have no such split or column.
    """
    run = RunDir(classifier.path)
    if classifier.files.is_bundle or not run.is_finished():
        raise InputError(
            f"no {METRICS}, so that there is nothing to report",
            shell_command("textattn evaluate --model {}", classifier.path) + " measures a model",
            place=str(classifier.path),
        )
    metrics = run.metrics()
    measured = [name for name in SPLITS if name in metrics]
    if split is not None and split not in measured:
        known = f"splits are: {', '.join(measured)}" if measured else "it measured none"
        raise InputError(
            f"the run has not measured a split {split!r}; {known}",
            Option("split", measured[0]) if measured else None,
            setting=Option("split"),
            place=str(classifier.path),
        )
    chosen = split or next(iter(measured), None)
    answers = None if chosen is None else _answers(classifier, chosen)
    if answers is None and by:
        raise InputError("the run has measured no split, so that there are no slices", setting=Option("by"))
    if "selective" not in metrics and answers is not None and classifier.config.target is None:
        metrics["selective"] = _selective(classifier, answers, measured)
    return gather(run, metrics, classifier, answers, _columns(classifier, answers, by))


def _answers(classifier: Classifier, split: str) -> SplitAnswers:
    found = stored_answers(classifier.path, split) or computed_answers(classifier, split)
    if found is None:
        raise InputError(
            f"no predictions of the {split} split, and its data cannot be read again",
            f"train it with output.prediction_splits=[{split}]",
            place=str(classifier.path),
        )
    return found


def _selective(classifier: Classifier, answers: SplitAnswers, measured: Sequence[str]) -> dict[str, Any] | None:
    """The thresholds of a run of an earlier version, which did not record them."""
    scored = {answers.split: answers.scored}
    for name in set(measured) - {answers.split}:
        other = stored_answers(classifier.path, name) or computed_answers(classifier, name)
        if other is not None:
            scored[name] = other.scored
    return selective_of(scored)


def _columns(classifier: Classifier, answers: SplitAnswers | None, by: Sequence[str]) -> dict[str, list[Any]]:
    if not by or answers is None:
        return {}
    config = training_config(classifier)
    if config is None:
        raise InputError("the training data are unknown, so that their columns are", setting=Option("by"))
    places = answers.places
    if places is None:  # a run of an earlier version, whose rows have no names
        places = read_labelled(classifier, None, answers.split, {}).rows.places()
    origin = origin_of(classifier)
    data = origin.locate(config.data)
    if data != config.data and config.data.id is None:
        places = [str(Path(origin.directory or "", place)) for place in places]
    return column_values(data, answers.split, places, by, config.seed)
