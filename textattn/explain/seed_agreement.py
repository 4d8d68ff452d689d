"""Agreement of models trained with different seeds: do they show the same words?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.explain.audit_measures import jensen_shannon, kendall_tau, order_by, top_overlap
from textattn.explain.audit_results import SeedAgreement
from textattn.explain.explanations import AnsweredTexts, Explanation, Question
from textattn.inference.classifier import Classifier

if TYPE_CHECKING:
    from textattn.data.read import Split


def seed_agreement(classifiers: Sequence[Classifier], split: Split) -> SeedAgreement:
    """Compares the contributions, the attention and the answers of every pair of models on the same texts.

    Contributions are to the answer, so they are compared where both models give the same. They are left out if a model
    cannot divide its answers, and attention is left out if a model is a linear model alone.

    Raises:
        InputError: the models differ in their labels, or in the words they cut texts into.
    """
    first = classifiers[0]
    for other in classifiers[1:]:
        if sorted(other.labels) != sorted(first.labels):
            raise InputError(
                f"{other.path}: its labels are {', '.join(other.labels)}, those of {first.path} "
                f"{', '.join(first.labels)}"
            )
    texts = list(split)
    divided = all(classifier.dividing_session is not None for classifier in classifiers)
    answered = [AnsweredTexts.of(classifier, texts) for classifier in classifiers]
    have_attention = all(classifier.config.has_network for classifier in classifiers)
    # A linear model alone can be divided.
    shown = [answers.explain(Question("attention" if have_attention else None)) for answers in answered]
    explained = [answers.explain(Question("contributions")) for answers in answered] if divided else []
    attention, contributions = _Pairs(), _Pairs()
    divergences, equal = [], []
    for a, b in combinations(range(len(classifiers)), 2):
        for row, (one, two) in enumerate(zip(shown[a], shown[b], strict=True)):
            if [(w.start, w.end) for w in one.words] != [(w.start, w.end) for w in two.words]:
                raise InputError(
                    f"{classifiers[b].path}: cuts texts into other words than {classifiers[a].path}; "
                    "compare runs of one config with several seeds"
                )
            p, q = _weights(one), _weights(two)
            if have_attention:
                attention.add(p, q)
                divergences.append(jensen_shannon(p, q))
            answers = [_answer(classifiers[at], found) for at, found in ((a, one), (b, two))]
            equal.append(answers[0] == answers[1])
            if divided and one.prediction.label == two.prediction.label:
                contributions.add(_weights(explained[a][row]), _weights(explained[b][row]))
    return SeedAgreement(
        num_models=len(classifiers),
        attention_tau=attention.tau,
        attention_overlap=attention.overlap,
        attention_jensen_shannon=float(np.mean(divergences)) if divergences else None,
        contributions_tau=contributions.tau,
        contributions_overlap=contributions.overlap,
        equal_answers=float(np.mean(equal)),
    )


class _Pairs:
    """What two models say of the words of the same text, for many texts."""

    def __init__(self) -> None:
        self.taus: list[float] = []
        self.overlaps: list[float] = []
        self.generator = np.random.default_rng(0)

    def add(self, p: NDArray[np.float64], q: NDArray[np.float64]) -> None:
        """Compares the scores of the words of one text."""
        self.taus.append(kendall_tau(p, q))
        self.overlaps.append(top_overlap(order_by(p, self.generator), order_by(q, self.generator)))

    @property
    def tau(self) -> float | None:
        """Mean over the texts whose words do not all have the same score; None without any."""
        return None if np.isnan(self.taus).all() else float(np.nanmean(self.taus))

    @property
    def overlap(self) -> float | None:
        """Mean over all texts; None without any."""
        return float(np.mean(self.overlaps)) if self.overlaps else None


def _weights(explanation: Explanation) -> NDArray[np.float64]:
    return np.array([word.weight for word in explanation.words])


def _answer(classifier: Classifier, explanation: Explanation) -> object:
    """What must be equal for two answers to count as the same: the labels, or the side of the mean of a number."""
    prediction = explanation.prediction
    return classifier.task.top(np.array([prediction.score])) if prediction.is_number else prediction.labels
