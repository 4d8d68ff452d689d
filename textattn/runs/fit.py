"""Train the model of a run: run the training loop, write weights, log and checkpoints, and stop on signals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from textattn.errors import Elsewhere, Setting, TrainingError
from textattn.inference.session import run_in_batches
from textattn.inference.torch_session import TorchSession
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.report import Evaluation, Report, Step
from textattn.runs.checkpoints import save_state
from textattn.runs.setup import Setup
from textattn.runs.signals import Interrupted, Signals, Terminated, signal_number
from textattn.storage.records import History
from textattn.storage.run_dir import RESUME, RunDir
from textattn.training.loop import TrainingLoop
from textattn.training.state import TrainState


def fit(setup: Setup, run: RunDir, state: TrainState | None, stop_after: float | None, report: Report) -> History:
    """Train the model of `setup` in place; weights, log.jsonl and checkpoints are written to the run directory.

    Args:
        setup: the data and the model.
        run: the run directory.
        state: the state to resume from, or None to start from the beginning.
        stop_after: the number of epochs after which to stop, if fewer than in the config.
        report: receives the events of training.

    Raises:
        TrainingError: the loss is not a finite number, or the directory cannot be written to.
        Interrupted: Ctrl-C or SIGTERM; the current step is finished and saved first.
    """
    fitting = _Fitting(setup, run, report)
    # Cross-validation may have found that the network adds nothing to the linear model.
    if setup.data.config.model.linear == "only" or stop_after == 0:
        return fitting.keep_linear()
    return fitting.run_loop(state, stop_after)


class _Fitting:
    """One training of one run, with its log, its best evaluation and its last step."""

    def __init__(self, setup: Setup, run: RunDir, report: Report) -> None:
        self.setup, self.run, self.report = setup, run, report
        self.data, self.processes = setup.data, setup.placement.processes
        self.metric = setup.data.metric
        self.signals = Signals()
        self.log: list[dict[str, Any]] = []
        self.best: Evaluation | None = None
        self.step: Step | None = None
        self.validation_loss: float | None = None
        """The log loss of the last evaluation, in nats."""

    def run_loop(self, state: TrainState | None, stop_after: float | None) -> History:
        """Train to the end."""
        validates = self.data.corpus.validation is not None
        loop = self.setup.loop(evaluate=self._evaluate if validates else None, stop_after=stop_after)
        self._report_start()
        if state is None and validates and self.setup.linear is not None and self.data.start is None:
            self._begin_with_linear(loop)
        elif state is not None:
            self.best = None if state.best is None else state.best.evaluation
            self.log = list(state.log)
            loop.restore(state)
            self.step = loop.step()
            self.report.note(f"training resumes after step {self.step.global_step:,} of {self.step.total_steps:,}")
        settings = self.data.config.training
        try:
            with self.signals, self.report.training(settings.epochs) as on_step:
                for event in loop:
                    if isinstance(event, Step):
                        self.step = event
                        on_step(event)
                    else:
                        self._on_evaluation(event)
                    every = settings.checkpoint_steps
                    if isinstance(event, Evaluation) or (every is not None and event.global_step % every == 0):
                        self._save(loop.state())
                    # A signal may reach the processes in different steps, but all must stop after the same step.
                    self.signals.check(self.processes.largest(self.signals.waiting))
        except (KeyboardInterrupt, Terminated) as stop:
            raise self._stopped(stop, loop.state) from None
        if self.best is not None and self.best.global_step == 0:
            self.report.note("on validation the network adds nothing to the linear model, which is kept alone")
        return self._history()

    def _begin_with_linear(self, loop: TrainingLoop) -> None:
        """Let the linear part alone be the best model so far: at the start the network adds 0 to it."""
        self.setup.model.eval()
        metric = self._evaluate(self.setup.model)
        self.setup.model.train()
        self.best = Evaluation(0, 0.0, float("nan"), metric, True, 0.0)
        loop.at.best = metric
        if self.processes.is_first:
            with _writing_to(self.run):
                self.run.write_weights(self.setup.weights_file())
        self.report.note(f"the linear model alone has {self.metric} {metric:.4f} on validation")

    def keep_linear(self) -> History:
        """Keep the fitted linear model as it is: there is no network to train."""
        if self.processes.is_first:
            with _writing_to(self.run):
                self.run.write_weights(self.setup.weights_file())
                self.run.write_log([])
        linear, data = self.setup.linear, self.data
        assert linear is not None
        return History(
            global_step=0,
            max_steps=0,
            epoch=0.0,
            metric_for_best_model=self.metric,
            greater_is_better=GREATER_IS_BETTER[self.metric],
            best_metric=linear.facts.get("validation", {}).get(self.metric),
            best_global_step=0,
            num_input_tokens_seen=int(data.tokens["train"].lengths.sum()),
            train_runtime=linear.seconds,
            train_tokens_per_second=0.0,
            num_parameters=self.setup.num_parameters,
            device=str(self.setup.placement),
            log_history=[],
        )

    def _report_start(self) -> None:
        together = f", {self.processes.size} processes" if self.processes.size > 1 else ""
        self.report.stage(
            f"Training {self.setup.num_parameters:,} parameters on {len(self.data.corpus.train):,} texts "
            f"({self.setup.placement}{together})"
        )

    def _evaluate(self, _: torch.nn.Module) -> float:
        # A single process may be interrupted within an evaluation; several processes must stop together.
        with self.signals.at_once() if self.processes.size == 1 else contextlib.nullcontext():
            return self._selection_value()

    def _selection_value(self) -> float:
        """The selection metric on the validation split; each process computes the logits of its share of the rows."""
        validation, task = self.data.corpus.validation, self.data.task
        assert validation is not None
        session = TorchSession(self.setup.model, str(self.setup.placement.device))
        rows = np.arange(self.processes.rank, len(validation), self.processes.size)
        share = run_in_batches(session, self.data.tokens["validation"], self.data.tokenizer.pad_id, rows=rows).logits
        logits = np.zeros((len(validation), share.shape[1]), np.float32)
        logits[rows] = share
        self.processes.sum(torch.from_numpy(logits))
        probs = task.probabilities(logits)
        self.validation_loss = task.validation_loss(validation.labels, probs)
        return task.selection_value(self.metric, validation.labels, probs)

    def _on_evaluation(self, event: Evaluation) -> None:
        if event.is_best:
            self.best = event
        self.log.append(self._log_entry(event))
        if self.processes.is_first:
            with _writing_to(self.run):
                if event.is_best:
                    self.run.write_weights(self.setup.weights_file())
                self.run.write_log(self.log)
        self.report.evaluated(event, self.metric, self.step)

    def _log_entry(self, event: Evaluation) -> dict[str, Any]:
        """Make a line of log.jsonl."""
        entry: dict[str, Any] = {"step": event.global_step, "epoch": event.epoch, "loss": event.train_loss}
        if self.step is not None:
            entry["learning_rate"] = self.step.learning_rate
        if not np.isnan(event.metric):  # there is a validation split
            entry |= {f"eval_{self.metric}": event.metric, "eval_loss": self.validation_loss, "best": event.is_best}
        return entry | {"seconds": round(event.seconds, 3)}

    def _save(self, state: TrainState) -> None:
        if self.processes.is_first:
            with _writing_to(self.run):
                save_state(self.run, replace(state, log=self.log), self.best)

    def _stopped(self, stop: BaseException, state: Any) -> Elsewhere | Interrupted:
        """Save the last step after a signal, and return the error to raise."""
        if not self.processes.is_first:
            # Wait until the first process has saved: torchrun ends all processes when one has ended.
            self.processes.largest(0)
            return Elsewhere(128 + signal_number(stop))
        if self.step is not None:
            with _writing_to(self.run):
                if not self.signals.forced:
                    save_state(self.run, replace(state(), log=self.log), self.best)
                if self.best is None:
                    self.run.write_weights(self.setup.weights_file())
        if not self.signals.forced:
            self.processes.largest(0)
        return self._interrupted(signal_number(stop))

    def _interrupted(self, number: int) -> Interrupted:
        if self.step is None:
            return Interrupted(number, "interrupted before the first step; nothing was saved", "textattn train CONFIG")
        kept = "the current model"
        if self.best is not None and not np.isnan(self.best.metric):
            kept = f"the best model so far ({self.metric} {self.best.metric:.4f} at step {self.best.global_step})"
        return Interrupted(
            number,
            f"interrupted at step {self.step.global_step} of {self.step.total_steps}; {kept} is in {self.run}",
            ("the same command with ", RESUME, " ", Setting("output.dir", str(self.run)), " continues from there"),
        )

    def _history(self) -> History:
        assert self.best is not None
        assert self.step is not None
        return History(
            global_step=self.step.global_step,
            max_steps=self.step.total_steps,
            epoch=self.step.epoch,
            metric_for_best_model=self.metric,
            greater_is_better=GREATER_IS_BETTER[self.metric],
            best_metric=None if self.data.corpus.validation is None else self.best.metric,
            best_global_step=self.best.global_step,
            num_input_tokens_seen=self.step.num_tokens,
            train_runtime=self.step.seconds,
            train_tokens_per_second=self.step.num_tokens / self.step.seconds,
            num_parameters=self.setup.num_parameters,
            device=str(self.setup.placement),
            log_history=self.log,
        )


@contextlib.contextmanager
def _writing_to(run: RunDir) -> Iterator[None]:
    """Turn an error of the operating system into one that the user can act on."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"cannot be written ({error.strerror or error}); all files that were written before are intact",
            ("free some space there, then run the same command with ", RESUME, " ", Setting("output.dir", str(run))),
            place=str(run),
        ) from None
