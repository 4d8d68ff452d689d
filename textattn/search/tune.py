"""Search for better settings by trials of one study, which one or several processes run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from textattn.config import Config
from textattn.config.space import Parameter, in_yaml, with_values
from textattn.errors import ConfigError, Diverged, MissingExtra, Pruned, TextattnError, TrainingError
from textattn.report import Report
from textattn.runs.going_on import fit_to_data
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
    """Check that Optuna, which only a search needs, is installed.

    Raises:
        MissingExtra: Optuna is not installed.
    """
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
    """Train with settings from the space until the study in `folder` has `trials` trials.

    A trial that a killed or interrupted process left is resumed from its checkpoint. Other processes may call this
    function with the same arguments at the same time. No trial reads the test split.

    Args:
        config: the settings that are not searched, and the first values of those that are.
        space: the parameters to search.
        folder: the folder of the study.
        trials: the number of trials of the whole study, including those of earlier calls and of other processes.
        minutes: the number of minutes after which no further trial is started.
        pruning: whether to stop trials that fall behind the median of the complete ones.
        report: receives the events of the search.
        command: the command line, for environment.json.

    Returns:
        The content of tune.json.

    Raises:
        MissingExtra: Optuna or a tool of `output.tracking` is not installed.
        ConfigError: the folder contains a different study or other files, or the data have no validation split.
        Interrupted: Ctrl-C or SIGTERM; the trial can be resumed.
        TrainingError: all trials have ended without a value.
    """
    if number_of_processes() > 1:
        raise ConfigError(
            "textattn tune does not run under torchrun; the processes of a search share its trials without it",
            "start the same `textattn tune …` several times",
        )
    check_installed()
    check_trackers(config.output.tracking)
    report = report or Report()
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    try:
        check_folder(folder, config, space)
        data = prepare(without_test(config), report)
        if data.start is None:
            config, _ = resolve_recipe(config, data.corpus.train)
        else:
            config, _ = fit_to_data(data.start.resolve(config), data.corpus)
        study = Study(folder, config, space, data, pruning)
    except (KeyboardInterrupt, Terminated) as stop:
        raise Interrupted(
            signal_number(stop), "interrupted before the first trial", "the same command starts again"
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
            f"none of {len(summary['trials'])} trials has a result"
            + (f"; the reason of the last one: {reasons[-1]}" if reasons else ""),
            place=str(folder),
        )
    return summary


def without_test(config: Config) -> Config:
    """The config of a trial: the test split is not read, and files that only a finished run needs are not written."""
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
    """The report of a trial: forwards the events that are of interest in a search, and the evaluations to the study."""

    def __init__(self, study: Study, inner: Report, evaluations_per_epoch: int) -> None:
        self.study, self.inner, self.per_epoch = study, inner, evaluations_per_epoch
        self.progress, self.training = inner.progress, inner.training  # type: ignore[method-assign]
        self.has_begun = False

    def begun(self, run: Path, step: int) -> None:
        """Forward notes from here on: earlier ones are about the data, and the same in every trial."""
        self.has_begun = True

    def note(self, text: str) -> None:
        """Forward a note about the trial, such as the failure of an experiment tracker."""
        if self.has_begun:
            self.inner.note(text)

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        """Forward an evaluation; raises Pruned if the trial has fallen behind."""
        self.inner.evaluated(evaluation, metric, step)
        is_last = step is None or step.global_step >= step.total_steps
        # Trials are compared after the same number of texts, whatever their batch sizes.
        self.study.evaluated(max(1, round(evaluation.epoch * self.per_epoch)), evaluation.metric, is_last)


def _run_trial(study: Study, trial: Trial, total: int, report: Report, command: str | None) -> None:
    values, run = study.values(trial), study.run_of(trial.number)
    begun = RunDir(run).is_run()
    report.stage(
        f"Trial {trial.number} ({trial.number + 1} of {total}){' resumes' if begun else ''}: {in_words(values)}"
    )
    if not begun and study.repeat():
        report.stage(f"Trial {trial.number}: these settings were tried before and are not trained again")
        return
    metric, value, why, pruned = study.metric, None, None, False
    try:
        config = with_values(without_test(study.config), values | {"output.dir": str(run)})
        trial_report = TrialReport(study, report, config.training.evaluations_per_epoch)
        train(config, resume=begun, report=trial_report, command=command)
        value = RunDir(run).best_metric()
        if value is None or math.isnan(value):
            value, why = None, f"{metric} is not defined on the validation split"
    except Pruned:
        pruned = True
    except Diverged as error:
        pruned, why = True, error.message  # pruned, not failed, so that the search avoids such settings
    except ConfigError as error:
        why = error.message  # the settings do not fit together
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
    return Interrupted(number, message, "the same command continues from there")


def in_words(values: dict[str, Any]) -> str:
    """The settings in the form of the command line."""
    return " ".join(f"{key}={in_yaml(value)}" for key, value in values.items())
