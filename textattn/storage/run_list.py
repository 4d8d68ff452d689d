"""The runs in a folder, with what they were trained on and what they reached."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textattn.errors import InputError
from textattn.storage import locks
from textattn.storage.aliases import aliases_of, read_aliases
from textattn.storage.find_model import DEPTH_OF_RUNS
from textattn.storage.run_dir import METRICS, RUNS, STUDY, RunDir

# In the order in which the headline figure is looked for. The test split is used once, so it is the best estimate.
MEASURED_ON = ("test", "validation", "cross_validation")


@dataclass(frozen=True)
class ListedRun:
    """One run, finished or not."""

    path: Path
    aliases: list[str]
    state: str
    """`finished`, `unfinished`, or what a process does with it now, such as `being trained`."""
    changed: float
    """The time at which it was finished or last written to, in seconds since 1970."""
    size: int
    """Bytes of everything in its directory."""
    data: str | None
    """The name of its data; None if it is not known."""
    data_hashes: dict[str, str] = field(default_factory=dict)
    """The hash of the texts and labels of each split."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """The content of metrics.json; empty for an unfinished or damaged run."""

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished and nobody is changing it."""
        return self.state == "finished"

    def headline(self) -> tuple[str, float, str] | None:
        """Name and value of the headline metric, and the split it was measured on; None if nothing was measured."""
        for split in MEASURED_ON:
            measured = self.metrics.get(split)
            if isinstance(measured, dict) and (value := self.value(str(measured.get("headline")), split)) is not None:
                return str(measured["headline"]), value, split
        return None

    def value(self, metric: str, split: str) -> float | None:
        """The value of a metric on a split; None if it was not measured."""
        measured = self.metrics.get(split)
        value = measured.get(metric) if isinstance(measured, dict) else None
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def list_runs(root: Path = RUNS, *, with_trials: bool = False) -> list[ListedRun]:
    """The runs in a folder and the folders in it, the newest first.

    Args:
        root: the folder; it may be a run itself.
        with_trials: also the trials of searches, which are trained to be compared and not to be used.

    Raises:
        InputError: there is no such folder, or the aliases cannot be read.
    """
    if not root.is_dir():
        raise InputError("no such folder", "textattn train quickstart", place=str(root))
    aliases = read_aliases()
    runs = [root] if RunDir(root).is_run() else runs_below(root, DEPTH_OF_RUNS)
    found = [_listed(run, aliases) for run in runs if with_trials or not is_trial(run)]
    return sorted(found, key=lambda run: (-run.changed, str(run.path)))


def is_trial(run: Path) -> bool:
    """Whether a run is a trial of a search."""
    return (run.parent.parent / STUDY).is_file()


def describe(run: Path) -> ListedRun:
    """One run, which must be there."""
    return _listed(run, read_aliases())


def runs_below(folder: Path, depth: int) -> Iterator[Path]:
    """All runs in a folder and, up to a depth, in the folders in it; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            # A link may lead to a run that is listed already, or round in a circle.
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        if RunDir(folder / name).is_run():
            yield folder / name  # what lies in it, such as the model that it went on from, belongs to it
        elif depth > 1:
            yield from runs_below(folder / name, depth - 1)


def _listed(path: Path, aliases: dict[str, Path]) -> ListedRun:
    run = RunDir(path)
    metrics: dict[str, Any] = {}
    if run.is_finished():
        with contextlib.suppress(InputError):
            metrics = run.metrics()
    data, hashes = None, {}
    with contextlib.suppress(InputError):
        dataset = run.environment().dataset
        data = str(dataset.source)
        hashes = {name: str(split.sha256) for name, split in dataset.splits.items()}
    owner = locks.holder(path)
    state = f"being {owner.doing}" if owner else "finished" if run.is_finished() else "unfinished"
    mark = path / METRICS if run.is_finished() else path
    return ListedRun(path, aliases_of(path, aliases), state, mark.stat().st_mtime, _size(path), data, hashes, metrics)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 (os.walk gives strings)
    return total
