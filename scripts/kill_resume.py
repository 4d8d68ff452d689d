"""Kills trainings at random moments, resumes them, and compares their results with an uninterrupted training.

    .venv/bin/python scripts/kill_resume.py --runs 30
    .venv/bin/python scripts/kill_resume.py --runs 30 configs/sst2.yaml data.path=../shared/data/sst2

Every run is killed with SIGKILL at a random moment within the time of a whole training, again after each resumption,
until it ends first. After three kills it is not interrupted any more.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

# A small training that writes files every few milliseconds.
DEFAULT = [
    "quickstart", "model.embedding_dim=32", "model.hidden_size=32", "training.epochs=6", "training.batch_size=16",
    "training.evaluations_per_epoch=4", "training.checkpoint_steps=2", "output.audit_examples=0", "output.plots=false",
]  # fmt: skip
KILLS = 3


def start(config: list[str], run: Path, after: float | None) -> bool:
    """Start a training and kill it `after` some seconds. Returns whether it ended before that."""
    command = [sys.executable, "-m", "textattn", "--quiet", "train", *config, f"output.dir={run}", "--resume"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            code = process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            return False
    if code:
        sys.exit(f"{run}: ended with {code}")
    return True


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def unreadable(run: Path) -> list[str]:
    """The files of a stopped run that have their final names but are incomplete."""
    found = []
    for path in run.rglob("*.safetensors"):
        try:
            safetensors.numpy.load_file(path)
        except Exception as error:  # whatever it is, it is to be reported
            found.append(f"{path.relative_to(run)}: {error}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("config", nargs="*", default=DEFAULT, help="config and overrides of textattn train")
    arguments = parser.parse_args()
    chance = np.random.default_rng(arguments.seed)
    same = kills = broken = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        started = time.perf_counter()
        start(arguments.config, whole, None)
        seconds = time.perf_counter() - started
        print(f"uninterrupted: {seconds:.1f} s, {digest(whole)}", flush=True)
        for number in range(arguments.runs):
            run = Path(folder, f"killed-{number}")
            moments: list[float] = []
            while not start(
                arguments.config, run, moment := chance.uniform(0, seconds) if len(moments) < KILLS else None
            ):
                moments.append(moment or 0.0)
                broken += len(unreadable(run))
            kills += len(moments)
            same += digest(run) == digest(whole)
            left = [path.name for path in run.rglob(".*")]
            print(
                f"run {number + 1}: killed after {', '.join(f'{m:.1f}' for m in moments) or 'nothing'} s, "
                f"{'the same' if digest(run) == digest(whole) else 'A DIFFERENT'} model, {len(left)} files left over",
                flush=True,
            )
    print(f"{same} of {arguments.runs} runs end with the same bytes after {kills} kills; {broken} unreadable files")
    sys.exit(same != arguments.runs or broken > 0)


if __name__ == "__main__":
    main()
