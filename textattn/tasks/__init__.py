"""The kinds of tasks, one class for each: one label, one of two labels, several labels, a grade or a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError
from textattn.storage.target import Target
from textattn.tasks.base import Task
from textattn.tasks.binary import Binary
from textattn.tasks.multi_label import MultiLabel
from textattn.tasks.ordinal import Ordinal, check_order
from textattn.tasks.regression import Regression
from textattn.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    from textattn.config.schema import Config

__all__ = ["Binary", "MultiLabel", "Ordinal", "Regression", "SingleLabel", "Task", "choose_task", "task_of"]


def task_of(labels: list[str], multi_label: bool, output: str, target: Target | None = None) -> Task:
    """The task of a trained model, according to its config.json.

    Args:
        labels: label names, in the order of the model's outputs.
        multi_label: whether a text may have several labels.
        output: `softmax`, `sigmoid`, `ordinal` or `number`.
        target: the scale of numbers.
    """
    if target is not None:
        return Regression(labels, target)
    if output == "ordinal":
        return Ordinal(labels)
    if multi_label:
        return MultiLabel(labels)
    return Binary(labels) if output == "sigmoid" else SingleLabel(labels)


def choose_task(config: Config, labels: list[str], multi_label: bool, numbers: NDArray[Any] | None = None) -> Task:
    """The task that fits the data, `task` and `model.output`.

    Args:
        config: with `model.output` null: softmax for one label in each text, sigmoid for several.
        labels: label names, in the order of the model's outputs.
        multi_label: whether a text may have several labels.
        numbers: for `task: regression`, those of the training split.

    Raises:
        ConfigError: the data do not fit.
    """
    output = config.model.output
    if numbers is not None:
        low, high = float(numbers.min()), float(numbers.max())
        task: Task = Regression(labels, Target(float(numbers.mean()), float(np.std(numbers)) or 1.0, low, high))
    elif config.task == "ordinal":
        if multi_label:
            raise ConfigError(
                "grades need one label a text; these data have several", "task=classification", setting="task"
            )
        check_order(labels, config.data.label_names is not None)
        task = Ordinal(labels)
    else:
        task = task_of(labels, multi_label, output or ("sigmoid" if multi_label else "softmax"))
    task.check_output(output)
    return task
