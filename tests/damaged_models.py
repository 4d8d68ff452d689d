"""What the tests of models from strangers share: models to be damaged, and what a damaged one says of itself."""

from __future__ import annotations

import json
import math
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from conftest import MakeOnce
from inprocess import run as cli

import textattn
from textattn.errors import TextattnError

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx", "model.int8.onnx", "model.safetensors")
RUNTIMES = {"onnx": "model.onnx", "int8": "model.int8.onnx", "torch": "model.safetensors"}
# Each file with every runtime that reads it in a way of its own.
READERS = [
    ("config.json", "onnx"), ("config.json", "torch"), ("tokenizer.json", "onnx"), ("tokenizer_config.json", "onnx"),
    ("model.onnx", "onnx"), ("model.int8.onnx", "int8"), ("model.safetensors", "torch"),
]  # fmt: skip
TEXTS = ["good food", "?", "awful " * 40, "Ein schönes 😀"]
GOOD = ["fine", "great", "tasty", "friendly", "fresh", "lovely"]
BAD = ["awful", "cold", "rude", "stale", "dirty", "noisy"]
BUNDLED = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx")


def train(folder: Path, *overrides: str, labels: tuple[str, str] = ("neg", "pos"), suffix: str = "") -> Path:
    """A run on 48 short texts; `suffix` makes other words of them."""
    folder.mkdir()
    rows = [
        {"text": f"{words[i % 6]}{suffix} {words[(i + i // 6) % 6]}{suffix} food{suffix}", "label": label}
        for i in range(24)
        for label, words in zip(labels, (BAD, GOOD), strict=True)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        f"data.path={folder / 'data.jsonl'}", f"output.dir={folder / 'run'}", "tokenizer.min_frequency=1",
        "tokenizer.max_length=20", "model.embedding_dim=8", "model.hidden_size=8", "model.attention_size=8",
        "training.epochs=1", *overrides,
    ]  # fmt: skip
    return textattn.train("quickstart", settings)


@pytest.fixture(scope="module")
def run(make_once: MakeOnce) -> Path:
    """A model for all runtimes; tests must not change it."""

    def make(folder: Path) -> None:
        path = train(folder / "base")
        done = cli("export", "--model", path, "--int8", "--split", "train", "--max-drop", "100")
        assert (done.code, done.out) == (0, f"{path / 'model.int8.onnx'}\n")

    return make_once("all-runtimes", make) / "base" / "run"


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return copy(run, tmp_path / "model")


def copy(run: Path, to: Path) -> Path:
    to.mkdir()
    for name in FILES:
        shutil.copy(run / name, to / name)
    return to


def answers(model: Path, runtime: str | None = None) -> str:
    """Everything that a model says about some texts, digit for digit; an error of the right kind is raised."""
    classifier = textattn.load(model, runtime=runtime)
    weights = [explanation.weights for explanation in classifier.explain(TEXTS)]
    return repr((classifier.predict(TEXTS), weights, classifier.labels))


def complaint(model: Path, runtime: str | None = None) -> str | None:
    """What a model says is wrong with it; None where it answers. Whatever else happens is a failure."""
    try:
        classifier = textattn.load(model, runtime=runtime)
        predictions = classifier.predict(TEXTS)
        explanations = classifier.explain(TEXTS)
        vectors = classifier.embed(TEXTS)
    except TextattnError as error:
        assert error.exit_code in (2, 3)
        assert str(model) in error.message, error.message
        return error.message
    assert len(predictions) == len(explanations) == len(vectors) == len(TEXTS)
    for prediction in predictions:
        assert math.isclose(sum(prediction.scores.values()), 1, abs_tol=1e-6)
        assert prediction.score == max(prediction.scores.values())
    return None


def changes(content: bytes, count: int, generator: random.Random) -> Iterator[tuple[str, bytes]]:
    """A content damaged as disks, transfers and editors do it: most often a bit, or the end."""
    size = len(content)
    for number in range(count):
        place, length = generator.randrange(size), generator.choice([1, 2, 16, 512])
        kind = ("bit", "byte", "cut", "inserted", "lost", "zeros", "twice", "swapped")[number % 8]
        if kind == "bit":
            new = content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]
        elif kind == "byte":
            new = content[:place] + generator.randbytes(1) + content[place + 1 :]
        elif kind == "cut":
            new = content[:place]
        elif kind == "inserted":
            new = content[:place] + generator.randbytes(length) + content[place:]
        elif kind == "lost":
            new = content[:place] + content[place + length :]
        elif kind == "zeros":
            new = content[:place] + bytes(len(content[place : place + length])) + content[place + length :]
        elif kind == "twice":
            new = content[:place] + content[place : place + length] + content[place:]
        else:
            other = generator.randrange(size)
            new = bytearray(content)
            new[place], new[other] = new[other], new[place]
        yield f"{kind} at {place}", bytes(new)


def flips(content: bytes, places: list[int], count: int, generator: random.Random) -> Iterator[bytes]:
    """Bits and bytes changed, one or several, everywhere and more often in `places`."""
    for i in range(count):
        damaged = bytearray(content)
        for _ in range(generator.choice([1, 1, 2, 9])):
            place = generator.choice(places) if i % 4 else generator.randrange(len(content))
            damaged[place] ^= generator.choice([1 << generator.randrange(8), generator.randrange(1, 256)])
        yield bytes(damaged)


def pack(
    model: Path,
    bundle: Path,
    *,
    without: tuple[str, ...] = (),
    extra: Mapping[str, bytes] | None = None,
    method: int = zipfile.ZIP_STORED,
    rename: Callable[[str], str] = str,
) -> Path:
    with zipfile.ZipFile(bundle, "w", method) as file:
        for name in BUNDLED:
            if name not in without:
                file.writestr(rename(name), (model / name).read_bytes())
        for name, content in (extra or {}).items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return bundle
