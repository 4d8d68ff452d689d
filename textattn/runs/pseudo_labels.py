"""Labels for texts without any: the answers of an earlier run, to be learnt from like those of people.

Pseudo-labels (Lee 2013). Where that run has the better model, and this one's shall be small, fast or true to its
attention, this is distillation (Hinton et al. 2015) on texts that nobody had to label.
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
    """The same corpus, its texts without labels at the end of the training split.

    Args:
        name: of the teacher, for messages.

    Raises:
        ConfigError: the teacher has other labels, or reads other texts.
    """
    _check(corpus, teacher, name)
    unlabelled = sum(map(len, corpus.unlabelled))
    tokens = teacher.tokenizer.encode(chain.from_iterable(corpus.unlabelled))
    with report.progress(f"Labels from {name}", unlabelled, "texts") as advance:
        probs = teacher.probabilities(tokens, advance)
    own = [corpus.labels.index(label) for label in teacher.labels]
    found: NDArray[np.integer[Any]]
    if corpus.multi_label:
        found = np.zeros(probs.shape, corpus.train.labels.dtype)
        found[:, own] = probs >= np.array(teacher.config.thresholds)
        counts = found.sum(axis=0)
    else:
        found = np.array(own, corpus.train.labels.dtype)[probs.argmax(axis=1)]
        counts = np.bincount(found, minlength=len(own))
    evidence = corpus.train.evidence and [*corpus.train.evidence, *[None] * unlabelled]
    texts = Texts.of(chain(corpus.train, *corpus.unlabelled))
    each = ", ".join(f"{label} {count:,}" for label, count in zip(corpus.labels, counts, strict=True))
    return replace(
        corpus,
        train=Split("train", texts, np.concatenate([corpus.train.labels, found]), evidence),
        unlabelled=[],
        num_pseudo_labelled=unlabelled,
        notes=[*corpus.notes, f"{unlabelled:,} texts without labels have those that {name} gives them: {each}"],
    )


def _check(corpus: Corpus, teacher: Classifier, name: str) -> None:
    if sorted(teacher.labels) != sorted(corpus.labels):
        raise ConfigError(
            f"data.teacher: {name} knows the labels {', '.join(teacher.labels)}, "
            f"but those of the data are {', '.join(corpus.labels)}"
        )
    if teacher.config.multi_label != corpus.multi_label:
        one, several = "one label a text", "several labels a text"
        raise ConfigError(
            f"data.teacher: {name} gives {several if teacher.config.multi_label else one}, "
            f"but the data have {several if corpus.multi_label else one}"
        )
    if teacher.tokenizer.num_segments != corpus.num_segments:
        raise ConfigError(
            f"data.teacher: {name} reads texts of {teacher.tokenizer.num_segments} columns, "
            f"but data.text names {corpus.num_segments}"
        )
