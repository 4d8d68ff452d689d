"""The texts of a pool in the order in which they are to be labelled, some at a time, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from textattn.data.chunks import read_chunks
from textattn.data.table import RowProblem, Table
from textattn.inference.classifier import Classifier
from textattn.inference.most_useful import Chooser, Labelled, digest, windows

Order = Literal["useful", "file", "random"]
ORDERS: tuple[Order, ...] = ("useful", "file", "random")


@dataclass(frozen=True)
class Pool:
    """Texts to label, in files that are read anew for every portion."""

    tables: Sequence[Table]
    columns: Sequence[str]
    """Those with the text; several are the segments of one text."""

    def rows(self) -> Iterator[str | RowProblem]:
        """The texts in the order of the files, and in their places the rows without one."""
        for table in self.tables:
            for chunk in read_chunks(table, self.columns):
                rows: list[str | RowProblem] = [_storable(text) for text in chunk.texts]
                for place, problem in reversed(list(zip(chunk.places, chunk.problems, strict=True))):
                    rows.insert(place, problem)
                yield from rows

    def texts(self, done: Set[int]) -> Iterator[str]:
        """The texts whose digests are not in `done`; equal ones may come again."""
        return (row for row in self.rows() if isinstance(row, str) and digest(row) not in done)


def _storable(text: str) -> str:
    """The text as a csv file can hold it: without NUL, which JSON can spell."""
    return text.replace("\0", "\ufffd")


def next_texts(
    pool: Pool, order: Order, number: int, done: Set[int], classifier: Classifier | None, labelled: Labelled
) -> list[str]:
    """The next texts to label, each once; none if there are no more.

    Args:
        order: `useful` needs a classifier; `random` is the same order every time.
        number: how many, at most.
        done: the digests of texts that are not wanted any more.
        labelled: texts that those in the order `useful` should be unlike.
    """
    texts = pool.texts(done)
    if order == "file":
        unique: dict[str, None] = {}
        for text in texts:
            unique.setdefault(text)
            if len(unique) == number:
                break
        return list(unique)
    if order == "random":
        # A hash is as good as a draw, and the same for equal texts.
        kept: set[tuple[int, str]] = set()
        for window in windows(texts):
            kept = set(heapq.nsmallest(number, kept | {(digest(text), text) for text in window}))
        return [text for _, text in sorted(kept)]
    assert classifier is not None
    chooser = Chooser(classifier, number, labelled)
    for window in windows(texts):
        chooser.add(window)
    return [found.text for found in chooser.choose()]
