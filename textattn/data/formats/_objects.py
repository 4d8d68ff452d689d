"""JSON objects out of a file: one a line, or all in one array."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from textattn.data.formats._bytes import LONGEST_LINE, line_counter
from textattn.data.formats._text import HEAD, open_text, wrong_encoding
from textattn.data.table import Record, Row, RowProblem, Table
from textattn.errors import InputError

# The columns are the keys of so many objects at the start of a file: the first one may lack some.
ROWS_FOR_COLUMNS = 100
# Characters read at a time.
BLOCK = 1 << 18
EXPECTED = 'expected a JSON object such as {"text": …, "label": …}'


def open_objects(path: Path, encoding: str, notes: tuple[str, ...]) -> Table:
    """A table whose columns are the keys of the objects; a key that an object lacks is None."""
    objects = _of_array if _is_array(path, encoding) else _of_lines
    sample = list(islice(objects(path, encoding), ROWS_FOR_COLUMNS))
    columns = list(dict.fromkeys(key for item in sample if not isinstance(item, RowProblem) for key in item[1]))
    if not columns:
        problem = next((str(item) for item in sample if isinstance(item, RowProblem)), None)
        raise InputError(problem or f"{path}: no rows; expected one JSON object a line")

    def rows(wanted: list[str]) -> Iterator[Row | RowProblem]:
        for item in objects(path, encoding):
            if isinstance(item, RowProblem):
                yield item
            else:
                yield item[0], [item[1].get(column) for column in wanted]

    size = line_counter(path) if objects is _of_lines else None
    return Table(str(path), columns, rows, notes=notes, records=lambda: objects(path, encoding), size=size)


def _is_array(path: Path, encoding: str) -> bool:
    """Whether the file is one array; lines may be arrays, too, but those are no rows."""
    with open_text(path, encoding) as file:
        try:
            start = file.read(HEAD).lstrip()
        except UnicodeError as error:
            raise wrong_encoding(path, encoding, error) from None
    return start.startswith("[") and start[1:].lstrip().startswith(("{", "]"))


def _of_lines(path: Path, encoding: str) -> Iterator[Record | RowProblem]:
    """The objects, with the number of their line; blank lines are left out."""
    with open_text(path, encoding) as file:
        number = 0
        while True:
            try:
                line = file.readline()
            except UnicodeError as error:
                raise wrong_encoding(path, encoding, error) from None
            if not line:
                return
            number += 1
            if line.strip():
                value = _parse(line)
                yield RowProblem(str(path), number, value) if isinstance(value, str) else (number, value)


class _Array:
    """The elements of an array that is read piece by piece."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._encoding = path, encoding
        self._file = open_text(path, encoding)
        self._text, self._place, self._line, self._ended = "", 0, 1, False
        self._decode = json.JSONDecoder().raw_decode

    def elements(self) -> Iterator[Record | RowProblem]:
        with self._file:
            self._expect("[")
            number = 0
            while True:
                sign = self._next()
                if sign == "]" and not number:
                    self._place += 1
                    break
                number += 1
                value = self._element()
                yield RowProblem(str(self._path), number, value) if isinstance(value, str) else (number, value)
                if self._expect(",", "]") == "]":
                    break
            if self._next():
                raise self._broken("something follows the end of the array")

    def _element(self) -> dict[str, Any] | str:
        """The next value, or what is wrong with it."""
        while True:
            try:
                value, end = self._decode(self._text, self._place)
            except RecursionError:
                raise self._broken("nested too deeply") from None
            except json.JSONDecodeError as error:
                # It may be cut off. What is wrong in its middle stays wrong, and that is seen at the end of the file.
                if not self._more():
                    self._forward(error.pos)
                    raise self._broken(error.msg) from None
                continue
            except ValueError as error:
                raise self._broken(str(error).partition(";")[0]) from None
            # A number goes on where the text ends.
            if end < len(self._text) or not self._more():
                break
        text = self._text[self._place : end]
        self._forward(end)
        return _checked(value, text)

    def _forward(self, place: int) -> None:
        self._line += self._text.count("\n", self._place, place)
        self._place = place

    def _next(self) -> str:
        """The next character that is not a space; empty at the end of the file."""
        while True:
            rest = self._text[self._place : self._place + BLOCK]
            spaces = len(rest) - len(rest.lstrip())
            self._forward(self._place + spaces)
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more():
                return ""

    def _expect(self, *signs: str) -> str:
        sign = self._next()
        if sign not in signs:
            wanted = " or ".join(f"'{sign}'" for sign in signs)
            raise self._broken(f"expected {wanted}" + (f", got {sign!r}" if sign else ", but the file ends"))
        self._place += 1
        return sign

    def _more(self) -> bool:
        """Reads on; False at the end of the file. The text grows by half, so that a long element is not read often."""
        rest = self._text[self._place :]
        if len(rest) > LONGEST_LINE:
            raise self._broken(f"an element of more than {LONGEST_LINE >> 20} million characters")
        try:
            more = self._file.read(max(BLOCK, len(rest)))
        except UnicodeError as error:
            raise wrong_encoding(self._path, self._encoding, error) from None
        if more:
            self._text, self._place = rest + more, 0
        return bool(more)

    def _broken(self, message: str) -> InputError:
        return InputError(f"{self._path}:{self._line}: not JSON: {message}")


def _of_array(path: Path, encoding: str) -> Iterator[Record | RowProblem]:
    """The objects, numbered from 1."""
    return _Array(path, encoding).elements()


def _parse(line: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        if line.strip() in ("{", "["):
            return "not JSON: the value goes on in the next line; expected an object a line, or one array of objects"
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return "not JSON: nested too deeply"
    except ValueError as error:
        # The message about a number too long for Python goes on with advice for programmers.
        return f"not JSON: {str(error).partition(';')[0]}"
    return _checked(value, line)


def _checked(value: Any, text: str) -> dict[str, Any] | str:
    """A value, or what is wrong with it or the text that it was read from."""
    if not isinstance(value, dict):
        return EXPECTED
    try:
        # Python lets the last of two equal keys win; only then are there more colons than keys.
        if text.count(":") > len(value):
            json.loads(text, object_pairs_hook=_refuse_twice)
        # "\ud83d" alone is half of a character, and no text can hold it.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "not JSON: a \\u escape is half of a character"
    except ValueError as error:
        return f"not JSON: {error}"
    return value


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} stands twice")
