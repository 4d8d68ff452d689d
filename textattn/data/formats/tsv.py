"""tsv: like csv, with tabs between the cells."""

from __future__ import annotations

from textattn.data.formats._delimited import Delimited


class Tsv(Delimited):
    """Cells with tabs between them."""

    suffixes = (".tsv",)
    delimiter = "\t"
