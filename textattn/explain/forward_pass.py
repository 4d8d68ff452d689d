"""Texts that a model has answered once, and what the pass gave: all explanation methods start from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.explain.erasure import leave_one_out, pack, rows_of
from textattn.inference.classifier import Classifier
from textattn.inference.session import Floats, Outputs, run_in_batches
from textattn.tokens.token_arrays import TokenArrays


class TokenContributions(NamedTuple):
    """The logits of texts divided among their tokens; see `TextClassifier.contributions`."""

    total: Sequence[Floats]
    """(tokens, num_outputs) for each text."""
    ngrams: Sequence[Floats] | None
    """The part of the n-grams in them; None for a model without n-grams."""

    def first(self, count: int) -> TokenContributions:
        """Those of the first `count` texts."""
        return TokenContributions(self.total[:count], None if self.ngrams is None else self.ngrams[:count])


class ForwardPass:
    """One forward pass over some texts: the tokens that went in, the logits and attention weights that came out."""

    def __init__(
        self,
        classifier: Classifier,
        tokens: TokenArrays,
        words: Sequence[NDArray[np.int64]],
        logits: Floats,
        attention_weights: Sequence[Floats],
        context: Floats,
        contributions: TokenContributions | None = None,
    ) -> None:
        """Keeps the results of a pass; `run` makes one.

        Args:
            words: (tokens,) for each text, the word of each token, numbered from 0. Methods that erase words erase all
                tokens of a word at a time.
            logits: (rows, num_outputs), before calibration.
            attention_weights: (tokens,) for each text, the mean over heads.
            context: (rows, context_dim) the pooled vectors.
            contributions: default: computed when they are asked for.
        """
        self.classifier = classifier
        self.tokens = tokens
        self.words = words
        self.logits = logits
        self.attention_weights = attention_weights
        self.context = context
        self._contributions = contributions
        self._without: list[Floats] | None = None

    @classmethod
    def run(
        cls, classifier: Classifier, tokens: TokenArrays, words: Sequence[NDArray[np.int64]] | None = None
    ) -> ForwardPass:
        """Runs the model on texts.

        Args:
            words: default: each token is a word.
        """
        session = classifier.session
        divided = session.gives_contributions
        outputs = run_in_batches(
            session,
            tokens,
            classifier.tokenizer.pad_id,
            with_attention=True,
            with_context=True,
            with_contributions=divided,
        )
        assert outputs.context is not None
        words = [np.arange(length) for length in tokens.lengths] if words is None else words
        contributions = _of_tokens(outputs) if divided else None
        return cls(classifier, tokens, words, outputs.logits, outputs.attention_weights, outputs.context, contributions)

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> list[NDArray[np.int32]]:
        """(tokens,) token ids of each text."""
        return rows_of(self.tokens)

    @property
    def contributions(self) -> TokenContributions:
        """The logits divided among the tokens; by PyTorch where the session that answered cannot.

        Only for a model with a `dividing_session`.
        """
        if self._contributions is None:
            session = self.classifier.dividing_session
            assert session is not None
            pad_id = self.classifier.tokenizer.pad_id
            outputs = run_in_batches(session, self.tokens, pad_id, with_contributions=True)
            self._contributions = _of_tokens(outputs)
        return self._contributions

    def first(self, count: int) -> ForwardPass:
        """The first `count` texts."""
        if count >= len(self):
            return self
        return ForwardPass(
            self.classifier,
            pack(self.ids[:count]),
            self.words[:count],
            self.logits[:count],
            self.attention_weights[:count],
            self.context[:count],
            None if self._contributions is None else self._contributions.first(count),
        )

    def without_each_word(self, on_row: Callable[[int], None] | None = None) -> list[Floats]:
        """For each text the logits without each of its words, (words, num_outputs). The model runs at the first call.

        Args:
            on_row: called with the number of texts done.
        """
        if self._without is None:
            self._without = leave_one_out(self.classifier, self.tokens, self.words, on_row)
        return self._without


def _of_tokens(outputs: Outputs) -> TokenContributions:
    return TokenContributions(outputs.contributions, outputs.ngram_contributions or None)
