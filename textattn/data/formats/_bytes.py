"""The bytes of a data file, unpacked where the file is compressed, and never more of them than memory can hold."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from textattn.errors import InputError, shell_command

# Bytes read at a time.
BLOCK = 1 << 20
# A file may unpack to this many bytes, or to so many times its size.
UNPACKED = 1 << 30
RATIO = 100
# The longest line, in bytes: a line is held in memory.
LONGEST_LINE = 256 << 20
ZIP = b"PK\3\4"
GZIP = b"\x1f\x8b"
MAGIC = {GZIP: "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", ZIP: "zip"}
# The commands that unpack a file.
UNPACK = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd", "zip": "unzip"}
# What zip files contain that are really something else.
OFFICE = ("[Content_Types].xml", "mimetype")


def compression_of(path: Path) -> str | None:
    """How a file is compressed, by its first bytes; None if it is not."""
    with path.open("rb") as file:
        first = file.read(8)
    return next((name for magic, name in MAGIC.items() if first.startswith(magic)), None)


def open_bytes(path: Path) -> BinaryIO:
    """The unpacked content of a file, to be read from its start.

    Raises:
        InputError: a zip file does not contain exactly one file. Reading raises it for a damaged file, one that unpacks
            to too much, and a line that is too long.
    """
    compression = compression_of(path)
    return io.BufferedReader(_Bounded(path, compression), BLOCK)


def first_bytes(path: Path, size: int) -> bytes:
    """At most so many bytes from the start of the unpacked content."""
    with open_bytes(path) as file:
        return file.read(size)


def zip_member(path: Path) -> str:
    """The name of the only file in a zip archive.

    Raises:
        InputError: there is none or more than one, or the archive is a document of an office program.
    """
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise InputError(f"{path}: a damaged zip archive or Excel file, not text", "save the sheet as csv") from None
    if any(name in OFFICE for name in names):
        raise InputError(f"{path}: an Excel file or another document, not text", "save the sheet as csv")
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise InputError(
            f"{path}: a zip archive of {len(names):,} files; expected one", shell_command("unzip {}", path)
        )
    return names[0]


def unpack_hint(path: Path, compression: str) -> str:
    """The command that unpacks a file."""
    return shell_command(f"{UNPACK[compression]} {{}}", path)


class _Source(Protocol):
    """What unpacked bytes are read from."""

    def read(self, size: int, /) -> bytes | None: ...

    def close(self) -> object: ...


def _unpacking(path: Path, compression: str | None) -> _Source:
    if compression is None:
        return path.open("rb", buffering=0)
    if compression == "gzip":
        import gzip

        return gzip.open(path, "rb")
    if compression == "bzip2":
        import bz2

        return bz2.open(path, "rb")
    if compression == "xz":
        import lzma

        return lzma.open(path, "rb")
    if compression == "zip":
        import zipfile

        name = zip_member(path)
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).flag_bits & 1:
                raise InputError(f"{path}: a zip archive with a password", unpack_hint(path, "zip"))
            # The member keeps the archive open until it is closed itself.
            return archive.open(name)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), compression)  # type: ignore[no-any-return]


def _errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for damaged data; imported only when something was raised."""
    import lzma
    import zipfile
    import zlib

    return (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, ValueError)


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a file, counted while they are read."""

    def __init__(self, path: Path, compression: str | None) -> None:
        self._path, self._compression = path, compression
        self._source = _unpacking(path, compression)
        self._total = self._since_line_end = 0
        self._limit = max(UNPACKED, RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._read(len(view))
        size = len(data)
        view[:size] = data
        self._total += size
        last = data.rfind(b"\n")
        if last < 0 and self._since_line_end + size > LONGEST_LINE:
            # A return ends a line too; only files of old Macintoshes have nothing else.
            last = data.rfind(b"\r")
        self._since_line_end = self._since_line_end + size if last < 0 else size - last - 1
        if self._since_line_end > LONGEST_LINE:
            self._refuse_line()
        if self._compression is not None and self._total > self._limit:
            raise InputError(
                f"{self._path}: unpacks to more than {self._limit / 2**30:.3g} GB, which is {RATIO} times its size; "
                "files that are compressed so far are not unpacked here",
                unpack_hint(self._path, self._compression),
            )
        return size

    def _read(self, size: int) -> bytes:
        if self._compression is None:
            return self._source.read(size) or b""
        try:
            return self._source.read(size) or b""
        except Exception as error:
            if isinstance(error, InputError) or not isinstance(error, _errors()):
                raise
            raise InputError(f"{self._path}: damaged ({self._compression}: {error})") from None

    def _refuse_line(self) -> None:
        whole = self._total - self._since_line_end
        number = 1
        with contextlib.closing(_unpacking(self._path, self._compression)) as file:
            while whole > 0 and (data := file.read(min(BLOCK, whole))):
                number += data.count(b"\n")
                whole -= len(data)
        raise InputError(
            f"{self._path}:{number}: a line of more than {LONGEST_LINE >> 20} MB; a text file has shorter ones"
        )

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def count_lines(path: Path) -> int:
    """The number of line ends in a file that is not compressed."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def line_counter(path: Path) -> Callable[[], int] | None:
    """What counts the lines of a file; None for a compressed file, which would have to be unpacked for it."""
    return None if compression_of(path) is not None else lambda: count_lines(path)
