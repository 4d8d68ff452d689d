"""The kinds of tasks: one label for each text, one of two labels, or several labels. Each kind is one class."""

from __future__ import annotations

from textattn.tasks.base import Task
from textattn.tasks.binary import Binary
from textattn.tasks.multi_label import MultiLabel
from textattn.tasks.single_label import SingleLabel

__all__ = ["Binary", "MultiLabel", "SingleLabel", "Task", "choose_task", "task_of"]


def task_of(labels: list[str], multi_label: bool, output: str) -> Task:
    """The task of a trained model, according to its config.json.

    Args:
        labels: label names, in the order of the model's outputs.
        multi_label: whether a text may have several labels.
        output: `softmax` or `sigmoid`.
    """
    if multi_label:
        return MultiLabel(labels)
    return Binary(labels) if output == "sigmoid" else SingleLabel(labels)


def choose_task(output: str | None, labels: list[str], multi_label: bool) -> Task:
    """The task that fits the data and `model.output`.

    Args:
        output: `model.output`; None: softmax for one label in each text, sigmoid for several.
        labels: label names, in the order of the model's outputs.
        multi_label: whether a text may have several labels.

    Raises:
        ConfigError: `model.output` does not fit the data.
    """
    task = task_of(labels, multi_label, output or ("sigmoid" if multi_label else "softmax"))
    task.check_output(output)
    return task
