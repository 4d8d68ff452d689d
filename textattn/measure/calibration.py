"""Calibration with one number: of the predictions with probability 0.8, about 80 % should be correct."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The temperature differs from 1 by at most this factor, even if the texts are few or unambiguous.
LARGEST = 20.0


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """Fit the temperature T of temperature scaling (Guo et al. 2017, section 4.2).

    T maximises the likelihood of the labels under logits / T. A weak prior, a standard normal distribution of log T,
    keeps T near 1 if there are few texts, and finite if all of them are classified correctly.

    Args:
        logits: (rows, num_outputs), of texts that the model was not trained on. A single output belongs to the second
            of two labels.
        labels: (rows,) class ids, or (rows, num_labels) 0/1 for multi-label.
    """
    from scipy.optimize import minimize_scalar

    x = logits.astype(np.float64)
    if labels.ndim == 1 and x.shape[1] > 1:
        true = x[np.arange(len(x)), labels]

        def loss(temperature: float) -> float:
            return float((np.logaddexp.reduce(x / temperature, axis=1) - true / temperature).sum())
    else:
        signed = np.where(labels.reshape(len(x), -1) == 1, -x, x)

        def loss(temperature: float) -> float:
            return float(np.logaddexp(0, signed / temperature).sum())

    limit = math.log(LARGEST)
    found = minimize_scalar(
        lambda log_t: loss(math.exp(log_t)) + log_t**2 / 2,
        bounds=(-limit, limit), method="bounded", options={"xatol": 1e-8},
    )  # fmt: skip
    return float(math.exp(found.x))
