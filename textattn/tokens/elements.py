"""The periodic table: the elements and their positions in it."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
)
SYMBOLS = _TABLE.split()
BLOCKS = "spdf"
# Atomic numbers at which the periods end.
_NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


class Place(NamedTuple):
    """The position of an element in the periodic table."""

    period: int
    """1 to 7"""
    group: int
    """1 to 18; 3 for the f block, including lanthanum and actinium."""
    block: str
    """One of BLOCKS."""
    electrons: tuple[int, int, int, int]
    """Electrons in the s, p, d and f shells beyond the preceding noble gas, filled in the order of the table."""


def _place(number: int) -> Place:
    period = bisect_left(_NOBLE_GASES, number) + 1
    before = (0, *_NOBLE_GASES)[period - 1]
    column, columns = number - before, _NOBLE_GASES[period - 1] - before
    if number == 2:
        return Place(1, 18, "s", (2, 0, 0, 0))
    if columns == 32 and 2 < column <= 16:
        return Place(period, 3, "f", (2, 0, 0, column - 2))
    group = column if column <= 2 else column + 18 - columns
    block = "s" if group <= 2 else "d" if group <= 12 else "p"
    electrons = (
        min(group, 2),
        group - 12 if block == "p" else 0,
        group - 2 if block == "d" else 10 if block == "p" and columns >= 18 else 0,
        14 if columns == 32 and block in "dp" else 0,
    )
    return Place(period, group, block, electrons)


PLACES = {symbol: _place(number) for number, symbol in enumerate(SYMBOLS, 1)}
# The usual order in formulas: elements that give electrons come before elements that take them.
ORDER = {symbol: i for i, symbol in enumerate(sorted(SYMBOLS, key=lambda s: (PLACES[s].group, -PLACES[s].period)))}
