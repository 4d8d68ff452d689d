"""The contributions of the elements to a label, as a picture of the periodic table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textattn.explain.elements import ElementMean
from textattn.explain.pictures import picture
from textattn.measure.plots import BLUE, GRAY, VERMILLION
from textattn.tokens.elements import PLACES, SYMBOLS

INCHES = (11.0, 6.6)
PALE, UNSEEN = "#f7f7f5", "#dcdcda"
# The part of a cell that is filled.
FILLED = 0.94
# The f block stands below the table, after a gap of this many rows.
GAP = 0.4


def place_of(symbol: str) -> tuple[int, float]:
    """Column, 1 to 18, and row, from 1 at the top; the f block fills columns 3 to 16 of two rows below the others."""
    place = PLACES[symbol]
    if place.block == "f":
        return 2 + place.electrons[3], place.period + 2 + GAP
    return place.group, place.period


def draw_table(
    means: Mapping[str, ElementMean], label: str, file: Path, kind: str, *, method: str, num_texts: int
) -> None:
    """Writes a picture of the table: the stronger the colour, the larger the mean; elements without one are grey.

    Args:
        means: symbol -> mean contribution to the label.
        kind: png, svg or pdf.
        method: what weighed the elements.
        num_texts: formulas that the means are over.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    top = max((abs(found.mean) for found in means.values()), default=0.0) or 1.0
    scale = ScalarMappable(
        Normalize(-top, top), LinearSegmentedColormap.from_list("against to for", [VERMILLION, PALE, BLUE])
    )
    with picture(file, kind, INCHES, label) as figure:
        axes = figure.subplots()
        axes.set(xlim=(0.4, 18.6), ylim=(9.6 + GAP, 0.4), aspect="equal")
        axes.axis("off")
        for symbol in SYMBOLS:
            _cell(axes, symbol, means.get(symbol), scale)
        bar = figure.colorbar(scale, cax=axes.inset_axes((0.2, 0.86, 0.42, 0.025)), orientation="horizontal")
        bar.ax.tick_params(labelsize=7)
        bar.ax.set_title(f"against   {_shorten(label)}   for", fontsize=8, parse_math=False)
        title = f"why {_shorten(label)} ({method}): mean of each element over the formulas that have it"
        figure.suptitle(f"{title}, with their number; {num_texts:,} formulas in all", fontsize=10, parse_math=False)


def _cell(axes: Any, symbol: str, found: ElementMean | None, scale: Any) -> None:
    from matplotlib.patches import Rectangle

    column, row = place_of(symbol)
    half = FILLED / 2
    color = UNSEEN if found is None else scale.to_rgba(found.mean)
    axes.add_patch(Rectangle((column - half, row - half), FILLED, FILLED, facecolor=color, linewidth=0))
    ink = GRAY if found is None else "black"
    name_at = row if found is None else row - 0.18
    axes.text(column, name_at, symbol, ha="center", va="center", color=ink, fontsize=11)
    if found is not None:
        axes.text(column, row + 0.14, _number(found.mean), ha="center", va="center", color=ink, fontsize=6.5)
        axes.text(column, row + 0.35, f"{found.num_texts:,}", ha="center", va="center", color=ink, fontsize=5)


def _number(mean: float) -> str:
    shown = f"{mean:+.2f}".replace("-", "−")
    return "0.00" if shown[1:] == "0.00" else shown


def _shorten(label: str) -> str:
    label = " ".join(label.split())
    return label if len(label) <= 40 else label[:39] + "…"
