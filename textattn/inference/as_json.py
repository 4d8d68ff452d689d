"""Answers as JSON, the same on the command line and in the server. Light to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textattn.inference.classifier import Prediction


def as_json(prediction: Prediction, top_k: int, multi_label: bool) -> dict[str, Any]:
    """With the Hub's names: label and score; scores with more than one label asked for; labels for multi-label;
    of a number the interval."""
    value: dict[str, Any] = {"label": prediction.label, "score": prediction.score}
    if prediction.is_number:
        return value | {"low": prediction.low, "high": prediction.high}
    if multi_label:
        value["labels"] = [{"label": label, "score": prediction.scores[label]} for label in prediction.labels]
    if top_k > 1:
        value["scores"] = [{"label": label, "score": score} for label, score in top_scores(prediction, top_k)]
    return value


def answer_as_json(
    prediction: Prediction, text: str, *, multi_label: bool, top_k: int = 1, min_score: float = 0.0
) -> dict[str, Any]:
    """The answer to a text, as `predict --json` prints it; no label where it is too unsure or the text unreadable."""
    no_label = {"label": None} if prediction.is_unsure(min_score) or not prediction.is_readable else {}
    return as_json(prediction, top_k, multi_label) | no_label | {"unknown": prediction.unknown, "text": text}


def top_scores(prediction: Prediction, top_k: int) -> list[tuple[str, float]]:
    """The most probable labels with their probabilities, the most probable first."""
    return sorted(prediction.scores.items(), key=lambda item: -item[1])[:top_k]
