"""Read a whole file that may be anything: a pipe without a writer, a device without an end, a file of gigabytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

CHUNK = 2**20


class NotReadable(OSError):
    """The file is of a kind, or of a size, that is not read. `strerror` says why."""

    def __init__(self, why: str, path: Path) -> None:
        super().__init__(None, why, str(path))


def read_regular(path: Path, largest: int, *, pipes: bool = False) -> bytes:
    """Read a file.

    Args:
        path: a regular file, or a link to one.
        largest: the largest size in bytes.
        pipes: also read a pipe that somebody writes to, such as a shell's `<(command)`.

    Raises:
        NotReadable: the file is something else, or larger.
        OSError: the file cannot be opened or read.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        mode = os.fstat(descriptor).st_mode
        parts = []
        if pipes and stat.S_ISFIFO(mode):
            first = file.read(CHUNK)
            if first == b"":
                raise NotReadable("a pipe that nobody writes to", path)
            os.set_blocking(descriptor, True)
            parts.append(first or b"")  # None: there is a writer, which has not written yet
        else:
            check_regular(path, mode)
        size = sum(map(len, parts))
        while size <= largest and (part := file.read(min(CHUNK, largest + 1 - size))):
            parts.append(part)
            size += len(part)
    if size > largest:
        raise NotReadable(f"larger than {largest:,} bytes, the most that is read", path)
    return b"".join(parts)


def check_regular(path: Path, mode: int | None = None) -> None:
    """Raises NotReadable for a pipe, a device or a socket, and OSError for a file that is not there.

    Args:
        mode: `st_mode` of the file; the default is to ask for it.
    """
    mode = path.stat().st_mode if mode is None else mode
    if stat.S_ISDIR(mode):
        raise NotReadable("a folder, not a file", path)
    if not stat.S_ISREG(mode):
        raise NotReadable(f"a {'pipe' if stat.S_ISFIFO(mode) else 'device or socket'}, not a file", path)
