"""Names of the attention mechanisms and encoders, each of which has its own file."""

from __future__ import annotations

import pkgutil
from pathlib import Path

MODEL = Path(__file__).parents[1] / "model"


def part_names(kind: str, default: str) -> tuple[str, ...]:
    """The names of the parts in a folder of `textattn.model`, the default first.

    A part is named after its file, see `textattn.model.registry`. The files are not imported, because that would load
    torch.
    """
    names = {found.name for found in pkgutil.iter_modules([str(MODEL / kind)]) if not found.name.startswith("_")}
    return (default, *sorted(names - {default}))
