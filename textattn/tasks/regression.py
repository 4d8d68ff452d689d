"""A number for each text, such as a price or a band gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.numbers import strata_of
from textattn.errors import ConfigError
from textattn.measure.numbers import NUMBER_METRICS, conformal_margin, measure_numbers, number_metric
from textattn.storage.target import Target
from textattn.tasks.base import Floats, Labels, Probabilities, Question, Task

if TYPE_CHECKING:
    from torch import Tensor

# From this error on, in standard deviations of the target, the loss grows linearly.
HUBER_DELTA = 0.3
# The sides of the mean that an answer can be on, in the order in which `top` numbers them.
HIGHER, LOWER = 0, 1


@dataclass(frozen=True)
class Regression(Task):
    """A number for each text. Labels are (rows,) floating-point numbers in the unit of the data.

    The network has one output, the number in standard deviations above the mean of the training split. Where other
    tasks have the probabilities of the labels, (rows, num_labels), this one has the predicted numbers, (rows, 1), in
    the unit of the data.
    """

    output = "number"
    kind = "numbers"
    answer = "number"
    default_metric = "mae"
    metrics = NUMBER_METRICS

    scale: Target

    @property
    def target(self) -> Target:
        """The scale of the numbers."""
        return self.scale

    @property
    def offset(self) -> float:
        """The mean of the training split."""
        return self.scale.mean

    def check_output(self, output: str | None) -> None:
        """Raises ConfigError if `model.output` is given."""
        if output is not None:
            raise ConfigError(
                f"model.output: {output} is for labels; task: regression has an output of its own",
                "model.output=null",
                setting="model.output",
            )

    def encode(self, labels: Labels) -> Labels:
        """The numbers in standard deviations above the mean, (rows,) float32."""
        return np.asarray((labels - self.scale.mean) / self.scale.std, np.float32)

    def outputs_from(self, old: Task, labels: Labels) -> tuple[Probabilities, Probabilities]:
        """See `Task`. The old output in the new scale: the predicted numbers stay as they are."""
        if not isinstance(old, Regression):
            return super().outputs_from(old, labels)
        before, now = old.scale, self.scale
        return np.array([[before.std / now.std]]), np.array([(before.mean - now.mean) / now.std])

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """The Huber loss (Huber 1964), (batch,); label smoothing and weights do not apply to numbers."""
        from torch.nn import functional

        return functional.huber_loss(logits.float().squeeze(-1), labels.float(), reduction="none", delta=HUBER_DELTA)

    def questions(self, labels: Labels, weights: Floats | None) -> list[Question]:
        """Numbers answer no questions."""
        raise NotImplementedError

    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The output, negated if the number is below the mean."""
        return logits.squeeze(-1) * labels.sign()

    def balanced_weights(self, labels: Labels) -> Floats:
        """Numbers have no weights."""
        raise NotImplementedError

    def scaled_weights(self, weights: Floats, labels: Labels) -> Floats:
        """Numbers have no weights."""
        raise NotImplementedError

    def strata(self, labels: Labels) -> list[NDArray[np.int64]]:
        """The rows with similar numbers."""
        found = strata_of(labels)
        return [np.flatnonzero(found == one) for one in np.unique(found)]

    def probabilities(self, logits: Floats) -> Probabilities:
        """The numbers in the unit of the data, (rows, 1), within the range of the training split."""
        numbers = self.scale.mean + self.scale.std * logits.astype(np.float64)
        return np.clip(numbers, self.scale.minimum, self.scale.maximum)

    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """The number less the mean, in the unit of the data; negated for the side `LOWER`."""
        return np.asarray((logits.astype(np.float64) * self.directions(targets, against)).sum(axis=1))

    def directions(self, targets: Labels, against: int | None) -> Probabilities:
        """The unit of the output, (rows, 1), so that contributions are in the unit of the data; negated for the side
        `LOWER`."""
        signs = np.where(np.asarray(targets) == LOWER, -1.0, 1.0)
        return signs[:, None] * self.scale.std

    def decide(self, probs: Floats, thresholds: Sequence[float] | None = None) -> Labels:
        """The predicted numbers, (rows,)."""
        return np.asarray(probs[..., 0])

    def top(self, probs: Floats) -> NDArray[np.int64]:
        """The side of the mean that the number is on: (..., 1) -> (...,) of `HIGHER` and `LOWER`."""
        return np.where(probs[..., 0] < self.scale.mean, LOWER, HIGHER)

    def strength(self, probs: Floats, answers: Labels) -> Probabilities:
        """How many standard deviations the number is on the given side of the mean."""
        signs = np.where(np.asarray(answers) == LOWER, -1.0, 1.0)
        return np.asarray(signs * (probs[..., 0] - self.scale.mean) / self.scale.std)

    def temperature(self, logits: Floats, labels: Labels) -> float:
        """1: numbers have no temperature."""
        return 1.0

    def calibrated(self, labels: Labels, probs: Floats) -> Regression:
        """The same with the margin of the intervals."""
        return replace(self, scale=replace(self.scale, margin=conformal_margin(labels, self.decide(probs))))

    def distance(self, p: Floats, q: Floats) -> Probabilities:
        """The difference in standard deviations, at most 1."""
        return np.asarray(np.minimum(np.abs(p - q)[..., 0] / self.scale.std, 1.0))

    def uncertainty(self, probs: Floats) -> Probabilities:
        """Zeros: the interval of a number is as wide for one text as for another."""
        return np.zeros(len(probs))

    def counts(self, labels: Labels) -> NDArray[np.int64]:
        """The number of rows, alone."""
        return np.array([len(labels)])

    def names(self, labels: Labels) -> list[list[str]]:
        """Each number as text."""
        return [[f"{number:g}"] for number in labels]

    def selection_value(self, metric: str, labels: Labels, probs: Floats) -> float:
        """See `Task`."""
        return number_metric(metric, labels, self.decide(probs))

    def validation_loss(self, labels: Labels, probs: Floats) -> float:
        """The mean Huber loss."""
        errors = np.abs(self.decide(probs) - labels) / self.scale.std
        small = errors <= HUBER_DELTA
        return float(np.where(small, errors**2 / 2, HUBER_DELTA * (errors - HUBER_DELTA / 2)).mean())

    def measure(
        self,
        labels: Labels,
        probs: Floats,
        *,
        headline: str,
        thresholds: Sequence[float] | None = None,
        uncalibrated: Floats | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """All metrics of a split, see `textattn.measure.numbers.measure_numbers`."""
        return measure_numbers(labels, self.decide(probs), self.scale, headline=headline, seed=seed)
