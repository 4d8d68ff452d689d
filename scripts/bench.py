"""Measures the speed and memory of textattn: of whole new processes, as a user experiences them, and of the training
loop within one process, compared with a lower bound of its cost.

    .venv/bin/python scripts/bench.py startup --model runs/imdb/TIME
    .venv/bin/python scripts/bench.py predict --model runs/imdb/TIME --input ../shared/data/imdb/test.parquet
    .venv/bin/python scripts/bench.py train --data ../shared/data/imdb [--busy 1]
    .venv/bin/python scripts/bench.py prepare --data ../shared/data/imdb
    .venv/bin/python scripts/bench.py scale --data ../shared/data/imdb
    .venv/bin/python scripts/bench.py peers --data ../shared/data/imdb --configs imdb imdb_fast
    .venv/bin/python scripts/bench.py memory --model runs/quickstart/TIME --gigabytes 2
    .venv/bin/python scripts/bench.py serve --model runs/quickstart/TIME

Because machines are shared, the candidates of a comparison take turns, and the table contains medians. --json prints
the same as JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

TEXTATTN = [str(Path(sys.executable).parent / "textattn")]
SENTENCE = "The film was a joy."


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    megabytes: float
    """Peak resident memory."""
    stdout: str


def run(command: list[str]) -> Run:
    """Run a command, which must succeed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{err.read().decode()}")
        # Linux reports kilobytes, macOS bytes.
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return Run(seconds, usage.ru_maxrss / unit, out.read().decode())


def startup(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of predicting one sentence, from the start of the process to its end."""
    model = ["--model", str(arguments.model)]
    commands = {
        'textattn predict "…"': [*TEXTATTN, "predict", *model, SENTENCE],
        'textattn explain "…"': [*TEXTATTN, "explain", *model, SENTENCE],
        "textattn --help": [*TEXTATTN, "--help"],
        'textattn predict --runtime torch "…"': [*TEXTATTN, "predict", "--runtime", "torch", *model, SENTENCE],
        'python -c "import torch"': [sys.executable, "-c", "import torch"],
        'python -c "pass"': [sys.executable, "-c", "pass"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(arguments.repeat + 1):
        for name, command in commands.items():
            took = run(command).seconds
            if turn:  # the first warms the disk's cache
                seconds[name].append(took)
    torch = statistics.median(seconds['python -c "import torch"'])
    return [
        {
            "command": name,
            "median seconds": round(statistics.median(values), 3),
            "fastest": round(min(values), 3),
            "of import torch": round(statistics.median(values) / torch, 3),
        }
        for name, values in seconds.items()
    ]


def predict(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of predicting a whole file, from the start of the process to the finished output."""
    results: dict[str, list[tuple[Run, dict[str, Any]]]] = {name: [] for name in arguments.runtime}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.repeat):
            for name in arguments.runtime:
                output = Path(folder, f"{name}.parquet")
                command = [
                    *TEXTATTN, "predict", "--model", str(arguments.model), "--runtime", name, "--json", "--overwrite",
                    "--input", str(arguments.input), "--output", str(output),
                ]  # fmt: skip
                done = run(command)
                results[name].append((done, json.loads(done.stdout)))
    rows = []
    for name, runs in results.items():
        speeds = [summary["tokens"] / done.seconds for done, summary in runs]
        rows.append(
            {
                "runtime": name,
                "rows": runs[0][1]["rows"],
                "tokens": runs[0][1]["tokens"],
                "median seconds": round(statistics.median(done.seconds for done, _ in runs), 1),
                "median tokens/s": round(statistics.median(speeds)),
                "best tokens/s": round(max(speeds)),
                "peak MB": round(max(done.megabytes for done, _ in runs)),
            }
        )
    return rows


