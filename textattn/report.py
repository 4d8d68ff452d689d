"""How a run reports its progress. The class here is silent; the command line has a subclass that prints."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """The state of training after an optimiser step."""

    global_step: int
    total_steps: int
    epoch: float
    loss: float
    """Mean over the steps since the loss was last read from the device."""
    learning_rate: float
    num_tokens: int
    """Number of tokens trained on so far, without padding."""
    seconds: float
    """Time spent on training so far, without evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """The state of training after an evaluation on the validation split."""

    global_step: int
    epoch: float
    train_loss: float
    """Mean over the steps since the last evaluation."""
    metric: float
    """Value of the metric by which the checkpoint is selected."""
    is_best: bool
    seconds: float


def short_epoch(value: float) -> str:
    """A number of epochs with two decimals at most, as people read it: `3`, `0.67`."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def logger() -> logging.Logger:
    """Where a library call says what the command line would print; silent until the program sets up its logging."""
    found = logging.getLogger("textattn")
    if not found.handlers:
        # Without a handler of ours, Python would print warnings to stderr.
        found.addHandler(logging.NullHandler())
    return found


class Report:
    """Receives the events of a run. Subclasses override the methods for the events that they need."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def note(self, text: str) -> None:
        """There is something the user should know, such as skipped rows or truncated texts."""

    def begun(self, run: Path, step: int) -> None:
        """Training begins in this directory, or resumes after `step` steps."""

    @contextlib.contextmanager
    def progress(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A long piece of work; yields a function that is called with the amount of work done so far."""
        yield lambda done: None

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Step], None]]:
        """The training loop; yields a function that is called with every step."""
        yield lambda step: None

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        """An evaluation on the validation split has ended."""

    def finished(self, run: Path, metrics: dict[str, Any]) -> None:
        """The run directory is complete."""


class LoggedReport(Report):
    """Writes to the logger `textattn`: notes as warnings, stages and evaluations as information."""

    def stage(self, text: str) -> None:
        """See `Report`."""
        logger().info(text)

    def note(self, text: str) -> None:
        """See `Report`."""
        logger().warning(text)

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        """See `Report`."""
        where = f"epoch {short_epoch(evaluation.epoch)}: train loss {evaluation.train_loss:.4f}"
        logger().info(f"{where}, {metric} {evaluation.metric:.4f}{' (best)' if evaluation.is_best else ''}")

    def finished(self, run: Path, metrics: dict[str, Any]) -> None:
        """See `Report`."""
        logger().info(f"finished: {run}")
