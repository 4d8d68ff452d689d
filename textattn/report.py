"""What a run tells about itself while it runs. This one is silent; the command line has one that prints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


class Report:
    """Receives what happens in a run. Override what you want to hear."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def note(self, text: str) -> None:
        """Something the user should know: rows skipped, texts truncated."""

    def begun(self, run: Path, step: int) -> None:
        """Training begins in this directory, or goes on there after so many steps."""

    @contextlib.contextmanager
    def progress(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A long piece of work; yields a function that takes how much is done."""
        yield lambda done: None

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Step], None]]:
        """The training loop; yields a function that takes every step."""
        yield lambda step: None

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        """An evaluation on the validation split."""

    def finished(self, run: Path, metrics: dict[str, Any]) -> None:
        """The run directory is complete."""
