"""Names of the parts of a model that each have a file of their own: attention mechanisms and encoders."""

from __future__ import annotations

import pkgutil
from pathlib import Path

MODEL = Path(__file__).parents[1] / "model"


def part_names(kind: str, default: str) -> tuple[str, ...]:
    """Names of the parts in a folder of `textattn.model`, the default first.

    They are the names of the files, see `textattn.model.registry`. Nothing is imported: that would load torch.
    """
    names = {found.name for found in pkgutil.iter_modules([str(MODEL / kind)]) if not found.name.startswith("_")}
    return (default, *sorted(names - {default}))
