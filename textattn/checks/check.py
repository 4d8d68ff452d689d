"""`textattn check`: what a config would train, on which data, for how long, and what looks suspicious in the data."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from textattn.checks.forecast import forecast
from textattn.checks.label_errors import find_label_errors, num_models
from textattn.checks.lint import lint
from textattn.config import Config
from textattn.data.read import Split
from textattn.report import Report
from textattn.runs.prepare import is_cached, prepare
from textattn.runs.setup import build
from textattn.runs.training_data import TrainingData
from textattn.runs.vectors import report_on, word_vectors
from textattn.training.placement import Placement, choose_placement
from textattn.training.processors import limited_blas
from textattn.training.schedule import Plan, Schedule


def describe(config: Config, report: Report, *, deep: bool = False, with_forecast: bool = True) -> dict[str, Any]:
    """Describe the data and the model of a run: sizes, label counts, shapes, time, memory and findings.

    Nothing that is trained here is kept, not even word vectors.

    Args:
        deep: also look for wrong labels, which takes a while.
        with_forecast: also forecast time and memory, by timing pieces of the run for a few seconds.

    Raises:
        TextattnError: the run would stop with this error before its first step.
    """
    placement = choose_placement(config.training)
    started = time.perf_counter()
    data = prepare(config, report)
    corpus, tokenizer, tokens = data.corpus, data.tokenizer, data.tokens
    seconds = {"reading": time.perf_counter() - started}
    started = time.perf_counter()
    if is_cached(config):  # the run will also read the data from the cache
        seconds["reading"] = time.perf_counter() - started
    config = data.config
    if config.model.vectors.is_foreign and config.model.linear != "only" and data.start is None:
        started = time.perf_counter()
        vectors = word_vectors(data, report)
        seconds["word_vectors"] = time.perf_counter() - started
        if vectors is not None:
            report_on(vectors, data, report)
    with torch.random.fork_rng():
        setup = build(data, replace(placement, device=torch.device("cpu")), report, vectors=False)
    t = config.training
    longest = int(tokens["train"].lengths.max())
    batch = min(t.batch_size, len(corpus.train), max(1, (t.max_tokens_per_batch or sys.maxsize) // longest))
    with torch.inference_mode():
        output = setup.model.eval()(
            torch.full((batch, longest), tokenizer.unk_id), torch.ones((batch, longest), dtype=torch.int64)
        )
    schedule = Schedule.of(Plan(t, config.seed), data.examples)
    facts: dict[str, Any] = {
        "labels": corpus.labels,
        "splits": {
            name: {
                "num_examples": len(split),
                "labels": dict(zip(corpus.labels, data.task.counts(split.labels).tolist(), strict=True)),
                **({"numbers": _numbers(split)} if split.is_numeric else {}),
                "tokens_median": int(np.median(tokens[name].lengths)),
                "tokens_longest": int(tokens[name].lengths.max()),
                "truncated": tokens[name].num_truncated / len(split),
                "unknown": tokens[name].num_unknown / len(tokens[name].ids),
            }
            for name, split in corpus.splits().items()
        },
        "shapes": {
            "input_ids": [batch, longest],
            "hidden_states": list(output.hidden_states.shape),
            "attention_weights": list(output.attention_weights.shape),
            "context": list(output.context.shape),
            "logits": list(output.logits.shape),
        },
        "num_parameters": setup.num_parameters,
        "steps": schedule.total_steps,
        "batch_size": t.batch_size,
        "device": str(placement),
    }
    # The forecast measures peak memory, so it comes before the checks below, which a run does not do.
    facts["forecast"] = _forecast(data, placement, seconds, report) if with_forecast else None
    labelled = data.labelled_by_people()  # findings refer to rows of the user's files
    corpus, tokens = labelled.corpus, labelled.tokens
    found = lint(corpus, tokenizer, {name: tokens[name] for name in corpus.splits()}, config.data)
    if deep and corpus.train.is_numeric:
        report.note("wrong numbers are not looked for: --deep is for labels")
    elif deep:
        with limited_blas(), report.progress("Looking for label errors", num_models(corpus), "models") as advance:
            suspected, facts["label_errors"] = find_label_errors(corpus, tokens, advance, report.note)
        found += suspected
    return facts | {"findings": [asdict(finding) for finding in found]}


def _numbers(split: Split) -> dict[str, float]:
    quartiles = np.quantile(split.labels, [0, 0.25, 0.5, 0.75, 1])
    names = ("smallest", "first_quartile", "median", "third_quartile", "largest")
    return dict(zip(names, quartiles.tolist(), strict=True)) | {"mean": float(split.labels.mean())}


def _forecast(
    data: TrainingData, placement: Placement, seconds: dict[str, float], report: Report
) -> dict[str, Any] | None:
    report.stage("Timing pieces of the run")
    try:
        return forecast(data, placement, seconds).to_json()
    except OSError as error:
        where = error.filename or "a temporary file"
        report.note(f"no forecast: {where} cannot be written ({error.strerror or error})")
        return None
