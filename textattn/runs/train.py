"""One training run, from a config to a finished run directory: prepare, build, cross-validate, fit, finish."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from textattn.config import Config, dump_config
from textattn.data.label_faults import label_faults
from textattn.errors import ConfigError, Elsewhere, InputError, TrainingError, shell_command
from textattn.inference.original_data import Origin
from textattn.report import Report
from textattn.runs.checkpoints import (
    check_model_config,
    check_model_files,
    check_same_config,
    load_state,
    with_its_size,
)
from textattn.runs.environment import environment_of
from textattn.runs.finish import finish
from textattn.runs.fit import fit
from textattn.runs.folds import cross_validate
from textattn.runs.prepare import prepare
from textattn.runs.setup import Setup, build
from textattn.runs.signals import Interrupted, Terminated, signal_number
from textattn.runs.tracking import tracked
from textattn.storage.records import Folds, History
from textattn.storage.run_dir import RUNS, RunDir
from textattn.storage.run_folder import begin, check, in_order, new_directory, own
from textattn.training.placement import Placement, choose_placement
from textattn.training.processes import join_processes, rank_of_process
from textattn.training.state import TrainState


def train(
    config: Config,
    *,
    name: str = "run",
    overwrite: bool = False,
    resume: bool = False,
    report: Report | None = None,
    command: str | None = None,
) -> Path:
    """Train a model as the config says.

    Args:
        config: the settings.
        name: is part of the default run directory, runs/<name>/<time>.
        overwrite: replace the files of an earlier run in the directory.
        resume: resume the run in `output.dir`, or the newest run of this name; if there is none, start a new run.
        report: receives the events of the run.
        command: the command line, for environment.json.

    Returns:
        The run directory.

    Raises:
        TextattnError: see `textattn.errors`; `Interrupted` on Ctrl-C or SIGTERM.
    """
    if rank_of_process() > 0:  # the first process reports
        return _Training(config, overwrite, resume, Report(), command).run(name)
    with tracked(config, name, report or Report()) as tracking_report:
        return _Training(config, overwrite, resume, tracking_report, command).run(name)


@dataclass
class _Training:
    """The arguments of `train`, and the stages of the run."""

    config: Config
    overwrite: bool
    resume: bool
    report: Report
    command: str | None

    def run(self, name: str) -> Path:
        """Run all stages, in every process that takes part."""
        started = time.time()
        placement = choose_placement(self.config.training)
        with contextlib.ExitStack() as ownership:
            with join_processes(placement.device.type) as processes:
                placement = replace(placement, processes=processes)
                directory, resumes, is_finished = processes.first(lambda: self._choose_directory(name, ownership))
                run = RunDir(Path(directory))
                if is_finished:
                    return run.path
                trained = self._train(run, resumes, placement)
            if processes.is_first:
                self._finish(run, *trained, started)
            return run.path

    def _train(self, run: RunDir, resumes: bool, placement: Placement) -> tuple[Setup, History, Folds | None]:
        """Run all stages up to the end of training."""
        processes, report = placement.processes, self.report
        # A run that resumes has a copy of the model that it goes on from.
        config = with_its_size(self.config, run) if resumes else self.config
        data = processes.in_turn(lambda: prepare(config, report, run.start if resumes else None))
        for fault in label_faults(data.corpus, data.config.data):
            report.note(f"{fault.message}; {fault.hint}")
        state = load_state(run, data, processes, report) if resumes else None
        with torch.random.fork_rng():
            torch.manual_seed(data.config.seed)
            # When resuming, the weights of the checkpoint replace the word vectors.
            setup = processes.in_turn(lambda: build(data, placement, report, vectors=state is None))
            folds = self._begin(run, setup, resumes, state)
            report.begun(run.path, 0 if state is None else state.progress.global_step)
            try:
                history = fit(setup, run, state, None if folds is None else folds.epoch, report)
            except TrainingError as error:
                # The first process has the same error and reports it.
                raise error if processes.is_first else Elsewhere(error.exit_code) from None
        return setup, history, folds

    def _begin(self, run: RunDir, setup: Setup, resumes: bool, state: TrainState | None) -> Folds | None:
        """Cross-validate and write the files of a new run, or read the result of cross-validation when resuming.

        The first process does this and sends the result to the others.
        """

        def write_files() -> object:
            config = setup.data.config
            validates = config.training.cross_validation is not None
            if state is not None:
                check_model_config(run, setup.model_config)
                return run.folds().to_json() if validates else None
            folds = cross_validate(setup, self.report) if validates else None
            # They are read before the run is emptied, for they may be in it.
            start = None if setup.data.start is None else setup.data.start.files()
            begin(run, self.overwrite or resumes)
            # This file is the first one, because it makes the directory a run.
            run.write_training_config(dump_config(config))
            run.write_tokenizer(setup.data.tokenizer.to_files())
            run.write_model_config(setup.model_config)
            if folds is not None:
                run.write_folds(folds)
            if start is not None:
                run.write_start(start)
            run.write_environment(environment_of(setup, self.command, self.config))
            return None if folds is None else folds.to_json()

        value = setup.placement.processes.first(write_files)
        return None if value is None else Folds.from_json(value)

    def _finish(self, run: RunDir, setup: Setup, history: History, folds: Folds | None, started: float) -> None:
        try:
            metrics = finish(setup, run, history, folds, started, self.report)
        except (KeyboardInterrupt, Terminated) as stop:
            raise Interrupted(
                signal_number(stop),
                f"interrupted while measuring the model; training is complete, and the best model is in {run}",
                shell_command("textattn evaluate --model {}", run),
            ) from None
        run.remove_checkpoints()
        self.report.finished(run.path, metrics)

    def _choose_directory(self, name: str, ownership: contextlib.ExitStack) -> tuple[str, bool, bool]:
        """Choose the run directory, and find out whether to resume the run in it and whether that run is finished.

        The directory is owned from here on, before the data are read, which may take minutes.
        """
        run = self._directory(name, ownership)
        start = self.config.start.model
        if start is not None and Path(start).exists() and run.path.resolve() == Path(start).resolve():
            raise ConfigError(
                f"{run} is the model that training goes on from, and would be replaced",
                "output.dir=runs/my-run",
                setting="output.dir",
            )
        if self.resume and run.is_run() and run.is_finished() and not run.checkpoints.exists():
            check_same_config(run, self.config)
            self.report.note(f"{run} is finished; there is nothing to resume")
            return str(run), True, True
        before = ownership.enter_context(own(run, "trained"))
        resumes = self.resume and run.is_run()
        is_finished = resumes and run.is_finished()
        if before is not None and not before.is_on_this_host():
            self.report.note(f"{run} was last written to by {before}, which has ended")
        if resumes:
            check_same_config(run, self.config)
            if is_finished:
                self.report.note(f"{run} is finished; there is nothing to resume")
                run.remove_checkpoints()  # the run was killed after writing its last file
            else:
                self._check_place(run)
                check_model_files(run)
        else:
            check(run, self.overwrite)
            if self.resume:
                self.report.note(f"there is no run to resume in {run}, so a new run starts")
        return str(run), resumes, is_finished

    def _check_place(self, run: RunDir) -> None:
        """Check that the data of the run can be read here, under the names that its config records."""
        try:
            origin = Origin.of(run.path, run.environment().to_json())
        except InputError:
            return  # A run that was killed early has none.
        if origin.locate(self.config.data) != self.config.data:
            raise InputError(
                f"the data of {run} are not here; it was started in {origin.directory}",
                shell_command("cd {}", origin.directory),
            )

    def _directory(self, name: str, ownership: contextlib.ExitStack) -> RunDir:
        if self.config.output.dir is not None:
            return RunDir(Path(self.config.output.dir))
        runs = RUNS / name
        if self.resume and (earlier := [path for path in in_order(runs) if RunDir(path).is_run()]):
            return RunDir(earlier[-1])
        return RunDir(new_directory(runs, ownership))
