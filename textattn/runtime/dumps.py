"""Predictions and attention of a split as parquet, row by row with the texts' own order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from textattn.data.read import Split
from textattn.metrics import decide
from textattn.run import atomic_path
from textattn.runtime.classifier import Classifier

# Explanations held in memory at once.
EXAMPLES_PER_GROUP = 256


def _gold(split: Split, labels: list[str]) -> pa.Array:
    if split.labels.ndim == 1:
        return pa.array([labels[i] for i in split.labels])
    return pa.array([[labels[i] for i in np.flatnonzero(row)] for row in split.labels], pa.list_(pa.string()))


def write_predictions(path: Path, classifier: Classifier, split: Split, probs: NDArray[np.floating[Any]]) -> None:
    """Columns: row, text, label, prediction, score, and `score:<label>` for each label."""
    labels = classifier.labels
    decided = decide(probs, classifier.config.thresholds)
    prediction = _gold(Split(split.name, split.texts, decided), labels)
    columns: dict[str, Any] = {
        "row": pa.array(np.arange(len(split))),
        "text": split.texts,
        "label": _gold(split, labels),
        "prediction": prediction,
        "score": pa.array(probs.max(axis=1)),
    }
    columns |= {f"score:{label}": pa.array(probs[:, i]) for i, label in enumerate(labels)}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


ATTENTION_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("text", pa.large_string()),
        ("tokens", pa.list_(pa.string())),
        ("starts", pa.list_(pa.int32())),
        ("ends", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float32())),
        ("prediction", pa.string()),
        ("score", pa.float64()),
    ]
)


def write_attention(path: Path, classifier: Classifier, split: Split, max_examples: int, seed: int) -> None:
    """One row an example: tokens, their character offsets (half-open) and weights, label, prediction.

    Of more than `max_examples` rows a random part (seeded) is written, in the order of the split.
    """
    rows = np.arange(len(split))
    if len(rows) > max_examples:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:max_examples])
    chosen = split.take(rows)
    gold = _gold(chosen, classifier.labels)
    schema = ATTENTION_SCHEMA.append(pa.field("label", gold.type))
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for first in range(0, len(chosen), EXAMPLES_PER_GROUP):
            texts = chosen.texts.slice(first, EXAMPLES_PER_GROUP).to_pylist()
            explained = classifier.explain(texts)
            writer.write_table(
                pa.table(
                    {
                        "row": rows[first : first + EXAMPLES_PER_GROUP],
                        "text": texts,
                        "tokens": [e.tokens for e in explained],
                        "starts": [[start for start, _ in e.offsets] for e in explained],
                        "ends": [[end for _, end in e.offsets] for e in explained],
                        "weights": [e.weights for e in explained],
                        "prediction": [e.prediction.label for e in explained],
                        "score": [e.prediction.score for e in explained],
                        "label": gold.slice(first, EXAMPLES_PER_GROUP),
                    },
                    schema=schema,
                )
            )
