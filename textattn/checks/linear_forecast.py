"""Forecasts how long a linear part takes to fit, and how much memory, from a fit to some of the texts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from textattn.report import Report
from textattn.runs.linear import LinearPart, fit_again, fit_linear_part
from textattn.runs.training_data import TrainingData
from textattn.training.memory import peak_memory

# The tokens times the labels of the texts that are fitted to, and the least number of texts.
WORK, FEWEST = 1_500_000, 200


@dataclass(frozen=True)
class LinearForecast:
    """The time and memory that the linear part of a run takes."""

    sample: TrainingData
    """The data with fewer training texts, as many as were fitted to."""
    part: LinearPart
    """What was fitted to the sample."""
    seconds: float
    seconds_of_fold: float
    """Seconds for each fold of cross-validation; 0 without it."""
    bytes: int
    """Memory that is free again afterwards."""


def forecast_linear(data: TrainingData) -> LinearForecast:
    """Forecast the fit of a linear part.

    Args:
        data: its `model.linear` is `first` or `only`.
    """
    labelled = data.labelled_by_people()
    tokens, train = labelled.tokens["train"], labelled.corpus.train
    work = max(1, int(tokens.lengths.sum())) * data.task.num_outputs
    folds = data.config.training.cross_validation
    number = min(len(train), max(FEWEST, round(len(train) * WORK / work), 2 * (folds or 0)))
    rows = np.asarray((np.arange(number) + 0.5) * len(train) / number, np.int64)
    corpus = replace(labelled.corpus, train=train.take(rows))
    sample = replace(labelled, corpus=corpus, tokens=labelled.tokens | {"train": tokens.take(rows)})
    before, started = peak_memory(), time.perf_counter()
    part = fit_linear_part(sample, Report())
    seconds, of_fold = time.perf_counter() - started, 0.0
    if folds is not None:
        started = time.perf_counter()
        fit_again(part, sample, np.arange(number // folds, number))
        of_fold = time.perf_counter() - started
    # The time and the memory of a fit are about proportional to the tokens.
    ratio = int(data.tokens["train"].lengths.sum()) / max(1, int(sample.tokens["train"].lengths.sum()))
    growth = max(0, peak_memory() - before)
    return LinearForecast(sample, part, seconds * ratio, of_fold * ratio, round(growth * ratio))
