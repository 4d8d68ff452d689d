"""Measuring a loaded model on a labelled split: of any data, or of those it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.config import Config, config_from_mapping
from textattn.config.yaml12 import parse_yaml
from textattn.data.read import Corpus, Split, read_corpus, read_split
from textattn.data.sources import is_named, open_hub
from textattn.errors import ConfigError, InputError, Option
from textattn.inference.earlier_data import divide, started_from
from textattn.inference.original_data import Origin
from textattn.storage.run_dir import ENVIRONMENT, TRAINING_CONFIG

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier


@dataclass(frozen=True)
class LoadedSplit:
    """A labelled split, and what the user should know about it."""

    rows: Split
    notes: list[str]
    """Such as rows skipped."""
    change: str | None = None
    """How it differs from the split that the model was trained with; None if it does not, or if that is not known."""


def load_split(
    classifier: Classifier,
    data: str | Path | None,
    split: str,
    settings: dict[str, Any],
    on_note: Callable[[str], None] | None = None,
) -> Split:
    """The rows of `read_labelled`.

    Args:
        on_note: called with each note, and with the change of the data since training.
    """
    loaded = read_labelled(classifier, data, split, settings)
    if on_note is not None:
        for note in loaded.notes:
            on_note(note)
        if loaded.change is not None:
            on_note(loaded.change)
    return loaded.rows


def read_labelled(classifier: Classifier, data: str | Path | None, split: str, settings: dict[str, Any]) -> LoadedSplit:
    """A split of `data`, or of what the model was trained on: then the splits are drawn as training drew them.

    Args:
        settings: see `Model.evaluate`.

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
        # These settings are about the place of the training data.
        values |= {"path": str(data), "files": None, "name": None, "revision": None}
        if base is None or not is_named(Path(data), base.data):
            # Another file is written in its own way.
            values |= {"encoding": None, "delimiter": None, "quoting": None, "escape": None, "header": True}
    # Texts without labels are not read again: nobody says what is right for them.
    values |= {"unlabelled": None, "teacher": None}
    config = config_from_mapping({"data": values | settings}).data
    # Of a streamed data set the seed decides which rows are drawn, and of others which are set aside.
    seed = base.seed if data is None and base is not None else 0
    notes: list[str] = []
    numbers = classifier.config.target is not None
    if data is None:
        original = origin_of(classifier).locate(config)
        if original != config:
            notes.append("the training data are read from the directory of the training")
        config = original
    if data is None and split in ("train", "validation", "test"):
        known, earlier = started_from(classifier)
        corpus = read_corpus(config, open_hub(config, seed), numbers=numbers, known=known)
        corpus = divide(corpus, config, seed, earlier, base.start.replay if base is not None else 1.0)
        rows = _own_split(classifier, corpus, split)
        return LoadedSplit(rows, notes + corpus.notes, _change_since_training(classifier, rows))
    multi_label = classifier.config.multi_label
    rows, more = read_split(config, split, classifier.labels, multi_label, seed, numbers=numbers)
    return LoadedSplit(rows, notes + more)


def origin_of(classifier: Classifier) -> Origin:
    """Where the data of a model were when it was trained."""
    files = classifier.files
    try:
        return Origin.of(files.path, files.read_json(ENVIRONMENT) if files.has(ENVIRONMENT) else None)
    except InputError:
        return Origin(files.path)  # damaged; what it says is not needed where the data are in their place


def _own_split(classifier: Classifier, corpus: Corpus, split: str) -> Split:
    splits = corpus.splits()
    if split not in splits:
        raise InputError(
            f"the data have no {split} split; splits are: {', '.join(splits)}", Option("split", [*splits][-1])
        )
    if corpus.labels != classifier.config.labels:
        raise InputError(
            f"the data of this model have changed: their labels are {', '.join(corpus.labels)}, "
            f"those of the model {', '.join(classifier.config.labels)}"
        )
    return splits[split]


def _change_since_training(classifier: Classifier, rows: Split) -> str | None:
    """How a split differs from the one that environment.json records; None if it does not, or nothing is recorded."""
    if not classifier.files.has(ENVIRONMENT):
        return None
    try:
        dataset = classifier.files.read_json(ENVIRONMENT)["dataset"]
        recorded = dataset["splits"][rows.name]
        before, fingerprint = int(recorded["num_examples"]), recorded.get("sha256")
        pseudo_labelled = int(dataset.get("num_pseudo_labelled", 0)) if rows.name == "train" else 0
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if pseudo_labelled:
        # The record covers the rows that a teacher labelled as well, and they are not read again.
        before, fingerprint = before - pseudo_labelled, None
    if before != len(rows):
        return f"the {rows.name} split has changed since training: {before:,} rows then, {len(rows):,} now"
    if fingerprint not in (None, rows.fingerprint()):
        return (
            f"the {rows.name} split has changed since training: {before:,} rows then and now, "
            "but their texts, labels or order differ"
        )
    return None


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
    metrics = classifier.task.measure(
        rows.labels,
        classifier.logits_to_probabilities(logits),
        headline=(base and base.training.metric) or classifier.task.default_metric,
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
