"""The schedule of training: the steps of each epoch, the evaluations and the learning rate of each step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from textattn.config.schema import TrainingConfig
from textattn.tokens.batches import shuffled_batches, steps_of_epochs
from textattn.training.examples import Examples


@dataclass(frozen=True)
class Plan:
    """How to train: the settings, the seed and when to stop."""

    config: TrainingConfig
    seed: int
    stop_after: float | None = None
    """The number of epochs after which to stop, or None for all epochs of the config. The learning rate follows the
    schedule for all epochs in any case."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a plan for a set of examples."""

    plan: Plan
    lengths: NDArray[np.int64]
    balance: NDArray[np.integer] | None
    """The labels, if sampling is balanced: then each label gets the same number of rows in an epoch."""
    steps: list[int] = field(init=False)
    """Number of steps of each epoch."""
    total_steps: int = field(init=False)
    """Number of steps of all epochs, or `max_steps`; the learning rate is planned for these."""
    last_step: int = field(init=False)
    """The step after which training ends, unless it is stopped earlier."""
    evaluation_steps: frozenset[int] = field(init=False)
    """The steps after which the model is evaluated."""

    @classmethod
    def of(cls, plan: Plan, examples: Examples) -> Schedule:
        """Make the schedule of a plan for these examples."""
        balance = examples.labels if plan.config.sampling == "balanced" else None
        return cls(plan, examples.lengths, balance)

    def __post_init__(self) -> None:
        config = self.plan.config
        steps = steps_of_epochs(
            self.lengths, config.batch_size, config.max_tokens_per_batch, config.epochs, self.plan.seed, self.balance
        )
        total = min(sum(steps), config.max_steps or sum(steps))
        evaluations = {
            end - number + step
            for end, number in zip(itertools.accumulate(steps), steps, strict=True)
            for step in evaluations_of_epoch(number, config.evaluations_per_epoch)
        }
        last = total
        if self.plan.stop_after is not None:
            whole = int(self.plan.stop_after)
            last = sum(steps[:whole])
            if self.plan.stop_after > whole:
                last += round((self.plan.stop_after - whole) * steps[whole])
        values = {
            "steps": steps, "total_steps": total, "last_step": last,
            "evaluation_steps": frozenset(evaluations | {total, last}),
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def batches(self, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        """Draw the batches of an epoch with the generator; each batch is an array of row numbers."""
        config = self.plan.config
        return shuffled_batches(self.lengths, config.batch_size, generator, config.max_tokens_per_batch, self.balance)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate_at(step, self.total_steps, self.plan.config)


def evaluations_of_epoch(num_steps: int, evaluations: int) -> Iterable[int]:
    """The steps of an epoch, counted from 1, after which the model is evaluated; 0 if evaluations are that frequent."""
    if evaluations >= 2 * num_steps:
        return range(num_steps + 1)  # What the formula below gives, in time that does not depend on `evaluations`.
    return {round(num_steps * part / evaluations) for part in range(1, evaluations + 1)}


def learning_rate_at(step: int, total_steps: int, config: TrainingConfig) -> float:
    """The learning rate of a step, counted from 0: a linear warm-up to the maximum, then the schedule of the config."""
    warmup = round(config.warmup_ratio * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total_steps - warmup, 1)
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "linear":
        return config.learning_rate * max(1.0 - done, 0.0)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
