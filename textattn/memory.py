"""Memory of this process: how much it holds, how much it held at most, and giving back what it no longer uses."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any


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


def give_back_memory() -> None:
    """Gives freed memory back to the system, where the C library can (glibc).

    By itself it gives back the end of its heap only, and batches of ever other sizes leave holes all over it.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Any:
    with suppress(OSError, TypeError, AttributeError):  # TypeError: Windows
        return ctypes.CDLL(None).malloc_trim
    return None


def _status(name: str) -> int:
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0
