"""What `textattn check` reports about the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something the user should look at before training."""

    kind: str
    message: str
    hint: str
    count: int
    """Number of texts, tokens or labels concerned."""
    examples: list[dict[str, Any]] = field(default_factory=list)
