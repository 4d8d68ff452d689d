"""Damages every file of a run, of a bundle and of the cache in many ways, and counts what then happens.

    PYTHONPATH=. python tests/damage_all.py FOLDER COUNT SEED

FOLDER holds a run for all runtimes (`run`), a bundle of it (`model.zip`), and a cache with its data (`cache`); its
files are restored after each attempt. An attempt is a child process, forked when the libraries are loaded, so that
crashes of native code and attempts without an end are counted too. Prints JSON: how often the answers were the same
(`same`) or the damage was named with exit code 3 (`clear`), and a description of everything else.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from damaged_models import RUNTIMES, answers, changes

from textattn.config import load_config
from textattn.errors import InputError
from textattn.report import Report
from textattn.runs.prepare import prepare

SECONDS = 60
LIBRARIES = (
    "torch", "onnxruntime", "tokenizers", "safetensors.torch", "textattn.model.classifier", "textattn.inference.words",
    "textattn.inference.torch_session", "textattn.inference.onnx_session", "textattn.explain.explanations",
    "textattn.explain.methods.contributions", "textattn.training.slices", "pyarrow",
)  # fmt: skip
GOOD = ("same", "clear")
SHARED = ("config.json", "tokenizer.json", "tokenizer_config.json", "checksums.json")


@dataclass(frozen=True)
class Target:
    """A file to damage, and the question whose answer depends on it."""

    file: Path
    whole: Path
    """The folder or bundle that the file belongs to."""
    ask: Callable[[], str]
    name: str


def targets(folder: Path) -> list[Target]:
    """Every file that something is read from, with each runtime that reads it."""
    run, bundle, cache = folder / "run", folder / "model.zip", folder / "cache"
    cached = [file for file in sorted((cache / "data").rglob("*")) if file.is_file()]
    return [
        *(
            Target(run / name, run, lambda runtime=runtime: answers(run, runtime), f"{name} with {runtime}")
            for runtime, weights in RUNTIMES.items()
            for name in (*SHARED, weights)
        ),
        # Most of its bytes are those of the graph.
        *(Target(bundle, bundle, lambda: answers(bundle), f"the bundle ({number})") for number in range(3)),
        *(Target(file, cache, lambda: data_of(run), f"the cache's {file.name}") for file in cached),
    ]


def data_of(run: Path) -> str:
    """The data of a run, as they are trained on, from the cache if it has them."""
    data = prepare(load_config(str(run / "training_config.yaml")), Report())
    return repr(
        [
            (name, list(split), split.labels.tolist(), data.tokens[name].ids.tolist())
            for name, split in data.corpus.splits().items()
        ]
    )


def asked(ask: Callable[[], str], where: Path) -> tuple[str, str]:
    """What a question leads to in a child process: a kind, and the answer or the error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            result = ("answer", ask())
        except InputError as error:
            result = ("clear" if str(where) in error.message else "bug", error.message)
        except BaseException as error:
            result = ("bug", repr(error))
        with os.fdopen(writing, "w", encoding="utf-8", errors="surrogateescape") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="surrogateescape") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not content:
        return ("hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"), f"status {status}"
    kind, text = json.loads(content)
    return kind, text


def damage_all(folder: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damage the files in turn, `count` times in all.

    Returns:
        How often each outcome was seen, and a description of those that must not be.
    """
    os.environ.update(TEXTATTN_CACHE=str(folder / "cache"), TOKENIZERS_PARALLELISM="false")
    for library in LIBRARIES:  # loaded once, and not in each child; they start no threads by that
        importlib.import_module(library)
    generator = random.Random(seed)
    all_targets = targets(folder)
    right = {target.name: asked(target.ask, target.whole) for target in all_targets}
    assert {kind for kind, _ in right.values()} == {"answer"}, right
    contents = {target.file: target.file.read_bytes() for target in all_targets}
    rounds = count // len(all_targets) + 1
    damage = {target.name: changes(contents[target.file], rounds, generator) for target in all_targets}
    counts: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        target = all_targets[number % len(all_targets)]
        what, damaged = next(damage[target.name])
        target.file.write_bytes(damaged)
        kind, text = asked(target.ask, target.whole)
        if kind == "answer":
            kind = "same" if text == right[target.name][1] else "other"
        counts[kind] += 1
        if kind not in GOOD:
            wrong.append(f"{kind}: {target.name}, {what}: {text[:200]}")
        for file, content in contents.items():
            # A damaged entry of the cache is removed and made again.
            if file == target.file or (target.whole.name == "cache" and file.is_relative_to(target.whole)):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    return counts, wrong


def prepare_folder(run: Path, bundle: Path, folder: Path) -> Path:
    """A folder for `damage_all`, with copies of a run and a bundle."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(run, folder / "run")
    shutil.copy(bundle, folder / "model.zip")
    os.environ["TEXTATTN_CACHE"] = str(folder / "cache")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / "cache")
    kind, text = asked(lambda: data_of(folder / "run"), folder)
    assert kind == "answer", text
    return folder


if __name__ == "__main__":
    seen, bad = damage_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"counts": seen, "wrong": bad[:40]}, indent=1))
    sys.exit(bool(bad))
