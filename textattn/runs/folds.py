"""When to stop, found by cross-validation: where texts are too few to set some of them aside.

The texts are cut into folds. Each fold is answered by a model that learns from the others, again and again while that
model trains; training then learns from all the texts, on the same schedule, and stops where the answers for all folds
together were best. They also say how good the model is likely to be, and calibrate it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.measure.calibration import fit_temperature
from textattn.config import Config
from textattn.data.read import Corpus, Split
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.errors import ConfigError
from textattn.runs.fit import make_loop
from textattn.measure.metrics import GREATER_IS_BETTER, choose_thresholds, compute_metrics, select_metric
from textattn.model.classifier import TextClassifier
from textattn.storage.model_files import ModelConfig
from textattn.runs.prepare import choose_metric
from textattn.report import Report
from textattn.inference.session import run_in_batches, to_probabilities
from textattn.inference.torch_session import TorchSession
from textattn.report import Evaluation
from textattn.training.optimizer import Placement

Int64s = NDArray[np.int64]
Floats = NDArray[np.float32]


def cross_validate(
    config: Config,
    model: TextClassifier,
    model_config: ModelConfig,
    corpus: Corpus,
    tokens: TokenArrays,
    tokenizer: TextTokenizer,
    placement: Placement,
    weights: torch.Tensor | None,
    report: Report,
) -> dict[str, Any]:
    """The metrics of all labelled training texts, each answered by a model that has not learnt from it.

    They are of the epoch at which the answers are best, and so a little better than those of new texts will be. Texts
    with labels from a teacher are learnt from in every fold, and count in none.

    Args:
        model: as training begins; each fold trains a copy.
        tokens: of the training texts.
        weights: (labels,) of the loss.

    Returns:
        For JSON: what `compute_metrics` gives, `num_folds`, `epoch` to stop after, `by_epoch` (the value of the metric
        after each), and `temperature` and `thresholds` for the model.

    Raises:
        ConfigError: the metric is not defined on these texts.
        Diverged: the loss is not a finite number.
    """
    labels = corpus.labelled().train.labels
    folds = folds_of(labels, config)
    metric = choose_metric(config.training, corpus.multi_label)
    found: dict[int, Floats] = {}  # by the number of evaluations until then
    parts = config.training.evaluations_per_epoch
    report.stage(f"Cross-validating {len(folds)} folds of {len(labels):,} texts")
    per_fold = config.training.epochs * parts
    with report.progress("Cross-validating", len(folds) * per_fold, "evaluations") as advance:
        for fold, rows in enumerate(folds):
            rest = np.setdiff1d(np.arange(len(corpus.train)), rows)
            train, held = tokens.take(rest), tokens.take(rows)
            answers = _answers(
                config, copy.deepcopy(model), model_config, corpus.train.take(rest), train, held, tokenizer,
                placement, weights,
            )  # fmt: skip
            for epoch, logits in answers:
                at = round(epoch * parts)  # not to the last digit the same epoch in all folds
                found.setdefault(at, np.full((len(labels), logits.shape[1]), np.nan, np.float32))[rows] = logits
                advance(fold * per_fold + at)

    def value_of(logits: Floats) -> float:
        probs = to_probabilities(logits, model_config.output, len(corpus.labels))
        return select_metric(metric, labels, probs, corpus.multi_label)

    # Where a fold has fewer steps in an epoch than evaluations, it may lack one of the others.
    values = {at: value_of(logits) for at, logits in sorted(found.items()) if not np.isnan(logits).any()}
    defined = {at: value for at, value in values.items() if value == value}
    if not defined:
        raise ConfigError(
            f"training.cross_validation: {metric} is not defined on the answers for these {len(labels)} texts",
            f"training.metric={'micro_f1' if corpus.multi_label else 'accuracy'}",
        )
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    # The first of equals: less trained.
    best = max(defined, key=lambda at: sign * defined[at])
    logits = found[best]
    temperature = fit_temperature(logits, labels) if config.training.calibration == "temperature" else 1.0
    probs = to_probabilities(logits / temperature, model_config.output, len(corpus.labels))
    thresholds = choose_thresholds(labels, probs) if corpus.multi_label else None
    report.note(
        f"cross-validation: {metric} {values[best]:.4f} after {best / parts:g} of {config.training.epochs} epochs; "
        "training stops there"
    )
    return {
        **compute_metrics(
            labels,
            probs,
            corpus.labels,
            headline=metric,
            thresholds=thresholds,
            uncalibrated=to_probabilities(logits, model_config.output, len(corpus.labels)),
            seed=config.seed,
        ),
        "num_folds": len(folds),
        "epoch": best / parts,
        "by_epoch": [[at / parts, defined.get(at)] for at in values],
        "temperature": temperature,
        "thresholds": thresholds,
    }


def _answers(
    config: Config,
    model: TextClassifier,
    model_config: ModelConfig,
    train: Split,
    tokens: TokenArrays,
    held: TokenArrays,
    tokenizer: TextTokenizer,
    placement: Placement,
    weights: torch.Tensor | None,
) -> Iterator[tuple[float, Floats]]:
    """The epoch and the logits for the texts of a fold, evaluation by evaluation."""
    session = TorchSession(model, str(placement.device))
    logits = np.zeros(0, np.float32)

    def evaluate(_: torch.nn.Module) -> float:
        nonlocal logits
        logits = run_in_batches(session, held, tokenizer.pad_id).logits
        return 0.0

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        loop = make_loop(config, model, model_config, train, tokens, tokenizer, placement, weights, evaluate)
        for event in loop:
            if isinstance(event, Evaluation):
                yield event.epoch, logits


def folds_of(labels: NDArray[np.integer[Any]], config: Config) -> list[Int64s]:
    """The rows of each fold: of each label nearly as many as of the others, where a row has one label.

    They are drawn at random, or with `data.validation_rows: last` those that follow one another.
    """
    number = config.training.cross_validation
    assert number is not None
    generator = np.random.default_rng(config.seed)
    groups = [np.arange(len(labels))]
    if labels.ndim == 1:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    parts: list[list[Int64s]] = [[] for _ in range(number)]
    offset = 0
    for rows in groups:
        at_random = config.data.validation_rows == "random"
        for i, part in enumerate(np.array_split(generator.permutation(rows) if at_random else rows, number)):
            # Those that are longer by one are not always the first folds. Rows that follow one another stay where
            # those of the other labels are: they may be of the same film.
            parts[(i + offset) % number].append(part)
        offset += len(rows) % number if at_random else 0
    return [np.sort(np.concatenate(part)) for part in parts]
