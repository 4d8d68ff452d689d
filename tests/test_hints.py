"""Commands that messages and help texts tell people to type: each is understood by the command line."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import textattn
from textattn.cli import console
from textattn.cli.app import app

PACKAGE = Path(textattn.__file__).parent
# One command in another one.
INNER = re.compile(r'"\$\([^)]*\)"|"\$\(textattn[^)"]*')
# A command stands at the start of a string or a line, or in the running text after one of these.
COMMAND = re.compile(r"(?:^[#\s]*|[`(:;,] ?|\bor )textattn +(?!\d)([^`\n]+)(`?)", re.M)
# Where the words for the shell or for the reader begin again.
END = re.compile(r"[<>|#;]|: |\)")
# Strings that begin like a command but are none: the title of the schema, and what needs an extra package.
NO_COMMAND = {"config", "tune"}


def texts_of(file: Path) -> Iterator[tuple[int, str]]:
    """The strings of a file with their lines; 1, a word and a number, stands for what a program fills in."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.lineno, node.value


def commands() -> dict[str, list[str]]:
    """Place in the source and text -> the words after `textattn`; … stands for another command."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for line, text in texts_of(file):
            for match in COMMAND.finditer(text):
                words = shlex.split(INNER.sub("RUN", END.split(match[1])[0].replace("…", "schema")))
                if words and (match[2] or shlex.join(words) not in NO_COMMAND):
                    # In backticks, a word alone is the name of a command and not one to be typed.
                    words += ["--help"] if len(words) == 1 and match[2] else []
                    found[f"{file.relative_to(PACKAGE)}:{line}: textattn {shlex.join(words)}"] = words
    return found


COMMANDS = commands()


def parse(words: list[str]) -> None:
    """What the command line does before it runs a command; raises the usage error where it would refuse."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("textattn", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.fixture(autouse=True)
def flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing --quiet and --debug sets them."""
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setattr(console, "_debug", False)


@pytest.mark.parametrize("place", COMMANDS)
def test_a_command_that_people_are_told_to_type_is_understood(place: str) -> None:
    # --help is said before anything else, and ends the parsing.
    with contextlib.suppress(typer.Exit):
        parse(COMMANDS[place])


def test_all_kinds_of_places_are_looked_at() -> None:
    found = [" ".join(words) for words in COMMANDS.values()]
    for command in ("evaluate DATA", "configs show {}", "train quickstart", "cache --clear", "info runs/imdb"):
        assert command in found
    assert {words[0] for words in COMMANDS.values()} >= {"audit", "check", "export", "predict", "schema", "tune"}


@pytest.mark.parametrize(
    "words", ["trian x", "trian --help", "train", "evaluate --modell x", "info a b", "configs show", "predict -k x"]
)
def test_a_wrong_command_would_be_found(words: str) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        parse(words.split())
    assert type(caught.value).__name__ in ("NoSuchOption", "UsageError", "MissingParameter", "BadParameter")
