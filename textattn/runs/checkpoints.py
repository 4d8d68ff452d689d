"""Save and load the checkpoints of a run, and check whether a training may resume from them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from textattn.config import Config, flat_settings, given_settings, load_config, with_defaults
from textattn.errors import ConfigError, InputError, Option
from textattn.report import Evaluation, Report
from textattn.runs.training_data import TrainingData
from textattn.storage.files import write_bytes
from textattn.storage.model_files import ModelFiles, SavedConfig, read_model_config
from textattn.storage.run_dir import (
    BEGIN_AGAIN,
    CHECKPOINTS,
    CONFIG,
    OVERWRITE,
    RESUME,
    TOKENIZER,
    TOKENIZER_CONFIG,
    RunDir,
)
from textattn.tokens.tokenizer import TextTokenizer
from textattn.training.processes import Processes, number_of_processes
from textattn.training.state import BestWeights, TrainState

# The newest checkpoint may be damaged if the run ended unexpectedly, so the one before it is kept as well.
KEPT = 2
STEP, BEST = "step-", "best-"
SUFFIX = ".safetensors"
RESUME_OPTION = Option("resume")
# Settings that do not change the results.
MAY_DIFFER = ("output.dir", "output.plots", "output.tracking", "training.checkpoint_steps", "training.threads")


def save_state(run: RunDir, state: TrainState, best: Evaluation | None) -> None:
    """Write a checkpoint with the best weights so far, and remove all but the two newest checkpoints.

    Args:
        run: the run directory.
        state: the state of training.
        best: the evaluation whose weights are in the run's model.safetensors.
    """
    run.checkpoints.mkdir(exist_ok=True)
    if best is not None:
        # The checkpoint needs its own copy: model.safetensors may be replaced before training resumes from it.
        path = run.checkpoints / f"{BEST}{best.global_step:09d}{SUFFIX}"
        if not path.exists():
            _link(run.weights, path)
        state = replace(state, best=BestWeights(best, path.name, _digest(path)))
    write_bytes(run.checkpoints / f"{STEP}{state.progress.global_step:09d}{SUFFIX}", state.to_bytes())
    # There is at most one evaluation between two checkpoints, so two checkpoints need at most the two newest weights.
    for path in [*_named(run, STEP)[KEPT:], *_named(run, BEST)[KEPT:]]:
        path.unlink(missing_ok=True)


def load_state(run: RunDir, data: TrainingData, processes: Processes, report: Report) -> TrainState | None:
    """Load the newest checkpoint, which the first process reads and sends to the others; None if there is none.

    Raises:
        ConfigError: the run was started with different settings or data.
        InputError: a file of the run is damaged.
    """

    def read() -> bytes:
        state = None
        if _named(run, STEP):
            check_same_config(run, data.config)  # checked again, now with the settings of the recipe
            check_same_data(run, data, report)
            state = _newest(run, report)
        if state is None:
            report.note(f"{run} has no checkpoint to resume from, so training starts again")
            return b""
        return state.to_bytes()

    content = processes.first_bytes(read)
    return TrainState.from_bytes(content) if content else None


def _newest(run: RunDir, report: Report) -> TrainState | None:
    """Load the newest undamaged checkpoint and restore its best weights to model.safetensors.

    Partly written files, damaged checkpoints and weights that are newer than the loaded checkpoint are removed.
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
            report.note(f"{path}: damaged ({error}); trying the previous checkpoint")
            damaged.append(path)
            continue
        newer = [weights for weights in _named(run, BEST) if _step_of(weights) > _step_of(path)]
        for path in [*damaged, *newer]:
            path.unlink(missing_ok=True)
        run.write_log(state.log)
        return state
    return None


def check_model_files(run: RunDir) -> None:
    """Check the files of the model that a run with checkpoints has written before training and will need after it.

    Raises:
        InputError: one of them is missing or damaged.
    """
    if not _named(run, STEP):  # training starts again and writes them anew
        return
    files = ModelFiles(run.path)
    with _needed_later():
        read_model_config(files)
        tokenizer, settings = files.read(TOKENIZER), files.read(TOKENIZER_CONFIG)
        TextTokenizer.from_files(tokenizer, settings, str(run))


def check_model_config(run: RunDir, config: SavedConfig) -> None:
    """Check that config.json describes the model that is trained.

    Raises:
        InputError: it describes another one.
    """
    found = read_model_config(ModelFiles(run.path))
    # A run that was killed while it was measured has these two from its own validation split.
    found = replace(found, temperature=config.temperature, thresholds=config.thresholds)
    with _needed_later():
        if found != config:
            raise InputError(
                "damaged (it describes another model than the one that is trained)", place=_place(run, CONFIG)
            )


@contextlib.contextmanager
def _needed_later() -> Iterator[None]:
    """Add to an error about a file of an unfinished run what can be done."""
    try:
        yield
    except InputError as error:
        raise InputError(error.problems, ("put the file back from a copy; or ", *BEGIN_AGAIN)) from None


