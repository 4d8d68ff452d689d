"""The answers to many texts as columns of a table: their names, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.inference.classifier import Classifier, Prediction
from textattn.storage.model_files import SavedConfig
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from textattn.data.formats import Column

# In front of a column name of ours that the input already uses.
PREFIX = "predicted_"


def answer_names(config: SavedConfig) -> list[str]:
    """The columns of the answers, in the order of `Answers.values`."""
    if config.target is not None:
        return [f"{PREFIX}{config.labels[0]}", "low", "high"]
    names = ["label", "score", *(["labels"] if config.multi_label else [])]
    return names + [f"score:{label}" for label in config.labels]


class Answers:
    """The answers to some texts."""

    def __init__(
        self,
        classifier: Classifier,
        texts: Sequence[str],
        tokens: TokenArrays,
        probs: NDArray[np.float64],
        min_score: float = 0.0,
    ) -> None:
        """Create the object; the values are computed when they are asked for.

        Args:
            classifier: the model.
            texts: the texts.
            tokens: their tokens.
            probs: (texts, labels) probabilities, or (texts, 1) numbers.
            min_score: no label is given that is less probable.
        """
        self.classifier, self.texts, self.tokens, self.probs = classifier, texts, tokens, probs
        self.min_score = min_score

    @classmethod
    def of(cls, classifier: Classifier, texts: Sequence[str], min_score: float = 0.0) -> Answers:
        """The answers to texts that were checked by `Classifier.normalise`."""
        tokens = classifier.tokenizer.encode(texts)
        return cls(classifier, texts, tokens, classifier.probabilities(tokens), min_score)

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """(texts,) whether each text is of the kind that the model reads."""
        return np.fromiter(map(self.classifier.tokenizer.can_read, self.texts), np.bool_, len(self.texts))

    @property
    def num_unreadable(self) -> int:
        """How many texts are not of the kind that the model reads."""
        return int(np.count_nonzero(~self.readable))

    @property
    def num_unsure(self) -> int:
        """How many texts have no label that is probable enough."""
        is_number = self.classifier.config.target is not None
        return 0 if is_number else int(np.count_nonzero(self._top_scores() < self.min_score))

    def predictions(self) -> list[Prediction]:
        """The answers one by one."""
        return self.classifier.predictions(self.texts, self.tokens, self.probs, self.min_score)

    def values(self) -> list[Column]:
        """The columns named by `answer_names`; None, or a missing label, where there is no answer."""
        config, probs = self.classifier.config, self.probs
        if config.target is not None:
            numbers = np.where(self.readable, probs[:, 0], np.nan)
            margin = np.nan if config.target.margin is None else config.target.margin
            return [_without_nan(column) for column in (numbers, numbers - margin, numbers + margin)]
        scores = self._top_scores()
        sure = (scores >= self.min_score) & self.readable
        top = self.classifier.task.top(probs)
        labels = [config.labels[i] if is_sure else None for i, is_sure in zip(top, sure, strict=True)]
        several: list[Column] = [[prediction.labels for prediction in self.predictions()]] if config.multi_label else []
        return [labels, scores, *several, *(probs[:, i] for i in range(probs.shape[1]))]

    def _top_scores(self) -> NDArray[np.float64]:
        return self.probs[np.arange(len(self.probs)), self.classifier.task.top(self.probs)]


def _without_nan(numbers: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(number) else number for number in numbers.tolist()]
