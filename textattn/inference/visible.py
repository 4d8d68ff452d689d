"""Names and texts of strangers, made harmless where a person reads them: on a terminal and in documents.

A label, a column or a file name may hold anything: sequences that clear the screen or write to the clipboard,
characters that turn the direction of writing round, line breaks that make one answer look like two. Light to import.
"""

from __future__ import annotations

import re

# Printed in the place of a label where there is none.
UNSURE = "?"
# With a larger share of unknown tokens, a text is said to be mostly unknown.
MOSTLY = 0.5
# A control character is shown as a picture of itself, or as the replacement character where there is none. Tab and line
# feed are layout. As long as the text, so that positions in it stay right.
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    code: 0x2421 if code == 127 else 0xFFFD for code in range(127, 160)
}
# They change the order in which the characters after them are shown. Marks such as U+200F, which right-to-left writing
# needs, only concern their neighbours and stay.
TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
_VISIBLE = CONTROLS | TURNS
# All at which str.splitlines would end a line.
_BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def visible(text: str) -> str:
    """The text with all characters shown and none obeyed; line feeds and tabs stay."""
    return text.translate(_VISIBLE)


def short_number(value: float) -> str:
    """A number with four digits, or with all digits before the point: `0.3838`, `88,090`."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def one_line(text: str) -> str:
    r"""The text with line breaks as Python writes them: `\n`."""
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
