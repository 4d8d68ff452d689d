"""What the machine has too little of: errors that are neither the user's nor a bug, in words that say what helps."""

from __future__ import annotations

import errno
import re

from textattn.errors import TextattnError

# What libraries in C++ say of memory that they do not get; torch and ONNX Runtime raise a plain RuntimeError.
NO_MEMORY = re.compile(
    r"can't allocate memory|bad_alloc|not enough memory|out of memory|failed to allocate|cannot allocate memory", re.I
)


def shortage(error: Exception) -> TextattnError | None:
    """The error to show instead, where disk, memory or a place for temporary files is lacking; else None."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TextattnError("the disk is full", "free some space, or write to another disk")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return TextattnError("a file would grow larger than is allowed here", "ulimit -f shows the limit")
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        tried = str(error).partition("found in ")[2]
        return TextattnError(
            f"no folder for temporary files can be written to (tried {tried})",
            "name one that can: export TMPDIR=/some/folder",
        )
    is_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if is_memory or (isinstance(error, (RuntimeError, ImportError)) and NO_MEMORY.search(str(error))):
        return _memory()
    return None


def _memory() -> TextattnError:
    limit = _limit()
    if limit is not None:
        return TextattnError(
            f"there is not enough memory: this process may have {limit / 2**30:.1f} GiB",
            "ulimit -v shows the limit in KiB, and ulimit -v unlimited lifts it; fewer texts at a time need less",
        )
    return TextattnError(
        "there is not enough memory",
        "close other programs, or use fewer or shorter texts at a time; in training, "
        "training.batch_size=16 and tokenizer.max_length=128 need less",
    )


def _limit() -> int | None:
    """How many bytes of memory this process may have, if that is limited."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
