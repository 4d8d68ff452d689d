"""Measuring a loaded model on a labelled split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.config import Config, config_from_mapping
from textattn.config.yaml12 import parse_yaml
from textattn.data.read import Corpus, Split, read_corpus, read_split
from textattn.data.splits import prepare_splits
from textattn.errors import ConfigError, InputError
from textattn.measure.metrics import compute_metrics
from textattn.storage.run_dir import TRAINING_CONFIG

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier


def load_split(
    classifier: Classifier,
    data: str | Path | None,
    split: str,
    settings: dict[str, Any],
    on_note: Callable[[str], None] | None = None,
) -> Split:
    """A split of `data`, or of what the model was trained on; a validation split set aside from train is found again.

    Args:
        settings: see `Classifier.evaluate`.
        on_note: called with what the user should know, such as rows skipped.

    Raises:
        InputError: there is no such split, or it cannot be read.
        ConfigError: a setting is wrong.
    """
    base = training_config(classifier)
    if data is None and base is None:
        raise InputError(
            f"{classifier.files.where(TRAINING_CONFIG)}: missing, so the training data are unknown",
            "textattn evaluate DATA",
        )
    values = base.data.model_dump() if base is not None else {}
    if data is not None:
        # What belongs to the other source only must not be carried over.
        values |= {"path": str(data), "files": None, "name": None, "revision": None}
    # Nor are the texts without labels read again: nobody says what is right for them.
    values |= {"unlabelled": None, "teacher": None}
    config = config_from_mapping({"data": values | settings}).data
    if data is None and base is not None and split in ("train", "validation", "test"):
        corpus = prepare_splits(read_corpus(config), config, base.seed)
        rows, notes = _own_split(classifier, corpus, split), corpus.notes
    else:
        rows, notes = read_split(config, split, classifier.config.labels, classifier.config.multi_label)
    if on_note is not None:
        for note in notes:
            on_note(note)
    return rows


def _own_split(classifier: Classifier, corpus: Corpus, split: str) -> Split:
    splits = corpus.splits()
    if split not in splits:
        raise InputError(f"the data have no {split} split; splits are: {', '.join(splits)}", f"--split {[*splits][-1]}")
    if corpus.labels != classifier.config.labels:
        raise InputError(
            f"the data of this model have changed: their labels are {', '.join(corpus.labels)}, "
            f"those of the model {', '.join(classifier.config.labels)}"
        )
    return splits[split]


def measure(
    classifier: Classifier, rows: Split, split: str, on_batch: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """The metrics of `rows`, as metrics.json holds them for a split of the run.

    Args:
        split: name of the split, for the result.
        on_batch: called with the number of rows done.
    """
    base = training_config(classifier)
    tokens = classifier.tokenizer.encode(rows)
    logits = classifier.logits(tokens, on_batch)
    metrics = compute_metrics(
        rows.labels,
        classifier.logits_to_probabilities(logits),
        classifier.config.labels,
        headline=(base and base.training.metric) or ("micro_f1" if classifier.config.multi_label else "accuracy"),
        thresholds=classifier.config.thresholds,
        uncalibrated=classifier.uncalibrated().logits_to_probabilities(logits),
        seed=base.seed if base is not None else 0,
    )
    return metrics | {"num_truncated": tokens.num_truncated, "split": split}


def training_config(classifier: Classifier) -> Config | None:
    """The config that the model was trained with; None where it does not have it with it.

    Raises:
        InputError: it is damaged.
    """
    files = classifier.files
    if not files.has(TRAINING_CONFIG):
        return None
    where = files.where(TRAINING_CONFIG)
    try:
        values = parse_yaml(files.read(TRAINING_CONFIG).decode("utf-8"), where).value
        if not isinstance(values, dict):
            raise InputError(f"{where}: damaged (no mapping)")
        return config_from_mapping(values, origin=where, of_finished_run=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: damaged ({error})") from None
    except ConfigError as error:
        # Nobody wrote it by hand.
        raise InputError(f"{error.message} (damaged)") from None
