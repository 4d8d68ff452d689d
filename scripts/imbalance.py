"""Measures the settings against imbalance on data with one label fifty times rarer, as a Markdown table.

    .venv/bin/python scripts/imbalance.py --data ../shared/data/sst2 --seeds 3

Most texts of one of two labels are removed from the training and validation splits (seeded); the test split stays
complete. Every setting is trained with `configs/sst2.yaml` and the seeds 1, 2, …. Runs are kept in runs/imbalance/.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import textattn
from textattn.storage.files import read_json

RARE = "neg"
SETTINGS: dict[str, list[str]] = {
    "plain": [],
    "training.class_weights=balanced": ["training.class_weights=balanced"],
    "training.sampling=balanced": ["training.sampling=balanced"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sst2"), help="folder with parquet splits")
    parser.add_argument("--config", default="sst2", help="the config to train with")
    parser.add_argument("--ratio", type=int, default=50, help="frequent texts for each rare one")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting")
    parser.add_argument("--set", nargs="*", default=["model.ngrams=0"], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/imbalance"), help="folder for the data and the runs")
    arguments = parser.parse_args()
    files = cut(arguments.data, arguments.out / "data", arguments.ratio)
    metrics = {
        name: [train(arguments, files, settings, name, seed) for seed in range(1, arguments.seeds + 1)]
        for name, settings in SETTINGS.items()
    }
    print(f"| 1:{arguments.ratio}, {arguments.seeds} seeds | recall of {RARE} | macro-F1 | accuracy |")
    print("|---|---|---|---|")
    for name, runs in metrics.items():
        values = [
            [run["per_class"][RARE]["recall"] for run in runs],
            [run["macro_f1"] for run in runs],
            [run["accuracy"] for run in runs],
        ]
        cells = [f"{np.mean(v):.3f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}" for v in values]
        print(f"| {name if name == 'plain' else f'`{name}`'} | {' | '.join(cells)} |")


def cut(source: Path, target: Path, ratio: int) -> dict[str, Path]:
    """Write the files of the splits: train and validation without most texts of the rare label, and test."""
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in ("train", "validation", "test"):
        parts = [pq.read_table(path) for path in sorted(source.rglob(f"*{split}*.parquet"))]
        table = pa.concat_tables(parts)
        names = names_of_labels(table)
        is_rare = np.array([name == RARE for name in names])
        keep = ~is_rare
        if split != "test":
            rare = np.random.default_rng(0).permutation(np.flatnonzero(is_rare))
            keep[rare[: max(1, round(np.count_nonzero(keep) / ratio))]] = True
        else:
            keep[:] = True
        text = "text" if "text" in table.column_names else "sentence"
        files[split] = target / f"{split}.parquet"
        pq.write_table(pa.table({"text": table[text], "label": names}).filter(pa.array(keep)), files[split])
        print(
            f"<!-- {split}: {np.count_nonzero(keep & is_rare)} {RARE}, {np.count_nonzero(keep & ~is_rare)} others -->"
        )
    return files


def names_of_labels(table: pa.Table) -> list[str]:
    """The names of a `label` column. If it contains numbers, they come from the feature types of `datasets`."""
    import datasets

    labels: list[Any] = table["label"].to_pylist()
    feature = datasets.Features.from_arrow_schema(table.schema)["label"]
    return [feature.int2str(label) for label in labels] if isinstance(feature, datasets.ClassLabel) else labels


def train(arguments: Any, files: dict[str, Path], settings: list[str], name: str, seed: int) -> dict[str, Any]:
    overrides = [
        f"data.files={{{', '.join(f'{split}: {path}' for split, path in files.items())}}}",
        "data.path=null", "data.text=text", "data.label=label", "training.metric=macro_f1",
        *arguments.set, *settings, f"seed={seed}", "output.audit_examples=0",
        f"output.dir={arguments.out / name / str(seed)}",
    ]  # fmt: skip
    run = textattn.train(arguments.config, overrides, overwrite=True)
    metrics: dict[str, Any] = read_json(run / "metrics.json")["test"]
    recall = metrics["per_class"][RARE]["recall"]
    print(f"<!-- {name}, seed {seed}: recall {recall:.3f}, macro-F1 {metrics['macro_f1']:.3f} -->", flush=True)
    return metrics


if __name__ == "__main__":
    main()
