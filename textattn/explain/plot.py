"""An explanation as a picture: bars over the words, and heat maps of heads and of tokens that attend to one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.explain.elements import by_element
from textattn.explain.explanations import Explanation
from textattn.explain.pictures import picture
from textattn.explain.trace import MOST_MAPPED, Trace, has_map, trace
from textattn.inference.classifier import Classifier
from textattn.inference.words import find_words
from textattn.measure.plots import BLUE, ORANGE, VERMILLION
from textattn.storage.run_dir import WEIGHTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of a longer text the strongest words are drawn, in their order.
MOST_WORDS = 40
INCHES_PER_WORD = 0.32
LONGEST_LABEL = 24
BARS_INCHES = 3.2
# Of a map of what tokens attend to.
INCHES_PER_CELL = 0.18
MAP_MARGIN = 1.1
WIDEST_INCHES = 14.0


def draw(explanation: Explanation, classifier: Classifier, file: Path, kind: str) -> None:
    """Writes a picture of the words' weights.

    With `attention` there is more below the bars, if the model has model.safetensors: of several heads a row of a heat
    map for each, and of tokens that attend to one another (`self_attention`) a map for each head, if the text is short.

    Args:
        kind: png, svg or pdf.
    """
    # Only PyTorch tells heads apart.
    several = classifier.config.architecture["num_heads"] > 1 and classifier.files.has(WEIGHTS)
    looks_inside = explanation.method == "attention" and (several or has_map(classifier))
    inside = trace(classifier, explanation.text) if looks_inside else None
    heads = None if inside is None else head_weights(explanation, classifier, inside)
    if classifier.tokenizer.reads_formulas:
        explanation = by_element(explanation)
    shown = _shown(explanation)
    width = max(4.0, 1.6 + INCHES_PER_WORD * len(shown))
    if inside is not None and inside.attention_map is not None and len(inside.tokens) <= MOST_MAPPED:
        _draw_maps(explanation, inside.tokens, inside.attention_map, file, kind, width)
        return
    rows = 0 if heads is None else len(heads)
    with picture(file, kind, (width, BARS_INCHES + 0.3 * rows), explanation.text) as figure:
        if heads is None:
            _bars(figure.subplots(), explanation, shown)
        else:
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, max(1, 0.3 * rows)])
            _bars(top, explanation, shown)
            _heat_map(figure, bottom, heads[:, shown], explanation, shown)
        figure.suptitle(_title(explanation), fontsize=10)


def head_weights(explanation: Explanation, classifier: Classifier, inside: Trace) -> NDArray[np.float64] | None:
    """(heads, words, or elements of a formula) of a mechanism with several heads; None for others."""
    if inside.head_weights is None or len(inside.head_weights) < 2:
        return None
    (tokenized,) = classifier.tokenizer.encode_with_offsets([explanation.text])
    spans = find_words(explanation.text, tokenized)
    by_word = []
    for head in inside.head_weights.astype(np.float64).tolist():
        weighed = replace(explanation, words=spans.words(explanation.text, head))
        if classifier.tokenizer.reads_formulas:
            weighed = by_element(weighed)
        by_word.append([word.weight for word in weighed.words])
    return np.array(by_word)


def _draw_maps(
    explanation: Explanation, tokens: list[str], maps: NDArray[np.float32], file: Path, kind: str, width: float
) -> None:
    """The bars, and below them what each token (row) attends to (columns), for each head."""
    heads, side = len(maps), MAP_MARGIN + INCHES_PER_CELL * len(tokens)
    columns = min(heads, max(1, int(WIDEST_INCHES / side)))
    rows = -(-heads // columns)
    width = max(width, columns * side + 0.8)
    with picture(file, kind, (width, BARS_INCHES + rows * side), explanation.text) as figure:
        grid = figure.add_gridspec(1 + rows, columns, height_ratios=[BARS_INCHES, *[side] * rows])
        _bars(figure.add_subplot(grid[0, :]), explanation, _shown(explanation))
        names = [_shorten(token) for token in tokens]
        drawn = []
        for head, weights in enumerate(maps):
            axes = figure.add_subplot(grid[1 + head // columns, head % columns])
            drawn.append(axes)
            image = axes.imshow(weights, cmap="Oranges", vmin=0, vmax=float(maps.max()))
            axes.set_title(f"head {head + 1}: row attends to column", fontsize=8)
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
            axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
        figure.colorbar(image, ax=drawn, pad=0.01, shrink=0.8).ax.tick_params(labelsize=6)
        figure.suptitle(_title(explanation), fontsize=10)


def _shown(explanation: Explanation) -> list[int]:
    """The words that are drawn, in the order of the text."""
    words = explanation.words
    strongest = sorted(range(len(words)), key=lambda i: -abs(words[i].weight))[:MOST_WORDS]
    return sorted(strongest)


def _bars(axes: Any, explanation: Explanation, shown: list[int]) -> None:
    weights = [explanation.words[i].weight for i in shown]
    colors = [BLUE if w > 0 else VERMILLION for w in weights] if explanation.signed else [ORANGE] * len(weights)
    axes.bar(range(len(shown)), weights, color=colors, width=0.75)
    _name_words(axes, explanation, shown)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if explanation.signed:
        axes.set_ylabel(f"against   {explanation.target}   for", fontsize=8)
    else:
        axes.set_ylabel("attention", fontsize=8)
        axes.axhline(1 / max(len(explanation.words), 1), color="gray", linewidth=0.6, linestyle="dotted")
    axes.tick_params(axis="y", labelsize=7)


def _heat_map(
    figure: Figure, axes: Any, heads: NDArray[np.float64], explanation: Explanation, shown: list[int]
) -> None:
    image = axes.imshow(heads, aspect="auto", cmap="Oranges", vmin=0)
    axes.set_yticks(range(len(heads)), [f"head {n}" for n in range(1, len(heads) + 1)], fontsize=7)
    _name_words(axes, explanation, shown)
    figure.colorbar(image, ax=axes, pad=0.01).ax.tick_params(labelsize=6)


def _name_words(axes: Any, explanation: Explanation, shown: list[int]) -> None:
    names = [_shorten(explanation.words[i].text) for i in shown]
    upright = max(map(len, names), default=0) <= 3
    # A dollar sign is no formula here.
    axes.set_xticks(
        range(len(shown)), names, rotation=0 if upright else 60, ha="center" if upright else "right",
        rotation_mode="anchor", fontsize=9 if upright else 8, parse_math=False,
    )  # fmt: skip


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def _title(explanation: Explanation) -> str:
    prediction = explanation.prediction
    answer = f"{prediction.label} {prediction.score:.3f}"
    hidden = len(explanation.words) - min(len(explanation.words), MOST_WORDS)
    rest = f", the {MOST_WORDS} strongest of {len(explanation.words)} words" if hidden else ""
    other = f" rather than {explanation.against}" if explanation.against else ""
    why = f"why {explanation.target}{other}" if explanation.signed else "where it looked"
    return f"{answer}: {why} ({explanation.method}{rest})"
