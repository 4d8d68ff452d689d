"""Predictions and explanations as they are printed. Light to import."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from textattn.cli.console import flush, note, out, out_json, use_color, waiting
from textattn.errors import InputError

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.runtime.classifier import Classifier, Prediction

# Between two explanations.
RULE = 60
# Rows in the table of the strongest words.
WORDS = 8
# A text must not steer the terminal: control characters are shown as pictures of themselves.
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    code: 0x2421 if code == 127 else 0xFFFD for code in range(127, 160)
}


def open_model(model: str | None, device: str = "cpu", runtime: str | None = None) -> Classifier:
    """The model of --model."""
    with waiting("Loading the model …"):
        import textattn

        return textattn.load(model, device, runtime)


def check_arguments(texts: Sequence[str]) -> None:
    """Refuses a text that is none; cheap, so that it can come before the model is loaded.

    Raises:
        InputError: it is not UTF-8.
    """
    for number, text in enumerate(texts, 1):
        # Python hands over undecodable bytes of the command line as lone surrogates.
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"text {number} of the command line is not UTF-8")


def print_predictions(
    classifier: Classifier, groups: Iterable[Sequence[str]], *, top_k: int = 1, json: bool = False
) -> None:
    """A line a text, as the groups come."""
    multi_label = classifier.config.multi_label
    total = truncated = 0
    for texts in groups:
        tokens = classifier.tokenizer.encode(classifier.normalise(texts))
        total, truncated = total + len(texts), truncated + tokens.num_truncated
        for text, probs in zip(texts, classifier.probabilities(tokens), strict=True):
            prediction = classifier.prediction(probs)
            if json:
                out_json(as_json(prediction, top_k, multi_label) | {"text": text})
            elif multi_label and top_k == 1:
                given = prediction.labels
                out(f"{','.join(given)}\t{','.join(f'{prediction.scores[label]:.4f}' for label in given)}")
            else:
                out("\t".join(f"{label}\t{score:.4f}" for label, score in _top(prediction, top_k)))
        flush()
    note_truncated(classifier, truncated, total)


def note_truncated(classifier: Classifier, truncated: int, total: int) -> None:
    """Says how many texts were not read in full."""
    if truncated:
        length, kept = classifier.tokenizer.max_length, classifier.tokenizer.truncation
        note(f"{truncated:,} of {total:,} texts are longer than the {length} tokens that are read ({kept})", "Note")


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


def print_explanations(
    classifier: Classifier,
    groups: Iterable[Sequence[str]],
    *,
    target: str | None = None,
    words: int = WORDS,
    json: bool = False,
) -> None:
    """Highlighted texts with their strongest words, or a JSON line each, as the groups come."""
    shown = 0
    for texts in groups:
        for explanation in classifier.explain(texts, target):
            if json:
                out_json(_explanation_as_json(explanation, classifier.config.multi_label))
            else:
                _print_explanation(explanation, words, classifier.config.multi_label, separate=shown > 0)
            shown += 1
        flush()


def _explanation_as_json(explanation: Explanation, multi_label: bool) -> dict[str, Any]:
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


def _print_explanation(explanation: Explanation, words: int, multi_label: bool, *, separate: bool) -> None:
    """On a terminal wrapped at words; in a pipe the text is passed on as it is."""
    import shutil

    from textattn.explain.terminal import render

    color = use_color(sys.stdout)
    console, width = None, shutil.get_terminal_size().columns
    if color or sys.stdout.isatty():
        # Only a terminal needs rich.
        from rich.console import Console

        console = Console(highlight=False, markup=False, emoji=False, no_color=not color, force_terminal=color or None)
        color = color and console.color_system is not None
        width = console.width
    lines = render(explanation, words, color=color, multi_label=multi_label, width=width)
    if separate:
        out("\n" + "-" * min(width, RULE) + "\n")
    for line in lines:
        if console is not None and (color or sys.stdout.isatty()):
            from rich.text import Text

            pieces = [(piece.translate(VISIBLE), style) for piece, style in line]
            console.print(Text.assemble(*pieces), soft_wrap=not sys.stdout.isatty())
        else:
            out("".join(piece for piece, _ in line))
