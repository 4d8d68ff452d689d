"""`textattn explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from textattn.cli.answers import WORDS, check_arguments, open_model, print_explanations
from textattn.cli.options import Device, Json, Model, Runtime, Texts


def explain(
    context: typer.Context,
    texts: Texts = None,
    model: Model = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="LABEL", help="Label to explain; default: the predicted one.")
    ] = None,
    words: Annotated[
        int, typer.Option("--words", "-w", metavar="N", min=0, help="Rows in the table of the strongest words.")
    ] = WORDS,
    json: Json = False,
    device: Device = "cpu",
    runtime: Runtime = None,
) -> None:
    """Show which words the model attended to.

    \b
    textattn explain "Delicious food, friendly staff."
    textattn explain --json < reviews.txt
    """
    from textattn.cli.texts import read_texts, require_texts

    require_texts(context, texts or [])
    check_arguments(texts or [])
    classifier = open_model(model, device, runtime)
    print_explanations(classifier, read_texts(texts or []), target=target, words=words, json=json)
