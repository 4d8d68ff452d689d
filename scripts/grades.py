"""Compares `task: ordinal` with a classifier of the same size on the five grades of SST-5, over several seeds.

    .venv/bin/python scripts/grades.py                    # trains what is not in --out yet
    .venv/bin/python scripts/grades.py --split validation --exponents 0 0.25 0.5 0.65 0.75 1

The settings are those of the config `sst2`. `--exponents` shows other rules for the answer than the one that the task
has: the grade with the smallest expected cost, where an answer d grades off costs d to the power of the exponent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import textattn
from textattn.measure.grades import mean_absolute_error, quadratic_kappa
from textattn.tasks.ordinal import EXPONENT

TASKS = {"classification": 0.0, "ordinal": EXPONENT}
SETTINGS = [
    "output.audit_examples=0", "output.plots=false", "output.report=false", "output.attention_examples=0",
    "output.prediction_splits=[validation,test]",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/grades"), help="where the runs are kept")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--exponents", type=float, nargs="*", help="default: 0 for the classifier, that of the task")
    arguments = parser.parse_args()
    print("| task | exponent | accuracy | mean error in grades | quadratic kappa | seeds |")
    print("|---|---|---|---|---|---|")
    for task, own in TASKS.items():
        answers = []
        for seed in arguments.seeds:
            run = arguments.out / f"{task}-{seed}"
            if not (run / "metrics.json").is_file():
                source = [f"data.path={arguments.data / 'sst5'}", f"task={task}", f"seed={seed}"]
                textattn.train("sst2", [*source, *SETTINGS, f"output.dir={run}"], overwrite=True)
            answers.append(_answers(run / "predictions" / f"{arguments.split}.parquet"))
        for exponent in [own] if arguments.exponents is None else arguments.exponents:
            found = np.array([_figures(probs, truth, exponent) for probs, truth in answers])
            cells = [f"{mean:.4f} ± {std:.4f}" for mean, std in zip(found.mean(0), found.std(0, ddof=1), strict=True)]
            print(f"| {task} | {exponent:g} | {' | '.join(cells)} | {len(answers)} |", flush=True)


def _answers(file: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The probabilities (rows, grades) and the true grades (rows,)."""
    table = pq.read_table(file)
    columns = [name for name in table.column_names if name.startswith("score:")]
    names = [name.removeprefix("score:") for name in columns]
    probs = np.column_stack([table[name].to_numpy() for name in columns])
    return probs, np.array([names.index(name) for name in table["label"].to_pylist()])


def _figures(probs: NDArray[np.float64], truth: NDArray[np.int64], exponent: float) -> tuple[Any, ...]:
    grades = np.arange(probs.shape[1])
    if exponent:
        decided = (probs @ np.abs(grades[:, None] - grades).astype(float) ** exponent).argmin(axis=1)
    else:
        decided = probs.argmax(axis=1)
    kappa = quadratic_kappa(truth, decided, len(grades))
    return float((decided == truth).mean()), mean_absolute_error(truth, decided), kappa


if __name__ == "__main__":
    main()
