"""Plots of a run, drawn from the plain values of log.jsonl and metrics.json: training, confusion, reliability.

The same values give the same bytes. Colours are suitable for colour-blind readers and are never the only distinction.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.measure.intervals import wilson
from textattn.measure.metrics import CALIBRATION_BINS
from textattn.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORANGE, BLUE, VERMILLION, GRAY = "#e68a00", "#3477b8", "#d9571e", "#8c8c8c"
TRAINING, CONFUSION, LABELS, RELIABILITY = "training.png", "confusion_matrix.png", "labels.png", "reliability.png"
NUMBERS = "numbers.png"
# If there are more labels, only the most confused ones are drawn.
MOST_LABELS = 30
LONGEST_LABEL = 24
DPI = 110


def draw_plots(metrics: dict[str, Any], log: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Draw all plots for which the run has values.

    Args:
        metrics: the content of metrics.json. The plots show the test split or, if there is none, validation.
        log: the entries of log.jsonl.
        folder: where the files are written.

    Returns:
        The names of the files, in reading order.
    """
    drawn = []
    if log:
        draw_training(log, metrics["best"], folder / TRAINING)
        drawn.append(TRAINING)
    split = next((name for name in ("test", "validation") if name in metrics), None)
    if split is not None:
        measured = metrics[split]
        if "mean_baseline" in measured:
            return drawn
        if "confusion_matrix" in measured:
            draw_confusion(measured, split, folder / CONFUSION)
            drawn.append(CONFUSION)
        else:
            draw_labels(measured, split, folder / LABELS)
            drawn.append(LABELS)
        draw_reliability(measured, split, folder / RELIABILITY)
        drawn.append(RELIABILITY)
    return drawn


