"""Cross-validation, for data that are too small for a validation split: estimates the metrics and when to stop.

The texts are divided into folds. The texts of each fold are predicted, at every evaluation, by a model that is trained
on the other folds. The final model is then trained on all texts with the same schedule, and training stops at the epoch
at which the predictions for all folds together were best. These predictions also estimate the metrics of the final
model and calibrate it. A linear part that is fitted before the network is fitted anew for each fold, and its answers
alone count as those of epoch 0.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.config import Config
from textattn.data.splits import grouped_folds
from textattn.errors import ConfigError
from textattn.inference.session import Floats, run_in_batches
from textattn.inference.torch_session import TorchSession
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.report import Evaluation, Report, short_epoch
from textattn.runs.linear import fit_again
from textattn.runs.setup import Setup
from textattn.storage.records import Folds
from textattn.tasks.base import Labels

Rows = NDArray[np.int64]


def cross_validate(setup: Setup, report: Report) -> Folds:
    """Predict all labelled training texts by models that have not been trained on them.

    The metrics are those of the epoch with the best predictions, so they are slightly better than on new texts. Texts
    that were labelled by a teacher are used for training with every fold, but are not measured.

    Args:
        setup: the setup at the start of training; a copy of its model is trained for each fold.
        report: receives notes and progress.

    Raises:
        ConfigError: the metric is not defined on these texts.
        Diverged: the loss is not a finite number.
    """
    data = setup.data
    train = data.corpus.labelled().train
    labels = train.labels
    settings = data.config.data
    if settings.group is not None:
        assert train.info is not None
        assert train.info.groups is not None
        number = data.config.training.cross_validation
        assert number is not None
        folds = grouped_folds(labels, train.info.groups, number, data.config.seed, settings)
    else:
        # In the order of time, the folds are parts of it, whatever their labels.
        in_order = settings.time is not None
        folds = folds_of([np.arange(len(train))] if in_order else data.task.strata(labels), data.config)
    report.stage(f"Cross-validating {len(folds)} folds of {len(labels):,} texts")
    logits_by_evaluation = _answer_folds(setup, folds, len(labels), report)
    return _measure(setup, labels, len(folds), logits_by_evaluation, report)


def folds_of(strata: list[Rows], config: Config) -> list[Rows]:
    """Divide the rows into folds, with nearly the same number of rows of each stratum in every fold.

    The rows of a fold are drawn at random, or are consecutive with `data.validation_rows: last` and with `data.time`.

    Args:
        strata: the rows of each label (single-label data), as `Task.strata` returns them.
        config: the config of the run.
    """
    number = config.training.cross_validation
    assert number is not None
    generator = np.random.default_rng(config.seed)
    at_random = config.data.validation_rows == "random" and config.data.time is None
    parts: list[list[Rows]] = [[] for _ in range(number)]
    offset = 0
    for rows in strata:
        for i, part in enumerate(np.array_split(generator.permutation(rows) if at_random else rows, number)):
            # The offset makes different folds larger by one row. Consecutive rows get no offset: they stay in the same
            # fold as their neighbours with other labels, which may be about the same film.
            parts[(i + offset) % number].append(part)
        offset += len(rows) % number if at_random else 0
    return [np.sort(np.concatenate(part)) for part in parts]


def _answer_folds(setup: Setup, folds: list[Rows], num_labelled: int, report: Report) -> dict[int, Floats]:
    """Compute the logits of all labelled texts at each evaluation.

    Returns:
        (rows, num_outputs) logits by the number of the evaluation; NaN in the rows of folds that lack the evaluation.
    """
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
    """Yield the epoch and the logits of the texts of a fold at each evaluation."""
    data = setup.data
    of_fold = setup.with_model(copy.deepcopy(setup.model))
    rest = np.setdiff1d(np.arange(len(data.corpus.train)), rows)
    held_out = data.tokens["train"].take(rows)
    session = TorchSession(of_fold.model, str(setup.placement.device))
    examples = data.examples.take(rest)

    def answers() -> Floats:
        of_fold.model.eval()
        logits = run_in_batches(session, held_out, data.tokenizer.pad_id).logits
        # The loop continues after this, so the model must be in training mode again.
        of_fold.model.train()
        return logits

    if setup.linear is not None:
        linear = fit_again(setup.linear, data, rest)
        linear.install(of_fold.model)
        examples = replace(examples, ngram_logits=linear.out_of_fold)
        yield 0.0, answers()
        if data.config.model.linear == "only":
            return
    with torch.random.fork_rng():
        torch.manual_seed(data.config.seed)
        for event in of_fold.loop(examples=examples):
            if isinstance(event, Evaluation):
                yield event.epoch, answers()


def _measure(
    setup: Setup, labels: Labels, num_folds: int, logits_by_evaluation: dict[int, Floats], report: Report
) -> Folds:
    """Select the best evaluation and measure its predictions."""
    data, training = setup.data, setup.data.config.training
    task, metric, per_epoch = data.task, data.metric, training.evaluations_per_epoch
    # A fold with fewer steps than evaluations in an epoch may lack evaluations that other folds have.
    values = {
        at: task.selection_value(metric, labels, task.probabilities(logits))
        for at, logits in sorted(logits_by_evaluation.items())
        if not np.isnan(logits).any()
    }
    defined = {at: value for at, value in values.items() if not np.isnan(value)}
    if not defined:
        raise ConfigError(
            f"{metric} is not defined for the predictions on these {len(labels)} texts",
            f"training.metric={task.default_metric}",
            setting="training.cross_validation",
        )
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    # Of equal values the first is chosen, because its model is trained less.
    best = max(defined, key=lambda at: sign * defined[at])
    logits = logits_by_evaluation[best]
    temperature = task.temperature(logits, labels) if training.calibration == "temperature" else 1.0
    probs = task.probabilities(logits / temperature)
    thresholds = task.choose_thresholds(labels, probs)
    found = f"cross-validation: the best {metric} is {values[best]:.4f}, "
    if data.config.model.linear == "only":
        found = f"cross-validation: {metric} {values[best]:.4f}"
    elif best:
        found += f"after {short_epoch(best / per_epoch)} of {training.epochs} epochs; training will stop after as many"
    else:
        found += "of the linear model alone, so there will be no network"
    report.note(found)
    measured = task.measure(
        labels,
        probs,
        headline=metric,
        thresholds=thresholds,
        uncalibrated=task.probabilities(logits),
        seed=data.config.seed,
    )
    by_epoch = [[at / per_epoch, defined.get(at)] for at in values]
    target = task.calibrated(labels, probs).target
    margin = None if target is None else target.margin
    return Folds(measured, num_folds, best / per_epoch, by_epoch, temperature, thresholds, margin)
