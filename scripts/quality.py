"""Compares the recipes with the linear baseline on every data set, over several seeds, as a Markdown table.

    .venv/bin/python scripts/quality.py                             # all: two hours on two cores
    .venv/bin/python scripts/quality.py sst2 trec --seeds 3 --data ../shared/data
    .venv/bin/python scripts/quality.py materials --output runs/quality/quality.json
    .venv/bin/python scripts/quality.py sst2 --default              # only the data section of the recipe
    .venv/bin/python scripts/quality.py imdb_little --examples 100 200 500 1000     # a learning curve

The baseline is trained on the splits of the first seed, and McNemar's test compares the two for that seed. For
`materials`, the result of a seed is the mean of the five official folds, and the test covers all their formulas. Every
result is saved to a JSON file when its run ends, so the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from recipes import FOLDS, RECIPES, files_of_fold, settings_of
from scipy.stats import binomtest

import textattn
from textattn.config import load_config
from textattn.storage.files import read_json, write_json

# Recipe -> the metric that is usually published for its data.
METRICS = {
    "imdb": "accuracy",
    "imdb_fast": "accuracy",
    "imdb_little": "accuracy",
    "sst2": "accuracy",
    "sst2_reviews": "accuracy",
    "trec": "accuracy",
    "chnsenticorp": "accuracy",
    "goemotions": "macro_f1",
    "movie_rationales": "accuracy",
    "materials": "balanced_accuracy",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=list(METRICS), metavar="recipe", help="default: all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    parser.add_argument("--default", action="store_true", help="train with only the data section of the recipe")
    parser.add_argument("--output", type=Path, default=Path("runs/quality.json"), help="where results are kept")
    parser.add_argument("--examples", type=int, nargs="+", metavar="N", help="training examples, for a learning curve")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(METRICS)):
        parser.error(f"no such recipe: {', '.join(unknown)}; there are {', '.join(METRICS)}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = read_json(arguments.output) if arguments.output.exists() else {}
    print("| recipe | metric | baseline | test | better, p (McNemar) | parameters | minutes |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, examples in itertools.product(arguments.names, arguments.examples or [None]):
        settings = [*arguments.set, *([] if examples is None else [f"data.max_train_examples={examples}"])]
        key = [name, *(["--default"] if arguments.default else []), *settings]
        runs = kept.setdefault(json.dumps(key), {})
        for seed in range(1, arguments.seeds + 1):
            if str(seed) not in runs:
                runs[str(seed)] = measure(name, arguments.data, seed, settings, arguments.default)
                write_json(arguments.output, kept)
        title = name if examples is None else f"{name}, {examples:,} examples"
        print(row(title, METRICS[name], [runs[str(seed)] for seed in range(1, arguments.seeds + 1)]), flush=True)


def measure(name: str, data: Path, seed: int, settings: list[str], default: bool) -> dict[str, Any]:
    """The results of one seed, for the first seed with those of the baseline."""
    folder = RECIPES[name][0]
    settings = [*settings_of(name, data), *settings, f"seed={seed}", f"training.baseline={str(seed == 1).lower()}"]
    config = {"data": given_data(name)} if default else name
    if name != "materials":
        return summary(METRICS[name], [train(config, [f"data.path={data / str(folder)}", *settings])])
    folds = []
    for fold in range(FOLDS):
        with tempfile.TemporaryDirectory() as scratch:
            files = files_of_fold(data / str(folder), fold, Path(scratch))
            folds.append(train(config, [f"data.files={files}", *settings]))
    return summary(METRICS[name], folds)


def given_data(name: str) -> dict[str, Any]:
    """The data section of a shipped config."""
    return load_config(name).data.model_dump(exclude_unset=True)


def train(name: str | dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Train a run that is not kept, and return its metrics.json."""
    off = ["output.audit_examples=0", "output.attention_examples=0", "output.plots=false"]
    with tempfile.TemporaryDirectory() as scratch:
        run = textattn.train(name, [*settings, *off, f"output.dir={scratch}/run"])
        metrics: dict[str, Any] = read_json(run / "metrics.json")
    return metrics


def summary(metric: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table: means over the runs, and McNemar's test."""
    found = {
        "value": float(np.mean([run["test"][metric] for run in runs])),
        "parameters": runs[0]["num_parameters"],
        "minutes": sum(run["seconds"]["total"] - run.get("baseline", {}).get("seconds", 0) for run in runs) / 60,
    }
    if "baseline" in runs[0]:
        against = [run["baseline"]["against"] for run in runs]
        found["baseline"] = float(np.mean([run["baseline"]["test"][metric] for run in runs]))
        found["only_baseline_right"] = sum(each["only_a_right"] for each in against)
        found["only_model_right"] = sum(each["only_b_right"] for each in against)
    return found


def row(title: str, metric: str, runs: list[dict[str, Any]]) -> str:
    values, first = [run["value"] for run in runs], runs[0]
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    apart = first["only_baseline_right"] + first["only_model_right"]
    p = binomtest(first["only_model_right"], apart).pvalue if apart else 1.0
    better = f"{np.mean(values) - first['baseline']:+.4f}, {p:.2g}"
    minutes = np.mean([run["minutes"] for run in runs])
    return (
        f"| {title} | {metric.replace('_', ' ')} | {first['baseline']:.4f} | {np.mean(values):.4f}{spread} "
        f"| {better} | {first['parameters']:,} | {minutes:.1f} |"
    )


if __name__ == "__main__":
    main()
