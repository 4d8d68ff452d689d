"""YAML with the scalars of YAML 1.2, the lines of keys, and syntax errors in plain words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.config.yaml12 import parse_yaml
from textattn.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("null", "Null", "NULL", "~", "")),
        *((word, word) for word in ("no", "yes", "on", "off", "y", "n", "No", "tRUE", "nULL")),
        *((word, word) for word in ("2024-01-02", "12:30:45", "1_000", "0b1", "1e", "e3", ".", "+", "0x", "0o8")),
        *((word, word) for word in ("2024-01-02T00:00:00Z", "1.2.3", "--1", "inf", "nan", "+.nan", "=")),
        *(("010", 10), ("0", 0), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("08", 8)),
        *(("1e-3", 1e-3), ("1E3", 1e3), (".5", 0.5), ("5.", 5.0), ("-1.5e+2", -150.0), ("1.", 1.0)),
        *((".inf", math.inf), ("-.INF", -math.inf), ("+.Inf", math.inf), ("9" * 5000, math.inf)),
        *(("'1e-3'", "1e-3"), ('"no"', "no"), ("'null'", "null"), ("''", ""), ('"a\\tb"', "a\tb"), ("a#b", "a#b")),
        *(("[1, no, ~]", [1, "no", None]), ("{a: {b: 010}}", {"a": {"b": 10}}), ("[]", []), ("|\n  x\n", "x\n")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = parse_yaml(f"key: {text}", "x.yaml").value["key"]
    assert (type(read), read) == (type(value), value)


def test_nan() -> None:
    assert all(math.isnan(number) for number in parse_yaml("[.nan, .NaN, .NAN]", "x.yaml").value)


def test_lines_of_keys_and_items() -> None:
    document = parse_yaml("# title\n\na: 1\nb:\n  c: [x,\n    y]\n  d:\n    - z\n    -\n      e: 2\n", "x.yaml")
    assert document.value == {"a": 1, "b": {"c": ["x", "y"], "d": ["z", {"e": 2}]}}
    lines = {(): 3, ("a",): 3, ("b",): 4, ("b", "c"): 5, ("b", "c", 0): 5, ("b", "c", 1): 6, ("b", "d"): 7}
    assert document.lines == {**lines, ("b", "d", 0): 8, ("b", "d", 1): 10, ("b", "d", 1, "e"): 10}


LOOK_ABOVE = "check the line above for wrong indentation or a missing ':'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "2: duplicate key 'a' (first on line 1)"),
        (
            "b:\n  a: 1\n  c: {x: 1, x: 2}\n  'a': 3\n",
            ["3: duplicate key 'x' (first on line 3)", "4: duplicate key 'a' (first on line 2)"],
        ),
        ("a: {0: x, ~: z}", [f"1: a key must be text, got {key}; write '{key}'" for key in ("0", "~")]),
        ("a:\n  [b]: 1\n", "2: a key must be text, not a list or a mapping"),
        ("a:\n  ?\n  : 2\n", "2: a key is missing before ':'"),
        ("<<: {a: 1}", "1: merge keys (<<) are not supported; repeat the settings"),
        ("a: &x 1\nb: *x", "2:4: aliases (*x) are not supported; repeat the value, or quote a text beginning with '*'"),
        ("a: *.csv", "1:4: a text that begins with '*' or '&' must be quoted"),
        ("a: !!python/object:os.system x", "1:4: tags (!...) are not supported; quote a text that begins with '!'"),
        ("a: !x 1", "1:4: tags (!...) are not supported; quote a text that begins with '!'"),
        ("a: " + "[" * 200, "1:53: nested more than 50 levels deep"),
        ("", "1: empty; a mapping (key: value) is expected"),
        ("---\n# nothing\n", "1: empty; a mapping (key: value) is expected"),
        ("a: 1\n---\nb: 2", "2:1: only one document is allowed; remove the line '---'"),
        ("a:\n\tb: 1", "2:1: a tab cannot be used for indentation or spacing; use spaces"),
        ("a:\n  b: x\n  \tc: 1", "3:3: a tab cannot be used for indentation or spacing; use spaces"),
        ("a: 1\nb\nc: 2", "2:1: expected ':' after this key"),
        ("a: b: c", f"1:5: unexpected ':'; {LOOK_ABOVE}, or quote a text that contains ': '"),
        ("a:\n  b: 1\n   c: 2", f"3:5: unexpected ':'; {LOOK_ABOVE}, or quote a text that contains ': '"),
        ("a: - b", f"1:4: unexpected '-'; {LOOK_ABOVE}"),
        ("a:\n  b: 1\n c: 2", f"3:2: unexpected text; {LOOK_ABOVE}, and this line for text after a closing quote"),
        ("a: 'b' c", f"1:8: unexpected text; {LOOK_ABOVE}, and this line for text after a closing quote"),
        ('a: "b\nc: 1\n', "1:4: this quote is never closed"),
        ('a: "b\n---\n', "1:4: this quote is never closed"),
        (
            'a: "C:\\data"',
            "1:8: a backslash in double quotes begins an escape; write two backslashes, or use single quotes",
        ),
        (
            'a: "C:\\users"',
            "1:9: a backslash in double quotes begins an escape; write two backslashes, or use single quotes",
        ),
        ('a: "\\UFFFFFFFF"', "1:7: this escape is not a Unicode character"),
        ("a: [1, 2\nb: 3", "1:4: this list lacks a closing ']' or a ','"),
        ("a: {b: 1\nc: 3", "1:4: this mapping lacks a closing '}' or a ','"),
        ("a: ,", "1:4: expected a value here; quote a text made of punctuation"),
        ("a: @b", "1:4: a text that begins with this character must be quoted"),
        ("a: |x\n  b", "1:5: expected chomping or indentation indicators, but found 'x'"),
        ("a: 1\nb: \x00", "2:4: the character '\\x00' is not allowed in YAML"),
    ],
)
def test_what_is_not_yaml_is_explained_in_plain_words(text: str, message: str | list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    messages = [message] if isinstance(message, str) else message
    assert caught.value.message.split("\n") == [f"x.yaml:{line}" for line in messages]


@given(st.text(alphabet="ab:-[]{}*&!|>'\"#%@`,?=<.01~U\\ \n\t\r\x85\u2028é", max_size=30))
@settings(max_examples=400, deadline=None)
def test_no_text_crashes_the_reader(text: str) -> None:
    try:
        parse_yaml(text, "x.yaml")
    except ConfigError as error:
        assert all(line.startswith("x.yaml:") for line in error.message.split("\n"))
