"""Vectors as text: a word and its numbers in each line, as word2vec, GloVe and fastText (`.vec`) write them."""

from __future__ import annotations

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


class TextVectors(Foreign):
    """A text file. The first line may be the header of word2vec (`count dim`)."""

    what = "text"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count: int | None = None
        sizes = []
        for number, line in self._lines():
            if number == 1 and (header := HEADER.fullmatch(line)):
                self.count, self.dim = int(header[1]), int(header[2])
                check_size(self.dim, f"{path}:1")
                return
            if len(fields := line.split()) > 1:
                sizes.append(len(fields) - 1)
            if number == LINES_TO_COUNT:
                break
        if not sizes:
            raise InputError("contains no word of the vocabulary", place=str(path))
        self.dim = min(sizes)
        check_size(self.dim, str(path))

    def fill(self, rows: Rows) -> None:
        """Fill the rows; see `Foreign`. The size of the rows comes before that of the file, to name the line."""
        number = 0
        for number, line in self._lines():
            if number == 1 and self.count is not None:
                continue
            text, _, numbers = line.rstrip().partition(b" ")
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
                raise InputError(
                    f"{len(vector)} numbers after the word, but model.embedding_dim is {rows.dim}",
                    f"model.embedding_dim={len(vector)}",
                    place=place,
                )
            rows.put(row, word, vector, place)
        if self.count is not None and number - 1 < self.count:
            raise InputError(
                f"the file ends after {max(number - 1, 0):,} of the {self.count:,} words that its first line announces",
                "copy or download the file again",
                setting=SETTING,
                place=f"{self.path}:{number}",
            )

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
