"""What a run is trained on: the one value that everything after reading the data is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from textattn.config import Config
from textattn.data.evidence import marked_tokens
from textattn.data.read import Corpus, Split
from textattn.tasks import Task, choose_task
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.training.examples import Examples

# Texts whose token offsets are held in memory at once.
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class TrainingData:
    """Texts, tokens and labels of every split, and the config with everything resolved for them."""

    config: Config
    """Every setting; what the recipe chooses is set."""
    corpus: Corpus
    tokenizer: TextTokenizer
    tokens: dict[str, TokenArrays]
    """By split."""

    @cached_property
    def task(self) -> Task:
        """What the model is to answer.

        Raises:
            ConfigError: `model.output` does not fit the labels.
        """
        return choose_task(self.config.model.output, self.corpus.labels, self.corpus.multi_label)

    @property
    def metric(self) -> str:
        """The metric that checkpoints are selected by.

        Raises:
            ConfigError: `training.metric` is not defined for these labels.
        """
        return self.task.choose_metric(self.config.training.metric)

    @cached_property
    def examples(self) -> Examples:
        """The training split, with the tokens that people marked where they are trained on."""
        train, tokens = self.corpus.train, self.tokens["train"]
        evidence = None
        if self.config.training.attention_supervision:
            evidence = evidence_of(train, self.tokenizer, tokens)
        return Examples(tokens, train.labels, self.tokenizer.pad_id, evidence)

    def labelled_by_people(self) -> TrainingData:
        """The same without the texts that a teacher labelled."""
        corpus = self.corpus.labelled()
        train = self.tokens["train"]
        own = replace(train, starts=train.starts[: len(corpus.train) + 1])
        return replace(self, corpus=corpus, tokens=self.tokens | {"train": own})

    def vocabulary_texts(self) -> Iterator[str]:
        """The texts that words may be learned from: those of the training split, and those without labels."""
        return vocabulary_texts(self.corpus)


def vocabulary_texts(corpus: Corpus) -> Iterator[str]:
    """The texts that words may be learned from: those of the training split, and those without labels."""
    return chain(corpus.train, *corpus.unlabelled)


def evidence_of(split: Split, tokenizer: TextTokenizer, tokens: TokenArrays) -> NDArray[np.bool_] | None:
    """(total_tokens,) which tokens of a split people marked; None where the data have no evidence."""
    if split.evidence is None:
        return None
    marked = np.zeros(len(tokens.ids), np.bool_)
    for first in range(0, len(split), ROWS_AT_ONCE):
        texts = split.texts[first : first + ROWS_AT_ONCE]
        for row, tokenized in enumerate(tokenizer.encode_with_offsets(texts), first):
            spans = split.evidence[row]
            if spans is not None:
                marked[tokens.starts[row] : tokens.starts[row + 1]] = marked_tokens(spans, tokenized.offsets)
    return marked
