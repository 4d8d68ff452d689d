"""Reads a chemical formula as its composition: the elements, and the share of each in all atoms.

    LiFePO4     Li 0.14 Fe 0.14 P 0.14 O 0.57
    Li2O        Li 0.67 O 0.33
    Li4O2       the same
    Cu(NO3)2    Cu 0.11 N 0.22 O 0.67
    CuSO4·5H2O  H 0.48 Cu 0.05 S 0.05 O 0.43

The elements are put into a fixed order, so that the result does not depend on how a formula is written.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from textattn.tokens.elements import ORDER, SYMBOLS

# No real formula is longer than this; further characters are not read.
LONGEST = 2_000
UNREAD = "?"
# Shares are rounded to hundredths, and shares below one hundredth to these three values.
AMOUNTS = (0.001, 0.002, 0.005, *(n / 100 for n in range(1, 101)))
_NAMES = [f"{amount:.3f}".rstrip("0").rstrip(".") for amount in AMOUNTS]
_BETWEEN = [(low + high) / 2 for low, high in pairwise(AMOUNTS)]
_PIECE = re.compile(
    rf"(?P<element>{'|'.join(sorted(SYMBOLS, key=len, reverse=True))})|(?P<open>[(\[{{])|(?P<close>[)\]}}])"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(?P<dot>[·•∙⋅*.])|(?P<other>\S)"
)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


class Place(NamedTuple):
    """An occurrence of an element in a formula: characters from `start` to `end`, including the amount."""

    start: int
    end: int
    """Exclusive."""
    share: float
    """Share of the element's atoms that this occurrence contributes."""


class Part(NamedTuple):
    """An element of a formula, or a piece that could not be read."""

    symbol: str
    """UNREAD for a piece that could not be read."""
    amount: str
    """Rounded share in all atoms; "" for a piece that could not be read."""
    places: list[Place]
    """All occurrences, in the order of the text."""


class Repeat(NamedTuple):
    """A further occurrence of an element, whose tokens refer to its first occurrence."""

    token: int
    """Number of one of the element's tokens."""
    start: int
    end: int
    share: float
    """Share of the element's atoms, and thus of its contribution, that belongs to this occurrence."""


class WrittenOut(NamedTuple):
    """A formula in its canonical form, which all formulas of the same composition share."""

    text: str
    """Elements and amounts, separated by spaces."""
    part_at: dict[int, Part]
    """The part that a word of `text` belongs to, by the position where the word begins."""
    length: int
    """Number of characters of the original formula."""

    def locate(self, starts: Sequence[int]) -> dict[str, Any]:
        """Find words of `text` in the original formula.

        Args:
            starts: positions in `text` where the words begin, one for each token.

        Returns:
            `offsets`, `word_ids` and `repeats` of a `TokenizedText`.
        """
        if not self.part_at:
            return {"offsets": [(0, self.length)] * len(starts)}
        parts = [self.part_at[start] for start in starts]
        first: dict[int, int] = {}
        for token, part in enumerate(parts):
            first.setdefault(id(part), token)
        return {
            "offsets": [(part.places[0].start, part.places[0].end) for part in parts],
            "word_ids": [first[id(part)] for part in parts],
            "repeats": tuple(Repeat(token, *place) for token in first.values() for place in parts[token].places[1:]),
        }


def vocabulary() -> list[str]:
    """All words that a written-out formula may contain, except UNREAD."""
    return [*SYMBOLS, *_NAMES]


def write_out(text: str, separator: str | None) -> WrittenOut:
    """Convert a formula, or several with `separator` between them. Pieces that cannot be read become UNREAD."""
    written, part_at, start = "", {}, 0
    for number, formula in enumerate([text] if separator is None else text.split(separator)):
        if number and separator is not None:
            part_at[len(written)] = Part(separator, "", [Place(start, start + len(separator), 1.0)])
            written += separator
            start += len(separator)
        for part in read_formula(formula):
            moved = part._replace(places=[Place(a + start, b + start, share) for a, b, share in part.places])
            for word in filter(None, (part.symbol, part.amount)):
                part_at[len(written)] = moved
                written += f"{word} "
        start += len(formula)
    return WrittenOut(written, part_at, len(text))


