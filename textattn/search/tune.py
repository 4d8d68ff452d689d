"""A search for better settings: trials of one study, in one process after the other or in several at once."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from textattn.config import Config
from textattn.config.space import Parameter, in_yaml, with_values
from textattn.errors import ConfigError, Diverged, MissingExtra, Pruned, TextattnError, TrainingError
from textattn.report import Report
from textattn.runs.prepare import prepare
from textattn.runs.recipe import resolve_recipe
from textattn.runs.signals import Interrupted, Terminated, signal_number
from textattn.runs.tracking import check_trackers
from textattn.runs.train import train
from textattn.search.study import BEST, UNFINISHED, Study, check_folder
from textattn.storage.run_dir import RunDir
from textattn.training.processes import number_of_processes

if TYPE_CHECKING:
    from optuna.trial import Trial

    from textattn.report import Evaluation, Step


def check_installed() -> None:
    """Raises MissingExtra where what only a search needs is not there."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise MissingExtra("textattn tune", "optuna", "tune") from None


def tune(
    config: Config,
    space: Sequence[Parameter],
    folder: Path,
    *,
    trials: int = 20,
    minutes: float | None = None,
    pruning: bool = True,
    report: Report | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains with settings from the space until the study in `folder` has so many trials, those there already included.

    A trial that a killed or interrupted process left goes on from its checkpoint. Other processes may call this with
    the same arguments at the same time. The test split is read by none of the trials.

    Args:
        trials: of the whole study, whoever trained them.
        minutes: after these no further trial begins.
        pruning: give up trials that fall behind the median of the complete ones.
        command: the command line, for environment.json.

    Returns:
        What tune.json holds.

    Raises:
        MissingExtra: optuna is not installed, or a tool of `output.tracking`.
        ConfigError: the folder holds another study or something else, or the data have no validation split.
        Interrupted: Ctrl-C or SIGTERM; the trial can be gone on with.
        TrainingError: no trial came to a value.
    """
    if number_of_processes() > 1:
        raise ConfigError(
            "textattn tune does not run under torchrun: processes of a search share its trials by themselves",
            "the same `textattn tune …`, started several times",
        )
    check_installed()
    check_trackers(config.output.tracking)
    report = report or Report()
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    try:
        check_folder(folder, config, space)
        data = prepare(without_test(config), report)
        config, _ = resolve_recipe(config, data.corpus.train)
        study = Study(folder, config, space, data, pruning)
    except (KeyboardInterrupt, Terminated) as stop:
        raise Interrupted(
            signal_number(stop), "interrupted before the first trial", "the same command begins again"
        ) from None
    with study:
        try:
            while time.monotonic() < ends and (trial := study.next_trial(trials)) is not None:
                _run_trial(study, trial, trials, report, command)
            summary = study.write()
        except (KeyboardInterrupt, Terminated, Interrupted) as stop:
            raise _interrupted(stop, study, trials) from None
    ended = [trial["state"] not in UNFINISHED for trial in summary["trials"]]
    if ended and all(ended) and summary["best"] is None:
        reasons = [trial["why"] for trial in summary["trials"] if trial["why"]]
        raise TrainingError(
            f"{folder}: none of {len(summary['trials'])} trials came to a value"
            + (f"; the last: {reasons[-1]}" if reasons else "")
        )
    return summary


def without_test(config: Config) -> Config:
    """What a trial trains: the test split is not even read, and nothing is written that only a finished run needs."""
    files, data = config.data.files, config.data
    if files is not None:
        files = files.model_copy(update={"test": None})
    nothing: dict[str, Any] = {
        "dir": None, "prediction_splits": [], "attention_splits": [], "attention_examples": 0, "audit_examples": 0,
        "plots": False,
    }  # fmt: skip
    return config.model_copy(
        update={
            "data": data.model_copy(update={"files": files, "test_split": None}),
            "output": config.output.model_copy(update=nothing),
        }
    )


class TrialReport(Report):
    """Of a trial: hands on what is worth seeing of one run among many, and the evaluations to the study."""

    def __init__(self, study: Study, inner: Report, evaluations_per_epoch: int) -> None:
        self.study, self.inner, self.per_epoch = study, inner, evaluations_per_epoch
        self.progress, self.training = inner.progress, inner.training  # type: ignore[method-assign]
        self.has_begun = False

    def begun(self, run: Path, step: int) -> None:
        """What is said from here on is about this trial; before it, the same about the data each time."""
        self.has_begun = True

    def note(self, text: str) -> None:
        """Of a tool that does not take the run, for instance."""
        if self.has_begun:
            self.inner.note(text)

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        """Also ends the trial where it has fallen behind."""
        self.inner.evaluated(evaluation, metric, step)
        is_last = step is None or step.global_step >= step.total_steps
        # As many texts seen, whatever the size of a batch.
        self.study.evaluated(max(1, round(evaluation.epoch * self.per_epoch)), evaluation.metric, is_last)


def _run_trial(study: Study, trial: Trial, total: int, report: Report, command: str | None) -> None:
    values, run = study.values(trial), study.run_of(trial.number)
    begun = RunDir(run).is_run()
    report.stage(
        f"Trial {trial.number} ({trial.number + 1} of {total}){' goes on' if begun else ''}: {in_words(values)}"
    )
    if not begun and study.repeat():
        report.stage(f"Trial {trial.number}: tried before, not trained again")
        return
    if not begun:
        shutil.rmtree(run, ignore_errors=True)  # its process was killed before it was a run
    metric, value, why, pruned = study.metric, None, None, False
    try:
        config = with_values(without_test(study.config), values | {"output.dir": str(run)})
        own = TrialReport(study, report, config.training.evaluations_per_epoch)
        train(config, resume=begun, report=own, command=command)
        value = RunDir(run).best_metric()
        if value is None or math.isnan(value):
            value, why = None, f"{metric} is not defined on the validation split"
    except Pruned:
        pruned = True
    except Diverged as error:
        pruned, why = True, error.message  # a bad value, and not none: the search keeps away from there
    except ConfigError as error:
        why = error.message  # these settings do not go together
    except torch.OutOfMemoryError:
        why = "out of memory"
    except Interrupted:
        raise
    except Exception as error:
        study.finish(None, error.message if isinstance(error, TextattnError) else repr(error))
        raise
    summary = study.finish(value, why, pruned=pruned)
    entry, best = summary["trials"][trial.number], summary["best"]
    if value is not None:
        so_far = "the best so far" if best["trial"] == trial.number else f"best {best['value']:.4f} in {best['trial']}"
        report.stage(f"Trial {trial.number}: {metric} {value:.4f}, {entry['seconds']:.1f} s ({so_far})")
    else:
        reason = f" ({why})" if why else f" after {len(entry['evaluations'])} evaluations, {entry['seconds']:.1f} s"
        report.stage(f"Trial {trial.number}: {entry['state']}{reason}")


def _interrupted(stop: BaseException, study: Study, total: int) -> Interrupted:
    summary = study.leave()
    done = sum(trial["state"] not in UNFINISHED for trial in summary["trials"])
    message = f"interrupted; {done} of {total} trials are done"
    if summary["best"] is not None:
        message += f", the best config so far ({study.metric} {summary['best']['value']:.4f}) is {study.folder / BEST}"
    number = stop.exit_code - 128 if isinstance(stop, Interrupted) else signal_number(stop)
    return Interrupted(number, message, "the same command goes on from there")


def in_words(values: dict[str, Any]) -> str:
    """Settings as they would be given on the command line."""
    return " ".join(f"{key}={in_yaml(value)}" for key, value in values.items())