def _place(run: RunDir, name: str) -> str:
    return str(run.path / name)


def check_same_config(run: RunDir, config: Config) -> None:
    """Check that a run is resumed with settings that give the same results.

    Raises:
        ConfigError: settings differ; the message lists them.
        InputError: the config of the run is damaged.
    """
    try:
        before = load_config(str(run.training_config))
    except ConfigError as error:
        raise InputError(f"damaged ({error.message})", BEGIN_AGAIN, place=str(run.training_config)) from None
    _refuse(run, differences(before, config))


def with_its_size(config: Config, run: RunDir) -> Config:
    """The config with the size of word vectors that a run took from their file, which is not read again."""
    size = load_config(str(run.training_config)).model.embedding_dim
    return with_defaults(config, {"model.embedding_dim": size}) if config.model.vectors.is_foreign else config


def differences(before: Config, now: Config) -> list[str]:
    """Describe the settings that differ between two configs, except those that do not change the results."""
    earlier = flat_settings(before)
    current = flat_settings(now)
    if now.recipe == "auto" or now.start.model is not None:
        # The settings of the recipe are not known before the texts are read, nor those of a model to go on from.
        current = earlier | {key: value for key, value in given_settings(now).items() if key != "recipe"}
    # A share that is not given is known when the texts are read. Earlier versions had no such setting.
    earlier["data.test_fraction"] = earlier["data.test_fraction"] or 0.0
    if now.data.test_fraction is None:
        current["data.test_fraction"] = earlier["data.test_fraction"]
    if now.model.vectors.is_foreign and "embedding_dim" not in now.model.model_fields_set:
        current["model.embedding_dim"] = earlier["model.embedding_dim"]  # that of the file
    return [
        f"{key}: was {earlier.get(key)}, is now {current.get(key)}"
        for key in sorted(earlier.keys() | current.keys())
        if earlier.get(key) != current.get(key) and key not in MAY_DIFFER
    ]


def check_same_data(run: RunDir, data: TrainingData, report: Report) -> None:
    """Check that texts, labels and tokens are those that the run was started with.

    A different version of torch or a different number of threads or processes is only reported.

    Raises:
        ConfigError: the data differ; the message lists the differences.
        InputError: environment.json is damaged.
    """
    environment = run.environment()
    before = {name: split.sha256 for name, split in environment.dataset.splits.items()}
    now = {name: split.fingerprint() for name, split in data.corpus.splits().items()}
    found = [
        f"data: the {name} split has changed"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    unlabelled = environment.dataset.unlabelled_sha256
    if unlabelled is not None and unlabelled != [texts.fingerprint() for texts in data.corpus.unlabelled]:
        found.append("data.unlabelled: the texts have changed")
    if not found and run.tokenizer() != data.tokenizer.to_files()[TOKENIZER].encode():
        found.append("tokenizer: the vocabulary has changed")
    if not found:
        _check_tokenizer_settings(run, data.tokenizer)
    _refuse(run, found)
    begun = environment.packages.get("torch"), environment.threads, environment.processes
    current = torch.__version__, torch.get_num_threads(), number_of_processes()
    if begun != current:
        report.note(
            f"the run was started with {_in_words(*begun)} and resumes with {_in_words(*current)}, so the last digits "
            "of its results may differ"
            + (", and dropout will draw different random numbers" if begun[2] != current[2] else "")
        )


def _check_tokenizer_settings(run: RunDir, now: TextTokenizer) -> None:
    files = ModelFiles(run.path)
    before = TextTokenizer.from_files(files.read(TOKENIZER), files.read(TOKENIZER_CONFIG), str(run))
    with _needed_later():
        if before.to_files() != now.to_files():
            problem = "damaged (these are not the settings of the tokenizer that the model is trained with)"
            raise InputError(problem, place=_place(run, TOKENIZER_CONFIG))


def _in_words(version: str | None, threads: int, processes: int) -> str:
    return f"torch {version}, {processes} process{'es' * (processes > 1)} of {threads} thread{'s' * (threads > 1)}"


def _refuse(run: RunDir, found: list[str]) -> None:
    if found:
        listed = "".join(f"\n  {difference}" for difference in found)
        raise ConfigError(
            f"{run} was started with different settings or data; nothing was changed:{listed}",
            (
                "undo these changes, or start a new run without ",
                RESUME,
                " (with ",
                OVERWRITE,
                " in the same directory)",
            ),
            setting=RESUME_OPTION,
        )


def _named(run: RunDir, prefix: str) -> list[Path]:
    """The files with this prefix, the newest first."""
    found = [path for path in run.files_in(CHECKPOINTS) if path.name.startswith(prefix)]
    return sorted(found, reverse=True)


def _step_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """Link a file under a second name. The link stays valid, because files of a run are replaced and never modified."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        write_bytes(target, source.read_bytes())
