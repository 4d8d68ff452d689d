"""The training loop, which yields its events. The caller saves, prints and stops, and may resume later."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from textattn.config.schema import TrainingConfig
from textattn.errors import Diverged
from textattn.model.classifier import TextClassifier
from textattn.model.noise import drawn_from
from textattn.report import Evaluation, Step
from textattn.training.examples import Examples
from textattn.training.loss import Losses
from textattn.training.mean import Mean
from textattn.training.memory import give_back_memory, is_own_process, keep_freed_memory
from textattn.training.optimizer import build_optimizers
from textattn.training.placement import Placement
from textattn.training.processors import available_processors
from textattn.training.schedule import Plan, Schedule
from textattn.training.slices import ROWS, Threads, add_gradients, cut, share_of_loss
from textattn.training.state import Progress, TrainState, restore_state, take_state
from textattn.training.update import Update

# oneDNN caches the primitives that it prepares for each batch shape; each takes some bytes per token of the batch and
# unit of the LSTM. With short texts all of them fit into PREPARED_BYTES, and preparing them again would take longer
# than the training steps. With long texts they do not all fit, but there the preparation takes no measurable time.
PREPARED_BYTES, PREPARED_BYTES_PER_TOKEN_AND_UNIT = 100_000_000, 1.6
# Reading the loss waits for the device. It is read after every step on a CPU, and after this many steps elsewhere.
STEPS_PER_READING = 20
# Seconds between two calls of `give_back_memory()`. The step after a call has to request some of the memory again, so
# the calls should be rare.
SECONDS_PER_GIVING_BACK = 10.0


Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Selection:
    """How the best checkpoint is selected."""

    evaluate: Evaluate
    """Computes the metric that is compared."""
    greater_is_better: bool


class TrainingLoop:
    """Trains a model in place. Between two events its whole state can be saved, and another loop can resume from it."""

    def __init__(
        self,
        model: TextClassifier,
        examples: Examples,
        losses: Losses,
        plan: Plan,
        placement: Placement,
        selection: Selection | None = None,
    ) -> None:
        """Create the optimisers and the schedule.

        Args:
            model: the model to train, on the device of the placement.
            examples: the texts to train on.
            losses: the losses to minimise.
            plan: the settings, the seed and the end of training.
            placement: where to train; all its processes must call this with the same arguments.
            selection: how checkpoints are selected; without it (no validation split) every evaluation counts as the
                best, so that the last weights are kept.
        """
        self.model, self.examples, self.losses, self.selection = model, examples, losses, selection
        self.config, self.seed = plan.config, plan.seed
        self.placement, self.processes = placement, placement.processes
        self.generator = np.random.default_rng(plan.seed)
        self.schedule = Schedule.of(plan, examples)
        if is_own_process():
            keep_freed_memory()
            # oneDNN reads this variable when it is first used, not when it is loaded, so it can still be set here.
            capacity = primitives_kept(model, examples.lengths, plan.config)
            os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(capacity))
        device = placement.device
        on_cpu = device.type == "cpu"
        # Sparse gradients are added up over the slices of a batch; other processes and mps take dense ones.
        model.embedding.sparse_gradient = on_cpu and self.processes.size == 1
        if model.ngrams is not None and (self.processes.size > 1 or device.type == "mps"):
            model.ngrams.weights.sparse = False
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.threads = Threads((plan.config.threads or available_processors()) if on_cpu else 0)
        self.optimizers = build_optimizers(model, plan.config)
        self.update = Update(self.optimizers, self.parameters) if on_cpu else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=placement.dtype == torch.float16)
        # The loss must have been read when a checkpoint is saved.
        usually = 1 if device.type == "cpu" else STEPS_PER_READING
        self._read_every = {usually, plan.config.checkpoint_steps or usually}
        self.at = Progress(shuffle=dict(self.generator.bit_generator.state))
        self._unread: list[torch.Tensor] = []
        self._gave_back = 0.0

    def state(self) -> TrainState:
        """The complete state of training; valid only until the next event is requested."""
        return take_state(self.model, self.optimizers, self.scaler, self.placement.device, self.at)

    def restore(self, state: TrainState) -> None:
        """Restore the state that a loop with the same arguments had.

        Raises:
            ValueError: the state belongs to a different model.
        """
        self.at = restore_state(state, self.model, self.optimizers, self.scaler, self.placement.device)

    def __iter__(self) -> Iterator[Step | Evaluation]:
        """Train to the end and yield the events.

        Raises:
            Diverged: the loss is not a finite number.
        """
        try:
            yield from self._train()
        finally:
            self.threads.close()
            give_back_memory()

    def _train(self) -> Iterator[Step | Evaluation]:
        at = self.at
        self.model.train()
        if at.global_step in self.schedule.evaluation_steps and at.evaluated < at.global_step:
            yield self._evaluation()
        while at.global_step < self.schedule.last_step and not self._is_stopped():
            # The order of the rows is drawn again when training resumes in the middle of an epoch.
            self.generator.bit_generator.state = at.shuffle
            for indices in self.schedule.batches(self.generator)[at.batches :]:
                started = time.perf_counter()
                self._train_on(indices)
                at.global_step += 1
                at.batches += 1
                at.num_tokens += int(self.examples.lengths[indices].sum())
                self._give_back_memory(started)
                is_evaluation = at.global_step in self.schedule.evaluation_steps
                if is_evaluation or any(at.global_step % every == 0 for every in self._read_every):
                    # Each process has its share of the batch's loss.
                    losses = self.processes.sum(torch.stack(self._unread)).tolist()
                    self._unread = []
                    check_finite(losses, at.global_step, self.schedule.learning_rate(at.global_step - 1))
                    at.losses += losses
                    at.seconds += time.perf_counter() - started
                    yield self.step(losses)
                else:
                    at.seconds += time.perf_counter() - started
                if is_evaluation:
                    yield self._evaluation()
                    if self._is_stopped():
                        return
                if at.global_step == self.schedule.last_step:
                    return
            at.epoch, at.batches, at.shuffle = at.epoch + 1, 0, dict(self.generator.bit_generator.state)

    def step(self, losses: Sequence[float] = ()) -> Step:
        """The event for the current step.

        Args:
            losses: the losses of the steps since the last event.
        """
        at = self.at
        loss = sum(losses) / len(losses) if losses else float("nan")
        learning_rate = self.schedule.learning_rate(at.global_step - 1)
        return Step(
            at.global_step, self.schedule.last_step, self._epoch(), loss, learning_rate, at.num_tokens, at.seconds
        )

    def _train_on(self, indices: NDArray[np.int64]) -> None:
        """One optimiser step."""
        on_cpu = self.placement.device.type == "cpu"
        slices = cut(indices, self.processes.size, ROWS if on_cpu else len(indices))
        seq = int(self.examples.lengths[indices].max())
        if self.processes.size > 1 and not on_cpu:
            # Each process has noise of its own, and finds the same again when it resumes from a checkpoint.
            torch.manual_seed(_seed_of(self.seed, self.at.global_step, self.processes.rank))
        mine = range(self.processes.rank, len(slices), self.processes.size)
        # All processes must take part: one without a slice computes one that does not count.
        numbers, counts = (list(mine), True) if mine else ([0], False)

        def forward(i: int) -> list[Mean]:
            seed = _seed_of(self.seed, self.at.global_step, numbers[i])
            batch = self.examples.batch(slices[numbers[i]], self.placement.device, seq)
            with drawn_from(seed):
                with self.placement.autocast:
                    output = self.model(batch.input_ids, batch.attention_mask, batch.ngram_logits)
                parts = self.losses(self.model, output, batch.attention_mask, batch.labels, batch.evidence)
            return parts if counts else [part.of_nothing() for part in parts]

        parts = self.threads.map(forward, len(numbers))
        divisors = sum(torch.stack([part.count.detach() for part in of_slice]) for of_slice in parts)
        assert isinstance(divisors, torch.Tensor)
        divisors = self.processes.sum(divisors)

        def backward(i: int) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
            loss = share_of_loss(parts[i], divisors)
            scaled = self.scaler.scale(loss)
            return loss.detach(), torch.autograd.grad(scaled, self.parameters, allow_unused=True)

        results = self.threads.map(backward, len(numbers))
        gradients = [gradients for _, gradients in results]
        if on_cpu and self.processes.size == 1:
            self._set_learning_rates()
            assert self.update is not None
            self.update(gradients, self.config.max_grad_norm, self.threads)
        else:
            add_gradients(self.parameters, gradients)
            self._exchange_gradients()
            self._optimise()
        self._unread.append(torch.stack([loss for loss, _ in results]).sum())

    def _exchange_gradients(self) -> None:
        """With several processes, sums the gradients of all of them."""
        if self.processes.size > 1:
            for parameter in self.parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self.processes.sum(parameter.grad)

    def _set_learning_rates(self) -> None:
        share = self.schedule.learning_rate(self.at.global_step) / self.config.learning_rate
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * optimizer.defaults["lr"]

    def _optimise(self) -> None:
        """Clips the gradients and lets the optimisers take their step."""
        if self.config.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizers[0])
            parameters = [p for group in self.optimizers[0].param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        self._set_learning_rates()
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()

    def _give_back_memory(self, now: float) -> None:
        if now - self._gave_back > SECONDS_PER_GIVING_BACK:
            give_back_memory()
            self._gave_back = now

    def _evaluation(self) -> Evaluation:
        at = self.at
        self.model.eval()
        metric = float("nan") if self.selection is None else self.selection.evaluate(self.model)
        self.model.train()
        # A tie is not an improvement: the earlier checkpoint, which is trained less, remains the best.
        sign = 1 if self.selection is None or self.selection.greater_is_better else -1
        # Without a value to compare with (no validation split, or an undefined metric) the latest checkpoint is best.
        is_best = at.best is None or math.isnan(at.best) or sign * metric > sign * at.best
        if is_best:
            at.best, at.without_improvement = metric, 0
        else:
            at.without_improvement += 1
        train_loss = sum(at.losses) / len(at.losses)
        at.losses, at.evaluated = [], at.global_step
        return Evaluation(at.global_step, self._epoch(), train_loss, metric, is_best, at.seconds)

    def _epoch(self) -> float:
        return self.at.epoch + self.at.batches / self.schedule.steps[self.at.epoch]

    def _is_stopped(self) -> bool:
        return self.config.patience is not None and self.at.without_improvement >= self.config.patience


def primitives_kept(model: TextClassifier, lengths: NDArray[np.int64], config: TrainingConfig) -> int:
    """The number of primitives that oneDNN may cache; it needs about seven for each batch shape."""
    return int(np.clip(PREPARED_BYTES // bytes_of_primitive(model, lengths, config), 16, 1024))


def bytes_of_primitive(model: TextClassifier, lengths: NDArray[np.int64], config: TrainingConfig) -> int:
    """The approximate number of bytes that a cached primitive of oneDNN takes."""
    tokens = min(config.batch_size * float(lengths.mean()), config.max_tokens_per_batch or math.inf)
    return max(1, round(PREPARED_BYTES_PER_TOKEN_AND_UNIT * tokens * model.architecture.hidden_size))


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def check_finite(losses: list[float], global_step: int, learning_rate: float, section: str = "training") -> None:
    """Check the losses of the last steps.

    Args:
        losses: the losses of the steps up to `global_step`.
        global_step: the number of the last step.
        learning_rate: the learning rate of the last step.
        section: the section of the config that the hint names.

    Raises:
        Diverged: one of the losses is not a finite number.
    """
    for i, loss in enumerate(losses):
        if not np.isfinite(loss):
            step = global_step - len(losses) + 1 + i
            raise Diverged(
                f"the loss is {loss} at step {step} (learning rate {learning_rate:.2g})",
                f"{section}.learning_rate={learning_rate / 10:.1g} training.max_grad_norm=1.0 training.precision=fp32",
            )
