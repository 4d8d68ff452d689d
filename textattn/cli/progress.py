"""How a run is shown: bars for a person, plain lines for a log."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from textattn.cli.console import error_console, is_live, note, shown
from textattn.inference.visible import one_line, short_number, visible
from textattn.report import Report, short_epoch

if TYPE_CHECKING:
    from textattn.report import Evaluation, Step

# In a log, a line at most this often between evaluations.
SECONDS_PER_LINE = 30.0


class ConsoleReport(Report):
    """Prints to stderr."""

    def __init__(self) -> None:
        self.console: Console | None = error_console() if is_live() else None
        self.last_line = time.monotonic()

    def stage(self, text: str) -> None:
        self._print(text)

    def note(self, text: str) -> None:
        self._print(f"Note: {text}")

    @contextlib.contextmanager
    def progress(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        if self.console is None:
            yield self._quiet_progress(title, total, unit)
            return
        with self._bar("{task.completed:,.0f}/{task.total:,.0f} " + unit) as bar:
            task = bar.add_task(one_line(visible(title)), total=total)
            yield lambda done: bar.update(task, completed=done)

    def _quiet_progress(self, title: str, total: int, unit: str) -> Callable[[int], None]:
        def advance(done: int) -> None:
            if time.monotonic() - self.last_line > SECONDS_PER_LINE:
                self._print(f"{title}: {done:,}/{total:,} {unit}")

        return advance

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Step], None]]:
        if self.console is None:
            yield self._log_step
            return
        with self._bar("{task.fields[numbers]}") as bar:
            task = bar.add_task(f"Epoch 1/{epochs}", total=None, numbers="")
            smooth: float | None = None

            def show(step: Step) -> None:
                nonlocal smooth
                smooth = step.loss if smooth is None else 0.95 * smooth + 0.05 * step.loss
                bar.update(
                    task,
                    completed=step.global_step,
                    total=step.total_steps,
                    description=f"Epoch {min(int(step.epoch - 1e-9) + 1, epochs)}/{epochs}",
                    numbers=f"loss {smooth:.3f}  {step.num_tokens / step.seconds:,.0f} tok/s",
                )

            yield show

    def _log_step(self, step: Step) -> None:
        if time.monotonic() - self.last_line > SECONDS_PER_LINE:
            rate = step.num_tokens / step.seconds
            left = step.seconds / step.global_step * (step.total_steps - step.global_step)
            self._print(
                f"step {step.global_step}/{step.total_steps}  epoch {short_epoch(step.epoch)}  loss {step.loss:.4f}  "
                f"{rate:,.0f} tokens/s  {left:.0f} s left"
            )

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        line = f"epoch {short_epoch(evaluation.epoch)}  loss {evaluation.train_loss:.4f}"
        if evaluation.metric == evaluation.metric:
            line += f"  validation {metric} {evaluation.metric:.4f}{'  (best)' if evaluation.is_best else ''}"
        if step is not None:
            line += f"  {step.num_tokens / step.seconds:,.0f} tokens/s"
        self._print(line)

    def finished(self, run: Path, metrics: dict[str, Any]) -> None:
        for split in ("cross_validation", "validation", "test"):
            if split in metrics:
                self._print(f"{split.replace('_', '-')}: {headline(metrics[split])}")
        if "baseline" in metrics:
            self._baseline(metrics["baseline"])
        if "audit" in metrics:
            self._print(f"trust: {metrics['audit']['verdict']}")
        minutes, seconds = divmod(round(metrics["seconds"]["total"]), 60)
        duration = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        self._print(f"Finished in {duration}. To see what it learned:")
        self._print(f'  textattn explain --model {shlex.quote(str(run))} "a sentence"')

    def _baseline(self, found: dict[str, Any]) -> None:
        from textattn.runs.baseline import in_words

        for split in ("validation", "test"):
            if split in found:
                self._print(f"baseline, {split}: {headline(found[split])}")
        if found["against"] is not None:
            self._print(in_words(found["against"], found[found["against"]["split"]]["headline"]))

    def _bar(self, numbers: str) -> Progress:
        return Progress(
            # A title may hold a name, whose brackets are no markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn(numbers),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )

    def _print(self, text: str) -> None:
        self.last_line = time.monotonic()
        if self.console is not None:
            self.console.print(shown(text, sys.stderr))
        else:
            note(text)


def headline(split: dict[str, Any]) -> str:
    """The first metric with its interval, and what the most frequent label alone would reach."""
    name, interval = split["headline"], split["interval_95"]
    if "mean_baseline" in split:
        return _headline_of_numbers(split)
    majority = split["majority_class"]
    text = f"{name} {split[name]:.4f} (95 % interval {interval['low']:.4f} to {interval['high']:.4f})"
    if name in majority:
        text += f", always {majority['label']!r}: {majority[name]:.4f}"
    if "quadratic_kappa" in split:
        text += f", quadratic kappa {split['quadratic_kappa']:.4f}, mean error {split['mae']:.4f} grades"
    return f"{text}, macro F1 {split['macro_f1']:.4f}, {split['num_examples']:,} texts"


def _headline_of_numbers(split: dict[str, Any]) -> str:
    name, interval = split["headline"], split["interval_95"]
    text = f"{name} {_short(split[name])} (95 % interval {_short(interval['low'])} to {_short(interval['high'])})"
    text += f", always the mean: mae {_short(split['mean_baseline']['mae'])}"
    text += "".join(f", {other} {_short(split[other])}" for other in ("mae", "rmse", "r2", "spearman") if other != name)
    if (covered := split["interval"]) is not None:
        wanted = f"{covered['wanted_coverage']:.0%}"
        text += f", {wanted} intervals (± {_short(covered['margin'])}) cover {covered['coverage']:.1%}"
    return f"{text}, {split['num_examples']:,} texts"


def _short(value: float | None) -> str:
    return "undefined" if value is None else short_number(value)
