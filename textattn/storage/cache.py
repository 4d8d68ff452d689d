"""Results kept between runs that are costly to compute and depend on nothing but their key.

A key is the SHA-256 of all that a result is made from: the content of the data (never their dates), the settings, the
versions of the libraries and our own code. So an entry is right or it is not found. Entries are folders that appear in
one step; the longest unused go when together they grow too large.
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
# Seconds after which what a killed process left is nobody's.
ABANDONED = 24 * 3600
LIBRARIES = ("tokenizers", "datasets", "pyarrow", "numpy", "gensim")
# The folders and files of this package that decide what an entry holds: change one, and nothing older is found.
SOURCES = ("data", "tokens", "runs/prepare.py", "runs/pseudo_labels.py", "runs/recipe.py", "runs/data_cache.py")


def folder() -> Path | None:
    """Where entries lie: $TEXTATTN_CACHE, else the user's cache folder; None where the variable says `off`."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None and chosen.strip().lower() in ("", "0", "off", "no", "false"):
        return None
    if chosen is not None:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textattn"


def unnamed_file() -> IO[bytes]:
    """A file to write to and read from that is gone when it is closed, or when the process dies.

    It lies beside the entries if it can: the system's folder for such files may be kept in memory.
    """
    root = folder()
    if root is not None:
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            return tempfile.TemporaryFile(dir=root, prefix=".textattn-")
    return tempfile.TemporaryFile(prefix="textattn-")


def key_of(*parts: Any) -> str:
    """The key of what is made from these values (as JSON), by this version of everything."""
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
    """SHA-256 of the bytes of files in this order; OSError where one cannot be read."""
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
    """The entry's folder, if there is one."""
    root = folder()
    entry = None if root is None else root / kind / key
    if entry is None or not entry.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # used just now
    return entry


@contextlib.contextmanager
def store(kind: str, key: str) -> Iterator[Path | None]:
    """A folder to fill, which becomes the entry when the block ends well; None without a cache.

    A cache that cannot be written (disk full, read-only home) is a pity and no error: OSError ends the block quietly.
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
        # Another process may have been faster with the same.
        with contextlib.suppress(OSError):
            unfinished.replace(root / kind / key)
        _remove_longest_unused(root)
    except OSError:
        pass
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def entries(root: Path) -> list[tuple[Path, int]]:
    """All entries with their bytes, the longest unused first."""
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
    """Out of sight in one step, then deleted: nobody finds half of it."""
    aside = entry.with_name(f".removed-{entry.name}-{os.getpid()}")
    with contextlib.suppress(OSError):
        entry.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)
