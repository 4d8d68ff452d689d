"""jsonl: one JSON object a line, whose keys are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from textattn.data.formats import AnsweredRows, Format
from textattn.data.formats._json import to_json
from textattn.data.formats._records import answer_values
from textattn.data.formats._text import count_lines, of_another_kind, without_mark, wrong_encoding
from textattn.data.table import Record, Row, RowProblem, Table
from textattn.errors import InputError

# The columns are the keys of so many objects at the start of a file: the first one may lack some.
ROWS_FOR_COLUMNS = 100


class Jsonl(Format):
    """One JSON object a line."""

    suffixes = (".jsonl",)

    def open(self, path: Path, encoding: str) -> Table:
        """A key that an object lacks is None."""
        sample = list(islice(_objects(path, encoding), ROWS_FOR_COLUMNS))
        columns = list(dict.fromkeys(key for item in sample if not isinstance(item, RowProblem) for key in item[1]))
        if not columns:
            problem = next((str(item) for item in sample if isinstance(item, RowProblem)), None)
            raise (problem and of_another_kind(path)) or InputError(
                problem or f"{path}: no rows; expected one JSON object a line"
            )

        def rows(wanted: list[str]) -> Iterator[Row | RowProblem]:
            for item in _objects(path, encoding):
                if isinstance(item, RowProblem):
                    yield item
                else:
                    yield item[0], [item[1].get(column) for column in wanted]

        return Table(str(path), columns, rows, records=lambda: _objects(path, encoding), size=lambda: count_lines(path))

    def write(self, rows: AnsweredRows, file: BinaryIO) -> None:
        """The rows, with the answers after the keys of the input."""
        lines = [to_json(row | dict(zip(rows.answers, values, strict=True))) for row, values in answer_values(rows)]
        file.write("".join(f"{line}\n" for line in lines).encode())

    def count(self, joined: Path, columns: Sequence[str]) -> int:
        """Each row is a line."""
        return count_lines(joined)


def _objects(path: Path, encoding: str) -> Iterator[Record | RowProblem]:
    """The objects, with the number of their line; blank lines are left out."""
    with path.open(encoding=without_mark(encoding)) as file:
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


def _parse(line: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        value = json.loads(line)
        # Python lets the last of two equal keys win; only then are there more colons than keys.
        if isinstance(value, dict) and line.count(":") > len(value):
            json.loads(line, object_pairs_hook=_refuse_twice)
        # "\ud83d" alone is half of a character, and no text can hold it.
        if "\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "not JSON: a \\u escape is half of a character"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return "not JSON: nested too deeply"
    except ValueError as error:
        # The message about a number too long for Python goes on with advice for programmers.
        return f"not JSON: {str(error).partition(';')[0]}"
    return value if isinstance(value, dict) else 'expected a JSON object such as {"text": …, "label": …}'


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} stands twice")
