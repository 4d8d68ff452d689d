"""Agreement of models trained with different seeds: do they attend to the same words?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from textattn.errors import InputError
from textattn.explain.audit_measures import jensen_shannon, kendall_tau
from textattn.explain.audit_results import SeedAgreement
from textattn.explain.explanations import explain_texts
from textattn.inference.classifier import Classifier

if TYPE_CHECKING:
    from textattn.data.read import Split


def seed_agreement(classifiers: Sequence[Classifier], split: Split) -> SeedAgreement:
    """Compares the attention and the answers of every pair of models on the same texts.

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
    explained = [explain_texts(classifier, texts, "attention") for classifier in classifiers]
    taus, divergences, equal = [], [], []
    for a, b in combinations(range(len(classifiers)), 2):
        for one, two in zip(explained[a], explained[b], strict=True):
            if [(w.start, w.end) for w in one.words] != [(w.start, w.end) for w in two.words]:
                raise InputError(
                    f"{classifiers[b].path}: cuts texts into other words than {classifiers[a].path}; "
                    "compare runs of one config with several seeds"
                )
            p, q = (np.array([word.weight for word in e.words]) for e in (one, two))
            taus.append(kendall_tau(p, q))
            divergences.append(jensen_shannon(p, q))
            equal.append(one.prediction.labels == two.prediction.labels)
    return SeedAgreement(
        num_models=len(classifiers),
        attention_tau=float(np.nanmean(taus)) if not np.isnan(taus).all() else None,
        attention_jensen_shannon=float(np.mean(divergences)),
        equal_answers=float(np.mean(equal)),
    )
