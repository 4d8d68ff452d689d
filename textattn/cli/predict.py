"""`textattn predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import Device, Json, Model, Texts, flush, out, out_json, waiting

if TYPE_CHECKING:
    from textattn.runtime.classifier import Classifier, Prediction


def predict(
    context: typer.Context,
    texts: Texts = None,
    model: Model = None,
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="FILE", help="Texts, one a line; or csv, tsv, jsonl, parquet."),
    ] = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text-column", metavar="NAME", help="Column of --input; default: as in training."),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", metavar="K", min=1, help="The K most probable labels.")] = 1,
    json: Json = False,
    device: Device = "cpu",
) -> None:
    """Label texts.

    \b
    textattn predict "Delicious food, friendly staff." "The soup was cold."
    textattn predict < reviews.txt
    textattn predict --input reviews.csv --json

    Prints label, tab, score: one line a text, in order.
    """
    from textattn.cli.texts import check_source, read_texts

    check_source(context, texts or [], input)
    classifier = open_model(model, device)
    for group in read_texts(texts or [], input, text_column or classifier.config.text_columns):
        _print(classifier, group, top_k, json)


def open_model(model: str | None, device: str) -> Classifier:
    """The model of --model."""
    with waiting("Loading the model …"):
        import textattn

        return textattn.load(model, device)


def _print(classifier: Classifier, texts: list[str], top_k: int, json: bool) -> None:
    for text, prediction in zip(texts, classifier.predict(texts), strict=True):
        if json:
            out_json(as_json(prediction, top_k, classifier.config.multi_label) | {"text": text})
        elif classifier.config.multi_label and top_k == 1:
            given = prediction.labels
            out(f"{','.join(given)}\t{','.join(f'{prediction.scores[label]:.4f}' for label in given)}")
        else:
            out("\t".join(f"{label}\t{score:.4f}" for label, score in _top(prediction, top_k)))
    flush()


def as_json(prediction: Prediction, top_k: int, multi_label: bool) -> dict[str, Any]:
    """With the Hub's names: label and score; scores with more than one label asked for; labels for multi-label."""
    value: dict[str, Any] = {"label": prediction.label, "score": prediction.score}
    if multi_label:
        value["labels"] = [{"label": label, "score": prediction.scores[label]} for label in prediction.labels]
    if top_k > 1:
        value["scores"] = [{"label": label, "score": score} for label, score in _top(prediction, top_k)]
    return value


def _top(prediction: Prediction, top_k: int) -> list[tuple[str, float]]:
    return sorted(prediction.scores.items(), key=lambda item: -item[1])[:top_k]
