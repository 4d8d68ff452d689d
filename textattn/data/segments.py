"""A text of several columns is one string: its segments, joined by tabs."""

from __future__ import annotations

from collections.abc import Iterable

SEGMENT_SEPARATOR = "\t"


def join_segments(segments: Iterable[str | None]) -> str:
    """One string of several; a tab inside a segment becomes a space, a missing segment is empty."""
    return SEGMENT_SEPARATOR.join((segment or "").replace(SEGMENT_SEPARATOR, " ") for segment in segments)
