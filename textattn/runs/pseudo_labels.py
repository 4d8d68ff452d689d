"""Label texts without labels by the predictions of an earlier run, and train on them as on texts labelled by people.

These are pseudo-labels (Lee 2013). If the earlier run has a better model, and the new model should be small, fast or
have more faithful attention, this is distillation (Hinton et al. 2015) on texts that nobody had to label.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.read import Corpus, Split
from textattn.data.texts import Texts
from textattn.errors import ConfigError
from textattn.inference.classifier import Classifier
from textattn.report import Report


def with_pseudo_labels(corpus: Corpus, teacher: Classifier, name: str, report: Report) -> Corpus:
    """Label the texts without labels and append them to the training split.

    Args:
        corpus: the texts with and without labels.
        teacher: the model that labels the texts.
        name: the name of the teacher, for messages.
        report: receives the progress.

    Raises:
        ConfigError: the teacher does not have the same labels or the same number of text columns.
    """
    _check(corpus, teacher, name)
    unlabelled = sum(map(len, corpus.unlabelled))
    tokens = teacher.tokenizer.encode(chain.from_iterable(corpus.unlabelled))
    with report.progress(f"Labels from {name}", unlabelled, "texts") as advance:
        probs = teacher.probabilities(tokens, advance)
    label_ids = [corpus.labels.index(label) for label in teacher.labels]
    found: NDArray[np.integer[Any]]
    if corpus.multi_label:
        found = np.zeros(probs.shape, corpus.train.labels.dtype)
        found[:, label_ids] = probs >= np.array(teacher.config.thresholds)
        counts = found.sum(axis=0)
    else:
        found = np.array(label_ids, corpus.train.labels.dtype)[teacher.task.top(probs)]
        counts = np.bincount(found, minlength=len(label_ids))
    evidence = corpus.train.evidence and [*corpus.train.evidence, *[None] * unlabelled]
    info = corpus.train.info and corpus.train.info.followed_by(unlabelled, "unlabelled")
    texts = Texts.of(chain(corpus.train, *corpus.unlabelled))
    each = ", ".join(f"{label} {count:,}" for label, count in zip(corpus.labels, counts, strict=True))
    return replace(
        corpus,
        train=Split("train", texts, np.concatenate([corpus.train.labels, found]), evidence, info),
        unlabelled=[],
        num_pseudo_labelled=unlabelled,
        notes=[*corpus.notes, f"{unlabelled:,} texts without labels were labelled by {name}: {each}"],
    )


def _check(corpus: Corpus, teacher: Classifier, name: str) -> None:
    if sorted(teacher.labels) != sorted(corpus.labels):
        raise ConfigError(
            f"{name} predicts the labels {', '.join(teacher.labels)}, "
            f"but the labels of the data are {', '.join(corpus.labels)}",
            setting="data.teacher",
        )
    if teacher.config.multi_label != corpus.multi_label:
        one, several = "one label per text", "several labels per text"
        raise ConfigError(
            f"{name} predicts {several if teacher.config.multi_label else one}, "
            f"but the data have {several if corpus.multi_label else one}",
            setting="data.teacher",
        )
    if teacher.tokenizer.num_segments != corpus.num_segments:
        raise ConfigError(
            f"{name} reads texts from {_columns(teacher.tokenizer.num_segments)}, "
            f"but data.text names {_columns(corpus.num_segments)}",
            setting="data.teacher",
        )


def _columns(number: int) -> str:
    return f"{number} column{'s' * (number != 1)}"
