"""The kinds of tasks: one label for each text, one of two labels, or several labels. Each kind is one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textattn.errors import ConfigError
from textattn.tasks.base import Task
from textattn.tasks.binary import Binary
from textattn.tasks.multi_label import MultiLabel
from textattn.tasks.ordinal import Ordinal, check_order
from textattn.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    from textattn.config.schema import Config

__all__ = ["Binary", "MultiLabel", "Ordinal", "SingleLabel", "Task", "choose_task", "task_of"]


def task_of(labels: list[str], multi_label: bool, output: str) -> Task:
    """The task of a trained model, according to its config.json.

    Args:
        labels: label names, in the order of the model's outputs.
        multi_label: whether a text may have several labels.
        output: `softmax`, `sigmoid` or `ordinal`.
    """
    if output == "ordinal":
        return Ordinal(labels)
    if multi_label:
        return MultiLabel(labels)
    return Binary(labels) if output == "sigmoid" else SingleLabel(labels)


def choose_task(config: Config, labels: list[str], multi_label: bool) -> Task:
    """The task that fits the data, `task` and `model.output`.

    Args:
        config: with `model.output` null: softmax for one label in each text, sigmoid for several.
        labels: label names, in the order of the model's outputs.
        multi_label: whether a text may have several labels.

    Raises:
        ConfigError: the data do not fit.
    """
    output = config.model.output
    if config.task == "ordinal":
        if multi_label:
            raise ConfigError(
                "grades need one label a text; these data have several", "task=classification", setting="task"
            )
        check_order(labels, config.data.label_names is not None)
        task: Task = Ordinal(labels)
    else:
        task = task_of(labels, multi_label, output or ("sigmoid" if multi_label else "softmax"))
    task.check_output(output)
    return task
