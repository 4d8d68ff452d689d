"""Explanations of chemical formulas by element: of one formula, and on average over many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from textattn.explain.explanations import Explanation, explain_texts
from textattn.inference.classifier import Classifier
from textattn.inference.words import Word
from textattn.tokens.elements import SYMBOLS
from textattn.tokens.formulas import element_of

FORMULAS_AT_ONCE = 256


def by_element(explanation: Explanation) -> Explanation:
    """With one word for each element of a formula: its amount belongs to it, and so do its other places."""
    elements: dict[str, Word] = {}
    last = ""
    for word in explanation.words:
        other = word.text if word.text[:1].isalpha() or not last else last
        last = element_of(word.text) or other
        first = elements.get(last, replace(word, text=last, weight=0.0))
        elements[last] = replace(first, weight=first.weight + word.weight)
    return replace(explanation, words=list(elements.values()))


@dataclass(frozen=True)
class ElementMean:
    """What an element contributes to a label."""

    mean: float
    """Over the formulas that have it: the contribution of all its atoms together, for the label (positive) or against
    it, in nats."""
    num_texts: int
    """Formulas that have it."""


def element_means(
    classifier: Classifier,
    texts: Sequence[str],
    label: str,
    *,
    method: str | None = None,
    on_texts: Callable[[int], None] | None = None,
) -> dict[str, ElementMean]:
    """What each element contributes to a label on average, whatever the answers are: symbol -> mean.

    Elements in none of the formulas are left out, and so is what is no element.

    Args:
        method: how elements are weighed, by a method with signs; the default is that of the model.
        on_texts: called with the number of formulas done.

    Raises:
        ConfigError, InputError: as `Classifier.explain`.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for first in range(0, len(texts), FORMULAS_AT_ONCE):
        group = list(texts[first : first + FORMULAS_AT_ONCE])
        for explanation in explain_texts(classifier, group, method, target=label):
            for word in by_element(explanation).words:
                found[word.text].append(word.weight)
        if on_texts is not None:
            on_texts(first + len(group))
    return {
        symbol: ElementMean(sum(found[symbol]) / len(found[symbol]), len(found[symbol]))
        for symbol in SYMBOLS
        if symbol in found
    }
