"""Initial word vectors: what they are, and how they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MATRIX, FOUND = "matrix.npy", "found.npy"


@dataclass(frozen=True)
class WordVectors:
    """A matrix for the embedding, and which of its rows were found."""

    matrix: NDArray[np.float32]
    """(vocab_size, embedding_dim); rows that were not found are zero."""
    found: NDArray[np.bool_]
    """(vocab_size,)"""

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that has a vector, between 0 and 1."""
        return float(self.found.mean())

    def with_spread(self, spread: float) -> WordVectors:
        """These vectors times a number, so that the standard deviation of the numbers that were found is `spread`."""
        present = float(self.matrix[self.found].std(dtype=np.float64))
        factor = spread / present if present > 0 else 1.0
        return WordVectors((self.matrix * factor).astype(np.float32), self.found)

    def write(self, folder: Path) -> None:
        """Write the vectors for `load_vectors`."""
        np.save(folder / MATRIX, self.matrix)
        np.save(folder / FOUND, self.found)


def load_vectors(folder: Path | None, shape: tuple[int, int]) -> WordVectors | None:
    """Read what `WordVectors.write` has written; None if there are no vectors, or none of that shape."""
    if folder is None:
        return None
    try:
        vectors = WordVectors(np.load(folder / MATRIX), np.load(folder / FOUND))
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.matrix.shape == shape and vectors.found.shape == shape[:1] else None