def draw_training(log: Sequence[dict[str, Any]], best: dict[str, Any], file: Path) -> None:
    """Draw the training loss over the steps, and below it the validation metric, if any, with the selected model.

    Args:
        log: the entries of log.jsonl.
        best: `metric_for_best_model` and `best_global_step`.
        file: the PNG file to write.
    """
    from matplotlib.ticker import MaxNLocator

    metric, kept = best["metric_for_best_model"], best["best_global_step"]
    measured = [entry for entry in log if f"eval_{metric}" in entry]
    with picture(file, (7, 4.6 if measured else 2.8), metric) as figure:
        top, *rest = figure.subplots(2 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
        # Few points are marked individually; for many, the line is enough.
        dots = {"markersize": 5 if len(log) <= 40 else 0}
        top.plot([e["step"] for e in log], [e["loss"] for e in log], color=BLUE, marker="o", **dots)
        top.set_ylabel("training loss")
        top.set_title("Training: mean loss since the last evaluation", fontsize=10)
        for axes in rest:
            values = [entry[f"eval_{metric}"] for entry in measured]
            axes.plot([e["step"] for e in measured], values, color=ORANGE, marker="s", **dots)
            axes.set_ylabel(f"validation\n{metric.replace('_', ' ')}")
            at = next((entry[f"eval_{metric}"] for entry in measured if entry["step"] == kept), None)
            if at is not None:
                axes.plot([kept], [at], color="black", marker="*", markersize=12, linestyle="none")
                axes.set_title(f"★ selected model: {at:.4f} after step {kept:,}", fontsize=10)
        for axes in (top, *rest):
            _tidy(axes)
        last = (rest or [top])[-1]
        last.set_xlabel("step")
        last.xaxis.set_major_locator(MaxNLocator(integer=True))
        last.set_xlim(left=0)


def draw_confusion(measured: dict[str, Any], split: str, file: Path) -> None:
    """Draw the number of predictions of each label for each true label. The shade is the share of the row."""
    names, counts = _most_confused([*measured["per_class"]], np.array(measured["confusion_matrix"]))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    number = len(names)
    few = number <= 8
    side = max(2.4, number * (0.55 if few else 0.3))
    margin = 1.2 + 0.075 * max(map(len, names))
    with picture(file, (max(4.2, side + margin + 0.6), side + margin), *names) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.argwhere(counts > 0):
            share, count = shares[row, column], counts[row, column]
            axes.text(
                column, row, f"{count:,}\n{share:.0%}" if few else f"{count}", ha="center", va="center",
                color="white" if share > 0.55 else "black", fontsize=8 if few else 6 if count < 1000 else 5,
                in_layout=False,  # The text fits into its cell, and measuring hundreds of them takes a second.
            )  # fmt: skip
        # A dollar sign in a label does not begin a formula, so `parse_math` is off.
        size = 9 if few else 7
        axes.set_yticks(range(number), names, fontsize=size, parse_math=False)
        upright = few and max(map(len, names)) <= 6
        axes.set_xticks(
            range(number), names, fontsize=size, parse_math=False, rotation=0 if upright else 60,
            ha="center" if upright else "right", rotation_mode="anchor",
        )  # fmt: skip
        axes.set_xlabel("prediction")
        axes.set_ylabel("true label")
        left_out = len(measured["per_class"]) - number + 1
        rest = f"; all but the {number - 1} most confused labels are merged" if left_out > 1 else ""
        axes.set_title(_wrapped(f"{split}: {counts.sum():,} texts{rest}", side + margin), fontsize=10)
        bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
        bar.set_label("share of the true label", fontsize=8)
        bar.ax.tick_params(labelsize=7)


def draw_labels(measured: dict[str, Any], split: str, file: Path) -> None:
    """Draw precision, recall and F1 of each label, for multi-label tasks, which have no confusion matrix."""
    per_class = measured["per_class"]
    worst = sorted(per_class, key=lambda name: per_class[name]["f1"])[:MOST_LABELS]
    shown = sorted(worst, key=lambda name: per_class[name]["f1"], reverse=True)
    named = dict(zip(per_class, _named([*per_class]), strict=True))
    names = [f"{named[name]} ({per_class[name]['support']:,})" for name in shown]
    with picture(file, (7, 1.5 + 0.24 * len(shown)), *names) as figure:
        axes = figure.subplots()
        rows = np.arange(len(shown))
        values = {kind: [per_class[name][kind] for name in shown] for kind in ("f1", "precision", "recall")}
        axes.barh(rows, values["f1"], color="#c9dcee", label="F1")
        axes.plot(
            values["precision"], rows, color=ORANGE, marker="s", markersize=5, linestyle="none", label="precision"
        )
        axes.plot(values["recall"], rows, color=BLUE, marker="o", markersize=5, linestyle="none", label="recall")
        axes.set_yticks(rows, names, fontsize=8, parse_math=False)
        axes.invert_yaxis()
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        rest = f", the {len(shown)} labels with the lowest F1" if len(shown) < len(per_class) else ""
        axes.set_title(f"{split}: labels with their number of texts{rest}", fontsize=10)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        _tidy(axes, grid="x")


def draw_reliability(measured: dict[str, Any], split: str, file: Path) -> None:
    """Draw how often predictions of each confidence are correct, and how many there are."""
    bins = measured["reliability"]
    width = 1 / CALIBRATION_BINS
    # The mean of a bin may lie on its edge and, through rounding, just outside.
    left = [min(int(b["confidence"] * CALIBRATION_BINS + 1e-9), CALIBRATION_BINS - 1) * width for b in bins]
    several = "confusion_matrix" not in measured
    with picture(file, (5.4, 5)) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color=GRAY, linestyle="dashed", linewidth=1, label="perfect calibration")
        accuracy = [b["accuracy"] for b in bins]
        top.bar(left, accuracy, width, align="edge", color="#a9c8e6", edgecolor=BLUE, linewidth=0.8)
        spans = np.array([wilson(b["accuracy"], b["count"]) for b in bins]).T
        confidence = [b["confidence"] for b in bins]
        top.errorbar(
            confidence, accuracy, yerr=np.maximum(np.abs(spans - accuracy), 0), color="black", linestyle="none",
            marker="o", markersize=3.5, linewidth=0.8, capsize=2, label="measured, with 95 % interval",
        )  # fmt: skip
        top.set_ylabel("share of texts with the label" if several else "share of correct predictions")
        top.set_ylim(0, 1.02)
        top.legend(loc="upper left", fontsize=8, frameon=False)
        unit = "probabilities" if several else "texts"
        top.set_title(f"{split}: ECE {measured['ece']:.4f} ({sum(b['count'] for b in bins):,} {unit})", fontsize=10)
        counts = [b["count"] for b in bins]
        bottom.bar(left, counts, width, align="edge", color="#d9d9d9", edgecolor=GRAY, linewidth=0.8)
        for x, count in zip(left, counts, strict=True):
            bottom.annotate(
                _short_number(count), (x + width / 2, count), (0, 1), textcoords="offset points", ha="center",
                fontsize=6.5,
            )  # fmt: skip
        bottom.set_ylim(0, max(counts) * 1.25)
        bottom.set_ylabel(unit)
        bottom.set_xlabel("predicted probability" if several else "probability of the prediction")
        bottom.set_xlim(0, 1)
        for axes in (top, bottom):
            _tidy(axes)


