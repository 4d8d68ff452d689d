"""Read YAML with the scalars of YAML 1.2, the line of every key, and clear error messages.

PyYAML alone reads `no` as false, `1e-3` as text, `010` as 8 and `12:30` as 750, and silently uses the last of two equal
keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from textattn.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
"""The position of a value in a document: keys of mappings and indices of lists, from the root."""
Fault = tuple[tuple[int, ...], str]
"""A fault in a text: its position, which is (line,) or (line, column) counted from 1, and a description."""

MAX_DEPTH = 50
# Longer integers are matched by FLOAT instead and become infinite. Python refuses to print integers of that length.
INT = re.compile(r"[-+]?[0-9]{1,1000}|0o[0-7]{1,1000}|0x[0-9a-fA-F]{1,1000}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((sign + word for sign in ("", "+") for word in (".inf", ".Inf", ".INF")), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}

TAB = "a tab cannot be used for indentation or spacing; use spaces"
QUOTE = "this quote is never closed"
ESCAPE = "a backslash in double quotes begins an escape; write two backslashes, or use single quotes"
QUOTE_COLON = "quote a text that contains ': '"
LOOK_ABOVE = "check the line above for wrong indentation or a missing ':'"

# A part of PyYAML's message, our message, and whether the fault lies where the construct begins rather than where
# PyYAML noticed it.
EXPLANATIONS = (
    ("found character '\\t'", TAB, False),
    ("could not find expected ':'", "expected ':' after this key", True),
    ("mapping values are not allowed", f"unexpected ':'; {LOOK_ABOVE}, or {QUOTE_COLON}", False),
    ("sequence entries are not allowed", f"unexpected '-'; {LOOK_ABOVE}", False),
    ("found unexpected end of stream", QUOTE, True),
    ("found unexpected document separator", QUOTE, True),
    ("found unknown escape", ESCAPE, False),
    ("expected escape sequence", ESCAPE, False),
    ("expected ',' or ']'", "this list lacks a closing ']' or a ','", True),
    ("expected ',' or '}'", "this mapping lacks a closing '}' or a ','", True),
    ("expected <block end>", f"unexpected text; {LOOK_ABOVE}, and this line for text after a closing quote", False),
    ("expected the node content", "expected a value here; quote a text made of punctuation", False),
    ("expected alphabetic or numeric", "a text that begins with '*' or '&' must be quoted", True),
    ("but found another document", "only one document is allowed; remove the line '---'", False),
    ("that cannot start any token", "a text that begins with this character must be quoted", False),
)


@dataclass(frozen=True)
class Document:
    """A YAML document as plain Python."""

    value: Any
    lines: dict[KeyPath, int]
    """The line of each key and list item, counted from 1; () is the root."""


def parse_yaml(text: str, origin: str) -> Document:
    """Read one document.

    Raises:
        ConfigError: with the place of every fault in `origin`, the name of the file.
    """
    try:
        return _read(text)
    except _YamlError as error:
        raise ConfigError(
            [Problem(what, place=":".join(map(str, (origin, *position)))) for position, what in error.faults]
        ) from None


def parse_value(text: str, *, as_texts: bool = False) -> Any:
    """Read one scalar or flow value such as `1e-3`, `[a, b]` or `{a: 1}`. Error messages contain no position.

    Args:
        as_texts: take every scalar as text: `[1, no]` holds "1" and "no".
    """
    try:
        return _read(text, flow_only=True, as_texts=as_texts).value
    except _YamlError as error:
        raise ConfigError("; ".join(what for _, what in error.faults)) from None


def scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar according to the YAML 1.2 core schema."""
    if text in WORDS:
        return WORDS[text]
    if INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if FLOAT.fullmatch(text) else text


def dump_yaml(value: Any) -> str:
    """Write plain Python as YAML that YAML 1.1 and 1.2 readers interpret identically."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def dump_flow(value: Any) -> str:
    """Write plain Python as YAML in one line: `[a, b]`."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return text.rstrip("\n")


