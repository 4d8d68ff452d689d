"""`textattn explain`."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import Device, Json, Model, flush, out_json, use_color
from textattn.cli.predict import as_json, open_model
from textattn.cli.texts import read_texts

if TYPE_CHECKING:
    from textattn.runtime.classifier import Explanation


def explain(
    context: typer.Context,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; `-` reads lines from stdin.")
    ] = None,
    model: Model = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Label to explain; default: the predicted one.")
    ] = None,
    words: Annotated[int, typer.Option("--words", "-w", min=0, help="Rows in the table of the strongest words.")] = 8,
    json: Json = False,
    device: Device = "cpu",
) -> None:
    """Show which words the model attended to: `textattn explain "The film was a joy."`."""
    groups = read_texts(context, texts or [], None, [])
    first = next(groups, [])
    classifier = open_model(model, device)
    shown = 0
    for group in itertools.chain([first], groups):
        for explanation in classifier.explain(group, target):
            if json:
                out_json(_as_json(explanation, classifier.config.multi_label))
            else:
                _print(explanation, words, classifier.config.multi_label, separate=shown > 0)
            shown += 1
        flush()


def _as_json(explanation: Explanation, multi_label: bool) -> dict[str, Any]:
    return as_json(explanation.prediction, 1, multi_label) | {
        "text": explanation.text,
        "target": explanation.target,
        "method": explanation.method,
        "tokens": explanation.tokens,
        "offsets": explanation.offsets,
        "attention_weights": explanation.weights,
        "words": [{"word": w.text, "start": w.start, "end": w.end, "weight": w.weight} for w in explanation.words],
        "truncated": explanation.truncated,
    }


def _print(explanation: Explanation, words: int, multi_label: bool, *, separate: bool) -> None:
    from rich.console import Console

    from textattn.explain.terminal import render

    color = use_color(sys.stdout)
    console = Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, no_color=not color, force_terminal=color or None
    )
    if separate:
        console.print()
    for line in render(explanation, words, color=color, multi_label=multi_label, width=console.width):
        console.print(line)