def read_formula(formula: str) -> list[Part]:
    """Read a formula: its elements in the fixed order, then the pieces that could not be read."""
    atoms, unread = _atoms(formula)
    counts: dict[str, Fraction] = {}
    for atom in atoms:
        counts[atom.symbol] = counts.get(atom.symbol, Fraction(0)) + atom.number
    total = sum(counts.values())
    parts = []
    for symbol in sorted((symbol for symbol, count in counts.items() if count), key=ORDER.__getitem__):
        places = [
            Place(atom.start, atom.end, float(atom.number / counts[symbol]))
            for atom in atoms
            if atom.symbol == symbol and atom.number
        ]
        # Exact fractions become floats only here, so that Li2O and Li4O2 agree to the last digit.
        parts.append(Part(symbol, _rounded(float(counts[symbol] / total)), places))
    return parts + [Part(UNREAD, "", [Place(start, end, 1.0)]) for start, end in unread]


def is_formula(text: str) -> bool:
    """Whether every piece of a text can be read as part of a chemical formula."""
    parts = read_formula(text)
    return bool(parts) and all(part.symbol != UNREAD for part in parts)


def _rounded(share: float) -> str:
    return _NAMES[bisect_left(_BETWEEN, share)]


class _Atom(NamedTuple):
    symbol: str
    start: int
    end: int
    number: Fraction


def _atoms(formula: str) -> tuple[list[_Atom], list[tuple[int, int]]]:
    """All occurrences of elements, multiplied by the factors of their brackets, and the spans that cannot be read."""
    pieces = list(_PIECE.finditer(_BEYOND_ASCII.sub(_plain, formula[:LONGEST])))
    atoms: list[_Atom] = []
    unread: list[tuple[int, int]] = []
    # Indices in `atoms` where the open brackets begin. The first entry is the start of the current part of a formula
    # with dots, such as CuSO4·5H2O.
    opened, coefficient = [0], Fraction(1)
    at, last_unread = 0, -1

    def factor() -> Fraction:
        """Read the number that follows, if any; else 1."""
        nonlocal at
        if at < len(pieces) and pieces[at].lastgroup == "number":
            at += 1
            return Fraction(pieces[at - 1].group())
        return Fraction(1)

    def multiply(first: int, by: Fraction) -> None:
        if by != 1:
            atoms[first:] = [atom._replace(number=atom.number * by) for atom in atoms[first:]]

    while at < len(pieces):
        piece = pieces[at]
        at += 1
        if piece.lastgroup == "element":
            number = factor()
            atoms.append(_Atom(piece.group(), piece.start(), pieces[at - 1].end(), number))
        elif piece.lastgroup == "open":
            opened.append(len(atoms))
        elif piece.lastgroup == "close" and len(opened) > 1:
            multiply(opened.pop(), factor())
        elif piece.lastgroup == "dot":
            multiply(opened[0], coefficient)
            opened, coefficient = [len(atoms)], factor()
        elif piece.lastgroup == "number" and opened == [len(atoms)]:
            coefficient = Fraction(piece.group())
        else:
            joined = last_unread == at - 1
            unread.append((unread.pop()[0] if joined else piece.start(), piece.end()))
            last_unread = at
    multiply(opened[0], coefficient)
    if len(formula) > LONGEST and formula[LONGEST:].strip():
        unread.append((LONGEST, len(formula)))
    return atoms, unread


def _plain(character: re.Match[str]) -> str:
    """Replace ₂ by 2, Ｌ by L and so on, one character by one, so that positions do not change."""
    plain = unicodedata.normalize("NFKC", character.group())
    return plain if len(plain) == 1 else character.group()


def element_of(word: str) -> str:
    """The element at the beginning of a piece of a formula, or "" if there is none."""
    piece = _PIECE.match(_BEYOND_ASCII.sub(_plain, word))
    return piece["element"] or "" if piece else ""


def amounts_of(words: Sequence[str]) -> dict[str, float]:
    """The values of those words that are amounts."""
    values = dict(zip(_NAMES, AMOUNTS, strict=True))
    return {word: values[word] for word in words if word in values}
