"""Which texts of a pool to label next: those that the model is unsure of, unlike one another and unlike the labelled.

The pool may have any size. While its texts come in, only the most uncertain of them are kept, a few for each one that
is wanted; only these are then embedded. Of them, one after the other is chosen: the one whose vector is farthest from
those of all texts that are labelled or chosen already. `scripts/active.py` compares this with other rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from textattn.data.read import read_corpus
from textattn.data.sources import open_hub
from textattn.data.splits import prepare_splits
from textattn.errors import InputError, TextattnError
from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import origin_of, training_config
from textattn.measure.diverse import distances_to, farthest_first
from textattn.storage.run_dir import TRAINING_CONFIG

# Candidates for each text that is wanted.
CANDIDATES = 5
# Texts that are answered or embedded together.
WINDOW = 8192
# To so many decimals, what a text is answered does not depend on the texts beside it.
DECIMALS = 5


@dataclass(frozen=True)
class UsefulText:
    """A text that is worth a label."""

    index: int
    """Its place among the texts of the pool, from 0."""
    text: str
    uncertainty: float
    """In nats, see `Task.uncertainty`."""
    distance: float
    """How far its vector is from the nearest one of a text that is labelled or was chosen before; infinite if there is
    none."""


class Labelled:
    """Texts that have a label already."""

    def __init__(self, texts: Iterable[str] = (), others: Iterable[str] = ()) -> None:
        """
        Args:
            texts: those that new texts should be unlike; they are read more than once.
            others: more texts that are not to be chosen, such as those of the test split.
        """
        self.texts = texts
        self._digests = {digest(text) for part in (texts, others) for text in part}

    def and_also(self, texts: Iterable[str]) -> Labelled:
        """The same with more texts that new ones should be unlike; what is there is not read again."""
        more = list(texts)
        both = Labelled()
        both.texts = _Chain(self.texts, more)
        both._digests = self._digests | {digest(text) for text in more}
        return both

    def __contains__(self, text: str) -> bool:
        return digest(text) in self._digests


@dataclass(frozen=True)
class _Chain:
    """Texts and after them others, read as often as wanted."""

    first: Iterable[str]
    second: Iterable[str]

    def __iter__(self) -> Iterator[str]:
        yield from self.first
        yield from self.second


def digest(text: str) -> int:
    """A number that tells texts apart, and that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def own_texts(classifier: Classifier) -> Labelled:
    """The texts that the model was trained, selected and tested on.

    Raises:
        TextattnError: they cannot be read.
    """
    config = training_config(classifier)
    if config is None:
        raise InputError(f"{classifier.files.where(TRAINING_CONFIG)}: missing, so the training data are unknown")
    data = origin_of(classifier).locate(config.data.model_copy(update={"unlabelled": None, "teacher": None}))
    numbers = classifier.config.target is not None
    corpus = read_corpus(data, open_hub(data, config.seed), numbers=numbers)
    splits = prepare_splits(corpus, data, config.seed).splits()
    return Labelled(splits["train"].texts, (text for name, rows in splits.items() if name != "train" for text in rows))


class Chooser:
    """Takes the texts of a pool and chooses some of them. Equal texts count once."""

    def __init__(self, classifier: Classifier, number: int, labelled: Labelled) -> None:
        """
        Args:
            number: how many texts are wanted.
            labelled: texts that are labelled.
        """
        self.classifier, self.number, self.labelled = classifier, number, labelled
        self.seen = 0
        """Texts that came in."""
        self._kept: list[tuple[float, int, int, str]] = []  # less the uncertainty, digest, index, text

    def add(self, texts: Sequence[str]) -> None:
        """The next texts of the pool."""
        classifier = self.classifier
        texts = classifier.normalise(texts)
        uncertainty = classifier.task.uncertainty(classifier.probabilities(classifier.tokenizer.encode(texts)))
        new = [
            (-round(float(value), DECIMALS), digest(text), index, text)
            for index, (text, value) in enumerate(zip(texts, uncertainty, strict=True), self.seen)
        ]
        self.seen += len(texts)
        room = CANDIDATES * self.number
        if len(self._kept) == room:
            new = [one for one in new if one < self._kept[-1]]
        usable = (one for one in new if one[3] not in self.labelled and classifier.tokenizer.can_read(one[3]))
        # The first of equal texts comes first, and is kept.
        unique: dict[str, tuple[float, int, int, str]] = {}
        for one in sorted([*self._kept, *usable]):
            unique.setdefault(one[3], one)
        self._kept = list(islice(unique.values(), room))

    def choose(self) -> list[UsefulText]:
        """The most useful of the texts that came in, the most useful first; fewer if there are no more."""
        texts = [text for *_, text in self._kept]
        if not texts:
            return []
        vectors = self.classifier.embed(texts)
        distances = np.full(len(texts), np.inf)
        for part in windows(self.labelled.texts):
            distances = np.minimum(distances, distances_to(vectors, self.classifier.embed(part)))
        rows, at = farthest_first(vectors, self.number, distances)
        return [
            UsefulText(self._kept[row][2], texts[row], 0.0 - self._kept[row][0], float(distance))
            for row, distance in zip(rows, at, strict=True)
        ]


def windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in groups that are answered together."""
    rest = iter(texts)
    while window := list(islice(rest, WINDOW)):
        yield window


def most_useful(
    classifier: Classifier, texts: Iterable[str], number: int, labelled: Labelled | None = None
) -> list[UsefulText]:
    """Choose from texts that are in memory, see `Chooser`."""
    chooser = Chooser(classifier, number, labelled or Labelled())
    for window in windows(texts):
        chooser.add(window)
    return chooser.choose()


def labelled_or_note(classifier: Classifier) -> tuple[Labelled, str | None]:
    """The texts of the model's own data, or none and a note that says why."""
    try:
        return own_texts(classifier), None
    except TextattnError as error:
        return Labelled(), f"the training data cannot be read, so texts like them may be chosen: {error.message}"