@contextlib.contextmanager
def picture(file: Path, inches: tuple[float, float], *texts: str) -> Iterator[Figure]:
    """Make an empty figure, which is written atomically as PNG when the block ends without an error.

    Args:
        file: the PNG file.
        inches: width and height.
        texts: the texts of the figure, which determine the fonts.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Use the defaults of matplotlib, whatever style the user has set.
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams["font.sans-serif"] = fonts_for("".join(texts))
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=inches, dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
        FigureCanvasAgg(figure)
        yield figure
        with atomic_path(file) as temporary:
            # Leave out the "Software" entry, because it contains the version of matplotlib.
            figure.savefig(temporary, format="png", metadata={"Software": None})


def fonts_for(text: str) -> list[str]:
    """Installed fonts that may contain the letters of the text, best first; only the default font for ASCII."""
    if text.isascii():
        return ["DejaVu Sans"]
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    wanted = (
        "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei",
        "SimHei", "WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans", "Arial Unicode MS", "Segoe UI",
    )  # fmt: skip
    return ["DejaVu Sans", *(name for name in wanted if name in installed)]


def _most_confused(names: list[str], counts: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """The labels that occur most often in mistakes, in their original order, with all others merged into one."""
    shown = _named(names)
    if len(names) <= MOST_LABELS:
        return shown, counts
    wrong = counts - np.diag(np.diag(counts))
    worst = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[: MOST_LABELS - 1])
    group = np.full(len(names), len(worst))
    group[worst] = np.arange(len(worst))
    merged = np.zeros((MOST_LABELS, MOST_LABELS), np.int64)
    np.add.at(merged, (group[:, None], group[None, :]), counts)
    return [*(shown[i] for i in worst), f"{len(names) - len(worst)} others"], merged


def _tidy(axes: Any, grid: str = "y") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _named(labels: Sequence[str]) -> list[str]:
    """The labels, shortened in the middle. They are numbered if the installed fonts lack any of their letters."""
    names = []
    for label in labels:
        text = " ".join(label.split())
        long = len(text) > LONGEST_LABEL
        names.append(f"{text[: LONGEST_LABEL - 9].rstrip()}…{text[-8:].lstrip()}" if long else text)
    if _can_be_written("".join(names)):
        return names
    return [f"{number}: {name}" for number, name in enumerate(names)]


def _can_be_written(text: str) -> bool:
    if text.isascii():
        return True
    from matplotlib.font_manager import findfont, get_font

    letters = {letter for name in fonts_for(text) for letter in get_font(findfont(name)).get_charmap()}
    return {ord(letter) for letter in text} <= letters


def _wrapped(text: str, inches: float) -> str:
    """Break a title into several lines, so that it is not cut off."""
    import textwrap

    return "\n".join(textwrap.wrap(text, max(20, int(inches * 11))))


def _short_number(value: int) -> str:
    return f"{value}" if value < 10_000 else f"{value / 1000:.0f}k"
