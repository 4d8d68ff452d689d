"""The cache: results that are expensive to compute and depend only on their key, kept between runs.

A key is the SHA-256 of everything that a result is made from: the content of the data (never file dates), the settings,
the versions of the libraries and the code of this package. An outdated entry is therefore never found. Each entry is a
folder that appears in one step, with a record of the digests of its files, so a damaged entry is not found either. When
the cache grows too large, the least recently used entries are removed.

Only what this module has made is ever deleted. The folder of the cache is marked, and a folder that holds other things
is not used itself: the cache is then a sub-folder of it. An entry is a folder named by a kind and a key; of its content
only files with the names in `KINDS` are deleted. Symbolic links are not followed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
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

# The mark of the folder. Its first line is the convention by which backup programs leave caches out.
TAG = "CACHEDIR.TAG"
TAG_CONTENT = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is the cache of textattn, format 1. Everything in it can be made again.
# Delete it with `textattn cache --clear`.
"""
OWNER = b"the cache of textattn, format 1."
SUBFOLDER = "textattn"
# The record of an entry: its kind and key, and the SHA-256 of each of its files.
RECORD = "entry.json"
# The kinds of entries, each with the names of its files.
KINDS = {
    "data": re.compile(
        r"(train|validation|test)\.(arrow|ids|labels\.npy|starts\.npy|evidence\.json)"
        r"|(train|validation|test)\.((table|number|groups|times)\.npy|(origins|ids)\.json)"
        r"|unlabelled\d+\.arrow|(corpus|tokenizer|tokenizer_config)\.json"
    ),
    "vectors": re.compile(r"(matrix|found)\.npy"),
}
KEY = re.compile(r"[0-9a-f]{64}")
UNFINISHED, REMOVED = ".unfinished-", ".removed-"
LEFTOVER = re.compile(r"\.unfinished-[a-z0-9_]{8}|\.removed-[0-9a-f]{64}-\d+")


def is_off() -> bool:
    """Whether $TEXTATTN_CACHE says that nothing is kept."""
    return os.environ.get(VARIABLE, "on").strip().lower() in ("", "0", "off", "no", "false")


def folder() -> Path | None:
    """The folder of the cache: $TEXTATTN_CACHE or else the user's cache folder.

    If $TEXTATTN_CACHE holds things that are not ours, it is the sub-folder `textattn`. None if the variable says `off`,
    or if the sub-folder holds other things too.
    """
    if is_off():
        return None
    chosen = os.environ.get(VARIABLE)
    if chosen is None:
        # Caches of earlier versions have no mark, so this folder is used whatever it holds.
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textattn"
    return next((path for path in (Path(chosen), Path(chosen) / SUBFOLDER) if _may_hold_cache(path)), None)


def _may_hold_cache(path: Path) -> bool:
    """Whether a folder is our cache, empty or not there yet."""
    try:
        names = _names(path)
    except PermissionError:
        return False
    except OSError:
        return True
    if names == {TAG}:
        # The process that created the folder may be writing the mark, or was killed while it did.
        return TAG_CONTENT.startswith(_tag_of(path)) or _is_marked(path)
    return not names or _is_marked(path)


def _names(path: Path) -> set[str]:
    return {item.name for item in path.iterdir()}


def _tag_of(root: Path) -> bytes:
    try:
        with (root / TAG).open("rb") as file:
            return file.read(2 * len(TAG_CONTENT))
    except OSError:
        return b""


def _is_marked(root: Path) -> bool:
    return OWNER in _tag_of(root)


