"""Repeat a training with several seeds, to see how much the results vary by chance."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from textattn.config import Config
from textattn.errors import ConfigError
from textattn.report import Report
from textattn.runs.train import train
from textattn.storage.files import write_json
from textattn.storage.run_dir import RUNS, SEEDS, RunDir
from textattn.storage.run_folder import in_order, new_directory
from textattn.training.placement import choose_placement
from textattn.training.processes import join_processes

METRICS = (
    "accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "auroc", "log_loss", "ece", "quadratic_kappa", "mae",
    "rmse", "r2", "spearman",
)  # fmt: skip
PREFIX = "seed-"


def train_seeds(
    config: Config,
    number: int,
    *,
    name: str = "run",
    overwrite: bool = False,
    resume: bool = False,
    report: Report | None = None,
    command: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train with each of `number` consecutive seeds, starting with the config's seed, in folders of one directory.

    Args:
        config: the config of all runs.
        number: the number of seeds.
        name: is part of the default directory.
        overwrite, resume: as for `train`, for each of the runs.
        report: receives the events of all runs.
        command: the command line, for environment.json.

    Returns:
        The directory and the result of `summarise`, which is also written to seeds.json there.

    Raises:
        ConfigError: the directory contains other files, such as a single run.
        TextattnError: one of the trainings raised it; the finished runs are kept.
    """
    report = report or Report()
    with (
        contextlib.ExitStack() as ownership,
        join_processes(choose_placement(config.training).device.type) as processes,
    ):
        folder = Path(processes.first(lambda: str(_choose_dir(config, name, resume, ownership))))
        processes.first(lambda: _check_dir(folder))
        runs: list[Path] = []
        for seed in range(config.seed, config.seed + number):
            run = folder / f"{PREFIX}{seed}"
            if processes.is_first:
                report.stage(f"Seed {seed} ({len(runs) + 1} of {number})")
            output = config.output.model_copy(update={"dir": str(run)})
            seeded = config.model_copy(update={"seed": seed, "output": output})
            runs.append(train(seeded, name=name, overwrite=overwrite, resume=resume, report=report, command=command))
    if not processes.is_first:
        return folder, {}
    summary = summarise(runs)
    write_json(folder / SEEDS, summary)
    return folder, summary


def summarise(runs: list[Path]) -> dict[str, Any]:
    """Summarise each metric of each split: the values of all runs, their mean, standard deviation and 95 % interval.

    The interval is Student's confidence interval of the mean over all possible seeds; it is None for a single run.
    """
    measured = {run: RunDir(run).metrics() for run in runs}
    splits: dict[str, Any] = {}
    for split in ("cross_validation", "validation", "test"):
        for metric in METRICS:
            values = [m.get(split, {}).get(metric) for m in measured.values()]
            if all(value is not None for value in values):
                splits.setdefault(split, {})[metric] = _spread(values)
    return {"runs": [str(run) for run in runs], **splits}


def _spread(values: list[float]) -> dict[str, Any]:
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"values": values, "mean": mean, "std": None, "interval_95": None}
    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
    return {"values": values, "mean": mean, "std": std, "interval_95": [mean - half, mean + half]}


def _check_dir(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    others = {name for name in names if not name.startswith(PREFIX)} - {SEEDS}
    # A seeds.json without runs beside it is not ours.
    if others or names == {SEEDS}:
        what = "a run" if RunDir(folder).is_run() else "files that are not a run"
        raise ConfigError(
            f"{folder} already contains {what}; nothing was changed", "output.dir=runs/my-seeds", setting="output.dir"
        )


def _choose_dir(config: Config, name: str, resume: bool, ownership: contextlib.ExitStack) -> Path:
    if config.output.dir is not None:
        return Path(config.output.dir)
    parent = RUNS / f"{name}-seeds"
    if resume and (earlier := [path for path in in_order(parent) if any(path.glob(f"{PREFIX}*"))]):
        return earlier[-1]
    return new_directory(parent, ownership)
