"""One training run from a config to a finished run directory. The order of the steps is the order of the file."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn import __version__
from textattn.storage import run_dir
from textattn.measure.calibration import fit_temperature
from textattn.runs.checkpoints import (
    check_same_config,
    check_same_data,
    has_checkpoint,
    load_checkpoint,
    remove_checkpoints,
)
from textattn.config import Config, dump_config
from textattn.runs.folds import cross_validate
from textattn.data.read import Corpus
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.errors import CheckFailed, Elsewhere, InputError, TrainingError
from textattn.export.onnx_model import export_onnx
from textattn.runs.fit import fit
from textattn.measure.metrics import choose_thresholds, compute_metrics
from textattn.runs.model_card import model_card
from textattn.storage.model_files import ModelConfig
from textattn.measure.plots import draw_plots
from textattn.runs.prepare import build_model, prepare_data, without_vectors
from textattn.training.processes import Processes, join_processes, number_of_processes, rank_of_process
from textattn.report import Report
from textattn.inference.classifier import Classifier
from textattn.runs.dumps import write_attention, write_predictions
from textattn.inference.session import Floats
from textattn.runs.signals import Interrupted, Terminated, signal_number
from textattn.runs.tracking import tracked
from textattn.training.state import Checkpoint
from textattn.training.loss import label_weights
from textattn.training.optimizer import choose_placement

# Of leave-one-out in the audit that ends a run: two or three seconds.
TOKENS_OF_SHORT_AUDIT = 400_000
PACKAGES = (
    "torch",
    "tokenizers",
    "datasets",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "gensim",
    "onnx",
    "onnxruntime",
    "safetensors",
    "pydantic",
)


def train(
    config: Config,
    *,
    name: str = "run",
    overwrite: bool = False,
    resume: bool = False,
    report: Report | None = None,
    command: str | None = None,
) -> Path:
    """Trains as the config says and returns the run directory.

    Args:
        name: goes into the default run directory, runs/<name>/<time>.
        overwrite: replace what an earlier run left in the directory.
        resume: go on with the run in `output.dir`, or with the newest of that name; where there is none, begin one.
        report: is told what happens; default: nobody.
        command: the command line, for environment.json.

    Raises:
        TextattnError: see `textattn.errors`; `Interrupted` on Ctrl-C or SIGTERM.
    """
    if rank_of_process() > 0:  # the first speaks
        return _train(config, name, overwrite, resume, Report(), command)
    with tracked(config, name, report or Report()) as told:
        return _train(config, name, overwrite, resume, told, command)


def _train(config: Config, name: str, overwrite: bool, resume: bool, report: Report, command: str | None) -> Path:
    started = time.time()
    placement = choose_placement(config.training)
    with join_processes(placement.device.type) as processes:
        place = processes.first(lambda: _choose_place(config, name, overwrite, resume, report))
        run, goes_on = Path(place["run"]), place["goes_on"]
        if place["finished"]:
            return run
        config, (corpus, tokenizer, tokens) = processes.in_turn(partial(prepare_data, config, report))
        checkpoint = None
        if goes_on:
            checkpoint = _load_checkpoint(run, config, corpus, tokenizer, processes, report)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            # The weights of a checkpoint come in the place of word vectors.
            of_model = config if checkpoint is None else without_vectors(config)
            model, model_config, facts = processes.in_turn(lambda: build_model(of_model, corpus, tokenizer, report))
            weights = label_weights(config.training.class_weights, corpus.train.labels, corpus.labels)
            model = model.to(placement.device)
            folds: dict[str, Any] | None = None
            if checkpoint is None:

                def begin() -> dict[str, Any] | None:
                    found = None
                    if config.training.cross_validation is not None:
                        found = cross_validate(
                            config,
                            model,
                            model_config,
                            corpus,
                            tokens["train"],
                            tokenizer,
                            placement,
                            weights,
                            report,
                        )
                    run_dir.prepare_dir(run, overwrite or goes_on)
                    _write_beginning(run, config, corpus, tokenizer, model_config, facts, command, found)
                    return found

                folds = processes.first(begin)
            elif config.training.cross_validation is not None:
                folds = processes.first(lambda: run_dir.read_json(run / run_dir.CROSS_VALIDATION))
            report.begun(run, 0 if checkpoint is None else checkpoint.state["progress"]["global_step"])
            try:
                history = fit(
                    config, run, model, model_config, corpus, tokens, tokenizer, placement,
                    weights, checkpoint, processes, None if folds is None else folds["epoch"], report,
                )  # fmt: skip
            except TrainingError as error:
                # The first has met the same.
                raise error if processes.is_first else Elsewhere(error.exit_code) from None
    if not processes.is_first:
        return run
    try:
        metrics = _finish(config, run, corpus, tokenizer, tokens, model_config, history, folds, started, report)
    except (KeyboardInterrupt, Terminated) as stop:
        raise Interrupted(
            signal_number(stop),
            f"interrupted while measuring; training was complete, the best model is in {run}",
            f"textattn evaluate --model {run}",
        ) from None
    remove_checkpoints(run)
    report.finished(run, metrics)
    return run


def _choose_place(config: Config, name: str, overwrite: bool, resume: bool, report: Report) -> dict[str, Any]:
    """Which directory to write to, whether to go on with the run in it, and whether that is finished."""
    run = _choose_dir(config, name, resume)
    goes_on = resume and run_dir.is_run(run)
    finished = goes_on and run_dir.is_finished(run)
    if goes_on:
        check_same_config(run, config)
        if finished:
            report.note(f"{run} is finished; there is nothing to go on with")
            remove_checkpoints(run)  # where it was killed after its last file
    else:
        run_dir.check_dir(run, overwrite)  # refuses now, before minutes of reading
        if resume:
            report.note(f"no run to go on with in {run}; a new one begins")
    return {"run": str(run), "goes_on": goes_on, "finished": finished}


def _load_checkpoint(
    run: Path, config: Config, corpus: Corpus, tokenizer: TextTokenizer, processes: Processes, report: Report
) -> Checkpoint | None:
    """The newest, read by the first process for all of them; None where there is none."""
    content = b""

    def read() -> None:
        nonlocal content
        checkpoint = None
        if has_checkpoint(run):
            check_same_config(run, config)  # now with what its recipe has set
            check_same_data(run, corpus, tokenizer, report)
            checkpoint = load_checkpoint(run, report)
        if checkpoint is None:
            report.note(f"{run} has no checkpoint to go on from; it begins again")
        else:
            content = checkpoint.to_bytes()

    processes.first(read)
    content = processes.bytes_of_first(content)
    return Checkpoint.from_bytes(content) if content else None


def _choose_dir(config: Config, name: str, resume: bool) -> Path:
    if config.output.dir is not None:
        return Path(config.output.dir)
    runs = run_dir.RUNS / name
    if resume and (earlier := [path for path in sorted(runs.glob("*")) if run_dir.is_run(path)]):
        return earlier[-1]
    return runs / datetime.now().strftime("%Y-%m-%dT%H-%M-%S")


def _write_beginning(
    run: Path,
    config: Config,
    corpus: Corpus,
    tokenizer: TextTokenizer,
    model_config: ModelConfig,
    vector_facts: dict[str, Any],
    command: str | None,
    folds: dict[str, Any] | None,
) -> None:
    """Everything that is known before the first step, so that an interrupted run can be loaded."""
    # First, because it is what marks a directory as a run.
    run_dir.write_text(run / run_dir.TRAINING_CONFIG, dump_config(config))
    for name, content in tokenizer.to_files().items():
        run_dir.write_text(run / name, content)
    run_dir.write_json(run / run_dir.CONFIG, model_config.to_json())
    if folds is not None:
        run_dir.write_json(run / run_dir.CROSS_VALIDATION, folds)
    run_dir.write_json(
        run / run_dir.ENVIRONMENT,
        {
            "textattn": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": number_of_processes(),
            "packages": dict(_versions()),
            "command": command or " ".join(sys.argv),
            "seed": config.seed,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "dataset": {
                "source": corpus.source,
                "revision": corpus.revision,
                "notes": corpus.notes,
                "num_pseudo_labelled": corpus.num_pseudo_labelled,
                "num_unlabelled": sum(map(len, corpus.unlabelled)),
                "unlabelled_sha256": [texts.fingerprint() for texts in corpus.unlabelled],
                "splits": {
                    name: {"num_examples": len(split), "sha256": split.fingerprint()}
                    for name, split in corpus.splits().items()
                },
            },
            "word_vectors": vector_facts,
        },
    )


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _finish(
    config: Config,
    run: Path,
    corpus: Corpus,
    tokenizer: TextTokenizer,
    tokens: dict[str, TokenArrays],
    model_config: ModelConfig,
    history: dict[str, Any],
    folds: dict[str, Any] | None,
    started: float,
    report: Report,
) -> dict[str, Any]:
    """Measures the best model as `predict` will load it, and writes what a finished run holds; metrics.json last."""
    exported = _export(run, report)
    report.stage("Measuring the best model")
    classifier = Classifier.load(run)
    metric = history["metric_for_best_model"]
    measured: dict[str, dict[str, Any]] = {}
    logits: dict[str, Floats] = {}
    wanted = ["validation", "test", *config.output.prediction_splits]
    for name in [n for n in ("train", "validation", "test") if n in wanted and n in tokens]:
        with report.progress(f"Measuring on {name}", len(tokens[name]), "texts") as advance:
            logits[name] = classifier.logits(tokens[name], advance)
    if config.training.calibration == "temperature" and corpus.validation is not None:
        temperature = fit_temperature(logits["validation"], corpus.validation.labels)
        classifier.config = replace(classifier.config, temperature=temperature)
    elif folds is not None:
        classifier.config = replace(classifier.config, temperature=folds["temperature"])
    probs = {name: classifier.logits_to_probabilities(found) for name, found in logits.items()}
    if corpus.multi_label:
        # Thresholds are part of the model; without validation rows the neutral 0.5 is all there is.
        thresholds = [0.5] * len(corpus.labels) if folds is None else folds["thresholds"]
        if corpus.validation is not None:
            thresholds = choose_thresholds(corpus.validation.labels, probs["validation"])
        classifier.config = replace(classifier.config, thresholds=thresholds)
    run_dir.write_json(run / run_dir.CONFIG, classifier.config.to_json())
    for name in [n for n in ("validation", "test") if n in probs]:
        measured[name] = compute_metrics(
            corpus.splits()[name].labels,
            probs[name],
            corpus.labels,
            headline=metric,
            thresholds=classifier.config.thresholds,
            uncalibrated=classifier.uncalibrated().logits_to_probabilities(logits[name]),
            seed=config.seed,
        )
        measured[name]["num_truncated"] = tokens[name].num_truncated
    for name in config.output.prediction_splits:
        if name in probs:
            path = run / run_dir.PREDICTIONS / f"{name}.parquet"
            write_predictions(path, classifier, corpus.splits()[name], probs[name])
    for name in config.output.attention_splits if config.output.attention_examples else []:
        if name in tokens:
            path = run / run_dir.ATTENTION / f"{name}.parquet"
            write_attention(path, classifier, corpus.splits()[name], config.output.attention_examples, config.seed)
    run_dir.write_json(run / run_dir.TRAINER_STATE, history)
    metrics: dict[str, Any] = {
        **measured,
        "best": {k: history[k] for k in ("metric_for_best_model", "best_metric", "best_global_step")},
        "num_parameters": history["num_parameters"],
        "temperature": classifier.config.temperature,
        "export": exported,
        "seconds": {"training": round(history["train_runtime"], 1), "total": round(time.time() - started, 1)},
    }
    if folds is not None:
        metrics["cross_validation"] = folds
    if config.training.baseline and (baseline := _baseline(config, corpus, metric, probs, measured, report)):
        metrics["baseline"] = baseline
    if config.output.audit_examples:
        metrics["audit"] = _audit(config, classifier, corpus, report)
    if config.output.plots:
        metrics["plots"] = _draw(metrics, history, run, report)
    metrics["seconds"]["total"] = round(time.time() - started, 1)
    environment = run_dir.read_json(run / run_dir.ENVIRONMENT)
    run_dir.write_text(run / run_dir.MODEL_CARD, model_card(config, model_config, metrics, environment))
    run_dir.write_json(run / run_dir.METRICS, metrics)
    return metrics


def _audit(config: Config, classifier: Classifier, corpus: Corpus, report: Report) -> dict[str, Any]:
    """The short form of `textattn audit`: attention, one other method and chance, on few texts. It chooses nothing."""
    from textattn.explain.audit import audit

    splits = corpus.splits()
    name = next(name for name in ("test", "validation", "train") if name in splits)
    report.stage(f"Auditing the attention on {min(config.output.audit_examples, len(splits[name])):,} texts of {name}")
    return audit(
        classifier,
        splits[name],
        examples=config.output.audit_examples,
        methods=("attention", "gradient_x_input"),
        seed=config.seed,
        slow_tokens=TOKENS_OF_SHORT_AUDIT,
        report=report,
    )


def _baseline(
    config: Config,
    corpus: Corpus,
    metric: str,
    probs: dict[str, NDArray[np.float64]],
    measured: dict[str, dict[str, Any]],
    report: Report,
) -> dict[str, Any] | None:
    from textattn.measure.baseline import against_baseline, train_baseline

    report.stage("Training a linear model to compare with")
    try:
        facts, baseline = train_baseline(corpus.labelled(), config.tokenizer.type, metric, config.seed, report)
    except InputError as error:  # is no reason to lose the model
        report.note(error.message)
        return None
    return facts | {"against": against_baseline(corpus, facts, baseline, probs, measured)}


def _draw(metrics: dict[str, Any], history: dict[str, Any], run: Path, report: Report) -> list[str]:
    """A label that cannot be drawn must not cost a trained model."""
    try:
        return draw_plots(metrics, history["log_history"], run / run_dir.PLOTS)
    except Exception as error:
        report.note(f"the plots could not be drawn ({type(error).__name__}: {error})")
        return []


def _export(run: Path, report: Report) -> dict[str, Any]:
    """model.onnx, which prediction prefers; where it cannot be had the run is finished with torch."""
    try:
        return {"max_difference": export_onnx(run)}
    except CheckFailed as error:
        report.note(f"{error.message}. Prediction will use torch, which starts more slowly.")
        return {"failed": error.message}
