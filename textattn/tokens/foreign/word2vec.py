"""The binary format of word2vec: `count dim`, then for each word its bytes, a space, and its numbers as float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from textattn.tokens.foreign.rows import Foreign, Rows, check_size
from textattn.tokens.foreign.stream import Stream
from textattn.tokens.foreign.text import HEADER

LONGEST_WORD = 2**16
# The header has two numbers.
LONGEST_HEADER = 64


class Word2VecVectors(Foreign):
    """A binary file of word2vec."""

    what = "word2vec, binary"

    def __init__(self, path: Path) -> None:
        self.path = path
        with Stream(path) as stream:
            self.count, self.dim = self._header(stream)

    def fill(self, rows: Rows) -> None:
        """Fill the rows; see `Foreign`."""
        with Stream(self.path) as stream:
            self._header(stream)
            for number in range(1, self.count + 1):
                start = stream.position
                text = stream.until(b" ", LONGEST_WORD).lstrip(b"\n")
                numbers = stream.exactly(4 * self.dim)
                try:
                    word = text.decode()
                except UnicodeDecodeError:
                    continue  # It can be no word of the vocabulary.
                row = rows.wanted(word)
                if row is not None:
                    place = f"{stream.place}, word {number:,} at byte {start:,}"
                    rows.put(row, word, np.frombuffer(numbers, "<f4"), place)
            if stream.read(2).strip():
                raise stream.damaged(
                    f"goes on after the {self.count:,} words of {self.dim:,} numbers that its first line announces"
                )

    def _header(self, stream: Stream) -> tuple[int, int]:
        header = HEADER.fullmatch(stream.line(LONGEST_HEADER))
        if header is None:
            raise stream.damaged("the first line is not the number of words and the size of a vector")
        count, dim = int(header[1]), int(header[2])
        check_size(dim, stream.place)
        # A word has at least one byte besides its numbers.
        if count * (4 * dim + 1) > stream.most - stream.position:
            raise stream.damaged(f"too short for the {count:,} words of {dim:,} numbers that its first line announces")
        return count, dim
