"""Compares what `textattn check` predicts for a run with what the run then takes, as a Markdown table.

    .venv/bin/python scripts/forecast.py                       # imdb and sst2: a quarter of an hour on two cores
    .venv/bin/python scripts/forecast.py sst2 --set training.epochs=1
    .venv/bin/python scripts/forecast.py quickstart --keep     # word vectors and tokens that are there are used

Each config is first checked and then trained, in separate processes of the command line. The cache is not used, so the
run itself tokenises the texts and trains the word vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from recipes import RECIPES

# Runs a command and prints its peak memory and its time as JSON on the last line.
MEASURE = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"code": done.returncode, "seconds": time.perf_counter() - started, "bytes": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=["imdb", "sst2"], help="configs; default: imdb sst2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    parser.add_argument("--keep", action="store_true", help="use the cache")
    arguments = parser.parse_args()
    print("| config | what | predicted | measured | ratio |")
    print("|---|---|---|---|---|", flush=True)
    for name in arguments.names:
        folder, settings, _ = RECIPES[name]
        source = [] if folder is None else [f"data.path={arguments.data / folder}"]
        with tempfile.TemporaryDirectory() as scratch:
            environment = dict(os.environ) if arguments.keep else {**os.environ, "TEXTATTN_CACHE": f"{scratch}/cache"}
            _compare(name, [*source, *settings, *arguments.set], Path(scratch), environment)


def _compare(name: str, settings: list[str], scratch: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "textattn"]
    started = time.perf_counter()
    checked = subprocess.run(
        [*command, "check", name, *settings, "--json", "--quiet"], env=environment, stdout=subprocess.PIPE, check=True
    )
    check_seconds = time.perf_counter() - started
    facts = json.loads(checked.stdout)
    predicted = facts["forecast"]
    run = scratch / "run"
    trained = subprocess.run(
        [sys.executable, "-c", MEASURE, *command, "train", name, *settings, f"output.dir={run}", "--quiet"],
        env=environment, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    measured: dict[str, Any] = json.loads(trained.stdout.splitlines()[-1])
    if measured["code"]:
        sys.exit(f"training {name} failed")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    seconds, test = metrics["seconds"], metrics["test"]
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in predicted["seconds_by_stage"].items())
    print(f"<!-- {name}: check took {check_seconds:.1f} s and predicted, in seconds: {stages} -->")
    metric = test["headline"]
    print(f"<!-- {name}: {metric} {test[metric]:.4f} in {measured['seconds']:.1f} s, whole process -->")
    _row(name, "minutes", predicted["seconds"] / 60, seconds["total"] / 60)
    _row(name, "of them training", predicted["seconds_by_stage"]["training"] / 60, seconds["training"] / 60)
    _row(name, "GB of memory", predicted["peak_memory_bytes"] / 1e9, measured["bytes"] / 1e9)


def _row(name: str, what: str, predicted: float, measured: float) -> None:
    print(f"| {name} | {what} | {predicted:.2f} | {measured:.2f} | {predicted / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
