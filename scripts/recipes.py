"""Trains the shipped configs on local copies of their data sets and prints their results as a Markdown table.

    .venv/bin/python scripts/recipes.py                        # all of them
    .venv/bin/python scripts/recipes.py trec sst2 --data ../shared/data

The figures in the README and at the top of each config come from this script. Runs are kept in runs/recipes/.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

import textattn
from textattn.config import load_config
from textattn.storage.files import read_json

# Config -> folder in --data, further settings ({data} is the value of --data), and the metric to print.
RECIPES: dict[str, tuple[str | None, list[str], str]] = {
    "quickstart": (None, [], "accuracy"),
    "sst2": ("sst2", [], "accuracy"),
    "sst2_reviews": ("sst2", ["data.unlabelled.path={data}/imdb"], "accuracy"),
    "sst2_faithful": ("sst2", [], "accuracy"),
    "mlp_attention": ("sst2", [], "accuracy"),
    "trec": ("trec", ["data.label=label"], "accuracy"),
    "chnsenticorp": ("chnsenticorp", [], "accuracy"),
    "goemotions": ("goemotions", [], "micro_f1"),
    "imdb": ("imdb", [], "accuracy"),
    "imdb_fast": ("imdb", [], "accuracy"),
    "imdb_little": ("imdb", [], "accuracy"),
    "imdb_faithful": ("imdb", [], "accuracy"),
    "movie_rationales": ("movie_rationales", [], "accuracy"),
    "imdb_small": ("imdb", [], "accuracy"),
    "additive_embedding": ("imdb", [], "accuracy"),
    "materials": ("matbench_expt_is_metal_folds.parquet", [], "balanced_accuracy"),
    "band_gap": ("matbench_expt_gap_folds.parquet", [], "mae"),
}
# Those that follow the protocol of Matbench.
WITH_FOLDS, FOLDS = ("materials", "band_gap"), 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=list(RECIPES), help="configs; default: all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), help="where the runs are kept")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    arguments = parser.parse_args()
    print("| config | metric | test | 95 % interval | parameters | minutes |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in arguments.names:
        folder, _, metric = RECIPES[name]
        settings = settings_of(name, arguments.data)
        source = [] if folder is None else [f"data.path={arguments.data / folder}"]
        if (teacher := load_config(name).data.teacher) is not None:
            # The teacher is the run of that recipe, which comes earlier in the table.
            settings = [*settings, f"data.teacher={arguments.out / Path(teacher).name}"]
        settings = [*settings, *arguments.set]
        if name in WITH_FOLDS:
            _print_folds(name, arguments.data / str(folder), arguments.out / name, settings, metric)
            continue
        metrics = _train(name, [*source, *settings], arguments.out / name)
        test = metrics["test"]
        interval = test["interval_95"]
        _row(name, metric, f"{test[metric]:.4f}", f"{interval['low']:.4f} to {interval['high']:.4f}", metrics)


def settings_of(name: str, data: Path) -> list[str]:
    """The settings that a recipe needs in addition to `data.path` if the data sets are in the folder `data`."""
    return [setting.format(data=data) for setting in RECIPES[name][1]]


def _train(name: str, overrides: list[str], directory: Path) -> dict[str, Any]:
    run = textattn.train(name, [*overrides, f"output.dir={directory}"], overwrite=True)
    metrics: dict[str, Any] = read_json(run / "metrics.json")
    return metrics


def _print_folds(name: str, table_path: Path, directory: Path, settings: list[str], metric: str) -> None:
    """Follow the protocol of Matbench: train on four folds, test on the fifth, and average over the five."""
    values, covered, texts, seconds, metrics = [], 0.0, 0, 0.0, {}
    for fold in range(FOLDS):
        with tempfile.TemporaryDirectory() as scratch:
            files = files_of_fold(table_path, fold, Path(scratch))
            metrics = _train(name, [f"data.files={files}", *settings], directory / f"fold{fold}")
        test = metrics["test"]
        values.append(test[metric])
        seconds += metrics["seconds"]["total"]
        print(f"<!-- fold {fold}: {values[-1]:.4f} -->", flush=True)
        if test.get("interval") is not None:
            covered += test["interval"]["coverage"] * test["num_examples"]
            texts += test["num_examples"]
    metrics["seconds"]["total"] = seconds / FOLDS
    spread = f"five folds {min(values):.4f} to {max(values):.4f}"
    if texts:
        print(f"<!-- the 90 % intervals cover {covered / texts:.1%} of {texts:,} -->")
    _row(name, f"mean {metric}", f"{np.mean(values):.4f}", spread, metrics)


def files_of_fold(table_path: Path, fold: int, folder: Path) -> str:
    """Write the training and test files of a fold, and return `data.files`."""
    table = pq.read_table(table_path)
    files = []
    for split, rows in (("train", pc.not_equal(table["fold"], fold)), ("test", pc.equal(table["fold"], fold))):
        path = folder / f"{split}.parquet"
        pq.write_table(table.filter(rows), path)
        files.append(f"{split}: {path}")
    return f"{{{', '.join(files)}}}"


def _row(name: str, metric: str, value: str, spread: str, metrics: dict[str, Any]) -> None:
    minutes = metrics["seconds"]["total"] / 60
    print(f"| {name} | {metric} | {value} | {spread} | {metrics['num_parameters']:,} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
