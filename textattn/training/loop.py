"""The training loop: a generator of what happened. The caller saves, prints and stops, and may go on later."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from textattn.config.schema import TrainingConfig
from textattn.errors import Diverged
from textattn.model.classifier import TextClassifier
from textattn.report import Evaluation, Step
from textattn.tokens.batches import collate, shuffled_batches, steps_of_epochs
from textattn.tokens.token_arrays import TokenArrays
from textattn.training.attention_losses import FaithfulnessLoss
from textattn.training.loss import Loss, Mean
from textattn.training.memory import give_back_memory, keep_freed_memory
from textattn.training.optimizer import Placement, build_optimizers, learning_rate_at
from textattn.training.processes import Processes
from textattn.training.state import Checkpoint, Progress, restore_checkpoint, take_checkpoint

# oneDNN keeps what it prepared for each shape of a batch it has met: some bytes for each token of the batch and unit of
# the LSTM. Of short texts all can be kept, and preparing them anew would take longer than the steps; of long ones this
# much in all, and preparing takes no time that could be measured.
PREPARED_BYTES, PREPARED_BYTES_PER_TOKEN_AND_UNIT = 100_000_000, 1.6
# Reading the loss waits for the device: every step on a processor, now and then elsewhere.
STEPS_PER_READING = 20
# Memory that the batches before left is given back so often: a step afterwards waits for some of it anew.
SECONDS_PER_GIVING_BACK = 10.0


class TrainingLoop:
    """Trains a model in place; between two events its whole state can be taken, and another loop goes on from it."""

    def __init__(
        self,
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
        processes: Processes | None = None,
        stop_after: float | None = None,
    ) -> None:
        """Everything that is made once.

        Args:
            tokens, labels: the training split.
            evaluate: gives the value to select by; None (no validation split): every evaluation counts as the best, so
                that the last weights are kept.
            greater_is_better: direction of that value.
            faithfulness: added to the loss.
            evidence: (total_tokens,) which of the training tokens people marked as the reason of the label.
            processes: each trains on its share of every batch; the losses are those of the whole batch. All of them
                have the same arguments.
            stop_after: epochs, fewer than those of the config: the learning rate goes as if it trained on.
        """
        self.processes = processes or Processes()
        self.seed = seed
        self.model, self.tokens, self.lengths = model, tokens, tokens.lengths
        self.labels = torch.from_numpy(np.ascontiguousarray(labels))
        self.loss_function, self.faithfulness, self.evidence = loss_function, faithfulness, evidence
        self.config, self.placement, self.pad_id = config, placement, pad_id
        self.evaluate, self.greater_is_better = evaluate, greater_is_better
        self.generator = np.random.default_rng(seed)
        self.balance = labels if config.sampling == "balanced" else None
        self.steps = steps_of_epochs(
            self.lengths, config.batch_size, config.max_tokens_per_batch, config.epochs, seed, self.balance
        )
        self.total_steps = min(sum(self.steps), config.max_steps or sum(self.steps))
        self.evaluation_steps = {
            end - steps + round(steps * part / config.evaluations_per_epoch)
            for end, steps in zip(itertools.accumulate(self.steps), self.steps, strict=True)
            for part in range(1, config.evaluations_per_epoch + 1)
        } | {self.total_steps}
        self.last_step = self.total_steps
        if stop_after is not None:
            whole = int(stop_after)
            self.last_step = sum(self.steps[:whole])
            if stop_after > whole:
                self.last_step += round((stop_after - whole) * self.steps[whole])
            self.evaluation_steps.add(self.last_step)
        # oneDNN looks when it is first used, not when it is loaded.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(primitives_kept(model, self.lengths, config)))
        device = placement.device
        self.parallel: nn.Module = model
        if model.ngrams is not None and (self.processes.size > 1 or device.type == "mps"):
            model.ngrams.weights.sparse = False  # not there; the same steps, slower
        if self.processes.size > 1:
            # From here on a backward pass ends with the mean of everybody's gradients.
            self.parallel = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        self.optimizers = build_optimizers(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=placement.dtype == torch.float16)
        # A checkpoint is of a step whose loss was read.
        usually = 1 if device.type == "cpu" else STEPS_PER_READING
        self._read_every = {usually, config.checkpoint_steps or usually}
        self.at = Progress(shuffle=dict(self.generator.bit_generator.state))
        self._unread: list[torch.Tensor] = []
        self._gave_back = 0.0
        keep_freed_memory()

    def state(self) -> Checkpoint:
        """All that decides what comes next; good when an event was just yielded, and until the next is asked for."""
        return take_checkpoint(self.model, self.optimizers, self.scaler, self.placement.device, self.at)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a state that a loop with the same arguments gave.

        Raises:
            ValueError: it is of another model.
        """
        self.at = restore_checkpoint(checkpoint, self.model, self.optimizers, self.scaler, self.placement.device)

    def __iter__(self) -> Iterator[Step | Evaluation]:
        """What happens from here to the end.

        Raises:
            Diverged: the loss is not a finite number.
        """
        try:
            yield from self._train()
        finally:
            give_back_memory()

    def _train(self) -> Iterator[Step | Evaluation]:
        at = self.at
        self.model.train()
        if at.global_step in self.evaluation_steps and at.evaluated < at.global_step:
            yield self._evaluation()
        while at.global_step < self.last_step and not self._is_stopped():
            # At the beginning of an epoch and in its middle: the same order, from the state it was drawn with.
            self.generator.bit_generator.state = at.shuffle
            batches = shuffled_batches(
                self.lengths, self.config.batch_size, self.generator, self.config.max_tokens_per_batch, self.balance
            )
            for indices in batches[at.batches :]:
                started = time.perf_counter()
                self._train_on(indices)
                at.global_step += 1
                at.batches += 1
                at.num_tokens += int(self.lengths[indices].sum())
                self._give_back_memory(started)
                is_evaluation = at.global_step in self.evaluation_steps
                if is_evaluation or any(at.global_step % every == 0 for every in self._read_every):
                    # Each process has its share of the batch's loss, times their number.
                    losses = (self.processes.sum(torch.stack(self._unread)) / self.processes.size).tolist()
                    self._unread = []
                    check_finite(losses, at.global_step, self._learning_rate(at.global_step - 1))
                    at.losses += losses
                    at.seconds += time.perf_counter() - started
                    yield self.step(losses)
                else:
                    at.seconds += time.perf_counter() - started
                if is_evaluation:
                    yield self._evaluation()
                    if self._is_stopped():
                        return
                if at.global_step == self.last_step:
                    return
            at.epoch, at.batches, at.shuffle = at.epoch + 1, 0, dict(self.generator.bit_generator.state)

    def step(self, losses: Sequence[float] = ()) -> Step:
        """Where it is."""
        at = self.at
        loss = sum(losses) / len(losses) if losses else float("nan")
        learning_rate = self._learning_rate(at.global_step - 1)
        return Step(at.global_step, self.last_step, self._epoch(), loss, learning_rate, at.num_tokens, at.seconds)

    def _learning_rate(self, step: int) -> float:
        return learning_rate_at(step, self.total_steps, self.config)

    def _train_on(self, indices: NDArray[np.int64]) -> None:
        """One optimiser step."""
        if self.processes.size > 1:
            # Noise of its own for each process, which going on from a checkpoint finds again.
            torch.manual_seed(_seed_of(self.seed, self.at.global_step, self.processes.rank))
        own, counts = self._own(indices)
        input_ids, attention_mask = self._collate(self.tokens, own)
        labels = self.labels[torch.from_numpy(own)].to(self.placement.device, non_blocking=True)
        with self.placement.autocast:
            output = self.parallel(input_ids, attention_mask)
        parts = [self.loss_function(output.logits, labels)]
        if self.faithfulness is not None:
            marked = None if self.evidence is None else spread(self.evidence, self.tokens, own, attention_mask)
            parts += self.faithfulness(self.model, output, attention_mask, labels, marked)
        parts = parts if counts else [part.of_nothing() for part in parts]
        loss = self._mean_of_all(parts)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.config.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizers[0])
            parameters = [p for group in self.optimizers[0].param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        of_step = self._learning_rate(self.at.global_step) / self.config.learning_rate
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = of_step * optimizer.defaults["lr"]
            self.scaler.step(optimizer)
        self.scaler.update()
        self._unread.append(loss.detach())

    def _own(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
        """The rows of a batch that this process trains on; where there are none, one that does not count."""
        if self.processes.size == 1:
            return indices, True
        # A batch is sorted by length, so that every process gets short texts and long ones.
        own = indices[self.processes.rank :: self.processes.size]
        return (own, True) if len(own) else (indices[:1], False)  # all must take part

    def _collate(self, tokens: TokenArrays, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """input_ids and attention_mask, both (batch, seq), where the model is."""
        input_ids, attention_mask = (
            torch.from_numpy(array).to(self.placement.device, non_blocking=True)
            for array in collate(tokens, rows, self.pad_id)
        )
        return input_ids, attention_mask

    def _give_back_memory(self, now: float) -> None:
        if now - self._gave_back > SECONDS_PER_GIVING_BACK:
            give_back_memory()
            self._gave_back = now

    def _mean_of_all(self, parts: list[Mean]) -> torch.Tensor:
        """The share of this process in the loss of the batch, times the number of processes."""
        if self.processes.size == 1:
            return torch.stack([part.value() for part in parts]).sum()
        counts = self.processes.sum(torch.stack([part.count.detach() for part in parts]))
        totals = torch.stack([part.total for part in parts])
        return self.processes.size * (totals / counts.clamp(min=1e-12)).sum()

    def _evaluation(self) -> Evaluation:
        at = self.at
        self.model.eval()
        metric = self.evaluate(self.model) if self.evaluate is not None else float("nan")
        self.model.train()
        # A tie is no improvement: the earlier, less trained checkpoint stays.
        sign = 1 if self.greater_is_better else -1
        # Nothing to compare with (no validation split, or a metric undefined on it): the latest counts.
        is_best = at.best is None or math.isnan(at.best) or sign * metric > sign * at.best
        if is_best:
            at.best, at.without_improvement = metric, 0
        else:
            at.without_improvement += 1
        train_loss = sum(at.losses) / len(at.losses)
        at.losses, at.evaluated = [], at.global_step
        return Evaluation(at.global_step, self._epoch(), train_loss, metric, is_best, at.seconds)

    def _epoch(self) -> float:
        return self.at.epoch + self.at.batches / self.steps[self.at.epoch]

    def _is_stopped(self) -> bool:
        return self.config.patience is not None and self.at.without_improvement >= self.config.patience


def primitives_kept(model: TextClassifier, lengths: NDArray[np.int64], config: TrainingConfig) -> int:
    """How many pieces oneDNN keeps, some seven for each shape of a batch."""
    return int(np.clip(PREPARED_BYTES // bytes_of_primitive(model, lengths, config), 16, 1024))


def bytes_of_primitive(model: TextClassifier, lengths: NDArray[np.int64], config: TrainingConfig) -> int:
    """What each of them takes."""
    tokens = min(config.batch_size * float(lengths.mean()), config.max_tokens_per_batch or math.inf)
    return max(1, round(PREPARED_BYTES_PER_TOKEN_AND_UNIT * tokens * model.architecture.hidden_size))


def spread(
    values: NDArray[np.bool_], tokens: TokenArrays, indices: NDArray[np.int64], attention_mask: torch.Tensor
) -> torch.Tensor:
    """Of (total_tokens,) those of the texts of a batch, (batch, seq) like `attention_mask`, False on padding."""
    flat = np.concatenate([values[tokens.starts[i] : tokens.starts[i + 1]] for i in indices])
    return torch.zeros_like(attention_mask, dtype=torch.bool).masked_scatter(
        attention_mask.bool(), torch.from_numpy(flat).to(attention_mask.device)
    )


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def check_finite(losses: list[float], global_step: int, learning_rate: float, section: str = "training") -> None:
    """Raises Diverged, with what to set in `section`, where one of the last losses is not a finite number."""
    for i, loss in enumerate(losses):
        if not np.isfinite(loss):
            step = global_step - len(losses) + 1 + i
            raise Diverged(
                f"the loss is {loss} at step {step} (learning rate {learning_rate:.2g})",
                f"{section}.learning_rate={learning_rate / 10:.1g} training.max_grad_norm=1.0 training.precision=fp32",
            )
