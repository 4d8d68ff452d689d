"""Trains SST-2 with word vectors from elsewhere, over several seeds, as a Markdown table.

    .venv/bin/python scripts/vectors.py                                     # the vectors of the recipe: skip-gram
    .venv/bin/python scripts/vectors.py glove.6B.300d.txt en_core_web_md    # files and folders of vectors
    .venv/bin/python scripts/vectors.py en_core_web_md --set model.vectors.freeze=true --seeds 3
    .venv/bin/python scripts/vectors.py hub:user/name

Settings are those of `configs/sst2.yaml`, with the file as `model.vectors.path`. Choose settings by the column
`validation`. Every result is saved to a JSON file when its run ends, so the same command continues after an
interruption.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import textattn
from textattn.storage.files import read_json, write_json

NONE = "skipgram"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("vectors", nargs="*", default=[NONE], help="files or folders; hub:NAME; default: skip-gram")
    parser.add_argument("--data", default="../shared/data/sst2", help="folder with a copy of SST-2")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    parser.add_argument("--output", type=Path, default=Path("runs/vectors.json"), help="where results are kept")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = read_json(arguments.output) if arguments.output.exists() else {}
    print("| vectors | settings | in the vocabulary | validation | test | minutes |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in arguments.vectors:
        runs = kept.setdefault(json.dumps([Path(name).name, *arguments.set]), {})
        for seed in range(1, arguments.seeds + 1):
            if str(seed) not in runs:
                runs[str(seed)] = measure(name, arguments.data, [*arguments.set, f"seed={seed}"])
                write_json(arguments.output, kept)
        print(row(name, arguments.set, [runs[str(seed)] for seed in range(1, arguments.seeds + 1)]), flush=True)


def measure(name: str, data: str, settings: list[str]) -> dict[str, float]:
    """The accuracy of one run, which is not kept."""
    source, _, path = name.rpartition(":") if name.startswith("hub:") else ("file", "", name)
    vectors = [] if name == NONE else [f"model.vectors.source={source}", f"model.vectors.path={path}"]
    fixed = [f"data.path={data}", "training.threads=1", "output.audit_examples=0", "output.attention_examples=0"]
    fixed += ["output.plots=false", "output.report=false"]
    with tempfile.TemporaryDirectory() as scratch:
        run = textattn.train("sst2", [*fixed, *vectors, *settings, f"output.dir={scratch}/run"])
        metrics, environment = read_json(run / "metrics.json"), read_json(run / "environment.json")
    return {
        "coverage": environment["word_vectors"].get("coverage", 0.0),
        "validation": metrics["validation"]["accuracy"],
        "test": metrics["test"]["accuracy"],
        "minutes": metrics["seconds"]["total"] / 60,
    }


def row(name: str, settings: list[str], runs: list[dict[str, float]]) -> str:
    def cell(key: str) -> str:
        values = [run[key] for run in runs]
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        return f"{np.mean(values):.4f}{spread}"

    listed = " ".join(f"`{setting}`" for setting in settings)
    covered, minutes = np.mean([run["coverage"] for run in runs]), np.mean([run["minutes"] for run in runs])
    return f"| {Path(name).name} | {listed} | {covered:.1%} | {cell('validation')} | {cell('test')} | {minutes:.1f} |"


if __name__ == "__main__":
    main()