class _YamlError(Exception):
    """All faults of a text."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults


class _Loader(yaml.SafeLoader):
    """Composes nodes only. `scalar` interprets unquoted scalars, and no Python objects are constructed."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        what = None
        if isinstance(event, yaml.AliasEvent):
            # An alias can make a small file grow without bound, and configs do not need repetition.
            what = f"aliases (*{event.anchor}) are not supported; repeat the value, or quote a text beginning with '*'"
        elif getattr(event, "tag", None) is not None:
            what = "tags (!...) are not supported; quote a text that begins with '!'"
        elif self.depth == MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH} levels deep"
        if what:
            raise _YamlError([(_position(event.start_mark), what)])
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML quotes texts that YAML 1.1 would misread; the representer below also quotes those for YAML 1.2."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only double quotes allow escapes. In other styles PyYAML writes line breaks such as U+0085 as they are, and then
    # reads them as "\n".
    style = '"' if not text.isprintable() else None if scalar(text) == text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _read(text: str, flow_only: bool = False, as_texts: bool = False) -> Document:
    root = _compose(text)
    unquoted = isinstance(root, yaml.ScalarNode) and root.style is None
    if root is None or (unquoted and root.value == ""):
        advice = "quote a text that begins with '#' or '-'" if flow_only else "a mapping (key: value) is expected"
        raise _YamlError([((1,), f"empty; {advice}")])
    quoted = isinstance(root, yaml.ScalarNode) and root.style in ("'", '"')
    if flow_only and not (unquoted or quoted or getattr(root, "flow_style", False)):
        raise _YamlError([((1,), f"expected one value, [a, b] or {{a: b}}; {QUOTE_COLON} or begins with | or >")])
    lines: dict[KeyPath, int] = {}
    faults: list[Fault] = []
    value = _plain(root, (), lines, faults, (lambda text: text) if as_texts else scalar)
    if faults:
        raise _YamlError(sorted(faults))
    return Document(value, lines)


def _compose(text: str) -> yaml.Node | None:
    """Parse the text into a tree of nodes, or raise a _YamlError that says where and why that fails."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        position = (before.count("\n") + 1, error.position - before.rfind("\n"))
        raise _YamlError([(position, f"the character {chr(error.character)!r} is not allowed in YAML")]) from None
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _YamlError([_explain(error, text)]) from None
    except (ValueError, OverflowError):  # In PyYAML, chr() fails on escapes such as "\UFFFFFFFF".
        raise _YamlError([(_position(loader.get_mark()), "this escape is not a Unicode character")]) from None


def _explain(error: yaml.MarkedYAMLError, text: str) -> Fault:
    problem, mark = error.problem or "not YAML", error.problem_mark
    for fragment, words, at_start in EXPLANATIONS:
        if fragment in problem:
            problem, mark = words, error.context_mark if at_start and error.context_mark else mark
            break
    line, column = (mark.line, mark.column) if mark else (0, 0)
    # PyYAML takes a tab after spaces for a continuation of the text above and reports a different problem.
    indentation = re.match(r" *\t", text.split("\n")[line]) if line <= text.count("\n") else None
    if indentation:
        problem, column = TAB, indentation.end() - 1
    return (line + 1, column + 1), problem


def _position(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _line(node: yaml.Node) -> int:
    return _position(node.start_mark)[0]


def _plain(
    node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], faults: list[Fault], read: Callable[[str], Any]
) -> Any:
    """Convert a node to plain Python, adding the line of each key and item to `lines` and faults to `faults`.

    Args:
        read: gives the value of an unquoted scalar.
    """
    lines.setdefault(path, _line(node))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), lines, faults, read) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else read(node.value)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        here, key = _line(key_node), key_node.value
        key_path = (*path, key)
        fault = _key_fault(key_node)
        if not fault and key in values:
            fault = f"duplicate key '{key}' (first on line {lines[key_path]})"
        if fault:
            faults.append(((here,), fault))
        else:
            lines[key_path] = here
            values[key] = _plain(value_node, key_path, lines, faults, read)
    return values


def _key_fault(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be text, not a list or a mapping"
    if node.style:
        return None
    if node.value == "<<":
        return "merge keys (<<) are not supported; repeat the settings"
    if node.value == "":
        return "a key is missing before ':'"
    if isinstance(scalar(node.value), str):
        return None
    return f"a key must be text, got {node.value}; write '{node.value}'"
