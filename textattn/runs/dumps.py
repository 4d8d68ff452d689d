"""Write the predictions and the attention of a split to parquet files, with the rows in the order of the split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from textattn.data.read import Split
from textattn.explain.explanations import explain_texts
from textattn.inference.classifier import Classifier
from textattn.storage.files import atomic_path
from textattn.tasks.base import Labels, Task

# Explanations held in memory at once.
EXAMPLES_PER_GROUP = 256


def _names(task: Task, labels: Labels) -> pa.Array:
    """The name of the label of each row, with multi-label data the list of names, or the number."""
    if task.target is not None:
        return pa.array(labels, pa.float64())
    if task.multi_label:
        return pa.array(task.names(labels), pa.list_(pa.string()))
    return pa.array(task.labels).take(pa.array(labels))


def write_predictions(path: Path, classifier: Classifier, split: Split, probs: NDArray[np.floating[Any]]) -> None:
    """Write the columns row, id, text, label, prediction, score, and `score:<label>` for each label.

    Of numbers, `low` and `high` take the place of the scores: the ends of the interval of each prediction.

    The id of a row is its value in the column `data.id`, or its file and line.
    """
    task = classifier.task
    gold = _names(task, split.labels)
    prediction = _names(task, task.decide(probs, classifier.config.thresholds))
    others = {"label": gold, "prediction": prediction}
    if task.target is not None:
        margin = np.nan if task.target.margin is None else task.target.margin
        ends = {"low": probs[:, 0] - margin, "high": probs[:, 0] + margin}
        others |= {name: pa.array(end, from_pandas=True) for name, end in ends.items()}
    else:
        others["score"] = pa.array(probs[np.arange(len(probs)), task.top(probs)])
        others |= {f"score:{label}": pa.array(probs[:, i]) for i, label in enumerate(task.labels)}
    types = [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("text", pa.large_string()),
        *((name, other.type) for name, other in others.items()),
    ]
    first = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, pa.schema(types), compression="zstd") as writer:
        for texts in split.texts.pieces():
            rows = np.arange(first, first + len(texts))
            part = {name: other.slice(first, len(texts)) for name, other in others.items()}
            ids = [split.place(row) for row in rows.tolist()]
            writer.write_table(pa.table({"row": rows, "id": ids, "text": texts, **part}, schema=pa.schema(types)))
            first += len(texts)


ATTENTION_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("tokens", pa.list_(pa.string())),
        ("starts", pa.list_(pa.int32())),
        ("ends", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float32())),
        ("contributions", pa.list_(pa.float32())),
        ("prediction", pa.string()),
        ("score", pa.float64()),
    ]
)


def write_attention(path: Path, classifier: Classifier, split: Split, max_examples: int, seed: int) -> None:
    """Write one row per text: the tokens, their character offsets (half-open), attention weights and contributions to
    the predicted label (null for a model that cannot give them), the label, the prediction.

    If the split has more than `max_examples` rows, a random sample (seeded) is written, in the order of the split.
    """
    rows = np.arange(len(split))
    if len(rows) > max_examples:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:max_examples])
    chosen = split.take(rows)
    gold = _names(classifier.task, chosen.labels)
    schema = ATTENTION_SCHEMA.append(pa.field("label", gold.type))
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for first in range(0, len(chosen), EXAMPLES_PER_GROUP):
            texts = chosen.texts[first : first + EXAMPLES_PER_GROUP]
            explained = explain_texts(classifier, texts)
            writer.write_table(
                pa.table(
                    {
                        "row": rows[first : first + EXAMPLES_PER_GROUP],
                        "id": [chosen.place(row) for row in range(first, first + len(texts))],
                        "text": texts,
                        "tokens": [e.tokens for e in explained],
                        "starts": [[start for start, _ in e.offsets] for e in explained],
                        "ends": [[end for _, end in e.offsets] for e in explained],
                        "weights": [e.attention_weights for e in explained],
                        "contributions": [e.weights if e.contributions is not None else None for e in explained],
                        "prediction": [e.prediction.label for e in explained],
                        "score": [e.prediction.score for e in explained],
                        "label": gold.slice(first, EXAMPLES_PER_GROUP),
                    },
                    schema=schema,
                )
            )
