"""Measures how many labels it takes if the texts to label are chosen by usefulness instead of at random.

    .venv/bin/python scripts/active.py --data ../shared/data/sst2 --seeds 3

Every seed begins with the same random texts for all strategies. In each round a model is trained on the texts labelled
so far, and the strategy chooses the next ones from the rest of the training split, whose labels nobody has seen. Word
vectors are trained once on all texts, for those need no labels. Finished points are kept in OUT/points.json, so that a
script that was stopped goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import textattn
from textattn.measure.diverse import distances_to
from textattn.storage.files import read_json, write_json

Rows = NDArray[np.int64]
PRODUCT = "most_useful"
# The number of labels at which the curves are compared.
BAR = 300
# The recipe for little data (configs/imdb_little.yaml) in the size of single sentences.
SETTINGS: dict[str, Any] = {
    "recipe": "plain",
    "tokenizer": {"type": "word", "max_length": 80},
    "model": {
        "embedding_dim": 128,
        "encoder": "none",
        "attention": "additive",
        "ngrams": 1,
        "dropout": {"words": 0.3, "embedding": 0.3},
    },
    "training": {"epochs": 15, "batch_size": 32, "learning_rate": 1e-2, "threads": 1},
    "output": {"audit_examples": 0, "plots": False, "report": False, "attention_examples": 0},
}
SKIPGRAM = {"source": "skipgram", "epochs": 40, "freeze": True}


@dataclass(frozen=True)
class Round:
    """What a strategy may look at."""

    model: textattn.Model
    pool: list[str]
    """The texts that are not labelled."""
    labelled: list[str]
    number: int
    """How many to choose."""
    rng: np.random.Generator

    def uncertainty(self) -> NDArray[np.float64]:
        """(pool,) entropies in nats. Of two labels, every other measure of uncertainty gives the same order."""
        p = np.clip(self.model.predict_proba(self.pool), 1e-12, 1)
        return np.asarray(-(p * np.log(p)).sum(axis=1))


def at_random(given: Round) -> Rows:
    return given.rng.permutation(len(given.pool))[: given.number]


def by_entropy(given: Round) -> Rows:
    return np.argsort(-given.uncertainty(), kind="stable")[: given.number]


def centres(factor: int | None, *, weighted: bool = False, cosine: bool = False) -> Callable[[Round], Rows]:
    """Farthest first among the most uncertain `factor` times as many; None: among all.

    Args:
        weighted: multiply the distance with the uncertainty.
        cosine: compare directions of vectors only.
    """

    def choose(given: Round) -> Rows:
        uncertainty = given.uncertainty()
        rows = np.argsort(-uncertainty, kind="stable")[: factor and factor * given.number]
        vectors, others = given.model.embed([given.pool[i] for i in rows]), given.model.embed(given.labelled)
        if cosine:
            vectors, others = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (vectors, others))
        weights = uncertainty[rows] if weighted else np.ones(len(rows))
        nearest = distances_to(vectors, others)
        chosen: list[int] = []
        for _ in range(given.number):
            gains = weights * nearest
            gains[chosen] = -1
            chosen.append(int(gains.argmax()))
            nearest = np.minimum(nearest, distances_to(vectors, vectors[chosen[-1:]]))
        return np.asarray(rows[chosen])

    return choose


def as_product(given: Round) -> Rows:
    """What `textattn predict --most-useful` does."""
    return np.array([found.index for found in given.model.most_useful(given.pool, given.number)])


STRATEGIES: dict[str, Callable[[Round], Rows]] = {
    "random": at_random,
    "entropy": by_entropy,
    "entropy, then farthest of 3 n": centres(3),
    "entropy, then farthest of 5 n": centres(5),
    "entropy, then farthest of 10 n": centres(10),
    "entropy x distance, of 5 n": centres(5, weighted=True),
    "entropy x distance, of all": centres(None, weighted=True),
    "entropy x cosine distance, of all": centres(None, weighted=True, cosine=True),
    "farthest of all": centres(None),
    PRODUCT: as_product,
}


class Study:
    """The points of all learning curves, kept in a file."""

    def __init__(self, data: Path, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self.points_file = out / "points.json"
        self.points: dict[str, float] = read_json(self.points_file) if self.points_file.exists() else {}
        train = pq.read_table(data / "train.parquet")
        self.texts: list[str] = train["text"].to_pylist()
        self.table = train
        self.files = {"test": str(data / "test.parquet")}
        self.pool_file = out / "pool.parquet"
        pq.write_table(pa.table({"text": self.texts}), self.pool_file)
        self.vectors = out / "vectors.txt"
        if not self.vectors.exists():
            self.write_vectors()

    def write_vectors(self) -> None:
        """Word vectors of all texts, in the format of word2vec."""
        from safetensors.numpy import load_file

        rows = np.arange(100)
        run = self.train(rows, 0, SKIPGRAM, self.out / "vectors", epochs=1)
        model = textattn.load(run)
        matrix = load_file(run / "model.safetensors")["embedding.weight"]
        vocabulary = model.tokenizer.backend.get_vocab()
        lines = [f"{word} {' '.join(f'{x:.5f}' for x in matrix[i])}\n" for word, i in vocabulary.items()]
        self.vectors.write_text("".join(lines), encoding="utf-8")

    def train(self, rows: Rows, seed: int, vectors: dict[str, Any], run: Path, **training: Any) -> Path:
        """A model of the texts with these numbers."""
        labelled = self.out / "labelled.parquet"
        pq.write_table(self.table.take(pa.array(rows)), labelled)
        config = SETTINGS | {
            "seed": seed,
            "data": {
                "files": self.files | {"train": str(labelled)},
                "validation_fraction": 0.0,
                "unlabelled": {"path": str(self.pool_file)},
            },
            "model": SETTINGS["model"] | {"vectors": vectors},
            "training": SETTINGS["training"] | training,
            "output": SETTINGS["output"] | {"dir": str(run)},
        }
        with contextlib.redirect_stderr(io.StringIO()):
            return textattn.train(config, overwrite=True)

    def curve(self, strategy: str, seed: int, sizes: list[int]) -> None:
        """Trains and measures one strategy from the first to the last number of labels."""
        key = f"{strategy}|{seed}|"
        if all(f"{key}{size}" in self.points for size in sizes):
            return
        rng = np.random.default_rng(seed)
        rows = rng.permutation(len(self.texts))[: sizes[0]]
        vectors = {"source": "file", "path": str(self.vectors), "freeze": True}
        for size, following in zip(sizes, [*sizes[1:], 0], strict=True):
            if f"{key}{size}" not in self.points or following:
                run = self.train(rows, seed, vectors, self.out / "run")
                self.points[f"{key}{size}"] = float(read_json(run / "metrics.json")["test"]["accuracy"])
                write_json(self.points_file, self.points)
            if following:
                rest = np.setdiff1d(np.arange(len(self.texts)), rows)
                given = Round(
                    textattn.load(run),
                    [self.texts[i] for i in rest],
                    [self.texts[i] for i in rows],
                    following - size,
                    rng,
                )
                rows = np.concatenate([rows, rest[STRATEGIES[strategy](given)]])

    def mean(self, strategy: str, seeds: range, size: int) -> float:
        return float(np.mean([self.points[f"{strategy}|{seed}|{size}"] for seed in seeds]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sst2"), help="folder with parquet splits")
    parser.add_argument("--seeds", type=int, default=3, help="curves of each strategy")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of their seeds")
    parser.add_argument("--start", type=int, default=100, help="labels at the start")
    parser.add_argument("--step", type=int, default=50, help="labels more in each round")
    parser.add_argument("--end", type=int, default=500, help="labels at the end")
    parser.add_argument(
        "--strategies", nargs="*", default=["random", PRODUCT], choices=[*STRATEGIES, "all"], metavar="NAME",
        help=f"{', '.join(STRATEGIES)}; or all",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/active"), help="folder for the points and the runs")
    arguments = parser.parse_args()
    names = list(STRATEGIES) if "all" in arguments.strategies else arguments.strategies
    sizes = list(range(arguments.start, arguments.end + 1, arguments.step))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    study = Study(arguments.data, arguments.out)
    for seed in seeds:
        for name in names:
            study.curve(name, seed, sizes)
    print(f"| accuracy, seeds {seeds[0]} to {seeds[-1]} | {' | '.join(map(str, sizes))} |")
    print(f"|---|{'---|' * len(sizes)}")
    curves = {name: [study.mean(name, seeds, size) for size in sizes] for name in names}
    for name, curve in curves.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in curve)} |")
    print()
    for name, curve in curves.items():
        if name != "random" and "random" in curves:
            print(f"{name}: with {BAR} labels it reaches {needed(curve, curves['random'], sizes)}")


def needed(curve: list[float], at_random: list[float], sizes: list[int]) -> str:
    """What random choice needs for the accuracy that a curve has at BAR."""
    if BAR not in sizes:
        return "what was not measured"
    reached = curve[sizes.index(BAR)]
    enough = [size for size, value in zip(sizes, at_random, strict=True) if value >= reached]
    return f"{reached:.4f}, what random choice reaches with {enough[0] if enough else f'more than {sizes[-1]}'}"


if __name__ == "__main__":
    main()
