"""One number that makes probabilities mean what they say: of the answers given with 0.8, about 80 % right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# No temperature is further from 1 than this factor, however few or clear the texts.
LARGEST = 20.0


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """The temperature of temperature scaling (Guo et al. 2017, section 4.2): logits divided by it are most likely.

    A weak prior, log T normal about 0, keeps it near 1 where the texts are few, and finite where they are all right.

    Args:
        logits: (rows, num_outputs) of texts that were not trained on; one output is the second of two labels.
        labels: (rows,) class ids, or (rows, num_labels) 0/1, each label a yes or no of its own.
    """
    from scipy.optimize import minimize_scalar

    x = logits.astype(np.float64)
    if labels.ndim == 1 and x.shape[1] > 1:
        own = x[np.arange(len(x)), labels]

        def loss(temperature: float) -> float:
            return float((np.logaddexp.reduce(x / temperature, axis=1) - own / temperature).sum())
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
