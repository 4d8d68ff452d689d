"""Drift of the texts that a served model answers, over windows of them."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from textattn.api import Model
from textattn.errors import InputError
from textattn.inference.observed import observed, read_reference
from textattn.measure.drift import Drift, DriftReport, Reference
from textattn.tokens.token_arrays import TokenArrays

# Texts of a window. Figures since the start would hide what changed today, and few texts show only large differences.
WINDOW = 1_000


class DriftWindow:
    """Counts the texts that a model answers, and compares each window of them with the model's reference.

    Worker threads add texts, and another thread asks for the latest report.
    """

    def __init__(self, model: Model, reference: Reference) -> None:
        self._model, self._carriers = model, reference.carriers
        self._drift = Drift(reference)
        self._lock = threading.Lock()
        self._count = 0
        self._latest: DriftReport | None = None

    @classmethod
    def of(cls, model: Model) -> DriftWindow | None:
        """The window of a model; None if it has no reference, or a damaged one, without which it answers all the
        same."""
        try:
            reference = read_reference(model)
        except InputError:
            return None
        return None if reference is None else cls(model, reference)

    def add(self, tokens: TokenArrays, probs: NDArray[np.float64]) -> None:
        """Count texts that were answered; the one that fills the window makes the report.

        Args:
            tokens: the tokens of the texts.
            probs: (texts, num_labels) the answers.
        """
        seen = observed(self._model, tokens, probs, self._carriers)
        with self._lock:
            self._drift.update(seen)
            self._count += len(tokens)
            if self._count < WINDOW:
                return
            self._latest = self._drift.report()
            self._drift.reset()
            self._count = 0

    @property
    def latest(self) -> DriftReport | None:
        """The report on the last full window; None before the first one."""
        return self._latest
