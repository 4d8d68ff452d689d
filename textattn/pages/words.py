"""The words of each label, from the contributions that a run has written for some texts of a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from textattn.inference.words import find_words

if TYPE_CHECKING:
    from pathlib import Path

    from textattn.explain.lexicon import Entry, WeighedText
    from textattn.inference.classifier import Classifier

# Tokens that are read, so that a split of long texts takes no longer than one of short ones.
MOST_TOKENS = 60_000
TOP = 12


def stored_lexicon(file: Path, classifier: Classifier) -> tuple[dict[str, list[Entry]], int]:
    """The strongest words of each label, and the number of texts they come from; nothing without such a file.

    Args:
        file: attention/<split>.parquet of the run.
        classifier: the model of the run, whose tokenizer finds the words.
    """
    from textattn.explain.lexicon import WeighedText, lexicon_of

    rows = _rows(file)
    if not rows:
        return {}, 0
    texts = [row["text"] for row in rows]
    golds = [row["label"] if isinstance(row["label"], list) else [row["label"]] for row in rows]

    def weighed() -> Iterator[WeighedText]:
        for row, tokenized in zip(rows, classifier.tokenizer.encode_with_offsets(texts), strict=True):
            signed = row["contributions"] is not None
            weights = row["contributions"] if signed else row["weights"]
            yield WeighedText(row["prediction"], find_words(row["text"], tokenized).words(row["text"], weights), signed)

    return lexicon_of(weighed(), texts, golds, classifier, top=TOP), len(texts)


def _rows(file: Path) -> list[dict[str, Any]]:
    """The first rows of the file, with about `MOST_TOKENS` tokens."""
    import pyarrow.parquet as pq

    if not file.is_file():
        return []
    rows: list[dict[str, Any]] = []
    tokens = 0
    columns = ["text", "weights", "contributions", "prediction", "label"]
    with pq.ParquetFile(file) as table:
        columns = [name for name in columns if name in table.schema_arrow.names]
        for batch in table.iter_batches(64, columns=columns):
            for row in batch.to_pylist():
                rows.append({"contributions": None} | row)
                tokens += len(row["weights"])
            if tokens >= MOST_TOKENS:
                break
    return rows
