"""The study of a search, in a folder that several processes may share.

study.db  config.yaml  space.yaml    the study, the config it starts from, and the space that is searched
trials/<number>/                     the run of each trial, without the test split
best.yaml  tune.json                 the best config so far, and the results of all trials
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textattn.config import Config, dump_config, load_config
from textattn.config.space import Parameter, dump_space, with_values
from textattn.config.yaml12 import dump_yaml, parse_yaml
from textattn.data.read import Corpus
from textattn.errors import ConfigError, InputError, Option, Pruned, shell_command
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.runs.checkpoints import differences
from textattn.runs.signals import Signals
from textattn.runs.training_data import TrainingData
from textattn.storage.files import write_json, write_text
from textattn.storage.run_dir import ONNX, STUDY, WEIGHTS, RunDir

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

CONFIG, SPACE, BEST, SUMMARY, TRIALS = "config.yaml", "space.yaml", "best.yaml", "tune.json", "trials"
FOLDER = Option("dir")
LOCK, PROCESSES = ".lock", ".processes"
# Files that only the model of a trial needs; they are removed unless the trial is the best.
OF_THE_MODEL = (WEIGHTS, ONNX)
# Pruning: the number of trials that must be complete first, and the first evaluation after which a trial may be pruned.
COMPLETE_BEFORE, FIRST_PRUNED = 4, 2
# A trial whose process was killed this many times is given up, because the trial may be the cause.
MOST_KILLS = 3
SECONDS_FOR_THE_DATABASE = 60.0
# States of a trial that is running, or that waits for a process to resume it.
UNFINISHED = ("running", "interrupted")


def check_folder(folder: Path, config: Config, space: Sequence[Parameter]) -> bool:
    """Find out whether the folder contains a study of this config and space.

    Raises:
        ConfigError: the folder contains a study of a different config or space (the message lists the differences), or
            other files.
        InputError: the study is damaged.
    """
    hint = Option("dir", "runs/another-study")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file", hint, setting=FOLDER)
    if not (folder / CONFIG).is_file():
        if folder.is_dir() and any(folder.iterdir()) and not (folder / PROCESSES).is_dir():
            raise ConfigError(
                f"{folder} contains files that are not a study; nothing was changed", hint, setting=FOLDER
            )
        return False
    try:
        before = load_config(str(folder / CONFIG))
        searched = parse_yaml((folder / SPACE).read_text(encoding="utf-8"), str(folder / SPACE)).value
    except (ConfigError, OSError) as error:
        raise InputError(f"damaged ({error})", hint, place=str(folder)) from None
    found = differences(before, config)
    now = parse_yaml(dump_space(space), SPACE).value
    for key in sorted(searched.keys() | now.keys()):
        if searched.get(key) != now.get(key):
            was, is_now = (_on_a_line(values[key]) if key in values else "not searched" for values in (searched, now))
            found.append(f"space: {key}: was {was}, is now {is_now}")
    _refuse(folder, found)
    return True


def _on_a_line(value: Any) -> str:
    return ", ".join(line.removeprefix("- ") for line in dump_yaml(value).splitlines())


def _refuse(folder: Path, found: list[str]) -> None:
    if found:
        listed = "".join(f"\n  {difference}" for difference in found)
        raise ConfigError(
            f"{folder} contains a study with different settings or data; nothing was changed:{listed}",
            ("undo these changes, or use ", Option("dir", "runs/another-study")),
            setting=FOLDER,
        )


class Study:
    """The study in a folder. Only one process at a time accesses it; the lock of a killed process is released."""

    def __init__(
        self, folder: Path, config: Config, space: Sequence[Parameter], data: TrainingData, pruning: bool
    ) -> None:
        import filelock
        import optuna

        if data.corpus.validation is None:
            raise ConfigError(
                "a search needs a validation split, but the data have none",
                "data.validation_split=NAME, or more rows, so that a part of them can be used for validation",
            )
        self.folder, self.config, self.space = folder, config, space
        self.metric = data.metric
        self.greater_is_better = GREATER_IS_BETTER[self.metric]
        self.trial: Trial | None = None
        """The trial that this process is running."""
        self.began = 0.0
        self.name = uuid.uuid4().hex
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            (folder / PROCESSES).mkdir(parents=True, exist_ok=True)
            self.lock = filelock.FileLock(folder / LOCK)
            self._alive = filelock.FileLock(folder / PROCESSES / self.name)
            with self.alone():
                if not check_folder(folder, config, space):
                    write_text(folder / SPACE, dump_space(space))
                    write_text(folder / CONFIG, dump_config(config))
                self.study = self._open(data.corpus, pruning)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror or error}", setting=FOLDER) from None

    def __enter__(self) -> Study:
        self._alive.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._alive.release()
        (self.folder / PROCESSES / self.name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock out other processes during the block, and hold back a first signal until the study is written."""
        with Signals() as signals:
            with self.lock:
                yield
            signals.check()

    def _open(self, corpus: Corpus, pruning: bool) -> optuna.Study:
        import sqlite3

        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        path = self.folder / STUDY

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(path, timeout=SECONDS_FOR_THE_DATABASE, check_same_thread=False)

        pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=COMPLETE_BEFORE, n_warmup_steps=FIRST_PRUNED)
            if pruning
            else optuna.pruners.NopPruner()
        )
        try:
            study = optuna.create_study(
                # The path is not part of the URL, where some of its characters would have a special meaning.
                storage=optuna.storages.RDBStorage(f"sqlite:///{STUDY}", engine_kwargs={"creator": connect}),
                study_name="tune",
                direction="maximize" if self.greater_is_better else "minimize",
                pruner=pruner,
                load_if_exists=True,
            )
            begun_with = study.user_attrs.get("data")
        except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.OptunaError, RuntimeError) as error:
            first = str(error).strip().split("\n")[0]
            raise InputError(
                f"damaged, or of another version of Optuna ({first})", Option("dir", "another"), place=str(path)
            ) from None
        now = {name: split.fingerprint() for name, split in corpus.splits().items()}
        if begun_with is None:
            study.set_user_attr("data", now)
        else:
            changed = [name for name in sorted(begun_with.keys() | now.keys()) if begun_with.get(name) != now.get(name)]
            _refuse(self.folder, [f"data: the {name} split has changed" for name in changed])
        if not study.get_trials(deepcopy=False):
            values = self._values_of_config()
            if values is not None:
                study.enqueue_trial(values)
        return study

    def _values_of_config(self) -> dict[str, Any] | None:
        """The values of the config itself, which are tried first; None if the space does not contain all of them."""
        values = {}
        for parameter in self.space:
            value: Any = self.config
            for key in parameter.path:
                value = getattr(value, key)
            if not parameter.holds(value):
                return None
            values[parameter.key] = value
        return values

    # Trials

    def next_trial(self, total: int) -> Trial | None:
        """Take over a trial that another process left, or else start a new one; None if there are enough trials."""
        import optuna
        from optuna.trial import TrialState

        with self.alone():
            known = self.study.get_trials(deepcopy=False)
            for left in known:
                if left.state == TrialState.RUNNING and left.number < total and not self._is_alive(left):
                    trial = optuna.Trial(self.study, left._trial_id)
                    kills = left.user_attrs.get("kills", 0) + (left.user_attrs.get("process") is not None)
                    trial.set_user_attr("kills", kills)
                    if kills < MOST_KILLS:
                        return self._take(trial)
                    trial.set_user_attr("why", f"the process of this trial was killed {kills} times")
                    self.study.tell(trial, state=TrialState.FAIL)
            waiting = [trial.number for trial in known if trial.state == TrialState.WAITING]
            if len(known) - len(waiting) >= total:
                return None
            # Each trial has a sampler with a different seed, so that no two trials draw the same random numbers.
            number = waiting[0] if waiting else len(known)
            seed = int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # options that older versions call experimental
                self.study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            return self._take(self.study.ask())

    def _take(self, trial: Trial) -> Trial:
        trial.set_user_attr("process", self.name)
        for parameter in self.space:
            _suggest(trial, parameter)
        self.trial, self.began = trial, time.monotonic()
        return trial

    def _is_alive(self, trial: FrozenTrial) -> bool:
        """Whether the process of a trial is running, which means that it holds its lock."""
        import filelock

        name = trial.user_attrs.get("process")
        path = self.folder / PROCESSES / str(name)
        if name == self.name or name is None or not path.exists():
            return bool(name == self.name)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        lock.release()
        path.unlink(missing_ok=True)
        return False

    def values(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """The settings of a trial."""
        return {p.key: p.tidy(trial.params[p.key]) for p in self.space if p.key in trial.params}

    def run_of(self, number: int) -> Path:
        """The run directory of a trial."""
        return self.folder / TRIALS / str(number)

    def evaluated(self, number: int, value: float, is_last: bool) -> None:
        """Record the selection metric of the `number`-th evaluation of the trial; a trial is not pruned after its last.

        Raises:
            Pruned: the trial has fallen behind and should not continue.
        """
        assert self.trial is not None
        with self.alone():
            # A resumed trial repeats the evaluations that came after its checkpoint.
            known = self.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
            if number not in known and not math.isnan(value):
                self.trial.report(value, number)
            prune = not is_last and self.trial.should_prune()
        if prune:
            raise Pruned

    def finish(self, value: float | None, why: str | None = None, *, pruned: bool = False) -> dict[str, Any]:
        """End the current trial, which is complete if it has a value, or else pruned or failed; returns tune.json."""
        from optuna.trial import TrialState

        assert self.trial is not None
        with self.alone():
            self._count_seconds()
            self.trial.set_user_attr("why", why)
            if value is not None:
                self.study.tell(self.trial, value)
            else:
                self.study.tell(self.trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)
            self.trial = None
            return self._write()

    def repeat(self) -> bool:
        """End the current trial with the result of an earlier trial with the same values; False if there is none."""
        from optuna.trial import TrialState

        assert self.trial is not None
        with self.alone():
            values, known = self.values(self.trial), self.study.get_trials(deepcopy=False)
            states = (TrialState.COMPLETE, TrialState.PRUNED)  # a failed trial may have failed for another reason
            ended = [trial for trial in known if trial.state in states and self.values(trial) == values]
            if not ended:
                return False
            for step, value in ended[0].intermediate_values.items():
                self.trial.report(value, step)
        is_pruned = ended[0].state == TrialState.PRUNED
        why = ended[0].user_attrs.get("why") or (None if is_pruned else f"as trial {ended[0].number}")
        self.finish(ended[0].value if ended[0].state == TrialState.COMPLETE else None, why, pruned=is_pruned)
        return True

    def leave(self) -> dict[str, Any]:
        """Release the current trial, so that any process can resume it; returns the content of tune.json."""
        with self.alone():
            if self.trial is not None:
                self._count_seconds()
                self.trial.set_user_attr("process", None)
                self.trial = None
            return self._write()

    def _count_seconds(self) -> None:
        assert self.trial is not None
        before = self.trial.user_attrs.get("seconds", 0.0)
        self.trial.set_user_attr("seconds", round(before + time.monotonic() - self.began, 1))

    # Results

    def write(self) -> dict[str, Any]:
        """Write best.yaml and tune.json; returns the content of tune.json."""
        with self.alone():
            return self._write()

    def _write(self) -> dict[str, Any]:
        entries = [self._entry(trial) for trial in self.study.get_trials(deepcopy=False)]
        trials = [entry for entry in entries if entry is not None]
        complete = [trial for trial in trials if trial["state"] == "complete"]
        sign = 1 if self.greater_is_better else -1
        best = max(complete, key=lambda trial: sign * trial["value"], default=None)  # of equal values the first
        if best is not None:
            write_text(self.folder / BEST, self._best_config(best, len(trials)))
        for trial in trials:
            if trial["state"] not in UNFINISHED:
                RunDir(self.run_of(trial["trial"])).remove_checkpoints()
                for name in OF_THE_MODEL if trial is not best else ():
                    (self.run_of(trial["trial"]) / name).unlink(missing_ok=True)
        summary = {
            "dir": str(self.folder),
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "split": "validation",
            "best": None if best is None else {**best, "config": str(self.folder / BEST)},
            "trials": trials,
        }
        write_json(self.folder / SUMMARY, summary)
        return summary

    def _entry(self, trial: FrozenTrial) -> dict[str, Any] | None:
        from optuna.trial import TrialState

        states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        why = trial.user_attrs.get("why")
        if trial.state == TrialState.WAITING:
            return None
        if trial.state == TrialState.RUNNING:
            state = "running" if self._is_alive(trial) else "interrupted"
        else:
            state = "diverged" if trial.state == TrialState.PRUNED and why else states[trial.state]
        return {
            "trial": trial.number,
            "state": state,
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "parameters": self.values(trial),
            "evaluations": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
            "seconds": trial.user_attrs.get("seconds"),
            "why": why,
        }

    def _best_config(self, best: dict[str, Any], number: int) -> str:
        config = with_values(self.config, best["parameters"])
        train = shell_command("textattn train {}", self.folder / BEST)
        return (
            f"# The best of {number} trials: validation {self.metric} {best['value']:.4f} in trial {best['trial']}.\n"
            f"# The test split was not used in the search.\n#\n#     {train}\n#\n" + dump_config(config)
        )


def _suggest(trial: Trial, parameter: Parameter) -> None:
    """Draw a value of the parameter for the trial, unless the trial has one already."""
    p = parameter
    if p.choices:
        trial.suggest_categorical(p.key, p.choices)
    elif p.whole:
        trial.suggest_int(p.key, int(p.low), int(p.high), step=int(p.step or 1), log=p.log)
    else:
        trial.suggest_float(p.key, p.low, p.high, step=p.step, log=p.log)
