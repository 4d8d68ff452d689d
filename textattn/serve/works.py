"""What the server computes of texts; see `textattn.serve.batching.Work`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textattn.explain.explanations import AnsweredTexts, Explanation, Question
from textattn.inference.classifier import Prediction
from textattn.serve.models import ServedModel


@dataclass(frozen=True)
class Predict:
    """Labels and probabilities."""

    served: ServedModel
    min_score: float = 0.0
    kind = "predict"

    def run(self, texts: Sequence[str]) -> list[Prediction]:
        """A prediction for each text."""
        model = self.served.model
        rows = model.normalise(texts)
        tokens = model.tokenizer.encode(rows)
        probs = model.probabilities(tokens)
        if self.served.drift is not None:
            self.served.drift.add(tokens, probs)
        return model.predictions(rows, tokens, probs, self.min_score)


@dataclass(frozen=True)
class Explain:
    """What each word counted."""

    served: ServedModel
    question: Question
    kind = "explain"

    def run(self, texts: Sequence[str]) -> list[Explanation]:
        """An explanation of each text."""
        return AnsweredTexts.of(self.served.model, texts).explain(self.question)


@dataclass(frozen=True)
class Embed:
    """The pooled vectors."""

    served: ServedModel
    kind = "embed"

    def run(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """(context_dim,) for each text."""
        return list(self.served.model.embed(texts))
