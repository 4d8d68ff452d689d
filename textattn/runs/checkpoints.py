"""The checkpoints of a run on disk, and whether another start may resume from them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch

from textattn.config import Config, flat_settings, given_settings, load_config
from textattn.errors import ConfigError, InputError, Option
from textattn.report import Evaluation, Report
from textattn.runs.training_data import TrainingData
from textattn.storage.files import write_bytes
from textattn.storage.run_dir import BEGIN_AGAIN, OVERWRITE, RESUME, TOKENIZER, RunDir
from textattn.training.processes import Processes, number_of_processes
from textattn.training.state import BestWeights, TrainState

# The newest checkpoint may be damaged by what ended the run; then there is one more.
KEPT = 2
STEP, BEST = "step-", "best-"
SUFFIX = ".safetensors"
RESUME_OPTION = Option("resume")
# Settings that change no result.
MAY_DIFFER = ("output.dir", "output.plots", "output.tracking", "training.checkpoint_steps", "training.threads")


def save_state(run: RunDir, state: TrainState, best: Evaluation | None) -> None:
    """Writes a checkpoint beside the best weights so far, and removes what is older than the two newest.

    Args:
        best: the evaluation whose weights lie in the run's model.safetensors.
    """
    run.checkpoints.mkdir(exist_ok=True)
    if best is not None:
        # Beside the checkpoint, because model.safetensors may be a later one's by the time this is resumed from.
        path = run.checkpoints / f"{BEST}{best.global_step:09d}{SUFFIX}"
        if not path.exists():
            _link(run.weights, path)
        state = replace(state, best=BestWeights(best, path.name, _digest(path)))
    write_bytes(run.checkpoints / f"{STEP}{state.progress.global_step:09d}{SUFFIX}", state.to_bytes())
    # Between two checkpoints is one evaluation at most, so two of them need no more than the two newest weights.
    for path in [*_named(run, STEP)[KEPT:], *_named(run, BEST)[KEPT:]]:
        path.unlink(missing_ok=True)


def load_state(run: RunDir, data: TrainingData, processes: Processes, report: Report) -> TrainState | None:
    """The newest checkpoint, read by the first process for all of them; None where there is none.

    Raises:
        ConfigError: the run was begun with other settings or other data.
        InputError: a file of the run is damaged.
    """

    def read() -> TrainState | None:
        if not _named(run, STEP):
            return None
        check_same_config(run, data.config)  # now with what its recipe has set
        check_same_data(run, data, report)
        return _newest(run, report)

    state: TrainState | None = None

    def read_first() -> None:
        nonlocal state
        state = read()
        if state is None:
            report.note(f"{run} has no checkpoint to resume from; it begins again")

    processes.first(read_first)
    if processes.size == 1:
        return state
    content = processes.bytes_of_first(b"" if state is None else state.to_bytes())
    return TrainState.from_bytes(content) if content else None


def _newest(run: RunDir, report: Report) -> TrainState | None:
    """The newest whole checkpoint, with its best weights back in model.safetensors.

    What a killed process left half written is removed, and so is what is damaged, or newer than what is taken.
    """
    run.remove_leftovers()
    damaged = []
    for path in _named(run, STEP):
        try:
            state = TrainState.from_bytes(path.read_bytes())
            if state.best is not None:
                weights = path.with_name(state.best.file)
                if _digest(weights) != state.best.sha256:
                    raise ValueError(f"{weights.name} is damaged")
                run.write_weights(weights.read_bytes())
        except (OSError, ValueError) as error:
            report.note(f"{path}: damaged ({error}); going back to the checkpoint before it")
            damaged.append(path)
            continue
        newer = [weights for weights in _named(run, BEST) if _step_of(weights) > _step_of(path)]
        for path in [*damaged, *newer]:
            path.unlink(missing_ok=True)
        run.write_log(state.log)
        return state
    return None


def check_same_config(run: RunDir, config: Config) -> None:
    """Refuses to resume with settings that change a result.

    Raises:
        ConfigError: with the list of what differs.
        InputError: the config of the run is damaged.
    """
    try:
        before = load_config(str(run.training_config))
    except ConfigError as error:
        raise InputError(f"damaged ({error.message})", BEGIN_AGAIN, place=str(run.training_config)) from None
    _refuse(run, differences(before, config))


def differences(before: Config, now: Config) -> list[str]:
    """What two configs set differently, except for what changes no result."""
    there = flat_settings(before)
    here = flat_settings(now)
    if now.recipe == "auto":
        # What the recipe will set is not known before the texts are read.
        here = there | {key: value for key, value in given_settings(now).items() if key != "recipe"}
    return [
        f"{key}: {there.get(key)} there, {here.get(key)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and key not in MAY_DIFFER
    ]


def check_same_data(run: RunDir, data: TrainingData, report: Report) -> None:
    """Texts, labels and tokens must be those that the run began with; another version of torch is only reported.

    Raises:
        ConfigError: with the list of what differs.
        InputError: environment.json is damaged.
    """
    environment = run.environment()
    before = {name: split.sha256 for name, split in environment.dataset.splits.items()}
    now = {name: split.fingerprint() for name, split in data.corpus.splits().items()}
    found = [
        f"data: the {name} split is another"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    unlabelled = environment.dataset.unlabelled_sha256
    if unlabelled is not None and unlabelled != [texts.fingerprint() for texts in data.corpus.unlabelled]:
        found.append("data.unlabelled: other texts")
    if not found and run.tokenizer() != data.tokenizer.to_files()[TOKENIZER].encode():
        found.append("tokenizer: another vocabulary")
    _refuse(run, found)
    begun = environment.packages.get("torch"), environment.threads, environment.processes
    current = torch.__version__, torch.get_num_threads(), number_of_processes()
    if begun != current:
        report.note(
            f"begun with {_in_words(*begun)}, now {_in_words(*current)}: the last digits may differ"
            + (", and so may what dropout leaves out" if begun[2] != current[2] else "")
        )


def _in_words(version: str | None, threads: int, processes: int) -> str:
    return f"torch {version}, {processes} process{'es' * (processes > 1)} of {threads} thread{'s' * (threads > 1)}"


def _refuse(run: RunDir, found: list[str]) -> None:
    if found:
        listed = "".join(f"\n  {difference}" for difference in found)
        raise ConfigError(
            f"not the same training as in {run}; nothing was changed:{listed}",
            ("put these back, or begin a new run without ", RESUME, " (with ", OVERWRITE, " in the same directory)"),
            setting=RESUME_OPTION,
        )


def _named(run: RunDir, prefix: str) -> list[Path]:
    """Newest first."""
    return sorted(run.checkpoints.glob(f"{prefix}*{SUFFIX}"), reverse=True)


def _step_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; writing is atomic, so the first will be replaced and never changed."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        write_bytes(target, source.read_bytes())
