"""Why a model answered as it did: each word of a text with how much it counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from textattn.errors import ConfigError
from textattn.explain.methods import UNSIGNED, attribute, check_method
from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier, Prediction, Text
from textattn.inference.words import Word, find_words


@dataclass(frozen=True)
class Explanation:
    """The answer for one text, and how much each token and word counted for it."""

    text: str
    prediction: Prediction
    target: str
    """The label that is explained."""
    against: str | None
    """The label it is explained against; None: all others."""
    method: str
    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Characters of `text`, half-open, for each token."""
    weights: list[float]
    """For each token. Attention: shares that sum to 1; else for the target (positive) or against it (negative)."""
    words: list[Word]
    """Tokens put together to words, with the sums of their weights."""
    truncated: bool
    """Whether part of the text was not read."""
    completeness_error: float | None = None
    """Integrated gradients: how far the weights' sum is from the change they stand for, as a share of it."""

    @property
    def signed(self) -> bool:
        """Whether weights are for the target or against it."""
        return self.method not in UNSIGNED


def explain_texts(
    classifier: Classifier,
    texts: Text | Iterable[Text],
    method: str = "attention",
    target: str | None = None,
    against: str | None = None,
    seed: int = 0,
) -> list[Explanation]:
    """Explanations of texts.

    Args:
        target: the label to explain; default: the predicted one, of each text.
        against: explain the target rather than this label.

    Raises:
        ConfigError: unknown method or label, the method does not apply to this model, or the label explained, which
            may be the predicted one, is `against`.
        InputError: the method needs PyTorch weights and the model has none.
    """
    check_method(method)
    texts = classifier.normalise(texts)
    labels = classifier.config.labels
    for name in (target, against):
        if name is not None and name not in labels:
            raise ConfigError(f"unknown label {name!r}; labels are: {', '.join(labels)}")
    if against is not None and target == against:
        raise ConfigError(f"a label cannot be explained against itself: {target!r}")
    tokens = classifier.tokenizer.encode(texts)
    tokenized = classifier.tokenizer.encode_with_offsets(texts)
    spans = [find_words(text, row) for text, row in zip(texts, tokenized, strict=True)]
    probs = classifier.probabilities(tokens)
    predictions = [classifier.prediction(row) for row in probs]
    explained = [target or prediction.label for prediction in predictions]
    if against in explained:
        raise ConfigError(
            f"the answer is {against!r} itself, which cannot be explained against {against!r}",
            f"--contrast {next(label for label in labels if label != against)} {against}",
        )
    targets = Targets(
        np.array([labels.index(name) for name in explained], np.int64),
        None if against is None else labels.index(against),
        classifier.config.output,
    )
    given = attribute(classifier, tokens, targets, method, [span.word_of for span in spans], seed=seed)
    errors = given.completeness_error
    return [
        Explanation(
            text=text,
            prediction=prediction,
            target=name,
            against=against,
            method=method,
            tokens=row.tokens,
            offsets=row.offsets,
            weights=[float(weight) for weight in scores],
            words=span.words(text, scores.tolist()),
            truncated=row.truncated,
            completeness_error=None if errors is None else float(errors[number]),
        )
        for number, (text, prediction, name, row, span, scores) in enumerate(
            zip(texts, predictions, explained, tokenized, spans, given.scores, strict=True)
        )
    ]
