"""csv: cells with commas between them, as RFC 4180 has it."""

from __future__ import annotations

from textattn.data.formats._delimited import Delimited


class Csv(Delimited):
    """Cells with commas between them."""

    suffixes = (".csv",)
    delimiter = ","
