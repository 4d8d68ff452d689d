"""Memory of this process: how much it holds and held at most, keeping what is freed at hand, and giving it back."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

# From malloc.h; larger blocks than this always come from the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MOST_OF_A_HEAP = -1, -3, 32 * 2**20


def peak_memory() -> int:
    """Bytes held at most, since the start or the last `forget_peak_memory()`."""
    if found := _status("VmHWM"):
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def forget_peak_memory() -> None:
    """From here on the peak is counted anew, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def keep_freed_memory() -> None:
    """From here on freed memory stays at hand for what is allocated next, where the C library can be told (glibc).

    By itself it gives a large tensor back to the system at once, and the next one begins with pages to be cleared. What
    is kept grows; `give_back_memory()` now and then is for that.
    """
    mallopt = _from_the_c_library("mallopt")
    if mallopt is not None and _from_the_c_library("malloc_trim") is not None:  # of glibc
        mallopt(M_MMAP_THRESHOLD, MOST_OF_A_HEAP)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Gives freed memory back to the system, where the C library can (glibc).

    By itself it gives back the end of its heap only, and batches of ever other sizes leave holes all over it.
    """
    if trim := _from_the_c_library("malloc_trim"):
        trim(0)


@cache
def _from_the_c_library(name: str) -> Any:
    with suppress(OSError, TypeError, AttributeError):  # TypeError: Windows
        return getattr(ctypes.CDLL(None), name)
    return None


def _status(name: str) -> int:
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0
