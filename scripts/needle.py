"""Plants one decisive sentence in long documents, and prints whether it is found and pointed at, as a table.

    .venv/bin/python scripts/needle.py                     # three seeds
    .venv/bin/python scripts/needle.py --seeds 1 --set model.window_size=128

Every document is made of sentences about nothing, and one sentence, anywhere in it, that decides its label. The model
is trained with the recipe `documents` on documents of 400 to 2,000 tokens, and tested on longer ones as well. `found`
is the accuracy, `pointed at` the share of documents in which the window with the decisive word has the greatest weight,
and `time a token` the processor time for each token relative to documents of 400 tokens, medians of alternating runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import textattn
from textattn import Model

DECISIVE = {
    "granted": ["approved", "accepted", "endorsed", "ratified", "welcomed"],
    "denied": ["rejected", "refused", "vetoed", "dismissed", "declined"],
}
NEUTRAL = ["discussed", "mentioned", "postponed", "reviewed", "printed", "filed"]
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("ra", "lo", "ni", "tu", "mek", "sol", "dan")]
LENGTHS = (400, 4_000, 20_000)
TRAINED_ON, TESTED_ON, TIMED = 1_000, 200, 7


class Documents:
    """Makes documents."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        ranks = np.arange(1, len(WORDS) + 1)
        self.shares = (1 / ranks) / (1 / ranks).sum()  # as words are in languages (Zipf)

    def make(self, label: str, tokens: int) -> tuple[str, str]:
        """A document and its decisive sentence."""
        sentences: list[str] = []
        written = 0
        while written < tokens - 12:
            words = self.generator.choice(WORDS, int(self.generator.integers(5, 15)), p=self.shares).tolist()
            if self.generator.random() < 0.1:
                words = self._sentence(str(self.generator.choice(NEUTRAL)))
            sentences.append(f"{' '.join(words)}.")
            written += len(words) + 1
        decisive = f"{' '.join(self._sentence(str(self.generator.choice(DECISIVE[label]))))}."
        sentences.insert(int(self.generator.integers(len(sentences) + 1)), decisive)
        return " ".join(sentences), decisive

    def _sentence(self, verb: str) -> list[str]:
        return ["the", "committee", verb, "the", "plan", "of", str(self.generator.choice(WORDS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3, help="number of data sets and runs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    arguments = parser.parse_args()
    print("| seed | tokens of a document | found | pointed at | time a token |")
    print("|---|---|---|---|---|", flush=True)
    for seed in range(1, arguments.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            model = train(Path(folder), seed, arguments.set)
            documents = Documents(1000 + seed)
            seconds = time_per_token(model, documents)
            for length in LENGTHS:
                found, pointed_at = test(model, documents, length)
                ratio = seconds[length] / seconds[LENGTHS[0]]
                print(f"| {seed} | {length:,} | {found:.3f} | {pointed_at:.3f} | {ratio:.2f} |", flush=True)


def train(folder: Path, seed: int, settings: list[str]) -> Model:
    """A model that was trained on documents of 400 to 2,000 tokens."""
    documents = Documents(seed)
    labels = [list(DECISIVE)[i % 2] for i in range(TRAINED_ON)]
    lengths = documents.generator.integers(400, 2_001, TRAINED_ON)
    texts = [documents.make(label, int(length))[0] for label, length in zip(labels, lengths, strict=True)]
    pq.write_table(pa.table({"text": texts, "label": labels}), folder / "train.parquet")
    given = ["recipe=documents", "training.baseline=false", "output.audit_examples=0", "output.plots=false"]
    config = {"data": {"path": str(folder / "train.parquet")}}
    return textattn.load(textattn.train(config, [*given, f"seed={seed}", f"output.dir={folder / 'run'}", *settings]))


def test(model: Model, documents: Documents, length: int) -> tuple[float, float]:
    """The share of documents with the right answer, and with the decisive words in the window that counts most."""
    right = pointed_at = 0
    number = TESTED_ON if length < LENGTHS[-1] else TESTED_ON // 2
    for i in range(number):
        label = list(DECISIVE)[i % 2]
        text, decisive = documents.make(label, length)
        (explanation,) = model.explain([text])
        right += explanation.prediction.label == label
        assert explanation.windows is not None
        sign = 1 if explanation.prediction.label == label else -1
        top = max(explanation.windows, key=lambda window: sign * window.weight)
        verb = text.index(decisive) + len("the committee ")
        pointed_at += top.start <= verb < top.end
    return right / number, pointed_at / number


def time_per_token(model: Model, documents: Documents) -> dict[int, float]:
    """Seconds for each token of documents of each length, read one after the other."""
    texts = {length: documents.make("granted", length)[0] for length in LENGTHS}
    taken: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _ in range(TIMED):
        for length, text in texts.items():
            # As many tokens for each length.
            copies = LENGTHS[-1] // length
            started = time.process_time()
            for _ in range(copies):
                model.predict([text])
            taken[length].append((time.process_time() - started) / (copies * length))
    return {length: statistics.median(times) for length, times in taken.items()}


if __name__ == "__main__":
    main()
