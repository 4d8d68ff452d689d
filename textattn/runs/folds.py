"""Cross-validation, where texts are too few to set some of them aside: how good the model is, and when to stop.

The texts are cut into folds. Each fold is answered, evaluation by evaluation, by a model that learns from the others.
Training then learns from all the texts, on the same schedule, and stops at the epoch at which the answers for all folds
together were best. Those answers also say how good the model is likely to be, and calibrate it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.config import Config
from textattn.errors import ConfigError
from textattn.inference.session import Floats, run_in_batches
from textattn.inference.torch_session import TorchSession
from textattn.measure.calibration import fit_temperature
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.report import Evaluation, Report
from textattn.runs.setup import Setup
from textattn.storage.records import Folds
from textattn.tasks.base import Labels

Rows = NDArray[np.int64]


def cross_validate(setup: Setup, report: Report) -> Folds:
    """Answers all labelled training texts by models that have not learned from them.

    The metrics are those of the epoch at which the answers are best, and so a little better than those of new texts
    will be. Texts with labels from a teacher are learned from in every fold, and count in none.

    Args:
        setup: as training begins; each fold trains a copy of its model.

    Raises:
        ConfigError: the metric is not defined on these texts.
        Diverged: the loss is not a finite number.
    """
    data = setup.data
    labels = data.corpus.labelled().train.labels
    folds = folds_of(data.task.strata(labels), data.config)
    report.stage(f"Cross-validating {len(folds)} folds of {len(labels):,} texts")
    logits_by_evaluation = _answer_folds(setup, folds, len(labels), report)
    return _measure(setup, labels, len(folds), logits_by_evaluation, report)


def folds_of(strata: list[Rows], config: Config) -> list[Rows]:
    """The rows of each fold, nearly the same number from each stratum.

    They are drawn at random, or with `data.validation_rows: last` those that follow one another.

    Args:
        strata: rows of the same label, where a row has one; `Task.strata` gives them.
    """
    number = config.training.cross_validation
    assert number is not None
    generator = np.random.default_rng(config.seed)
    at_random = config.data.validation_rows == "random"
    parts: list[list[Rows]] = [[] for _ in range(number)]
    offset = 0
    for rows in strata:
        for i, part in enumerate(np.array_split(generator.permutation(rows) if at_random else rows, number)):
            # Those that are longer by one are not always the first folds. Rows that follow one another stay where
            # those of the other labels are: they may be of the same film.
            parts[(i + offset) % number].append(part)
        offset += len(rows) % number if at_random else 0
    return [np.sort(np.concatenate(part)) for part in parts]


def _answer_folds(setup: Setup, folds: list[Rows], num_labelled: int, report: Report) -> dict[int, Floats]:
    """(rows, num_outputs) logits of all labelled texts, by the number of evaluations until then; nan where missing."""
    training = setup.data.config.training
    per_epoch = training.evaluations_per_epoch
    per_fold = training.epochs * per_epoch
    found: dict[int, Floats] = {}
    with report.progress("Cross-validating", len(folds) * per_fold, "evaluations") as advance:
        for number, rows in enumerate(folds):
            for epoch, logits in _answer_fold(setup, rows):
                at = round(epoch * per_epoch)  # the same epoch may differ between folds in its last digits
                found.setdefault(at, np.full((num_labelled, logits.shape[1]), np.nan, np.float32))[rows] = logits
                advance(number * per_fold + at)
    return found


def _answer_fold(setup: Setup, rows: Rows) -> Iterator[tuple[float, Floats]]:
    """The epoch and the logits for the texts of a fold, evaluation by evaluation."""
    data = setup.data
    own = setup.with_model(copy.deepcopy(setup.model))
    rest = np.setdiff1d(np.arange(len(data.corpus.train)), rows)
    held_out = data.tokens["train"].take(rows)
    session = TorchSession(own.model, str(setup.placement.device))
    with torch.random.fork_rng():
        torch.manual_seed(data.config.seed)
        for event in own.loop(examples=data.examples.take(rest)):
            if isinstance(event, Evaluation):
                # The loop waits, and its model is left as an evaluation would leave it.
                own.model.eval()
                logits = run_in_batches(session, held_out, data.tokenizer.pad_id).logits
                own.model.train()
                yield event.epoch, logits


def _measure(
    setup: Setup, labels: Labels, num_folds: int, logits_by_evaluation: dict[int, Floats], report: Report
) -> Folds:
    """The best evaluation, and what it is worth."""
    data, training = setup.data, setup.data.config.training
    task, metric, per_epoch = data.task, data.metric, training.evaluations_per_epoch
    # Where a fold has fewer steps in an epoch than evaluations, it may lack one that others have.
    values = {
        at: task.selection_value(metric, labels, task.probabilities(logits))
        for at, logits in sorted(logits_by_evaluation.items())
        if not np.isnan(logits).any()
    }
    defined = {at: value for at, value in values.items() if not np.isnan(value)}
    if not defined:
        raise ConfigError(
            f"training.cross_validation: {metric} is not defined on the answers for these {len(labels)} texts",
            f"training.metric={task.default_metric}",
        )
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    # Of equals the first, which is trained less.
    best = max(defined, key=lambda at: sign * defined[at])
    logits = logits_by_evaluation[best]
    temperature = fit_temperature(logits, labels) if training.calibration == "temperature" else 1.0
    probs = task.probabilities(logits / temperature)
    thresholds = task.choose_thresholds(labels, probs)
    report.note(
        f"cross-validation: {metric} {values[best]:.4f} after {best / per_epoch:g} of {training.epochs} epochs; "
        "training stops there"
    )
    measured = task.measure(
        labels,
        probs,
        headline=metric,
        thresholds=thresholds,
        uncalibrated=task.probabilities(logits),
        seed=data.config.seed,
    )
    by_epoch = [[at / per_epoch, defined.get(at)] for at in values]
    return Folds(measured, num_folds, best / per_epoch, by_epoch, temperature, thresholds)
