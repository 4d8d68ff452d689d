"""`textattn cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import Json, Quiet


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete everything in the cache.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show or delete what is kept between runs.

    Kept are the tokens of your data and word vectors trained on them. They are found by the content of the data and
    all settings, so they are never out of date. $TEXTATTN_CACHE is the folder; TEXTATTN_CACHE=off keeps nothing.

    \b
    textattn cache
    textattn cache --clear
    """
    from textattn.storage.cache import VARIABLE, entries, folder, remove

    root = folder()
    found = [] if root is None else entries(root)
    if clear:
        for entry, _ in found:
            remove(entry)
    if json:
        listed = [{"kind": entry.parent.name, "key": entry.name, "bytes": size} for entry, size in found]
        out_json({"folder": root and str(root), "cleared": clear, "entries": listed}, indent=True)
        return
    if root is None:
        note(f"nothing is kept: {VARIABLE} says so")
        return
    total = f"{sum(size for _, size in found) / 1e6:,.0f} MB in {root}"
    if clear:
        note(f"deleted {total}")
    elif found:
        rows = [(entry.parent.name, entry.name[:12], f"{size / 1e6:,.1f} MB") for entry, size in found]
        for line in table(rows, ("kind", "key", "size")):
            out(line)
        note(f"{total}; delete it with: textattn cache --clear")
    else:
        note(f"nothing is kept yet in {root}")
