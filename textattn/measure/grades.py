"""How far predicted grades are from the true ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Grades = NDArray[np.integer[Any]]


def mean_absolute_error(grades: Grades, decided: Grades) -> float:
    """The mean number of grades between the true and the predicted one."""
    return float(np.abs(grades.astype(np.int64) - decided).mean())


def quadratic_kappa(grades: Grades, decided: Grades, num_grades: int) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 is agreement, 0 what chance gives.

    nan where all true and all predicted grades are the same one.

    Args:
        grades: (rows,) from 0.
        decided: (rows,) the predicted ones.
        num_grades: the number of different grades.
    """
    observed = np.zeros((num_grades, num_grades))
    np.add.at(observed, (grades, decided), 1)
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / len(grades)
    steps = np.arange(num_grades)
    weights = (steps[:, None] - steps[None, :]) ** 2.0
    by_chance = (weights * expected).sum()
    return float(1 - (weights * observed).sum() / by_chance) if by_chance else float("nan")
