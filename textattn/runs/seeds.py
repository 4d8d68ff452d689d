"""The same training with several seeds: how much of a result is luck."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from textattn.config import Config
from textattn.errors import ConfigError
from textattn.report import Report
from textattn.runs.train import train
from textattn.storage.files import write_json
from textattn.storage.run_dir import RUNS, SEEDS, RunDir
from textattn.training.placement import choose_placement
from textattn.training.processes import join_processes

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "auroc", "log_loss", "ece")
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
    """A run for each of `number` seeds from the config's own upwards, in folders of one directory.

    Args:
        overwrite, resume: as of `pipeline.train`, for each of the runs.

    Returns:
        The directory and what `summarise` says of it, which lies there in seeds.json too.

    Raises:
        ConfigError: the directory holds something else, such as a run of its own.
        TextattnError: whatever one of the trainings raises; those before it stay.
    """
    report = report or Report()
    with join_processes(choose_placement(config.training).device.type) as processes:
        folder = Path(processes.first(lambda: str(_choose_dir(config, name, resume))))
        processes.first(lambda: _check_dir(folder))
        runs: list[Path] = []
        for seed in range(config.seed, config.seed + number):
            run = folder / f"{PREFIX}{seed}"
            if processes.is_first:
                report.stage(f"Seed {seed} ({len(runs) + 1} of {number})")
            own = config.model_copy(update={"seed": seed, "output": config.output.model_copy(update={"dir": str(run)})})
            runs.append(train(own, name=name, overwrite=overwrite, resume=resume, report=report, command=command))
    if not processes.is_first:
        return folder, {}
    summary = summarise(runs)
    write_json(folder / SEEDS, summary)
    return folder, summary


def summarise(runs: list[Path]) -> dict[str, Any]:
    """Of each split and metric: the value of each run, their mean and standard deviation, and the mean's interval.

    The 95 % interval is Student's, for the mean over all seeds there could be; null with one run.
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
    if folder.is_dir() and any(not path.name.startswith(PREFIX) and path.name != SEEDS for path in folder.iterdir()):
        what = "a run" if RunDir(folder).is_run() else "files that are no run"
        raise ConfigError(f"output.dir: {folder} already holds {what}; nothing was changed", "output.dir=runs/my-seeds")


def _choose_dir(config: Config, name: str, resume: bool) -> Path:
    if config.output.dir is not None:
        return Path(config.output.dir)
    parent = RUNS / f"{name}-seeds"
    if resume and (earlier := sorted(path for path in parent.glob("*") if any(path.glob(f"{PREFIX}*")))):
        return earlier[-1]
    return parent / datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
