"""`textattn explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import Device, Json, Model, Texts, flush, out, out_json, use_color
from textattn.cli.predict import as_json, open_model

if TYPE_CHECKING:
    from textattn.runtime.classifier import Explanation

# Between two explanations.
RULE = 60
# A text must not steer the terminal: control characters are shown as pictures of themselves.
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    code: 0x2421 if code == 127 else 0xFFFD for code in range(127, 160)
}


def explain(
    context: typer.Context,
    texts: Texts = None,
    model: Model = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="LABEL", help="Label to explain; default: the predicted one.")
    ] = None,
    words: Annotated[
        int, typer.Option("--words", "-w", metavar="N", min=0, help="Rows in the table of the strongest words.")
    ] = 8,
    json: Json = False,
    device: Device = "cpu",
) -> None:
    """Show which words the model attended to.

    \b
    textattn explain "Delicious food, friendly staff."
    textattn explain --json < reviews.txt
    """
    from textattn.cli.texts import check_source, read_texts

    check_source(context, texts or [])
    classifier = open_model(model, device)
    shown = 0
    for group in read_texts(texts or []):
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
    """On a terminal wrapped at words; in a pipe the text is passed on as it is."""
    from rich.console import Console
    from rich.text import Text

    from textattn.explain.terminal import render

    color = use_color(sys.stdout)
    console = Console(highlight=False, markup=False, emoji=False, no_color=not color, force_terminal=color or None)
    color = color and console.color_system is not None
    lines = render(explanation, words, color=color, multi_label=multi_label, width=console.width)
    if separate:
        out("\n" + "-" * min(console.width, RULE) + "\n")
    for line in lines:
        if color or sys.stdout.isatty():
            pieces = [(piece.translate(VISIBLE), style) for piece, style in line]
            console.print(Text.assemble(*pieces), soft_wrap=not sys.stdout.isatty())
        else:
            out("".join(piece for piece, _ in line))
