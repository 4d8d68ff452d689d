"""Initial vectors of elements and amounts: elements that are close in the periodic table start with similar vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textattn.tokens.elements import BLOCKS, PLACES, Place
from textattn.tokens.formulas import amounts_of
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.vectors import WordVectors

Floats = NDArray[np.float64]
# Standard deviations of the random projection of each property, which similar elements share, and of the noise that is
# added to the vector of each element.
SHARED, NOISE = 0.15, 0.1
# Number of Gaussian bumps over the amounts, on a linear scale and on a logarithmic one that starts at 0.01.
BUMPS = 12


def periodic_vectors(tokenizer: TextTokenizer, embedding_dim: int, seed: int) -> WordVectors:
    """The initial vectors for `composition`: random projections of the properties of an element or amount."""
    vocabulary = tokenizer.backend.get_vocab()
    generator = np.random.default_rng(seed)
    amounts = amounts_of(list(vocabulary))
    matrix = np.zeros((tokenizer.vocab_size, embedding_dim), np.float32)
    found = np.zeros(tokenizer.vocab_size, bool)
    for noise, properties in (
        (NOISE, {symbol: _of_element(place) for symbol, place in PLACES.items()}),
        (0.0, {name: _of_amount(value) for name, value in amounts.items()}),
    ):
        rows = [vocabulary[name] for name in properties]
        features = np.stack(list(properties.values()))
        projection = generator.normal(0, SHARED, (features.shape[1], embedding_dim))
        matrix[rows] = features @ projection + generator.normal(0, 1, (len(rows), embedding_dim)) * noise
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
