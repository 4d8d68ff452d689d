"""The contract of tasks: how the labels, logits and probabilities of a kind of task are related."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError
from textattn.measure.calibration import fit_temperature
from textattn.measure.metrics import LABEL_METRICS, compute_metrics, log_loss, select_metric
from textattn.storage.target import Target

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

Labels = NDArray[Any]
Floats = NDArray[np.floating[Any]]
Probabilities = NDArray[np.float64]


class Question(NamedTuple):
    """A question with the answer yes or no that one logit is the log odds of, for each row."""

    asked: NDArray[np.bool_]
    """(rows,) whether the row has an answer to it."""
    yes: NDArray[np.bool_]
    """(rows,) the answer."""
    weights: NDArray[np.floating[Any]] | None
    """(rows,) how much each row counts; None: all the same."""


@dataclass(frozen=True)
class Task(ABC):
    """A kind of task with the label names of one model. Only the losses use torch; all else uses numpy.

    Labels are arrays of (rows,) class ids or, where a text may have several labels, (rows, num_labels) of 0 and 1; or
    for regression (rows,) numbers.
    """

    labels: list[str]
    """Label names in the order of the model's outputs."""

    output: ClassVar[Literal["softmax", "sigmoid", "ordinal", "number"]]
    kind: ClassVar[str] = "labels without an order"
    """What is predicted, for messages."""
    multi_label: ClassVar[bool] = False
    answer: ClassVar[Literal["one", "several", "number"]] = "one"
    """What the answer to a text is: one label, any number of labels, or a number."""
    default_metric: ClassVar[str] = "accuracy"
    """The metric that selects checkpoints if the config names none."""
    metrics: ClassVar[tuple[str, ...]] = LABEL_METRICS
    """The metrics that can select checkpoints."""

    @property
    def target(self) -> Target | None:
        """The scale of the numbers to predict; None for labels."""
        return None

    @property
    def offset(self) -> float:
        """What is added to `log_odds` to give the answer in its own unit."""
        return 0.0

    @property
    def num_outputs(self) -> int:
        """The number of logits of each text."""
        return len(self.labels)

    # Training

    @abstractmethod
    def check_output(self, output: str | None) -> None:
        """Raises ConfigError if `model.output` does not fit the labels."""

    def encode(self, labels: Labels) -> Labels:
        """The labels in the form that `losses` takes."""
        return labels

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """The losses whose mean is minimised, in fp32: (batch,), or (batch, num_labels) for several labels.

        They are weighted, but not divided by the sum of the weights in the batch, as torch would do. Few batches
        contain a rare label, and dividing would undo most of the effect of its weight there.

        Args:
            logits: (batch, num_outputs)
            labels: (batch,) class ids, or (batch, num_labels) of 0 and 1.
            label_smoothing: share of the target that is spread over the other labels.
            weights: (num_labels,) weight of each label; for several labels, the weight of its positive cases.
        """

    @abstractmethod
    def questions(self, labels: Labels, weights: Floats | None) -> list[Question]:
        """The questions that the logits answer, one for each, for models that are fitted one logit after the other.

        Args:
            labels: in the form of the data.
            weights: (num_labels,) as `losses` takes them.
        """

    @abstractmethod
    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The logit of the true label minus the mean of the others: (batch, num_outputs) -> (batch,)."""

    @abstractmethod
    def balanced_weights(self, labels: Labels) -> Floats:
        """The weights of `training.class_weights: balanced`, (num_labels,). A label without cases has weight 1."""

    @abstractmethod
    def scaled_weights(self, weights: Floats, labels: Labels) -> Floats:
        """Scale given weights (num_labels,) so that they do not change the magnitude of the loss."""

    def class_weights(
        self, setting: Literal["balanced"] | Mapping[str, float] | None, labels: Labels
    ) -> NDArray[np.float32] | None:
        """`training.class_weights` as a vector (num_labels,), or None if all rows have the same weight.

        Raises:
            ConfigError: a weight is given for a label that does not exist, or one is missing.
        """
        if setting is None:
            return None
        if setting == "balanced":
            return self.balanced_weights(labels).astype(np.float32)
        wrong = sorted(set(setting) ^ set(self.labels))
        if wrong:
            raise ConfigError(
                f"give one weight for each of the labels {', '.join(self.labels)}; "
                f"missing or unknown: {', '.join(wrong)}",
                "training.class_weights=balanced",
                setting="training.class_weights",
            )
        weights = np.array([setting[name] for name in self.labels], np.float64)
        return self.scaled_weights(weights, labels).astype(np.float32)

    def choose_metric(self, setting: str | None) -> str:
        """The validation metric that selects checkpoints.

        Args:
            setting: `training.metric`.

        Raises:
            ConfigError: the metric is not defined for this task.
        """
        if setting is not None and setting not in self.metrics:
            raise ConfigError(
                f"{setting} is not defined for {self.kind}; metrics are: {', '.join(self.metrics)}",
                f"training.metric={self.default_metric}",
                setting="training.metric",
            )
        return setting or self.default_metric

    @abstractmethod
    def strata(self, labels: Labels) -> list[NDArray[np.int64]]:
        """The rows in groups of equal labels. Each fold then gets its share of every group."""

    # Predictions

    @abstractmethod
    def probabilities(self, logits: Floats) -> Probabilities:
        """(rows, num_outputs) logits -> (rows, num_labels) probabilities."""

    @abstractmethod
    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """The log odds of the target label, in nats: (rows, num_outputs) -> (rows,).

        Args:
            logits: (rows, num_outputs)
            targets: (rows,) class ids.
            against: the label to compare with; None: all others.
        """

    @abstractmethod
    def directions(self, targets: Labels, against: int | None) -> Probabilities:
        """What parts of the logits are multiplied with to give parts of an answer: (rows, num_outputs).

        The product with the whole logits is `log_odds`, except for one label of several and for most grades. There it
        is the label's logit less the mean of the other logits, or the mean of those that decide about the grade, which
        unlike the log odds is linear in the logits.

        Args:
            targets: (rows,) class ids.
            against: the label to compare with; None: all others.
        """

    @abstractmethod
    def decide(self, probs: Floats, thresholds: Sequence[float] | None = None) -> Labels:
        """The predicted labels: (rows, num_labels) probabilities -> labels in the form of the data."""

    def top(self, probs: Floats) -> NDArray[np.int64]:
        """The label that an answer names first: (..., num_labels) -> (...,). The most probable one."""
        return np.asarray(probs.argmax(axis=-1))

    def strength(self, probs: Floats, answers: Labels) -> Probabilities:
        """How strongly probabilities speak for answers, as `top` gives them: (..., num_labels), (...,) -> (...,)."""
        found = np.take_along_axis(np.asarray(probs, np.float64), np.asarray(answers)[..., None], axis=-1)
        return np.asarray(found[..., 0])

    def temperature(self, logits: Floats, labels: Labels) -> float:
        """The temperature that calibrates the model on these rows, see `textattn.measure.calibration`."""
        return fit_temperature(logits, labels)

    def calibrated(self, labels: Labels, probs: Floats) -> Self:
        """The same task; of numbers with intervals that fit these rows, which the model was not trained on."""
        return self

    def choose_thresholds(self, labels: Labels, probs: Floats) -> list[float] | None:
        """The probability from which each label is predicted, chosen on validation rows.

        None if the most probable label is predicted, without thresholds.
        """
        return None

    @property
    def neutral_thresholds(self) -> list[float] | None:
        """The thresholds to use if there are no rows to choose them on."""
        return None

    @abstractmethod
    def distance(self, p: Floats, q: Floats) -> Probabilities:
        """The distance of two distributions, between 0 and 1: (..., num_labels) each -> (...,)."""

    def uncertainty(self, probs: Floats) -> Probabilities:
        """How unsure the model is of each text: (rows, num_labels) -> (rows,), at least 0. All zeros if that cannot be
        told from an answer. Here the entropy of the distribution, in nats."""
        return np.asarray(entropy(probs).sum(axis=1))

    # Going on from a trained model

    def outputs_from(self, old: Task, labels: Labels) -> tuple[Probabilities, Probabilities]:
        """How the outputs of this task begin in a model that was trained for another one.

        The answers of the trained model stay as they are, and new labels are about as probable as they are frequent.

        Args:
            old: the task of the trained model; its labels are the first of this task.
            labels: those of the training rows.

        Returns:
            Two arrays: each new logit is a weighted sum of the old ones, with weights
            (num_outputs, num_outputs of the old task), plus a number, (num_outputs,).

        Raises:
            ConfigError: a model of that task cannot become one of this task.
        """
        if type(old) is not type(self):
            raise ConfigError(
                f"a model of {old.kind} cannot go on with {self.kind}", "start.model=null", setting="start.model"
            )
        number = old.num_outputs
        bias = np.zeros(self.num_outputs)
        bias[number:] = self._rare_logits(labels)[number:]
        return np.eye(self.num_outputs, number), bias

    def _rare_logits(self, labels: Labels) -> Probabilities:
        """The logits, (num_outputs,), with which each label is as probable as it is frequent."""
        counts = self.counts(labels)
        return np.asarray(np.log((counts + 0.5) / (len(labels) - counts + 0.5)))

    # Names and numbers

    @abstractmethod
    def counts(self, labels: Labels) -> NDArray[np.int64]:
        """(num_labels,) number of rows that have each label."""

    @abstractmethod
    def names(self, labels: Labels) -> list[list[str]]:
        """The label names of each row."""

    def selection_value(self, metric: str, labels: Labels, probs: Floats) -> float:
        """The value of a selection metric on these rows; nan if it is not defined on them."""
        return select_metric(metric, labels, probs)

    def validation_loss(self, labels: Labels, probs: Floats) -> float:
        """The loss that the course of training shows."""
        return log_loss(labels, probs)

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
        """All metrics of a split, as in metrics.json; see `textattn.measure.metrics.compute_metrics`."""
        return compute_metrics(
            labels,
            probs,
            self.labels,
            headline=headline,
            thresholds=thresholds,
            uncalibrated=uncalibrated,
            decided=self.decide(probs, thresholds),
            seed=seed,
        )


def entropy(probs: Floats) -> Probabilities:
    """-p log p of each probability, in nats; 0 for p = 0."""
    p = np.asarray(probs, np.float64)
    return np.asarray(-p * np.log(np.where(p > 0, p, 1)))
