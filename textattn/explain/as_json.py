"""Explanations as JSON, the same on the command line and in the server. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from textattn.inference.as_json import as_json

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.inference.words import Word


def explanation_as_json(
    explanation: Explanation, multi_label: bool, verdict: str | None, top_k: int = 1
) -> dict[str, Any]:
    """An explanation as `explain --json` prints it.

    Args:
        verdict: how far the method can be trusted for this model; None where that was not measured.
        top_k: also the scores of so many labels, if more than one.
    """
    value = as_json(explanation.prediction, top_k, multi_label) | {
        "text": explanation.text,
        "target": explanation.target,
        "method": explanation.method,
        "tokens": explanation.tokens,
        "offsets": explanation.offsets,
        "weights": explanation.weights,
        "attention_weights": explanation.attention_weights,
        "words": [
            word | {"attention": attention}
            for word, attention in zip(words_as_json(explanation.words), explanation.word_attention, strict=True)
        ],
        "truncated": explanation.truncated,
    }
    if explanation.windows is not None:
        value["windows"] = [asdict(window) for window in explanation.windows]
    if explanation.total is not None:
        value |= {"contributions": explanation.contributions, "sum": asdict(explanation.total)}
    if explanation.against is not None:
        value["against"] = explanation.against
    if explanation.completeness_error is not None:
        value["completeness_error"] = explanation.completeness_error
    return value | {"verdict": verdict}


def words_as_json(words: Sequence[Word]) -> list[dict[str, Any]]:
    """Words with their characters of the text and their weights."""
    return [{"word": word.text, "start": word.start, "end": word.end, "weight": word.weight} for word in words]
