"""What `textattn check` says: what would be trained on what, how long it takes, what is suspicious in the data."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.checks.forecast import forecast
from textattn.checks.label_errors import find_label_errors, num_models
from textattn.checks.lint import lint
from textattn.config import Config
from textattn.report import Report
from textattn.runs.prepare import build_model, kept_data, prepare_data, without_vectors, word_vectors
from textattn.runs.training_data import Prepared
from textattn.tokens.batches import steps_of_epochs
from textattn.training.loss import label_weights
from textattn.training.optimizer import Placement, choose_placement


def describe(config: Config, report: Report, *, deep: bool = False, with_forecast: bool = True) -> dict[str, Any]:
    """What a run would train on, and what: sizes, label counts, shapes, time and memory, what is suspicious. Trains
    nothing that is kept, not even word vectors.

    Args:
        deep: look for wrong labels too, which takes a while.
        with_forecast: time pieces of the run for some seconds.

    Raises:
        TextattnError: whatever would stop the run before its first step.
    """
    placement = choose_placement(config.training)
    started = time.perf_counter()
    given, (config, data) = config, prepare_data(config, report)
    corpus, tokenizer, tokens = data
    seconds = {"reading": time.perf_counter() - started}
    started = time.perf_counter()
    if kept_data(given) is not None:  # the run will find it too
        seconds["reading"] = time.perf_counter() - started
    if config.model.vectors.source == "file":
        started = time.perf_counter()
        word_vectors(config, corpus, tokenizer, report)
        seconds["word_vectors"] = time.perf_counter() - started
    with torch.random.fork_rng():
        model, _, _ = build_model(without_vectors(config), corpus, tokenizer, report)
    label_weights(config.training.class_weights, corpus.train.labels, corpus.labels)
    longest = int(tokens["train"].lengths.max())
    batch = min(config.training.batch_size, len(corpus.train))
    with torch.inference_mode():
        output = model.eval()(
            torch.full((batch, longest), tokenizer.unk_id), torch.ones((batch, longest), dtype=torch.int64)
        )
    t = config.training
    balance = corpus.train.labels if t.sampling == "balanced" else None
    lengths = tokens["train"].lengths
    steps = steps_of_epochs(lengths, t.batch_size, t.max_tokens_per_batch, t.epochs, config.seed, balance)
    facts: dict[str, Any] = {
        "labels": corpus.labels,
        "splits": {
            name: {
                "num_examples": len(split),
                "labels": dict(zip(corpus.labels, _label_counts(split.labels, len(corpus.labels)), strict=True)),
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
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": min(sum(steps), config.training.max_steps or sum(steps)),
        "batch_size": config.training.batch_size,
        "device": str(placement),
    }
    # Before what a run does not do takes memory.
    facts["forecast"] = _forecast(config, data, placement, seconds, report) if with_forecast else None
    corpus, tokenizer, tokens = data.labelled()  # what people said, and where they find it
    found = lint(corpus, tokenizer, {name: tokens[name] for name in corpus.splits()})
    if deep:
        with report.progress("Looking for label errors", num_models(corpus), "models") as advance:
            suspected, facts["label_errors"] = find_label_errors(corpus, tokens, advance, report.note)
        found += suspected
    return facts | {"findings": [asdict(finding) for finding in found]}


def _label_counts(labels: NDArray[np.integer[Any]], num_labels: int) -> list[int]:
    counts = labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=num_labels)
    return [int(count) for count in counts]


def _forecast(
    config: Config, data: Prepared, placement: Placement, seconds: dict[str, float], report: Report
) -> dict[str, Any] | None:
    report.stage("Timing pieces of the run")
    try:
        return forecast(config, data, placement, seconds)
    except OSError as error:
        where = error.filename or "a temporary file"
        report.note(f"no forecast: {where} cannot be written ({error.strerror or error})")
        return None
