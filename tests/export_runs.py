"""What the tests of `export` share: a run, its bundles, and comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeOnce
from inprocess import run as cli
from numpy.typing import NDArray

import textattn as package
from textattn.data.sources import CORPUS

# In fp32 the two differ by 1.5e-6 at most; anything that is wrong differs by more than this.
TOLERANCE = 5e-6
TEXTS = ["The film was a joy,  but (oh)\tthe ending felt rushed.", "Dull.", "Best café in town, 10/10 would go again!"]


@pytest.fixture(scope="module")
def exports(trained_run: Path, make_once: MakeOnce) -> tuple[Path, Path, Path, dict[str, Any]]:
    """A run with model.int8.onnx, a bundle of each kind, and what `export --int8 --json` said; not to be changed."""

    def make(folder: Path) -> None:
        run = Path(shutil.copytree(trained_run, folder / "run"))
        done = cli("export", "--model", run, "--bundle", folder / "model.zip")
        assert (done.code, done.out) == (0, f"{folder / 'model.zip'}\n")
        done = cli("export", "--model", run, "--int8", "--bundle", folder / "new" / "small.zip", "--json", "-q")
        assert (done.code, done.err) == (0, "")
        (folder / "said.json").write_text(done.out)

    folder = make_once("exports", make)
    said = json.loads((folder / "said.json").read_text())
    return folder / "run", folder / "model.zip", folder / "new" / "small.zip", said


@pytest.fixture(scope="module")
def small_run(make_once: MakeOnce) -> Path:
    """A run on four sentences of a file beside it, without validation data; tests must not change it."""

    def make(folder: Path) -> None:
        shutil.copy(CORPUS / "four_sentences" / "train.jsonl", folder / "data.jsonl")
        package.train("quickstart", small_settings(folder / "data.jsonl", folder / "run"))

    return make_once("four-sentences", make) / "run"


def small_settings(data: Path, run: Path) -> list[str]:
    return [
        f"data.path={data}", "tokenizer.min_frequency=1", "model.embedding_dim=8",
        "model.hidden_size=8", "model.anchor=none", "training.attention_alignment=0.0", "training.epochs=2",
        f"output.dir={run}",
    ]  # fmt: skip


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def close(found: NDArray[Any], expected: NDArray[Any], tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape
    # Of large numbers, sums over a text, fp32 has no more than seven digits.
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=1e-6)
