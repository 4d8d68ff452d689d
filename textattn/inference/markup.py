"""Text from data as content of HTML: escaped, and every character to be seen."""

from __future__ import annotations

from html import escape

# A control character is shown as a picture of itself: browsers drop, replace or obey it.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    code: 0x2421 if code == 127 else 0xFFFD for code in range(127, 160)
}


def shown(text: str) -> str:
    """Escaped for content and for attributes, control characters made visible."""
    return escape(visible(text))


def visible(text: str) -> str:
    """As long as the text. The carriage return of a Windows line end becomes a space, which is not seen there."""
    return text.replace("\r\n", " \n").translate(_VISIBLE)
