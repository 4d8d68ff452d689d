"""Measuring a loaded model on a labelled split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn import run as run_dir
from textattn.config import config_from_mapping, load_config
from textattn.config.schema import DataConfig
from textattn.data.read import Split, read_corpus, read_split
from textattn.data.splits import prepare_splits
from textattn.errors import InputError
from textattn.metrics import compute_metrics

if TYPE_CHECKING:
    from textattn.runtime.classifier import Classifier


def evaluate(
    classifier: Classifier,
    data: str | Path | None,
    split: str,
    settings: dict[str, Any],
    on_batch: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """See `Classifier.evaluate`.

    Args:
        on_batch: called with the number of rows done.
        on_note: called with what the user should know, such as rows skipped.
    """
    rows = load_split(classifier, data, split, settings, on_note)
    tokens = classifier.tokenizer.encode(rows)
    probs = classifier.probabilities(tokens, on_batch)
    metrics = compute_metrics(
        rows.labels,
        probs,
        classifier.config.labels,
        headline="micro_f1" if classifier.config.multi_label else "accuracy",
        thresholds=classifier.config.thresholds,
    )
    return metrics | {"split": split, "num_truncated": tokens.num_truncated}


def load_split(
    classifier: Classifier,
    data: str | Path | None,
    split: str,
    settings: dict[str, Any],
    on_note: Callable[[str], None] | None = None,
) -> Split:
    """A split of `data`, or of what the model was trained on; a validation split set aside from train is found again.

    Raises:
        InputError: there is no such split, or it cannot be read.
        ConfigError: a setting is wrong.
    """
    source = classifier.path / run_dir.TRAINING_CONFIG
    if data is None and not source.is_file():
        raise InputError(f"{source}: missing, so the training data are unknown", "textattn evaluate DATA")
    base = load_config(str(source)) if source.is_file() else None
    if data is not None:
        values = base.data.model_dump() if base is not None else {}
        # What belongs to the other source only must not be carried over.
        values |= {"path": str(data), "files": None, "name": None, "revision": None, "unlabelled_splits": []}
    else:
        assert base is not None
        values = base.data.model_dump()
    config: DataConfig = config_from_mapping({"data": values | settings}).data
    if data is None and split in ("train", "validation") and base is not None:
        corpus = prepare_splits(read_corpus(config), config, base.seed)
        found = corpus.splits().get(split)
        if found is None:
            raise InputError(f"there is no {split} split")
        return found
    rows, notes = read_split(config, split, classifier.config.labels, classifier.config.multi_label)
    for note in notes:
        if on_note is not None:
            on_note(note)
    return rows
