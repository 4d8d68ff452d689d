"""Finish a run: measure the best model as `predict` will load it, and write the remaining files of the run."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.read import Split
from textattn.errors import CheckFailed, InputError
from textattn.export.onnx_model import export_onnx
from textattn.inference.classifier import Classifier
from textattn.inference.observed import reference_of
from textattn.inference.session import Floats
from textattn.measure.number_plots import NUMBERS, draw_numbers
from textattn.measure.plots import draw_plots
from textattn.pages.answers import SplitAnswers
from textattn.pages.gather import gather, selective_of
from textattn.pages.html import render_report
from textattn.report import Report
from textattn.runs.dumps import write_attention, write_predictions
from textattn.runs.model_card import model_card
from textattn.runs.setup import Setup
from textattn.runs.training_data import TrainingData
from textattn.storage.records import Folds, History
from textattn.storage.run_dir import RunDir
from textattn.training.processors import limited_blas

# Number of tokens for leave-one-out in the audit at the end of a run; this takes two or three seconds.
TOKENS_OF_SHORT_AUDIT = 400_000
AUDITED_WITH = ("contributions", "attention", "gradient_x_input")
SPLITS = ("train", "validation", "test")
Measured = dict[str, dict[str, Any]]
Probabilities = dict[str, NDArray[np.float64]]


def finish(
    setup: Setup, run: RunDir, history: History, folds: Folds | None, started: float, report: Report
) -> dict[str, Any]:
    """Measure the best model and write the files of a finished run, metrics.json last.

    Args:
        setup: the data and the model of the run.
        run: the run directory.
        history: the course of training.
        folds: the result of cross-validation, if there was one.
        started: the time at which the run started, from `time.time()`.
        report: receives notes and progress.

    Returns:
        The content of metrics.json.
    """
    data, output = setup.data, setup.data.config.output
    exported = _export(run, report)
    report.stage("Measuring the best model")
    classifier = Classifier.load(run.path)
    logits = _answer(classifier, data, report)
    _calibrate(classifier, data, logits, folds)
    run.write_model_config(classifier.config)
    run.seal()
    probs = {name: classifier.logits_to_probabilities(found) for name, found in logits.items()}
    measured = _measure(classifier, data, logits, probs)
    if "validation" in probs:
        reference = reference_of(classifier, data.tokens["validation"], probs["validation"], "validation")
        run.write_reference(reference.to_json())
    splits = data.corpus.splits()
    for name in output.prediction_splits:
        if name in probs:
            write_predictions(run.predictions(name), classifier, splits[name], probs[name])
    for name in output.attention_splits if output.attention_examples else []:
        if name in splits:
            write_attention(run.attention(name), classifier, splits[name], output.attention_examples, data.config.seed)
    run.write_history(history)
    metrics: dict[str, Any] = {
        **measured,
        "best": {
            "metric_for_best_model": history.metric_for_best_model,
            "best_metric": history.best_metric,
            "best_global_step": history.best_global_step,
        },
        "num_parameters": history.num_parameters,
        "temperature": classifier.config.temperature,
        "export": exported,
        "seconds": {"training": round(history.train_runtime, 1), "total": round(time.time() - started, 1)},
    }
    if setup.linear is not None:
        metrics["linear"] = setup.linear.facts
        metrics["seconds"]["linear"] = setup.linear.seconds
    if folds is not None:
        metrics["cross_validation"] = folds.to_json()
    if data.config.training.baseline and (baseline := _baseline(data, probs, measured, report)):
        metrics["baseline"] = baseline
    if output.audit_examples:
        metrics["audit"] = audit_briefly(classifier, data, report)
    answers = {name: SplitAnswers.of(classifier, splits[name], probs[name]) for name in measured}
    is_labelled = classifier.config.target is None
    if is_labelled and (found := selective_of({name: one.scored for name, one in answers.items()})) is not None:
        metrics["selective"] = found
    if output.plots:
        metrics["plots"] = _draw(metrics, history, run, answers, report)
    if output.report:
        _write_report(run, metrics, classifier, answers.get("test") or answers.get("validation"), report)
    metrics["seconds"]["total"] = round(time.time() - started, 1)
    run.write_card(model_card(data.config, setup.model_config, metrics, run.environment()))
    run.write_metrics(metrics)
    return metrics


def _export(run: RunDir, report: Report) -> dict[str, Any]:
    """Write model.onnx, which prediction prefers; if the export fails, the run is finished with torch."""
    try:
        return {"max_difference": export_onnx(run.path)}
    except CheckFailed as error:
        report.note(f"{error.message}. Prediction will use torch, which starts more slowly.")
        return {"failed": error.message}


def _answer(classifier: Classifier, data: TrainingData, report: Report) -> dict[str, Floats]:
    """Compute the logits of every split that is measured or written to a file."""
    wanted = {"validation", "test", *data.config.output.prediction_splits}
    logits: dict[str, Floats] = {}
    for name in SPLITS:
        if name in wanted and name in data.tokens:
            with report.progress(f"Measuring on {name}", len(data.tokens[name]), "texts") as advance:
                logits[name] = classifier.logits(data.tokens[name], advance)
    return logits


def _calibrate(classifier: Classifier, data: TrainingData, logits: dict[str, Floats], folds: Folds | None) -> None:
    """Set temperature and thresholds from the validation split, or else from the folds, or else to neutral values."""
    validation, training = data.corpus.validation, data.config.training
    temperature = classifier.config.temperature
    if training.calibration == "temperature" and validation is not None:
        temperature = data.task.temperature(logits["validation"], validation.labels)
    elif folds is not None:
        temperature = folds.temperature
    classifier.config = replace(classifier.config, temperature=temperature)
    # Thresholds are part of the model, so they are always set: without validation rows, to neutral values.
    thresholds = data.task.neutral_thresholds if folds is None else folds.thresholds
    target = classifier.config.target
    if target is not None and folds is not None:
        target = replace(target, margin=folds.margin)
    if validation is not None:
        probs = classifier.logits_to_probabilities(logits["validation"])
        thresholds = data.task.choose_thresholds(validation.labels, probs)
        target = data.task.calibrated(validation.labels, probs).target
    classifier.config = replace(classifier.config, thresholds=thresholds, target=target)


def _measure(classifier: Classifier, data: TrainingData, logits: dict[str, Floats], probs: Probabilities) -> Measured:
    """Compute the metrics of the validation and the test split."""
    uncalibrated = classifier.uncalibrated()
    splits = data.corpus.splits()
    return {
        name: classifier.task.measure(
            splits[name].labels,
            probs[name],
            headline=data.metric,
            thresholds=classifier.config.thresholds,
            uncalibrated=uncalibrated.logits_to_probabilities(logits[name]),
            seed=data.config.seed,
        )
        | {"num_truncated": data.tokens[name].num_truncated}
        for name in ("validation", "test")
        if name in probs
    }


def audited_split(data: TrainingData) -> Split:
    """The split for the short audit. It may be the test split, because the audit does not select anything."""
    splits = data.corpus.splits()
    return splits[next(name for name in ("test", "validation", "train") if name in splits)]


def audit_briefly(classifier: Classifier, data: TrainingData, report: Report) -> dict[str, Any]:
    """Run a short form of `textattn audit`: contributions, attention, another method and chance, on few texts."""
    from textattn.explain.audit import audit

    examples, split = data.config.output.audit_examples, audited_split(data)
    report.stage(f"Auditing the explanations on {min(examples, len(split)):,} texts of {split.name}")
    return audit(
        classifier,
        split,
        examples=examples,
        methods=AUDITED_WITH,
        seed=data.config.seed,
        slow_tokens=TOKENS_OF_SHORT_AUDIT,
        thorough=False,
        report=report,
    )


def _baseline(data: TrainingData, probs: Probabilities, measured: Measured, report: Report) -> dict[str, Any] | None:
    """Train and measure a linear model; None if that fails, because the trained model must not be lost."""
    from textattn.runs.baseline import against_baseline, train_baseline

    report.stage("Training a linear model for comparison")
    try:
        with limited_blas():
            facts, baseline = train_baseline(data, report)
    except InputError as error:
        report.note(error.message)
        return None
    return facts | {"against": against_baseline(data, facts, baseline, probs, measured)}


def _write_report(
    run: RunDir, metrics: dict[str, Any], classifier: Classifier, answers: SplitAnswers | None, report: Report
) -> None:
    """Write report.html. An error must not end a run whose model is trained; `textattn report` shows it again."""
    try:
        run.write_report(render_report(gather(run, metrics, classifier, answers)))
    except Exception as error:
        report.note(f"the report could not be written ({type(error).__name__}: {error})")


def _draw(
    metrics: dict[str, Any], history: History, run: RunDir, answers: dict[str, SplitAnswers], report: Report
) -> list[str]:
    """Draw the plots. An error, such as a label that cannot be drawn, must not end a run whose model is trained."""
    try:
        drawn = draw_plots(metrics, history.log_history, run.plots)
        numeric = answers.get("test") or answers.get("validation")
        if numeric is not None and numeric.truth.dtype.kind == "f":
            draw_numbers(numeric.truth, numeric.decided, numeric.labels[0], numeric.split, run.plots / NUMBERS)
            drawn.append(NUMBERS)
        return drawn
    except Exception as error:
        report.note(f"the plots could not be drawn ({type(error).__name__}: {error})")
        return []
