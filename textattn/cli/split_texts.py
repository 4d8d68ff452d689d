"""Texts of a split of the model's own data, for `explain --split` and `words`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with what is known about them."""

    texts: Sequence[str]
    golds: Sequence[Sequence[str]] = ()
    """The true labels of each text; empty where they are not known."""
    evidence: Sequence[Sequence[tuple[int, int]]] = ()
    """Characters that people marked in each text, half-open; empty where nobody did."""


def texts_of_split(classifier: Classifier, name: str, examples: int) -> LabelledTexts:
    """Some texts of a split, in its order.

    Args:
        examples: the largest number of texts; from a larger split they are drawn at random with a fixed seed.

    Raises:
        ConfigError, InputError: as for `evaluate`.
    """
    import numpy as np

    from textattn.cli.progress import ConsoleReport
    from textattn.inference.evaluation import load_split

    rows = load_split(classifier, None, name, {}, ConsoleReport().note)
    if len(rows) > examples:
        rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:examples]))
    golds = classifier.task.names(rows.labels)
    evidence = [[] if spans is None else [(int(a), int(b)) for a, b in spans] for spans in rows.evidence or []]
    return LabelledTexts(list(rows), golds, evidence)
