"""Memory of this process: measure its peak, reuse freed memory, and return freed memory to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

# Parameters of mallopt() from malloc.h. Blocks larger than MOST_OF_A_HEAP are always requested from the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MOST_OF_A_HEAP = -1, -3, 32 * 2**20

_own_process = False


def own_process() -> None:
    """Say that this process runs a command of textattn and nothing else: training may change how it uses memory.

    A program that trains with `textattn.train` has a memory of its own to manage, and settings that it chose.
    """
    global _own_process
    _own_process = True


def is_own_process() -> bool:
    """Whether `own_process` was called."""
    return _own_process


def peak_memory() -> int:
    """Peak memory in bytes since the start of the process or the last `forget_peak_memory()`; 0 if it is unknown."""
    if found := _status("VmHWM"):
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def forget_peak_memory() -> None:
    """Reset the peak memory, if the system supports it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def keep_freed_memory() -> None:
    """Make the C library reuse freed memory instead of returning it to the system (glibc only).

    By default glibc returns the memory of a large tensor at once, and the system has to clear new pages for the next
    tensor. The memory that is kept grows over time, so call `give_back_memory()` now and then.
    """
    mallopt = _from_the_c_library("mallopt")
    if mallopt is not None and _from_the_c_library("malloc_trim") is not None:  # only glibc has both
        mallopt(M_MMAP_THRESHOLD, MOST_OF_A_HEAP)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Return freed memory to the system (glibc only).

    By default glibc returns only the end of its heap, but batches of varying sizes leave free memory all over it.
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
