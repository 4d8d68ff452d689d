"""The data that a run is trained on, as they are passed to all later stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.config import Config
from textattn.data.evidence import marked_tokens
from textattn.data.read import Corpus, Split
from textattn.tasks import Task, choose_task
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.training.examples import Examples

if TYPE_CHECKING:
    from textattn.runs.going_on import Start

# Texts whose token offsets are held in memory at once.
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class TrainingData:
    """The texts, tokens and labels of every split, and the resolved config."""

    config: Config
    """The config, with the settings of the recipe."""
    corpus: Corpus
    tokenizer: TextTokenizer
    tokens: dict[str, TokenArrays]
    """By split."""
    start: Start | None = None
    """The model that the run goes on from."""

    @cached_property
    def task(self) -> Task:
        """What is predicted: the labels, and whether a text can have several of them; or a number.

        Raises:
            ConfigError: `model.output` does not fit the labels.
        """
        numbers = self.corpus.train.labels if self.corpus.train.is_numeric else None
        return choose_task(self.config, self.corpus.labels, self.corpus.multi_label, numbers)

    @property
    def metric(self) -> str:
        """The metric that checkpoints are selected by.

        Raises:
            ConfigError: `training.metric` is not defined for these labels.
        """
        return self.task.choose_metric(self.config.training.metric)

    @cached_property
    def examples(self) -> Examples:
        """The training split, with the tokens that people marked if training uses them."""
        train, tokens = self.corpus.train, self.tokens["train"]
        evidence = None
        if self.config.training.attention_supervision:
            evidence = evidence_of(train, self.tokenizer, tokens)
        return Examples(tokens, self.task.encode(train.labels), self.tokenizer.pad_id, evidence)

    def labelled_by_people(self) -> TrainingData:
        """These data without the texts that a teacher labelled."""
        corpus = self.corpus.labelled()
        train = self.tokens["train"]
        labelled = replace(train, starts=train.starts[: len(corpus.train) + 1])
        return replace(self, corpus=corpus, tokens=self.tokens | {"train": labelled})

    def vocabulary_texts(self) -> Iterator[str]:
        """The texts from which the vocabulary is learned: the training split and the texts without labels."""
        return vocabulary_texts(self.corpus)


def vocabulary_texts(corpus: Corpus) -> Iterator[str]:
    """The texts from which the vocabulary is learned: the training split and the texts without labels."""
    return chain(corpus.train, *corpus.unlabelled)


def evidence_of(split: Split, tokenizer: TextTokenizer, tokens: TokenArrays) -> NDArray[np.bool_] | None:
    """Find the tokens of a split that people marked: (total_tokens,), or None if the data have no evidence."""
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
