"""Reads README.md and docs/*.md: fenced blocks, inline code, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\$ )?(textattn .*|torchrun .*|[^|`]+ \| textattn .*)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block and the language behind its fence, empty where none is given."""

    language: str
    content: str

    @property
    def commands(self) -> list[str]:
        """The lines that call textattn, those that a backslash continues as one. A Python or YAML block has none."""
        return [] if self.language in ("python", "yaml") else COMMAND.findall(re.sub(r"\\\n\s*", "", self.content))

    @property
    def file_name(self) -> str | None:
        """The name in the first comment of a YAML block, such as `# mine.yaml`."""
        named = re.match(r"# (\S+\.yaml)\n", self.content)
        return None if named is None else named[1]


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(page))


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and mkdocs both build them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row, without heads and rules."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith("| `"):
            yield cells
