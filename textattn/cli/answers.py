"""Predictions as they are printed. Light to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from textattn.cli.console import flush, note, out, out_json, waiting
from textattn.data.segments import is_blank
from textattn.errors import InputError
from textattn.inference.visible import UNSURE, one_line

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier, Prediction


def open_model(model: str | None, device: str = "cpu", runtime: str | None = None) -> Classifier:
    """The model of --model; if none is named and there are several, a note says which one it is."""
    with waiting("Loading the model …"):
        import textattn
        from textattn.storage.find_model import finished_runs, given_name

        runs = [] if given_name(model) else finished_runs()
        classifier = textattn.load(runs[0] if runs else model, device, runtime)
    if len(runs) > 1:
        note(f"The model is {runs[0]}, the newest of {len(runs):,} finished runs", "Note")
    return classifier


def check_arguments(texts: Sequence[str], *, skip: bool = False) -> None:
    """Refuses a text that is none; cheap, so that it can come before the model is loaded.

    Args:
        skip: leave one that is empty to `print_predictions`.

    Raises:
        InputError: it is not UTF-8, or empty.
    """
    for number, text in enumerate(texts, 1):
        # Python hands over undecodable bytes of the command line as lone surrogates.
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"text {number} of the command line is not UTF-8")
        if is_blank(text) and not skip:
            raise InputError(f"text {number} of the command line is empty; expected a text")


def print_predictions(
    classifier: Classifier,
    groups: Iterable[Sequence[str]],
    *,
    top_k: int = 1,
    min_score: float = 0.0,
    json: bool = False,
) -> None:
    """A line a text, as the groups come; an empty text has no answer: `?` without a score."""
    multi_label = classifier.config.multi_label
    total = truncated = unsure = 0
    for texts in groups:
        given = [text for text in texts if not is_blank(text)]
        tokens = classifier.tokenizer.encode(classifier.normalise(given))
        total, truncated = total + len(given), truncated + tokens.num_truncated
        answers = iter(classifier.probabilities(tokens))
        for text in texts:
            if is_blank(text):
                if json:
                    out_json({"label": None, "score": None, "text": text})
                else:
                    out(f"{UNSURE}\t")
                continue
            probs = next(answers)
            prediction = classifier.prediction(probs, min_score)
            is_unsure = prediction.score < min_score
            unsure += is_unsure
            if json:
                unsure_or_not = {"label": None} if is_unsure else {}
                out_json(as_json(prediction, top_k, multi_label) | unsure_or_not | {"text": text})
            elif top_k == 1:
                out(prediction.line(min_score))
            else:
                out("\t".join(f"{one_line(label)}\t{score:.4f}" for label, score in _top(prediction, top_k)))
        flush()
    note_truncated(classifier, truncated, total)
    note_unsure(min_score, unsure, total)


def note_unsure(min_score: float, unsure: int, total: int) -> None:
    """Says how many texts got no label."""
    if unsure:
        note(f"{unsure:,} of {total:,} texts got no label: the most probable one has less than {min_score:g}", "Note")


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
