"""Text from data as content of HTML: escaped, and every character to be seen."""

from __future__ import annotations

from html import escape

from textattn.inference.visible import CONTROLS


def shown(text: str) -> str:
    """Escaped for content and for attributes, control characters made visible."""
    return escape(visible(text))


def visible(text: str) -> str:
    """As long as the text, with control characters shown, which browsers drop, replace or obey.

    The carriage return of a Windows line end becomes a space, which is not seen there. Turns of direction stay: `bdi`
    elements hold them in.
    """
    return text.replace("\r\n", " \n").translate(CONTROLS)
