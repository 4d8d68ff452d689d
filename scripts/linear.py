"""Compares the linear part, fitted or trained with the network, with TF-IDF and logistic regression, as a table.

    .venv/bin/python scripts/linear.py                              # all
    .venv/bin/python scripts/linear.py trec sst2 --data ../shared/data --seeds 3
    .venv/bin/python scripts/linear.py documents --ways only together --set training.epochs=4

`documents` is made here from the comments of goemotions that have one label: 20 comments with the same label are one
document, and the label is its topic. Settings are those of `textattn train` with only the data given. p is that of
McNemar's test against TF-IDF with logistic regression, for the first seed; a text is right if all its labels are.
Every result is saved when its run ends, so the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import textattn
from textattn.storage.files import read_json, write_json

# Data set -> its data section, without the path.
DATA: dict[str, dict[str, Any]] = {
    "trec": {"label": "label"},
    "sst2": {},
    "documents": {},
    "chnsenticorp": {},
    "imdb": {"validation_fraction": 0.04},
    "goemotions": {"label": "labels"},
}
WAYS = ("only", "first", "together")
# The comments in a document, and in the last document of a label at least.
COMMENTS, FEWEST = 20, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=list(DATA), metavar="data set", help="default: all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS, help="values of model.linear")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    parser.add_argument("--output", type=Path, default=Path("runs/linear.json"), help="where results are kept")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(DATA)):
        parser.error(f"no such data set: {', '.join(unknown)}; there are {', '.join(DATA)}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = read_json(arguments.output) if arguments.output.exists() else {}
    print("| data | linear part | metric | TF-IDF, seconds | test | validation | p (McNemar) | fit, total seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.names:
        for way in arguments.ways:
            runs = kept.setdefault(json.dumps([name, way, *arguments.set]), {})
            for seed in range(1, arguments.seeds + 1):
                if str(seed) not in runs:
                    runs[str(seed)] = measure(name, way, arguments.data, [*arguments.set, f"seed={seed}"])
                    write_json(arguments.output, kept)
            print(row(name, way, [runs[str(seed)] for seed in range(1, arguments.seeds + 1)]), flush=True)


def measure(name: str, way: str, data: Path, settings: list[str]) -> dict[str, Any]:
    """The results of one run."""
    with tempfile.TemporaryDirectory() as folder:
        path = data / name
        if name == "documents":
            path = Path(folder) / "documents"
            write_documents(data / "goemotions", path)
        config = {"data": {"path": str(path), **DATA[name]}}
        given = [f"model.linear={way}", "training.baseline=true", "output.audit_examples=0", "output.plots=false"]
        run = textattn.train(config, [*given, f"output.dir={Path(folder) / 'run'}", *settings])
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    headline = metrics["test"]["headline"]
    baseline = metrics["baseline"]
    return {
        "metric": headline,
        "test": metrics["test"][headline],
        "validation": metrics["validation"][headline],
        "baseline": baseline["test"][headline],
        "baseline_seconds": baseline["seconds"],
        "p": (baseline["against"] or {}).get("mcnemar_p"),
        "linear": metrics.get("linear"),
        "fit_seconds": metrics["seconds"].get("linear"),
        "best_step": metrics["best"]["best_global_step"],
        "seconds": metrics["seconds"]["total"] - baseline["seconds"],
    }


def write_documents(source: Path, folder: Path) -> None:
    """Join comments with the same single label into documents, always the same ones."""
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = pq.read_table(source / f"{split}.parquet").to_pydict()
        generator = np.random.default_rng(0)
        by_label: dict[int, list[str]] = {}
        for text, labels in zip(rows["text"], rows["labels"], strict=True):
            if len(labels) == 1:
                by_label.setdefault(labels[0], []).append(text)
        documents = []
        for label, texts in sorted(by_label.items()):
            order = generator.permutation(len(texts))
            for first in range(0, len(texts) - (COMMENTS if split == "train" else FEWEST) + 1, COMMENTS):
                joined = "\n".join(texts[i] for i in order[first : first + COMMENTS])
                documents.append((joined, label))
        order = generator.permutation(len(documents))
        table = {"text": [documents[i][0] for i in order], "label": [documents[i][1] for i in order]}
        pq.write_table(pa.table(table), folder / f"{split}.parquet")


def row(name: str, way: str, runs: list[dict[str, Any]]) -> str:
    """A line of the table."""
    first = runs[0]
    tests = [run["test"] for run in runs]
    spread = f" ± {np.std(tests, ddof=1):.4f}" if len(runs) > 1 else ""
    p = "" if first["p"] is None else f"{first['p']:.2g}"
    fit = "" if first["fit_seconds"] is None else f"{first['fit_seconds']:.0f}, "
    cells = [
        name, way, first["metric"], f"{first['baseline']:.4f}, {first['baseline_seconds']:.0f}",
        f"{np.mean(tests):.4f}{spread}", f"{np.mean([run['validation'] for run in runs]):.4f}", p,
        f"{fit}{np.mean([run['seconds'] for run in runs]):.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
