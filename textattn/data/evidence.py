"""Human evidence: the parts of a text that people marked as the reason for its label."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]
"""(spans, 2) characters of the text, half-open."""


def parse_evidence(text: str, value: Any, tokens: Any = None) -> Spans | None:
    """The spans that a cell of the evidence column means; None where it is empty.

    Args:
        value: pairs of character positions, or passages of the text as strings, or, with `tokens`, a 0 or 1 for each
            token; a list, or one as JSON.
        tokens: the strings that the flags are about, found in the text one after the other.

    Raises:
        ValueError: it is neither; the message says what was expected.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        value = _from_json(value)
    if value is None or (isinstance(value, list) and not value):
        return None
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {str(value)[:40]!r}")
    return _from_pairs(text, value) if tokens is None else _from_flags(text, value, tokens)


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"expected a list, got {value[:40]!r}") from None


def _from_pairs(text: str, value: list[Any]) -> Spans:
    if all(isinstance(passage, str) for passage in value):
        return np.array([_find(text, passage) for passage in value], np.int64)
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)):
            raise ValueError(f"expected pairs [start, end] of characters or strings, got {str(pair)[:40]!r}")
        if not 0 <= pair[0] < pair[1] <= len(text):
            raise ValueError(f"span {pair} is outside the text, which has {len(text)} characters")
    return np.array(value, np.int64)


def _find(text: str, passage: str) -> tuple[int, int]:
    """The first place of a passage, whatever its white space: line ends get lost when people copy."""
    words = passage.split()
    found = re.search(r"\s+".join(map(re.escape, words)), text) if words else None
    if found is None:
        raise ValueError(f"{passage[:40]!r} is not in the text")
    return found.span()


def _from_flags(text: str, value: list[Any], tokens: Any) -> Spans | None:
    if isinstance(tokens, str):
        tokens = _from_json(tokens) if tokens.lstrip().startswith("[") else tokens.split()
    if not isinstance(tokens, list) or len(tokens) != len(value):
        count = len(tokens) if isinstance(tokens, list) else "no"
        raise ValueError(f"{len(value)} flags for {count} tokens")
    spans: list[tuple[int, int]] = []
    position = 0
    for token, flag in zip(tokens, value, strict=True):
        if flag not in (0, 1):
            raise ValueError(f"expected 0 or 1 for each token, got {flag!r}")
        if not isinstance(token, str):
            raise ValueError(f"expected strings as tokens, got {token!r}")
        start = text.find(token, position)
        if start < 0:
            raise ValueError(f"token {token[:40]!r} is not in the text after character {position}")
        position = start + len(token)
        if flag and spans and not text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], position)
        elif flag:
            spans.append((start, position))
    return np.array(spans, np.int64) if spans else None


def marked_tokens(spans: Spans, offsets: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """(tokens,) which tokens share a character with the evidence."""
    starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    return np.asarray(((starts[:, None] < spans[:, 1]) & (ends[:, None] > spans[:, 0])).any(axis=1))
