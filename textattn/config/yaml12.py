"""Read YAML with the scalars of YAML 1.2, the line of every key, and messages in plain words.

PyYAML alone reads `no` as false, `1e-3` as text, `010` as 8 and `12:30` as 750, and lets the last of two equal
keys win.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from textattn.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indices of lists, from the root."""
Fault = tuple[tuple[int, ...], str]
"""Something wrong in a text: (line,) or (line, column), counted from 1, and what."""

MAX_DEPTH = 50
# Longer integers fall through to FLOAT, where they become infinite: Python itself refuses to print such numbers.
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
QUOTE = "a quote is opened here and never closed"
ESCAPE = "a backslash in double quotes begins an escape; write two, or use single quotes"
QUOTE_COLON = "quote a text that holds ': '"
LOOK_ABOVE = "look for wrong indentation or a missing ':' in the line above"

# What PyYAML says, what we say instead, and whether the trouble is where the construct began, not where it was noticed.
EXPLANATIONS = (
    ("found character '\\t'", TAB, False),
    ("could not find expected ':'", "expected ':' after this key", True),
    ("mapping values are not allowed", f"unexpected ':'; {LOOK_ABOVE}, or {QUOTE_COLON}", False),
    ("sequence entries are not allowed", f"unexpected '-'; {LOOK_ABOVE}", False),
    ("found unexpected end of stream", QUOTE, True),
    ("found unexpected document separator", QUOTE, True),
    ("found unknown escape", ESCAPE, False),
    ("expected escape sequence", ESCAPE, False),
    ("expected ',' or ']'", "this list is not closed by ']', or lacks a ','", True),
    ("expected ',' or '}'", "this mapping is not closed by '}', or lacks a ','", True),
    ("expected <block end>", f"unexpected text; {LOOK_ABOVE}, or text after a closing quote", False),
    ("expected the node content", "expected a value here; quote a text that holds only signs", False),
    ("expected alphabetic or numeric", "a text that begins with '*' or '&' must be quoted", True),
    ("but found another document", "only one document is allowed; remove the line '---'", False),
    ("that cannot start any token", "a text that begins with this sign must be quoted", False),
)


@dataclass(frozen=True)
class Document:
    """A YAML document as plain Python, and the line (from 1) of each key and list item; () is the root."""

    value: Any
    lines: dict[KeyPath, int]


def parse_yaml(text: str, origin: str) -> Document:
    """Read one document; `origin` is the file name that the messages of a ConfigError begin with."""
    try:
        return _read(text)
    except _YamlError as faults:
        lines = [f"{origin}:{':'.join(map(str, position))}: {what}" for position, what in faults.found]
        raise ConfigError("\n".join(lines)) from None


def parse_value(text: str) -> Any:
    """Read one scalar or flow value such as `1e-3`, `[a, b]` or `{a: 1}`; messages bear no position."""
    try:
        return _read(text, flow_only=True).value
    except _YamlError as faults:
        raise ConfigError("; ".join(what for _, what in faults.found)) from None


def scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar by the YAML 1.2 core schema."""
    if text in WORDS:
        return WORDS[text]
    if INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if FLOAT.fullmatch(text) else text


def dump_yaml(value: Any) -> str:
    """Write plain Python as YAML that YAML 1.1 and 1.2 readers understand alike."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


class _YamlError(Exception):
    """Everything wrong in a text."""

    def __init__(self, found: list[Fault]) -> None:
        self.found = found


class _Loader(yaml.SafeLoader):
    """Composes nodes only; what unquoted scalars mean is decided by `scalar`, and nothing is ever constructed."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        what = None
        if isinstance(event, yaml.AliasEvent):
            # An alias can make a small file grow without bound, and settings have nothing to repeat.
            what = f"aliases (*{event.anchor}) are not supported; write it out, or quote a text that begins with '*'"
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
    """PyYAML quotes what YAML 1.1 would misread; the representer below does so for the rest."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only double quotes have escapes; elsewhere PyYAML writes line breaks such as U+0085 bare and reads them as "\n".
    style = '"' if not text.isprintable() else None if scalar(text) == text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _read(text: str, flow_only: bool = False) -> Document:
    root = _compose(text)
    unquoted = isinstance(root, yaml.ScalarNode) and root.style is None
    if root is None or (unquoted and root.value == ""):
        wanted = "quote a text that begins with '#' or '-'" if flow_only else "a mapping (key: value) is expected"
        raise _YamlError([((1,), f"empty; {wanted}")])
    quoted = isinstance(root, yaml.ScalarNode) and root.style in ("'", '"')
    if flow_only and not (unquoted or quoted or getattr(root, "flow_style", False)):
        raise _YamlError([((1,), f"expected one value, [a, b] or {{a: b}}; {QUOTE_COLON}, or that begins with | or >")])
    lines: dict[KeyPath, int] = {}
    faults: list[Fault] = []
    value = _plain(root, (), _line(root), lines, faults)
    if faults:
        raise _YamlError(sorted(faults))
    return Document(value, lines)


def _compose(text: str) -> yaml.Node | None:
    """The node tree of the text, or a _YamlError that says in plain words where and why there is none."""
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
    except (ValueError, OverflowError):  # PyYAML lets chr() fail on escapes such as "\UFFFFFFFF"
        raise _YamlError([(_position(loader.get_mark()), "this escape is not a Unicode character")]) from None


def _explain(error: yaml.MarkedYAMLError, text: str) -> Fault:
    problem, mark = error.problem or "not YAML", error.problem_mark
    for fragment, words, at_start in EXPLANATIONS:
        if fragment in problem:
            problem, mark = words, error.context_mark if at_start and error.context_mark else mark
            break
    line, column = (mark.line, mark.column) if mark else (0, 0)
    # A tab after spaces is taken for a part of the text above, and PyYAML complains about something else.
    indentation = re.match(r" *\t", text.split("\n")[line]) if line <= text.count("\n") else None
    if indentation:
        problem, column = TAB, indentation.end() - 1
    return (line + 1, column + 1), problem


def _position(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _line(node: yaml.Node) -> int:
    return _position(node.start_mark)[0]


def _plain(node: yaml.Node, path: KeyPath, line: int, lines: dict[KeyPath, int], faults: list[Fault]) -> Any:
    """The node as plain Python; enters the line of each key and item into `lines` and what is wrong into `faults`."""
    lines[path] = line
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), _line(item), lines, faults) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else scalar(node.value)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        here, key = _line(key_node), key_node.value
        fault = _key_fault(key_node)
        if not fault and key in values:
            key_path = (*path, key)
            first = lines[key_path]
            fault = f"duplicate key '{key}' (first on line {first})"
        if fault:
            faults.append(((here,), fault))
        else:
            values[key] = _plain(value_node, (*path, key), here, lines, faults)
    return values


def _key_fault(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be text, not a list or a mapping"
    if node.style:
        return None
    if node.value == "<<":
        return "merge keys (<<) are not supported; write the settings out"
    if node.value == "":
        return "a key is missing before ':'"
    if isinstance(scalar(node.value), str):
        return None
    return f"a key must be text, got {node.value}; write '{node.value}'"
