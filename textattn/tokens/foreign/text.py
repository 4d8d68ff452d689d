"""Vectors as text: a word and its numbers in each line, as word2vec, GloVe and fastText (`.vec`) write them.

Spaces or tabs come after the word and between the numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from textattn.errors import InputError
from textattn.tokens.foreign.rows import Foreign, Rows, check_size
from textattn.tokens.foreign.stream import SETTING, Stream

# A word with a thousand numbers has about ten thousand characters. A file of one endless line is not read to its end.
LONGEST_LINE = 2**22
HEADER = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s*\n?")
# A word may contain spaces and numbers, so the size is the least that some lines have.
LINES_TO_COUNT = 20
TAB = b"\t"


class TextVectors(Foreign):
    """A text file. The first line may be the header of word2vec (`count dim`)."""

    what = "text"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count: int | None = None
        lines = [line for _, line in itertools.islice(self._lines(), LINES_TO_COUNT)]
        header = HEADER.fullmatch(lines[0]) if lines else None
        if header:
            self.count, self.dim = int(header[1]), int(header[2])
            check_size(self.dim, f"{path}:1")
        rows = [line for line in lines[1 if header else 0 :] if line.strip()]
        self._separator = _separator(rows)
        sizes = [size for row in rows if (size := len(self._numbers(row))) > 0]
        self._size_of_rows = min(sizes, default=0)
        if header:
            return
        if not sizes:
            raise InputError(
                "expected a word and its numbers in each line, with spaces or tabs between them",
                setting=SETTING,
                place=f"{path}:1",
            )
        self.dim = self._size_of_rows
        check_size(self.dim, str(path))

    def fill(self, rows: Rows) -> None:
        """Fill the rows; see `Foreign`. The size of the rows comes before that of the file, to name the line."""
        number, separator = 0, self._separator
        for number, line in self._lines():
            if number == 1 and self.count is not None:
                continue
            text, _, numbers = line.rstrip().partition(separator)
            try:
                word = text.decode()
            except UnicodeDecodeError:
                continue  # It can be no word of the vocabulary.
            row = rows.wanted(word)
            if row is None:
                continue
            place, fields = f"{self.path}:{number}", numbers.decode("utf-8", "replace").split()
            try:
                with np.errstate(over="ignore"):
                    vector = np.array(fields, dtype=np.float32)
            except ValueError:
                if len(fields) > rows.dim:
                    continue  # The word contains spaces, such as ". . ." in GloVe's 840B.
                raise InputError(f"expected a word and {rows.dim} numbers", place=place) from None
            if len(vector) != rows.dim:
                raise self._other_size(len(vector), rows.dim, place)
            rows.put(row, word, vector, place)
        if self.count is not None and number - 1 < self.count:
            raise InputError(
                f"the file ends after {max(number - 1, 0):,} of the {self.count:,} words that its first line announces",
                "copy or download the file again",
                setting=SETTING,
                place=f"{self.path}:{number}",
            )

    def _numbers(self, line: bytes) -> list[bytes]:
        """What comes after the word, which may hold spaces in a file with tabs."""
        return line.partition(self._separator)[2].split() if self._separator == TAB else line.split()[1:]

    def _other_size(self, size: int, wanted: int, place: str) -> InputError:
        """The error for a row that has not the size that is wanted: by the file itself or by the config."""
        found = f"{size} number{'s' * (size != 1)} after the word"
        setting = f"model.embedding_dim={size}"
        if size == self.dim:
            return InputError(f"{found}, but model.embedding_dim is {wanted}", setting, place=place)
        if self.count is None:
            return InputError(f"{found}, but other lines have {self.dim}", place=place)
        # Where the rows agree with one another, the header is wrong, and the setting comes before it.
        hint = setting if size == self._size_of_rows else "copy or download the file again"
        return InputError(f"{found}, but line 1, the header, says {self.dim}", hint, place=place)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines with their numbers. Only "\\n" ends a line, because words may contain other kinds of breaks."""
        with Stream(self.path) as stream:
            for number, line in enumerate(stream.lines(LONGEST_LINE), 1):
                if len(line) > LONGEST_LINE:
                    raise InputError(
                        f"a line of more than {LONGEST_LINE:,} bytes; expected a word and its numbers",
                        setting=SETTING,
                        place=f"{self.path}:{number}",
                    )
                yield number, line


def _separator(rows: list[bytes]) -> bytes:
    """What ends the word of each line. All lines of a file with tabs have one, and few words hold spaces."""
    is_tabbed = all(TAB in row for row in rows) and any(b" " not in row.partition(TAB)[0] for row in rows)
    return TAB if is_tabbed else b" "
