"""The random generator that dropout draws from: one for each thread that computes a part of a batch.

Torch has one generator for all threads of a processor. What each of them drew would depend on who came first, and so
would the trained weights.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_thread = threading.local()


def generator() -> torch.Generator | None:
    """The generator of this thread; None: torch's own."""
    found: torch.Generator | None = getattr(_thread, "generator", None)
    return found


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Inside, this thread draws from a generator with this seed."""
    before = generator()
    _thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _thread.generator = before
