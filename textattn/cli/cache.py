"""`textattn cache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import Json, Quiet


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all entries of the cache, and nothing else.")] = False,
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
    from textattn.storage.cache import VARIABLE, entries, folder, is_off, remove

    root = folder()
    found = [] if root is None else entries(root)
    if clear:
        for entry, _ in found:
            remove(entry)
        found = [(entry, size) for entry, size in found if not entry.exists()]
    if json:
        listed = [{"kind": entry.parent.name, "key": entry.name, "bytes": size} for entry, size in found]
        out_json({"folder": root and str(root), "cleared": clear, "entries": listed}, indent=True)
        return
    if root is None:
        taken = "names a folder with other files, and in it a folder `textattn` with other files"
        note(f"nothing is kept: {VARIABLE} {'says so' if is_off() else taken}")
        return
    total = f"{len(found)} {'entry' if len(found) == 1 else 'entries'}, {_megabytes(found)} in {root}"
    if found:
        rows = [(entry.parent.name, entry.name[:12], f"{size / 1e6:,.1f} MB") for entry, size in found]
        for line in table(rows, ("kind", "key", "size")):
            out(line)
    if clear:
        note(f"deleted {total}")
    elif found:
        note(f"{total}; delete them with: textattn cache --clear")
    else:
        note(f"nothing is kept yet in {root}")


def _megabytes(entries: list[tuple[Path, int]]) -> str:
    return f"{sum(size for _, size in entries) / 1e6:,.0f} MB"
