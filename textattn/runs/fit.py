"""The training loop of a run: what it keeps while it goes on, what it goes on from, and how it stops."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from textattn.storage import run_dir
from textattn.runs.checkpoints import best_and_log, save_checkpoint
from textattn.config import Config
from textattn.data.read import Corpus, Split
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.errors import Elsewhere, TrainingError
from textattn.measure.metrics import GREATER_IS_BETTER, select_metric
from textattn.model.classifier import TextClassifier
from textattn.storage.model_files import ModelConfig, model_metadata
from textattn.runs.prepare import choose_metric, evidence_of
from textattn.training.processes import Processes
from textattn.report import Report
from textattn.inference.session import run_in_batches, to_probabilities
from textattn.inference.torch_session import TorchSession
from textattn.runs.signals import Interrupted, Signals, Terminated, signal_number
from textattn.training.state import Checkpoint
from textattn.training.attention_losses import FaithfulnessLoss
from textattn.report import Evaluation, Step
from textattn.training.loop import TrainingLoop
from textattn.training.loss import LossKind, build_loss
from textattn.training.optimizer import Placement


def fit(
    config: Config,
    run: Path,
    model: TextClassifier,
    model_config: ModelConfig,
    corpus: Corpus,
    tokens: dict[str, TokenArrays],
    tokenizer: TextTokenizer,
    placement: Placement,
    weights: torch.Tensor | None,
    checkpoint: Checkpoint | None,
    processes: Processes,
    stop_after: float | None,
    report: Report,
) -> dict[str, Any]:
    """Trains `model` in place: the best weights, log.jsonl and checkpoints go to the run directory.

    Args:
        weights: (labels,) of the loss.
        checkpoint: what `load_checkpoint` gave, to go on from.
        processes: that train together; the first writes.
        stop_after: epochs, if not all.

    Returns:
        What trainer_state.json holds.

    Raises:
        TrainingError: the loss is not a finite number, or the directory cannot be written.
        Interrupted: Ctrl-C or SIGTERM; the step it came in is kept.
    """
    settings = config.training
    metric = choose_metric(settings, corpus.multi_label)
    validation = corpus.validation
    signals = Signals()

    def evaluate(_: torch.nn.Module) -> float:
        assert validation is not None
        # Several processes must break off together.
        with signals.at_once() if processes.size == 1 else contextlib.nullcontext():
            return measure(validation)

    def measure(validation: Split) -> float:
        session = TorchSession(model, str(placement.device))
        rows = np.arange(processes.rank, len(validation), processes.size)
        own = run_in_batches(session, tokens["validation"], tokenizer.pad_id, rows=rows).logits
        logits = np.zeros((len(validation), own.shape[1]), np.float32)
        logits[rows] = own
        processes.sum(torch.from_numpy(logits))
        probs = to_probabilities(logits, model_config.output, len(corpus.labels))
        return select_metric(metric, validation.labels, probs, corpus.multi_label)

    metadata = model_metadata(model_config, tokenizer.to_files()[run_dir.TOKENIZER].encode())
    log: list[dict[str, Any]] = []
    best: Evaluation | None = None
    step: Step | None = None
    loop = make_loop(
        config, model, model_config, corpus.train, tokens["train"], tokenizer, placement,
        weights, evaluate if validation is not None else None, processes, stop_after,
    )  # fmt: skip
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    together = f", {processes.size} processes" if processes.size > 1 else ""
    report.stage(f"Training {num_parameters:,} parameters on {len(corpus.train):,} texts ({placement}{together})")
    if checkpoint is not None:
        best, log = best_and_log(checkpoint)
        loop.restore(checkpoint)
        step = loop.step()
        report.note(f"going on after step {step.global_step:,} of {step.total_steps:,}")
    try:
        with signals, report.training(settings.epochs) as on_step:
            for event in loop:
                if isinstance(event, Step):
                    step = event
                    on_step(event)
                else:
                    if event.is_best:
                        best = event
                    log.append(_log_entry(event, metric, step))
                    if processes.is_first:
                        with _written(run):
                            if event.is_best:
                                _save_weights(run, model, metadata)
                            run_dir.write_log(run, log)
                    report.evaluated(event, metric, step)
                every = settings.checkpoint_steps
                due = isinstance(event, Evaluation) or (every is not None and event.global_step % every == 0)
                if due and processes.is_first:
                    with _written(run):
                        save_checkpoint(run, loop.state(), best, log)
                # A signal may reach the processes in different steps; they stop after the same one.
                signals.check(processes.largest(signals.waiting))
    except (KeyboardInterrupt, Terminated) as stop:
        if not processes.is_first:
            processes.largest(0)  # until the first has written: torchrun ends all when one has ended
            raise Elsewhere(128 + signal_number(stop)) from None
        if step is not None:
            with _written(run):
                if not signals.forced:
                    save_checkpoint(run, loop.state(), best, log)
                if best is None:
                    _save_weights(run, model, metadata)
        if not signals.forced:
            processes.largest(0)
        raise _interrupted(stop, run, metric, step, best) from None
    assert best is not None
    assert step is not None
    return {
        "global_step": step.global_step,
        "max_steps": step.total_steps,
        "epoch": step.epoch,
        "metric_for_best_model": metric,
        "greater_is_better": GREATER_IS_BETTER[metric],
        "best_metric": None if validation is None else best.metric,
        "best_global_step": best.global_step,
        "num_input_tokens_seen": step.num_tokens,
        "train_runtime": step.seconds,
        "train_tokens_per_second": step.num_tokens / step.seconds,
        "num_parameters": num_parameters,
        "device": str(placement),
        "log_history": log,
    }


def make_loop(
    config: Config,
    model: TextClassifier,
    model_config: ModelConfig,
    train: Split,
    tokens: TokenArrays,
    tokenizer: TextTokenizer,
    placement: Placement,
    weights: torch.Tensor | None,
    evaluate: Callable[[torch.nn.Module], float] | None,
    processes: Processes | None = None,
    stop_after: float | None = None,
) -> TrainingLoop:
    """The loop that the config asks for, with its losses; the arguments are those of `fit` and of TrainingLoop."""
    settings = config.training
    kind: LossKind = (
        "multi_label" if model_config.multi_label else "binary" if model_config.output == "sigmoid" else "softmax"
    )
    return TrainingLoop(
        model,
        tokens,
        train.labels,
        build_loss(
            kind,
            settings.label_smoothing,
            None if weights is None else weights.to(placement.device),
        ),
        settings,
        placement,
        pad_id=tokenizer.pad_id,
        seed=config.seed,
        evaluate=evaluate,
        greater_is_better=GREATER_IS_BETTER[choose_metric(settings, model_config.multi_label)],
        faithfulness=FaithfulnessLoss.from_config(settings, kind),
        evidence=evidence_of(train, tokenizer, tokens) if settings.attention_supervision else None,
        processes=processes,
        stop_after=stop_after,
    )


def _save_weights(run: Path, model: TextClassifier, metadata: dict[str, str]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    run_dir.write_bytes(run / run_dir.WEIGHTS, save(tensors, metadata))


def _log_entry(event: Evaluation, metric: str, step: Step | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"step": event.global_step, "epoch": event.epoch, "loss": event.train_loss}
    if step is not None:
        entry["learning_rate"] = step.learning_rate
    if event.metric == event.metric:  # there is a validation split
        entry |= {f"eval_{metric}": event.metric, "best": event.is_best}
    return entry | {"seconds": round(event.seconds, 3)}


def _interrupted(
    stop: BaseException, run: Path, metric: str, step: Step | None, best: Evaluation | None
) -> Interrupted:
    number = signal_number(stop)
    if step is None:
        return Interrupted(number, "interrupted before the first step; nothing was kept", "textattn train CONFIG")
    kept = (
        f"the best model so far ({metric} {best.metric:.4f} at step {best.global_step})"
        if best is not None and best.metric == best.metric
        else "the model as it is"
    )
    return Interrupted(
        number,
        f"interrupted at step {step.global_step} of {step.total_steps}; {kept} is in {run}",
        f"the same command with --resume output.dir={run} goes on from there",
    )


@contextlib.contextmanager
def _written(run: Path) -> Iterator[None]:
    """What the disk does not take is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{run}: cannot be written ({error.strerror or error}); what was kept before is whole",
            f"make room there, then the same command with --resume output.dir={run}",
        ) from None
