"""Kills trainings at random moments, resumes them, and compares their results with an uninterrupted training.

    .venv/bin/python scripts/kill_resume.py --runs 40
    .venv/bin/python scripts/kill_resume.py --runs 40 --second
    .venv/bin/python scripts/kill_resume.py --runs 0 --sizes 20
    .venv/bin/python scripts/kill_resume.py --runs 30 configs/sst2.yaml data.path=../shared/data/sst2

Every run is killed with SIGKILL at a random moment within the time of a whole training, again after each resumption,
until it ends first. After three kills it is not interrupted any more. With --second, another process wants the same
directory all the time. With --sizes, files may not grow beyond so many different sizes until the run is resumed, as on
a disk that is full.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

from textattn.storage.locks import read_owner

# A small training that writes files every few milliseconds.
DEFAULT = [
    "quickstart", "model.embedding_dim=32", "model.hidden_size=32", "training.epochs=6", "training.batch_size=16",
    "training.evaluations_per_epoch=4", "training.checkpoint_steps=2", "output.audit_examples=0", "output.plots=false",
]  # fmt: skip
KILLS = 3


def command(config: list[str], run: Path) -> list[str]:
    return [sys.executable, "-m", "textattn", "--quiet", "train", *config, f"output.dir={run}", "--resume"]


def start(config: list[str], run: Path, after: float | None, second: list[int] | None = None) -> bool:
    """Start a training and kill it `after` some seconds. Returns whether it ended before that.

    Args:
        second: if given, another process wants the directory too; its exit code is added to the list.
    """
    with subprocess.Popen(command(config, run), stdout=subprocess.DEVNULL) as process:
        rival = None
        if second is not None:
            # The record of an owner that was killed is still there.
            while process.poll() is None and ((owner := read_owner(run)) is None or owner.process != process.pid):
                time.sleep(0.01)
            rival = subprocess.Popen(command(config, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            code = process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        if rival is not None and second is not None:
            said = rival.communicate()[1]
            second.append(rival.returncode)
            # It is refused; or it comes when the first one has ended, and goes on or has nothing to do.
            if rival.returncode not in (0, 2) or (rival.returncode == 2 and "is being trained by process" not in said):
                sys.exit(f"{run}: the second process ended with {rival.returncode}: {said}")
    if code:
        sys.exit(f"{run}: ended with {code}")
    return code is not None


def fill(config: list[str], run: Path, size: int) -> int:
    """Start a training whose files may not grow beyond `size` bytes; returns its exit code."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    quiet = subprocess.DEVNULL
    return subprocess.run(command(config, run), stdout=quiet, stderr=quiet, preexec_fn=limit, check=False).returncode


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
    parser.add_argument("--second", action="store_true", help="another process wants the same directory")
    parser.add_argument("--sizes", type=int, default=0, help="so many sizes that files may not grow beyond")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("config", nargs="*", default=DEFAULT, help="config and overrides of textattn train")
    arguments = parser.parse_args()
    chance = np.random.default_rng(arguments.seed)
    same = kills = broken = resumed = 0
    second: list[int] | None = [] if arguments.second else None
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
                arguments.config, run, moment := chance.uniform(0, seconds) if len(moments) < KILLS else None, second
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
        largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        for number in range(arguments.sizes):
            run, size = Path(folder, f"filled-{number}"), int(largest * (number + 0.5) / arguments.sizes)
            code = fill(arguments.config, run, size)
            broken += len(unreadable(run))
            start(arguments.config, run, None)
            resumed += digest(run) == digest(whole)
            left = [path.name for path in run.rglob(".*")]
            print(f"files of up to {size:,} bytes: ended with {code}, {len(left)} files left over", flush=True)
    print(f"{same} of {arguments.runs} runs end with the same bytes after {kills} kills; {broken} unreadable files")
    if second is not None:
        print(f"{second.count(2)} of {len(second)} second processes were refused; the others came later and went on")
    if arguments.sizes:
        print(f"{resumed} of {arguments.sizes} runs that had no room end with the same bytes")
    sys.exit(same != arguments.runs or resumed != arguments.sizes or broken > 0)


if __name__ == "__main__":
    main()
