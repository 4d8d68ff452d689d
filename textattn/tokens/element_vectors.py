"""Vectors of elements and amounts to start from: what stands near each other in the periodic table begins alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textattn.tokens.elements import BLOCKS, PLACES, Place
from textattn.tokens.formulas import amounts_of
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.vectors import WordVectors

Floats = NDArray[np.float64]
# Standard deviations of what a vector shares with its neighbours, for each property, and of what is its own.
SHARED, OWN = 0.15, 0.1
# Bumps over the amounts, evenly and on a logarithmic scale from a hundredth on.
BUMPS = 12


def periodic_vectors(tokenizer: TextTokenizer, embedding_dim: int, seed: int) -> WordVectors:
    """For the tokens of `composition`: properties of the element, or of the amount, projected at random."""
    vocabulary = tokenizer.backend.get_vocab()
    generator = np.random.default_rng(seed)
    amounts = amounts_of(list(vocabulary))
    matrix = np.zeros((tokenizer.vocab_size, embedding_dim), np.float32)
    found = np.zeros(tokenizer.vocab_size, bool)
    for own, properties in (
        (OWN, {symbol: _of_element(place) for symbol, place in PLACES.items()}),
        (0.0, {name: _of_amount(value) for name, value in amounts.items()}),
    ):
        rows = [vocabulary[name] for name in properties]
        features = np.stack(list(properties.values()))
        projection = generator.normal(0, SHARED, (features.shape[1], embedding_dim))
        matrix[rows] = features @ projection + generator.normal(0, 1, (len(rows), embedding_dim)) * own
        found[rows] = True
    return WordVectors(matrix, found)


def _of_element(place: Place) -> Floats:
    shells = np.array(place.electrons) / (2, 6, 10, 14)
    position = [(place.group - 9) / 9, (place.period - 4) / 3]
    return np.concatenate(
        [
            np.eye(18)[place.group - 1],
            np.eye(7)[place.period - 1],
            np.eye(4)[BLOCKS.index(place.block)],
            shells,
            position,
        ]
    )


def _of_amount(value: float) -> Floats:
    even, logarithmic = np.linspace(0, 1, BUMPS), np.linspace(np.log(0.01), 0, BUMPS)
    bumps = [np.exp(-(((x - at) / (at[1] - at[0])) ** 2)) for x, at in ((value, even), (np.log(value), logarithmic))]
    return np.concatenate([*bumps, [value, np.log(value) / 3]])
