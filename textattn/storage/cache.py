"""The cache: results that are expensive to compute and depend only on their key, kept between runs.

A key is the SHA-256 of everything that a result is made from: the content of the data (never file dates), the settings,
the versions of the libraries and the code of this package. An outdated entry is therefore never found. Each entry is a
folder that appears in one step. When the cache grows too large, the least recently used entries are removed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

VARIABLE = "TEXTATTN_CACHE"
LARGEST = 5 << 30
BLOCK = 1 << 20
# Unfinished entries older than this many seconds were left by killed processes and are removed.
ABANDONED = 24 * 3600
LIBRARIES = ("tokenizers", "datasets", "pyarrow", "numpy", "gensim")
# The folders and files of this package that determine the content of entries. Their code is part of every key.
SOURCES = ("data", "tokens", "runs/prepare.py", "runs/pseudo_labels.py", "runs/recipe.py", "runs/data_cache.py")


def folder() -> Path | None:
    """The folder of the cache: $TEXTATTN_CACHE or else the user's cache folder; None if the variable says `off`."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None and chosen.strip().lower() in ("", "0", "off", "no", "false"):
        return None
    if chosen is not None:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textattn"


def unnamed_file() -> IO[bytes]:
    """Open a temporary file that disappears when it is closed or when the process ends.

    It is created in the cache folder if possible, because the system's folder for temporary files may be in memory.
    """
    root = folder()
    if root is not None:
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            return tempfile.TemporaryFile(dir=root, prefix=".textattn-")
    return tempfile.TemporaryFile(prefix="textattn-")


def key_of(*parts: Any) -> str:
    """The key of a result that is computed from these JSON values with the current versions of code and libraries."""
    text = json.dumps([*parts, _versions()], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[library] = version(library)
    package = Path(__file__).parent.parent
    paths = [package / source for source in SOURCES]
    files = [file for path in paths for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    return found | {"code": content_of(files)}


def content_of(paths: Iterable[Path]) -> str:
    """The SHA-256 of the content of files, in this order.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
        digest.update(f"|{size}|".encode())
    return digest.hexdigest()


def find(kind: str, key: str) -> Path | None:
    """The folder of an entry, or None if there is no such entry."""
    root = folder()
    entry = None if root is None else root / kind / key
    if entry is None or not entry.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # its time of modification is the time of last use
    return entry


@contextlib.contextmanager
def store(kind: str, key: str) -> Iterator[Path | None]:
    """Provide a folder to fill, which becomes the entry if the block succeeds; None if there is no cache.

    A cache that cannot be written (disk full, read-only home) is not an error: an OSError silently ends the block.
    """
    root = folder()
    if root is None:
        yield None
        return
    unfinished: Path | None = None
    try:
        (root / kind).mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds the user's texts
        unfinished = Path(tempfile.mkdtemp(dir=root / kind, prefix=".unfinished-"))
    except OSError:
        yield None
        return
    try:
        yield unfinished
        # This fails if another process has stored the same entry in the meantime.
        with contextlib.suppress(OSError):
            unfinished.replace(root / kind / key)
        _remove_longest_unused(root)
    except OSError:
        pass
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def entries(root: Path) -> list[tuple[Path, int]]:
    """All entries with their sizes in bytes, the least recently used first."""
    found = [entry for entry in root.glob("*/*") if entry.is_dir() and not entry.name.startswith(".")]
    sizes = [(entry, sum(file.stat().st_size for file in entry.iterdir())) for entry in found]
    return sorted(sizes, key=lambda item: item[0].stat().st_mtime)


def _remove_longest_unused(root: Path) -> None:
    for leftover in root.glob("*/.*"):
        if time.time() - leftover.stat().st_mtime > ABANDONED:
            shutil.rmtree(leftover, ignore_errors=True)
    found = entries(root)
    total = sum(size for _, size in found)
    for entry, size in found[:-1]:
        if total <= LARGEST:
            return
        remove(entry)
        total -= size


def remove(entry: Path) -> None:
    """Remove an entry. It is renamed first, so that no process finds a partly deleted one."""
    aside = entry.with_name(f".removed-{entry.name}-{os.getpid()}")
    with contextlib.suppress(OSError):
        entry.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)
