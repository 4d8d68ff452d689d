"""`textattn predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import Device, Json, Model, flush, out, out_json

if TYPE_CHECKING:
    from textattn.runtime.classifier import Classifier, Prediction


def predict(
    context: typer.Context,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; `-` reads lines from stdin.")
    ] = None,
    model: Model = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="File of texts: one a line, or csv, tsv, jsonl, parquet.")
    ] = None,
    text_column: Annotated[
        list[str] | None, typer.Option("--text-column", help="Column of --input; default: as in training.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="The K most probable labels.")] = 1,
    json: Json = False,
    device: Device = "cpu",
) -> None:
    """Label texts: `textattn predict "The film was a joy."`, `textattn predict < reviews.txt`.

    Prints `label<TAB>score`, one line a text, in order.
    """
    from textattn.cli.texts import read_texts

    classifier, groups = None, None
    groups = read_texts(context, texts or [], input, text_column or [])
    first = next(groups, None) if not input or input == "-" else None
    classifier = open_model(model, device)
    if input and input != "-":
        groups = read_texts(context, [], input, text_column or classifier.config.text_columns)
    if first is not None:
        _print(classifier, first, top_k, json)
    for group in groups:
        _print(classifier, group, top_k, json)


def open_model(model: str | None, device: str) -> Classifier:
    """The model of --model."""
    import textattn

    if device == "auto" or device != "cpu":
        from textattn.training.optimizer import choose_device

        device = str(choose_device(device))
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
