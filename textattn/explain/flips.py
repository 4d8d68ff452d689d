"""What would have to be taken out of a text for the answer to be another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from textattn.explain.erasure import erase, logits_of
from textattn.explain.explanations import AnsweredTexts
from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier, Prediction, Text
from textattn.inference.words import Word

# Pairs of words that are all tried; with more of them the pairs are found like larger sets.
MOST_PAIRS = 5_000


@dataclass(frozen=True)
class Flip:
    """Words whose removal changes the answer."""

    words: list[Word]
    """In the order of the text; weight is how far the log-odds fall without this word alone."""
    prediction: Prediction
    """The answer without them: the model was run again on just that."""
    is_smallest: bool
    """Whether every smaller set was tried. Otherwise: no word of the set can be left out of it."""


def find_flip(classifier: Classifier, text: Text) -> Flip | None:
    """A smallest set of words without which the answer is another one; None where not even an empty text changes it.

    Single words and, in texts that are not too long, pairs are all tried. Beyond that, words are taken out one by one,
    each time the one that matters most of those left, until the answer changes; then words that turned out not to be
    needed are put back. A multi-label answer is the set of its labels.
    """
    return find_flip_of(AnsweredTexts.of(classifier, [text]), 0)


def find_flip_of(answered: AnsweredTexts, row: int) -> Flip | None:
    """`find_flip` for one of several texts that the model has answered."""
    search = _Search(answered, row)
    count = len(search.words)
    if count == 0:
        return None
    singles = [(word,) for word in range(count)]
    found = search.first(singles)
    if found is not None:
        return search.flip(found, is_smallest=True)
    few = count * (count - 1) // 2 <= MOST_PAIRS
    if few and (pair := search.first(list(combinations(range(count), 2)))) is not None:
        return search.flip(pair, is_smallest=True)
    taken = search.greedily()
    if taken is None:
        return None
    taken = search.without_idle(taken)
    return search.flip(taken, is_smallest=len(taken) <= (3 if few else 2))


class _Search:
    """One text, its answer, and the answers without some of its words."""

    def __init__(self, answered: AnsweredTexts, row: int) -> None:
        self.classifier = answered.forward.classifier
        self.text = answered.texts[row]
        self.spans = answered.spans[row]
        # What has no extent in the text cannot be taken out of it.
        self.words = [word for word, (start, end) in enumerate(self.spans.spans) if self.text[start:end].strip()]
        self.ids = answered.forward.ids[row]
        self.answer = answered.predictions[row]
        top = self.classifier.labels.index(self.answer.label)
        self.targets = Targets(np.array([top]), self.classifier.task)
        self.whole = float(self.targets.log_odds(answered.forward.logits[row : row + 1])[0])

    def first(self, sets: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
        """Of the sets that change the answer the one after which the old answer is least likely."""
        odds, answers = self._without(sets)
        flipped = [number for number, answer in enumerate(answers) if answer.labels != self.answer.labels]
        return sets[min(flipped, key=lambda number: odds[number])] if flipped else None

    def greedily(self) -> tuple[int, ...] | None:
        taken: tuple[int, ...] = ()
        while len(taken) < len(self.words):
            sets = [(*taken, word) for word in range(len(self.words)) if word not in taken]
            odds, answers = self._without(sets)
            best = int(np.argmin(odds))
            taken = sets[best]
            if answers[best].labels != self.answer.labels:
                return taken
        return None

    def without_idle(self, taken: tuple[int, ...]) -> tuple[int, ...]:
        """As few of the words as still change the answer: none of those left can be put back."""
        while len(taken) > 1:
            fewer = [tuple(other for other in taken if other != word) for word in taken]
            found = self.first(fewer)
            if found is None:
                break
            taken = found
        return taken

    def flip(self, taken: tuple[int, ...], *, is_smallest: bool) -> Flip:
        odds, _ = self._without([(word,) for word in taken])
        _, (answer,) = self._without([taken])
        words = []
        for word, value in sorted(zip(taken, odds, strict=True)):
            start, end = self.spans.spans[self.words[word]]
            words.append(Word(self.text[start:end], start, end, self.whole - value))
        return Flip(words, answer, is_smallest)

    def _without(self, sets: Sequence[tuple[int, ...]]) -> tuple[list[float], list[Prediction]]:
        """Log-odds of the old answer, and the new answer, without the words of each set."""
        unk_id = self.classifier.tokenizer.unk_id
        rows = (erase(self.ids, self._kept(words), unk_id) for words in sets)
        logits = logits_of(self.classifier, rows)
        return self.targets.take([0] * len(sets)).log_odds(logits).tolist(), self._answers(logits)

    def _kept(self, words: tuple[int, ...]) -> NDArray[np.bool_]:
        return ~np.isin(self.spans.word_of, [self.words[word] for word in words])

    def _answers(self, logits: NDArray[np.float32]) -> list[Prediction]:
        return [self.classifier.prediction(row) for row in self.classifier.logits_to_probabilities(logits)]