def _create(root: Path) -> None:
    """Create and mark the folder of the cache, and raise OSError if that is impossible."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds the user's texts
    # Somebody else's mark stays as it is.
    if not _is_marked(root) and TAG_CONTENT.startswith(_tag_of(root)) and not (root / TAG).is_symlink():
        (root / TAG).write_bytes(TAG_CONTENT)


def unnamed_file() -> IO[bytes]:
    """Open a temporary file that disappears when it is closed or when the process ends.

    It is created in the cache folder if possible, because the system's folder for temporary files may be in memory.
    """
    root = folder()
    if root is not None:
        with contextlib.suppress(OSError):
            _create(root)
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


def find(kind: str, key: str, note: Callable[[str], None]) -> Path | None:
    """The folder of an entry whose files are as they were stored, or None if there is no such entry.

    A damaged entry is removed, and `note` receives a sentence about it.
    """
    root = folder()
    entry = None if root is None else root / kind / key
    if entry is None or not _is_entry(entry):
        return None
    try:
        _check(entry)
    except (OSError, ValueError) as error:
        remove(entry)
        note(f"{entry}: damaged ({error}); the entry of the cache is removed and made again")
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # its time of modification is the time of last use
    return entry


def _check(entry: Path) -> None:
    """Compare the files of an entry with its record.

    Raises:
        OSError, ValueError: the entry is damaged.
    """
    try:
        record = json.loads((entry / RECORD).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"no {RECORD}") from None
    except ValueError:
        raise ValueError(f"{RECORD} cannot be read") from None
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or record != _record(entry.parent.name, entry.name, files):
        raise ValueError(f"{RECORD} is not the record of this entry")
    missing = sorted(files.keys() - _names(entry))
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    # A file that the record does not mention would be read without having been checked.
    found = {file.name for file in _own_files(entry, entry.parent.name)} - {RECORD}
    for name in sorted(found | files.keys()):
        if files.get(name) != _digest(entry / name):
            raise ValueError(f"{name} has changed")


def _record(kind: str, key: str, files: dict[str, str]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return {"textattn": "entry of the cache", "format": 1, "kind": kind, "key": key, "files": files, "sha256": digest}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def store(kind: str, key: str) -> Iterator[Path | None]:
    """Provide a folder to fill, which becomes the entry if the block succeeds; None if there is no cache.

    A cache that cannot be written (disk full, read-only home) is not an error: an OSError silently ends the block.

    Raises:
        ValueError: the kind, the key or a file in the folder has a name that the cache would not know as its own.
    """
    if kind not in KINDS or not KEY.fullmatch(key):
        raise ValueError(f"not an entry of the cache: {kind}/{key}")
    root = folder()
    if root is None:
        yield None
        return
    unfinished: Path | None = None
    try:
        _create(root)
        (root / kind).mkdir(exist_ok=True, mode=0o700)
        if (root / kind).is_symlink():
            raise NotADirectoryError(f"{root / kind} is a symbolic link")
        unfinished = Path(tempfile.mkdtemp(dir=root / kind, prefix=UNFINISHED))
    except OSError:
        yield None
        return
    try:
        yield unfinished
        names = sorted(_names(unfinished))
        if foreign := [name for name in names if not KINDS[kind].fullmatch(name)]:
            raise ValueError(f"unknown files in an entry of the cache: {foreign}")
        record = _record(kind, key, {name: _digest(unfinished / name) for name in names})
        (unfinished / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        # This fails if another process has stored the same entry in the meantime.
        with contextlib.suppress(OSError):
            unfinished.replace(root / kind / key)
        _remove_longest_unused(root)
    except OSError:
        pass
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # this call has made it


def entries(root: Path) -> list[tuple[Path, int]]:
    """All entries with their sizes in bytes, the least recently used first."""
    found = []
    for entry in _folders(root):
        # Another process may be removing it.
        with contextlib.suppress(OSError):
            if _is_entry(entry):
                size = sum(file.stat().st_size for file in _own_files(entry, entry.parent.name))
                found.append((entry, size, entry.stat().st_mtime))
    return [(entry, size) for entry, size, _ in sorted(found, key=lambda item: item[2])]


def _folders(root: Path) -> list[Path]:
    """What lies in the folders of the known kinds."""
    found: list[Path] = []
    for kind in KINDS:
        if not (root / kind).is_symlink():
            with contextlib.suppress(OSError):
                found += sorted((root / kind).iterdir())
    return found


def _is_entry(path: Path) -> bool:
    """Whether this is an entry: by its place and name, and by its record.

    An entry that has lost its record and those of earlier versions have none. They must hold files of ours and nothing
    else.
    """
    kind = path.parent.name
    if kind not in KINDS or not KEY.fullmatch(path.name) or path.is_symlink() or path.parent.is_symlink():
        return False
    try:
        names = _names(path)
    except OSError:
        return False
    own = {file.name for file in _own_files(path, kind)}
    return RECORD in own or (bool(own) and own == names)


def _own_files(entry: Path, kind: str) -> list[Path]:
    """The files of an entry, without anything that has another name or is not a regular file."""
    return [
        Path(file.path)
        for file in os.scandir(entry)
        if file.is_file(follow_symlinks=False) and (file.name == RECORD or KINDS[kind].fullmatch(file.name))
    ]


def _remove_longest_unused(root: Path) -> None:
    for leftover in _folders(root):
        if LEFTOVER.fullmatch(leftover.name) and not leftover.is_symlink():
            with contextlib.suppress(OSError):
                if time.time() - leftover.stat().st_mtime > ABANDONED:
                    _delete(leftover, leftover.parent.name)
    found = entries(root)
    total = sum(size for _, size in found)
    for entry, size in found[:-1]:
        if total <= LARGEST:
            return
        remove(entry)
        total -= size


def remove(entry: Path) -> None:
    """Remove an entry. It is renamed first, so that no process finds a partly deleted one."""
    if not _is_entry(entry):
        return
    kind = entry.parent.name
    with contextlib.suppress(OSError):
        if len(_own_files(entry, kind)) < len(_names(entry)):
            # Something else lies in it, which keeps its place.
            _delete(entry, kind)
            return
        aside = entry.with_name(f"{REMOVED}{entry.name}-{os.getpid()}")
        entry.replace(aside)
        _delete(aside, kind)


def _delete(path: Path, kind: str) -> None:
    """Delete the files of an entry, the record first, and then the folder if nothing else lies in it."""
    for file in sorted(_own_files(path, kind), key=lambda file: file.name != RECORD):
        file.unlink()
    with contextlib.suppress(OSError):
        path.rmdir()
