"""What all pictures of explanations share: they are drawn without a screen, and the same input gives the same bytes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.measure.plots import fonts_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150


@contextlib.contextmanager
def picture(file: Path, kind: str, inches: tuple[float, float], text: str) -> Iterator[Figure]:
    """Provides a figure to draw on, and writes it.

    Args:
        kind: png, svg or pdf.
        text: text in the picture, for the choice of fonts.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No date, and ids that do not depend on the process.
    with mpl.rc_context({"svg.hashsalt": "textattn", "font.sans-serif": fonts_for(text)}):
        figure = Figure(figsize=inches, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        # savefig warns of every character that no font here has; it draws a box for it, which says the same.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
            figure.savefig(file, format=kind, metadata=metadata)
