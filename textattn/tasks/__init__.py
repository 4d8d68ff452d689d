"""What a model answers: one label, yes or no, or several labels a text. Each kind of task is one class."""

from __future__ import annotations

from textattn.tasks.base import Task
from textattn.tasks.binary import Binary
from textattn.tasks.multi_label import MultiLabel
from textattn.tasks.single_label import SingleLabel

__all__ = ["Binary", "MultiLabel", "SingleLabel", "Task", "choose_task", "task_of"]


def task_of(labels: list[str], multi_label: bool, output: str) -> Task:
    """The task of a model, from what its config.json says.

    Args:
        labels: label names in the order of the model's outputs.
        multi_label: whether a text may have several labels.
        output: `softmax` or `sigmoid`.
    """
    if multi_label:
        return MultiLabel(labels)
    return Binary(labels) if output == "sigmoid" else SingleLabel(labels)


def choose_task(output: str | None, labels: list[str], multi_label: bool) -> Task:
    """The task that data and `model.output` make.

    Args:
        output: `model.output`; None: softmax for one label a text, sigmoid for several.

    Raises:
        ConfigError: `model.output` does not fit the data.
    """
    task = task_of(labels, multi_label, output or ("sigmoid" if multi_label else "softmax"))
    task.check_output(output)
    return task
