"""How numbers and names are written on the page of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textattn.inference.markup import shown
from textattn.pages.gather import Figure

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}
MEANINGS = {
    "accuracy": "the share of texts with the right answer",
    "balanced_accuracy": "the mean over labels of the share of their texts that is recognised",
    "macro_f1": "the mean F1 of the labels, which counts rare labels as much as frequent ones",
    "micro_f1": "the F1 of all labels of all texts together",
}

# The title of a column of bars.
UNSEEN_BAR = '<span class="unseen">as a bar</span>'
KIND_NAMES = ("rightly given", "given wrongly", "left out")
"""Of the cells of a multi-label report, by kind."""


def percent(value: float | None, digits: int = 1) -> str:
    """`81.9 %`, with a space that does not break; `–` for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def interval(low: float | None, high: float | None) -> str:
    """`76.4 to 86.6 %`."""
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def figure_interval(figure: Figure) -> str:
    """The interval of a figure, or "" if it has none."""
    return "" if figure.low is None else interval(figure.low, figure.high)


def metric_name(metric: str) -> str:
    """A metric as people call it."""
    return METRICS.get(metric, metric.replace("_", " "))


def name(label: str) -> str:
    """A label or another word of the data, which stays within its own direction of writing."""
    return f"<bdi>{shown(label)}</bdi>"


def names(labels: Sequence[str]) -> str:
    """Several labels, or that there is none."""
    return ", ".join(map(name, labels)) or "<bdi>no label</bdi>"


def number(value: float) -> str:
    """A threshold with the digits it has."""
    return f"{value:.10g}"


def table(columns: Sequence[str], rows: Iterable[str], *, caption: str = "", css: str = "figures") -> str:
    """A table that scrolls sideways where there is no room.

    Args:
        columns: titles of the columns; one that begins with `>` is of numbers, which stand to the right.
        rows: each begins with `<tr>`; end tags of rows and cells are left out.
        caption: its title, as HTML.
        css: its classes.
    """
    titles = "".join(
        f'<th scope="col" class="amount">{title[1:]}' if title.startswith(">") else f'<th scope="col">{title}'
        for title in columns
    )
    head = f"<thead><tr>{titles}" if columns else ""
    said = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll"><table class="{css}">{said}{head}<tbody>{"".join(rows)}</table></div>'


def bar(figure: Figure, css: str) -> str:
    """A share as a bar, with its interval as a line."""
    whisker = ""
    if figure.low is not None and figure.high is not None:
        width = 100 * (figure.high - figure.low)
        whisker = f'<i class="range" style="left:{100 * figure.low:.2f}%;width:{width:.2f}%"></i>'
    return f'<span class="track"><i class="{css}" style="width:{100 * figure.value:.2f}%"></i>{whisker}</span>'
