"""Choose rows that are unlike one another: farthest-first traversal, the greedy solution of the k-centre problem."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Distances = NDArray[np.float64]
# Numbers of the matrix of distances that are computed at a time.
BLOCK = 4_000_000


def distances_to(vectors: Vectors, others: Vectors) -> Distances:
    """The distance of each vector to the nearest of the others: (rows, dim), (others, dim) -> (rows,).

    Infinite if there are no others.
    """
    found = np.full(len(vectors), np.inf)
    if not len(others):
        return found
    squares = np.square(others, dtype=np.float64).sum(axis=1)
    step = max(1, BLOCK // len(others))
    for first in range(0, len(vectors), step):
        rows = vectors[first : first + step]
        squared = (squares - 2.0 * (rows @ others.T)).min(axis=1) + np.square(rows, dtype=np.float64).sum(axis=1)
        found[first : first + step] = np.sqrt(np.maximum(squared, 0))
    return found


def farthest_first(vectors: Vectors, number: int, distances: Distances) -> tuple[NDArray[np.int64], Distances]:
    """Choose rows one after the other, each as far as possible from the nearest row that was chosen before.

    Args:
        vectors: (rows, dim)
        number: how many rows to choose; all if there are fewer.
        distances: (rows,) to the nearest row that is there already; infinite if there is none.

    Returns:
        The rows in the order in which they were chosen, and the distance that each of them had at that time. Of rows
        that are equally far the first is chosen.
    """
    nearest = np.array(distances, np.float64)
    chosen: list[int] = []
    at: list[float] = []
    for _ in range(min(number, len(vectors))):
        row = int(nearest.argmax())
        chosen.append(row)
        at.append(float(nearest[row]))
        nearest = np.minimum(nearest, distances_to(vectors, vectors[row : row + 1]))
        # Even a row that equals another one is farther than those that were chosen.
        nearest[chosen] = -1.0
    return np.array(chosen, np.int64), np.array(at, np.float64)