def memory(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory for a small and a large csv file with the same reviews."""
    texts = pq.read_table(arguments.input, columns=["text"])["text"].to_pylist()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for gigabytes in (0.02, arguments.gigabytes):
            path, output = Path(folder, "reviews.csv"), Path(folder, "answers.csv")
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["id", "text"])
                number = 0
                while file.tell() < gigabytes * 1e9:
                    for text in texts[:1000]:
                        writer.writerow([number, text])
                        number += 1
            command = [
                *TEXTATTN, "predict", "--model", str(arguments.model), "--json", "--overwrite",
                "--input", str(path), "--output", str(output),
            ]  # fmt: skip
            done = run(command)
            summary = json.loads(done.stdout)
            rows.append(
                {
                    "input GB": round(path.stat().st_size / 1e9, 2),
                    "rows": summary["rows"],
                    "seconds": round(done.seconds, 1),
                    "tokens/s": round(summary["tokens"] / done.seconds),
                    "peak MB": round(done.megabytes),
                }
            )
    return rows


def scale(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Training on few and on many reviews (the same ones, repeated). Speed and memory should not differ."""
    table = pq.read_table(Path(arguments.data, "train.parquet"), columns=["text", "label"])
    order = list(range(len(table)))
    random.Random(0).shuffle(order)  # files sorted by label are common
    table = table.take(order)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for documents in arguments.documents:
            path, finished = Path(folder, "reviews.parquet"), Path(folder, "run")
            with pq.ParquetWriter(path, table.schema) as writer:
                for first in range(0, documents, len(table)):
                    writer.write_table(table.slice(0, min(len(table), documents - first)))
            started = time.perf_counter()
            done = run(
                [
                    *TEXTATTN, "--quiet", "train", "imdb", f"data.path={path}", "model.vectors.source=random",
                    "data.validation_fraction=0.001", f"training.max_steps={arguments.steps}",
                    "output.audit_examples=0",
                    "output.plots=false",
                    "training.evaluations_per_epoch=1", f"output.dir={finished}", "--overwrite",
                ]
            )  # fmt: skip
            state = json.loads((finished / "trainer_state.json").read_text())
            seconds = time.perf_counter() - started
            rows.append(
                {
                    "documents": documents,
                    "seconds a million tokens": round(1e6 / state["train_tokens_per_second"], 2),
                    "seconds before and after": round(seconds - state["train_runtime"], 1),
                    "peak MB": round(done.megabytes),
                }
            )
    return rows


def train(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per second of the training loop, of the bare LSTM on the same batches, and of a tutorial-style loop."""
    import bench_training

    return bench_training.train_busy(arguments) if arguments.busy else bench_training.train(arguments)


def prepare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time before the first training step, in a first and in a second run."""
    import bench_preparing

    return bench_preparing.prepare(arguments, TEXTATTN)


def peers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Accuracy and total time of our recipes, of fastText and of TF-IDF with logistic regression."""
    import bench_peers

    return bench_peers.peers(arguments, run)


def serve(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Requests per second of a server, and how long they take; of plain FastAPI handlers for comparison."""
    import bench_serve

    return bench_serve.serve(arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    reviews = Path("../shared/data/imdb/test.parquet")
    for function in (startup, predict, memory, train, prepare, scale, peers, serve):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.add_argument("--json", action="store_true")
        command.set_defaults(function=function)
        if function in (train, prepare, scale, peers):
            command.add_argument("--data", default="../shared/data/imdb", help="folder with {train,test}.parquet")
            if function is not scale:
                command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="other settings of the recipe")
            if function is train:
                command.add_argument("--busy", type=int, default=0, metavar="N", help="beside N competing processes")
                command.add_argument("--config", default="imdb", help="of the lengths and sizes with --busy")
            if function is peers:
                command.add_argument("--configs", nargs="+", default=["imdb", "imdb_fast"], help="our recipes")
                command.add_argument("--text", default="text", help="column")
                command.add_argument("--label", default="label", help="column")
                command.add_argument("--environment", default=".venv-peers", help="folder to install the peers in")
                command.add_argument("--repeat", type=int, default=1)
            elif function is scale:
                command.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
                command.add_argument("--steps", type=int, default=150)
            continue
        command.add_argument("--model", type=Path, required=True, help="run directory")
        if function is serve:
            command.add_argument("--connections", type=int, default=32)
            command.add_argument("--tokens", type=int, default=20, help="of each text")
            command.add_argument("--seconds", type=int, default=60)
            command.add_argument("--peer-seconds", type=int, default=20, help="at most, for the others")
            continue
        if function is not startup:
            command.add_argument("--input", type=Path, default=reviews, help="parquet file with a column `text`")
        if function is not memory:
            command.add_argument("--repeat", type=int, default=20 if function is startup else 3)
        if function is predict:
            command.add_argument("--runtime", nargs="+", default=["onnx", "int8"], choices=["onnx", "int8", "torch"])
        if function is memory:
            command.add_argument("--gigabytes", type=float, default=2.0)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = arguments.function(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()) + " |")


if __name__ == "__main__":
    main()
