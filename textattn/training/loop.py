"""The training loop: a generator that yields what happened. The caller saves, prints and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from textattn.config.schema import TrainingConfig
from textattn.data.batches import collate, shuffled_batches, steps_of_epochs
from textattn.data.token_arrays import TokenArrays
from textattn.errors import TrainingError
from textattn.model.classifier import TextClassifier
from textattn.training.faithfulness import FaithfulnessLoss
from textattn.training.loss import Loss
from textattn.training.optimizer import Placement, build_optimizer, build_schedule

# Reading the loss waits for the device: every step on a processor, now and then elsewhere.
STEPS_PER_READING = 20


@dataclass(frozen=True)
class Step:
    """After an optimiser step."""

    global_step: int
    total_steps: int
    epoch: float
    loss: float
    """Mean over the steps since the last reading."""
    learning_rate: float
    num_tokens: int
    """Real tokens trained on so far, padding not counted."""
    seconds: float
    """Time spent training so far, evaluation not counted."""


@dataclass(frozen=True)
class Evaluation:
    """After an evaluation on the validation split."""

    global_step: int
    epoch: float
    train_loss: float
    """Mean since the last evaluation."""
    metric: float
    """Value of the metric the checkpoint is chosen by."""
    is_best: bool
    seconds: float


def train_loop(
    model: TextClassifier,
    tokens: TokenArrays,
    labels: NDArray[np.integer[Any]],
    loss_function: Loss,
    config: TrainingConfig,
    placement: Placement,
    *,
    pad_id: int,
    seed: int,
    evaluate: Callable[[nn.Module], float] | None,
    greater_is_better: bool = True,
    faithfulness: FaithfulnessLoss | None = None,
    evidence: NDArray[np.bool_] | None = None,
) -> Iterator[Step | Evaluation]:
    """Trains `model` in place.

    Args:
        tokens, labels: the training split.
        evaluate: gives the value to select by; None (no validation split): every evaluation counts as the best, so that
            the last weights are kept.
        greater_is_better: direction of that value.
        faithfulness: added to the loss.
        evidence: (total_tokens,) which of the training tokens people marked as the reason of the label.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    generator = np.random.default_rng(seed)
    device = placement.device
    lengths = tokens.lengths
    steps = steps_of_epochs(lengths, config.batch_size, config.max_tokens_per_batch, config.epochs, seed)
    total_steps = min(sum(steps), config.max_steps or sum(steps))
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, total_steps)
    scaler = torch.amp.GradScaler(device.type, enabled=placement.dtype == torch.float16)
    every = 1 if device.type == "cpu" else STEPS_PER_READING
    evaluation_steps = {
        sum(steps[:epoch]) + round(steps[epoch] * part / config.evaluations_per_epoch)
        for epoch in range(config.epochs)
        for part in range(1, config.evaluations_per_epoch + 1)
    } | {total_steps}
    target = torch.from_numpy(np.ascontiguousarray(labels))
    best: float | None = None
    without_improvement = global_step = num_tokens = 0
    seconds = 0.0
    unread: list[torch.Tensor] = []
    since_evaluation: list[float] = []
    model.train()
    for epoch in range(config.epochs):
        steps_before = global_step
        for indices in shuffled_batches(lengths, config.batch_size, generator, config.max_tokens_per_batch):
            started = time.perf_counter()
            input_ids, attention_mask = (
                torch.from_numpy(array).to(device, non_blocking=True) for array in collate(tokens, indices, pad_id)
            )
            batch_labels = target[torch.from_numpy(indices)].to(device, non_blocking=True)
            with placement.autocast:
                output = model(input_ids, attention_mask)
            loss = loss_function(output.logits, batch_labels)
            if faithfulness is not None:
                marked = None if evidence is None else spread(evidence, tokens, indices, attention_mask)
                loss = loss + faithfulness(model, output, attention_mask, batch_labels, marked)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if config.max_grad_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            learning_rate = float(optimizer.param_groups[0]["lr"])
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            global_step += 1
            num_tokens += int(lengths[indices].sum())
            unread.append(loss.detach())
            is_evaluation = global_step in evaluation_steps
            if global_step % every == 0 or is_evaluation:
                losses = torch.stack(unread).tolist()
                unread = []
                _check_finite(losses, global_step, learning_rate)
                since_evaluation += losses
                seconds += time.perf_counter() - started
                done = epoch + (global_step - steps_before) / steps[epoch]
                mean = sum(losses) / len(losses)
                yield Step(global_step, total_steps, done, mean, learning_rate, num_tokens, seconds)
            else:
                seconds += time.perf_counter() - started
            if is_evaluation:
                model.eval()
                metric = evaluate(model) if evaluate is not None else float("nan")
                model.train()
                # A tie is no improvement: the earlier, less trained checkpoint stays.
                sign = 1 if greater_is_better else -1
                # Nothing to compare with (no validation split, or a metric undefined on it): the latest counts.
                is_best = best is None or math.isnan(best) or sign * metric > sign * best
                if is_best:
                    best, without_improvement = metric, 0
                else:
                    without_improvement += 1
                train_loss = sum(since_evaluation) / len(since_evaluation)
                since_evaluation = []
                done = epoch + (global_step - steps_before) / steps[epoch]
                yield Evaluation(global_step, done, train_loss, metric, is_best, seconds)
                if config.patience is not None and without_improvement >= config.patience:
                    return
            if global_step == total_steps:
                return


def spread(
    values: NDArray[np.bool_], tokens: TokenArrays, indices: NDArray[np.int64], attention_mask: torch.Tensor
) -> torch.Tensor:
    """Of (total_tokens,) those of the texts of a batch, (batch, seq) like `attention_mask`, False on padding."""
    flat = np.concatenate([values[tokens.starts[i] : tokens.starts[i + 1]] for i in indices])
    return torch.zeros_like(attention_mask, dtype=torch.bool).masked_scatter(
        attention_mask.bool(), torch.from_numpy(flat).to(attention_mask.device)
    )


def _check_finite(losses: list[float], global_step: int, learning_rate: float) -> None:
    for i, loss in enumerate(losses):
        if not np.isfinite(loss):
            step = global_step - len(losses) + 1 + i
            raise TrainingError(
                f"the loss is {loss} at step {step} (learning rate {learning_rate:.2g})",
                f"training.learning_rate={learning_rate / 10:.1g} training.max_grad_norm=1.0 training.precision=fp32",
            )
