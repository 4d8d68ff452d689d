"""One of several ordered labels, such as stars: each logit asks whether the grade is higher still."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError
from textattn.measure.calibration import fit_temperature
from textattn.measure.grades import mean_absolute_error, quadratic_kappa
from textattn.measure.metrics import LABEL_METRICS
from textattn.tasks.base import Floats, Labels, Probabilities, Question, Task
from textattn.tasks.binary import sigmoid, smoothed_cross_entropy
from textattn.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    from torch import Tensor

Steps = Literal["up", "up and stop", "none up"]
"""Steps from one grade to the next, each with the log-odds that a text which has come that far goes on: those up to a
grade, or up to it and no further; or those between two grades, taken or not taken."""
# Of the cost of an answer; chosen on the validation split of SST-5 (`scripts/grades.py`).
EXPONENT = 0.65
# "3", "-1", "4 stars", "2.5/5".
_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)(?![\d.])")


class Ordinal(SingleLabel):
    """One of several labels in an order. Labels are (rows,) class ids, the lowest grade first.

    Logit k is that of the conditional probability P(y > k | y >= k), so the probabilities of the grades follow from the
    chain rule, and those of higher and higher grades never contradict one another (continuation ratios, Agresti 2010,
    section 4.2; trained with neural networks as CORN, Shi et al. 2023, equations 3 to 5). There is one logit fewer than
    labels.
    """

    output = "ordinal"
    kind = "grades"
    default_metric = "quadratic_kappa"
    metrics = (*LABEL_METRICS, "quadratic_kappa", "mae")

    @property
    def num_outputs(self) -> int:
        """One fewer than labels."""
        return len(self.labels) - 1

    def check_output(self, output: str | None) -> None:
        """Raises ConfigError if `model.output` is given."""
        if output is not None:
            raise ConfigError(
                f"model.output: {output} does not go with task: ordinal, which has an output of its own",
                "model.output=null",
                setting="model.output",
            )

    def outputs_from(self, old: Task, labels: Labels) -> tuple[Probabilities, Probabilities]:
        """See `Task`. New grades are higher than the old ones."""
        return Task.outputs_from(self, old, labels)

    def as_softmax(self) -> None:
        """Grades are no softmax."""

    def _rare_logits(self, labels: Labels) -> Probabilities:
        """Of each question: how many of the texts that reach it have a higher grade."""
        counts = self.counts(labels)
        higher = counts.sum() - np.cumsum(counts)
        return np.asarray(np.log((higher[:-1] + 0.5) / (counts[:-1] + 0.5)))

    def losses(self, logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
        """The negative log-likelihood of the grade, (batch,): the sum of the binary cross-entropies of the questions
        that were reached."""
        import torch

        questions = torch.arange(self.num_outputs, device=logits.device)
        reached = questions <= labels[:, None]
        higher = (questions < labels[:, None]).float()
        each = smoothed_cross_entropy(logits.float(), higher, label_smoothing, None)
        losses = (each * reached).sum(dim=1)
        return losses if weights is None else losses * weights[labels]

    def questions(self, labels: Labels, weights: Floats | None) -> list[Question]:
        """Whether the grade is higher still, of the rows that reach this one."""
        each = None if weights is None else weights[labels]
        return [Question(labels >= grade, labels > grade, each) for grade in range(self.num_outputs)]

    def true_label_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean of the logits, negated from the true grade on."""
        import torch

        questions = torch.arange(self.num_outputs, device=logits.device)
        signs = 1 - 2 * (questions >= labels[:, None]).to(logits.dtype)
        return (logits * signs).mean(dim=1)

    def probabilities(self, logits: Floats) -> Probabilities:
        """The probability of each grade, by the chain rule."""
        higher = sigmoid(logits.astype(np.float64))
        ones = np.ones((len(logits), 1))
        at_least = np.concatenate([ones, np.cumprod(higher, axis=1)], axis=1)
        return np.asarray(at_least * np.concatenate([sigmoid(-logits.astype(np.float64)), ones], axis=1))

    def log_odds(self, logits: Floats, targets: Labels, against: int | None) -> Probabilities:
        """log(p / (1 - p)) of the target grade, or the log of its probability over that of `against`."""
        p = np.clip(self.probabilities(logits), 1e-300, 1.0)
        rows = np.arange(len(p))
        target = p[rows, targets]
        if against is not None:
            return np.asarray(np.log(target) - np.log(p[:, against]))
        others = np.clip(p.sum(axis=1) - target, 1e-300, None)
        return np.asarray(np.log(target) - np.log(others))

    def directions(self, targets: Labels, against: int | None) -> Probabilities:
        """What speaks for the grade: for higher below it, and for no higher at it. Questions above it say nothing about
        it: its probability does not depend on them. With `against`, what speaks for the grade rather than the other
        one: the questions between the two. The product with the logits is the mean over the questions that count."""
        questions, targets = np.arange(self.num_outputs), np.asarray(targets)[:, None]
        if against is None:
            counted, signs = questions <= targets, np.where(questions < targets, 1.0, -1.0)
        else:
            low, high = np.minimum(targets, against), np.maximum(targets, against)
            counted, signs = (questions >= low) & (questions < high), np.sign(targets - float(against))
        return np.asarray(counted * signs / np.maximum(1, counted.sum(axis=1, keepdims=True)))

    def steps(self, target: int, against: int | None) -> Steps | None:
        """What the product of `directions` with the logits is the mean log-odds of; None where it is `log_odds`: of the
        lowest grade, and of the two highest, each rather than the other."""
        top = self.num_outputs
        if against is None:
            if target == 0 or top == 1:
                return None
            return "up" if target == top else "up and stop"
        if {target, against} == {top - 1, top}:
            return None
        return "up" if target > against else "none up"

    def top(self, probs: Floats) -> NDArray[np.int64]:
        """The grade with the smallest expected cost, where an answer d grades off costs d to the power of `EXPONENT`.

        With exponent 1 this would be the median, which has the smallest absolute error, and with 0 the most probable
        grade, which is right most often. In between, both figures are near their best.
        """
        grades = np.arange(len(self.labels))
        costs = np.abs(grades[:, None] - grades).astype(np.float64) ** EXPONENT
        return np.asarray((np.asarray(probs, np.float64) @ costs).argmin(axis=-1))

    def temperature(self, logits: Floats, labels: Labels) -> float:
        """As for one label of two, from the questions that were reached."""
        questions = np.arange(self.num_outputs)
        reached = questions <= labels[:, None]
        higher = (questions < labels[:, None])[reached].astype(np.int64)
        return fit_temperature(logits[reached][:, None], higher)

    def distance(self, p: Floats, q: Floats) -> Probabilities:
        """The earth mover's distance, as a share of the way from the lowest to the highest grade."""
        moved = np.abs(np.cumsum(p - q, axis=-1))[..., :-1]
        return np.asarray(moved.sum(axis=-1) / max(1, self.num_outputs))

    def selection_value(self, metric: str, labels: Labels, probs: Floats) -> float:
        """See `Task`."""
        if metric == "quadratic_kappa":
            return quadratic_kappa(labels, self.decide(probs), len(self.labels))
        if metric == "mae":
            return mean_absolute_error(labels, self.decide(probs))
        return super().selection_value(metric, labels, probs)

    def measure(self, labels: Labels, probs: Floats, **more: Any) -> dict[str, Any]:
        """The metrics of single labels, and in grades `mae` and `quadratic_kappa`."""
        decided = self.decide(probs)
        return super().measure(labels, probs, **more) | {
            "mae": mean_absolute_error(labels, decided),
            "quadratic_kappa": quadratic_kappa(labels, decided, len(self.labels)),
        }


def check_order(labels: Sequence[str], named: bool) -> None:
    """Raises ConfigError unless the order of the labels is known: they are numbers in ascending order, or begin with
    such numbers, or `named` says that somebody has given the names in their order."""
    numbers = [_NUMBER.match(label) for label in labels]
    values = [float(number[1]) for number in numbers if number is not None]
    if named or (len(values) == len(labels) and values == sorted(values)):
        return
    raise ConfigError(
        f"the order of the labels {', '.join(labels[:5])}{', …' if len(labels) > 5 else ''} is not known; grades are "
        "numbers, or names that data.label_names lists from the lowest to the highest",
        f"data.label_names=[{','.join(map(_quoted, labels))}] in ascending order",
        setting="task",
    )


def _quoted(label: str) -> str:
    return label if re.fullmatch(r"[A-Za-z][\w-]*", label) else json.dumps(label, ensure_ascii=False)
