"""The words that carry each label over many texts, with the texts that speak against them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from textattn.explain.explanations import explain_texts
from textattn.inference.classifier import Classifier
from textattn.inference.words import Word
from textattn.tokens.formulas import element_of

# A word in fewer texts is chance.
LEAST_TEXTS = 3
TEXTS_AT_ONCE = 64
SNIPPET = 60
# Of a word's occurrences, the share that stand between the same two neighbours, from which on it is a fixed phrase.
BOILERPLATE = 0.8
_ID = re.compile(
    r"https?:|www\.|\S+@\S+\.\S+|\w*\d\w*[a-z]\w*\d\w*|[0-9a-f]{8,}|\d{5,}|[\w-]+\.(?:com|org|net|html?|jpg|png)", re.I
)
_MARKUP = re.compile(r"</?\w+|/>|&\w+;|\bbr\b", re.I)


@dataclass
class Entry:
    """A word for one label."""

    word: str
    """In lower case; an element without its amount."""
    score: float
    """Mean over the texts that have it and got the label: of all its occurrences in a text, together."""
    low: float
    """Lower end of the 95 % interval of that mean; words are ranked by it."""
    num_texts: int
    """Texts that have it and got the label."""
    num_against: int
    """Texts that have it and have another true label, whatever answer they got."""
    num_with: int
    """Texts that have it and a true label."""
    counter_example: str
    """The word in such a text, with some of what stands around it; "" if there is none."""
    suspect: str
    """Why it may be no reason: `punctuation`, `number`, `id or address`, `markup`, `fixed phrase`, or ""."""


@dataclass
class _Seen:
    scores: list[float] = field(default_factory=list)
    neighbours: Counter[tuple[str, str]] = field(default_factory=Counter)


def lexicon(
    classifier: Classifier,
    texts: Sequence[str],
    golds: Sequence[Sequence[str]],
    *,
    method: str | None = None,
    top: int = 20,
    on_texts: Callable[[int], None] | None = None,
) -> dict[str, list[Entry]]:
    """For each label the words that count most for it, in the texts that got it.

    Of a model that predicts numbers there are two lists: the words that raise the number, and those that lower it.

    Args:
        golds: the true labels of each text; empty where they are not known.
        method: how words are weighed; the default is that of the model, for most models their contribution to the
            label. Attention is the same for every label: its words are those the model looked at.
        top: words for each label.
        on_texts: called with the number of texts done.

    Raises:
        ConfigError, InputError: as `Classifier.explain`.
    """

    def weighed() -> Iterator[WeighedText]:
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            group = list(texts[first : first + TEXTS_AT_ONCE])
            for explanation in explain_texts(classifier, group, method):
                yield WeighedText(explanation.prediction.label, explanation.words, explanation.signed)
            if on_texts is not None:
                on_texts(first + len(group))

    return lexicon_of(weighed(), texts, golds, classifier, top=top)


class WeighedText(NamedTuple):
    """A text whose words have been weighed."""

    label: str
    """The label it got."""
    words: Sequence[Word]
    signed: bool
    """Whether weights are for the label or against it; if not, they are shares of attention."""


def lexicon_of(
    weighed: Iterable[WeighedText],
    texts: Sequence[str],
    golds: Sequence[Sequence[str]],
    classifier: Classifier,
    *,
    top: int,
) -> dict[str, list[Entry]]:
    """The same as `lexicon`, of texts whose words have been weighed already."""
    target = classifier.config.target
    labels = classifier.labels if target is None else [f"{side} {classifier.labels[0]}" for side in ("higher", "lower")]
    if target is not None:
        golds = [[labels[float(number) < target.mean] for number in gold] for gold in golds]
    seen: dict[str, dict[str, _Seen]] = {label: defaultdict(_Seen) for label in labels}
    texts_with: dict[str, list[int]] = defaultdict(list)
    formulas = classifier.tokenizer.reads_formulas
    for number, text in enumerate(weighed):
        sums: dict[str, float] = defaultdict(float)
        own = [text.label] if target is None else labels
        for word, score, neighbours in _words(text, formulas):
            sums[word] += score
            for label in own:
                seen[label][word].neighbours[neighbours] += 1
        for word, total in sums.items():
            for label, signed in zip(own, (total, -total), strict=False):
                seen[label][word].scores.append(signed)
            texts_with[word].append(number)
    found: dict[str, list[Entry]] = {}
    for label, words in seen.items():
        against = {number for number, gold in enumerate(golds) if label not in gold}
        found[label] = []
        for word, scores in _strongest(words, top):
            rows = texts_with[word]
            examples = [_snippet(texts[row], word) for row in rows if row in against]
            suspect = "" if formulas else _suspect(word, scores)
            found[label].append(_entry(word, scores, examples, len(rows) if golds else 0, suspect))
    return found


def _words(text: WeighedText, formulas: bool) -> Iterator[tuple[str, float, tuple[str, str]]]:
    """Word, score, and the words before and after it. Attention counts from an equal share on."""
    words = [word for word in text.words if word.text.strip()]
    # Co is no CO; and O2, O3 and O are one element.
    names = [element_of(word.text) or word.text if formulas else word.text.casefold() for word in words]
    names = ["", *names, ""]
    share = 0.0 if text.signed else 1 / max(len(words), 1)
    for i, word in enumerate(words):
        yield names[i + 1], word.weight - share, (names[i], names[i + 2])


def _strongest(words: dict[str, _Seen], top: int) -> list[tuple[str, _Seen]]:
    often = [(word, found) for word, found in words.items() if len(found.scores) >= LEAST_TEXTS]
    ranked = sorted(often, key=lambda item: (-_low(item[1].scores), item[0]))
    return [(word, found) for word, found in ranked[:top] if _low(found.scores) > 0]


def _low(scores: Sequence[float]) -> float:
    return float(np.mean(scores) - 1.96 * np.std(scores, ddof=1) / np.sqrt(len(scores)))


def _entry(word: str, found: _Seen, counter_examples: Sequence[str], num_with: int, suspect: str) -> Entry:
    return Entry(
        word=word,
        score=float(np.mean(found.scores)),
        low=_low(found.scores),
        num_texts=len(found.scores),
        num_against=len(counter_examples),
        num_with=num_with,
        counter_example=counter_examples[0] if counter_examples else "",
        suspect=suspect,
    )


def _suspect(word: str, found: _Seen) -> str:
    if _MARKUP.fullmatch(word):
        return "markup"
    if not any(character.isalnum() for character in word):
        # Pictures are no words either, but they are meant.
        return "" if any(ord(character) > 0x2FFF for character in word) else "punctuation"
    if _ID.fullmatch(word):
        return "id or address"
    if all(character.isdigit() or not character.isalnum() for character in word):
        return "number"
    total = sum(found.neighbours.values())
    if found.neighbours.most_common(1)[0][1] >= BOILERPLATE * total and total >= LEAST_TEXTS:
        return "fixed phrase"
    return ""


def _snippet(text: str, word: str) -> str:
    position = max(text.casefold().find(word), 0)
    start, end = max(0, position - SNIPPET // 2), position + len(word) + SNIPPET // 2
    shown = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}"
