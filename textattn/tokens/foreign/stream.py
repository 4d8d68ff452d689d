"""Read a file of vectors from its beginning: as it is, unpacked from gzip, or the only file in a zip."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from textattn.config.regular_file import NotReadable, check_regular
from textattn.errors import Hint, InputError, shell_command

SETTING = "model.vectors.path"
BUFFER = 2**18
# Numbers hardly shrink when they are packed, written as text by a factor of five. What unpacks to more than this many
# times its size, and to more than SMALL bytes, holds no vectors.
MOST_EXPANSION, SMALL = 100, 2**26
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"


class Stream:
    """The bytes of a file, from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            InputError: it is not there, cannot be read, or is a zip of several files.
        """
        self.path = path
        self.place = str(path)
        self.position = 0
        with contextlib.ExitStack() as opened:
            with reading(path):
                check_regular(path)
                file = opened.enter_context(path.open("rb"))
                head = file.read(len(ZIP))
                file.seek(0)
                size = path.stat().st_size
                self._seekable = not head.startswith((GZIP, ZIP))
                self.most = size if self._seekable else max(SMALL, MOST_EXPANSION * size)
                """The stream has at most this many bytes; exactly so many, if it is not packed."""
                raw: Any = file
                if head.startswith(GZIP):
                    raw = opened.enter_context(gzip.GzipFile(fileobj=file))
                elif head == ZIP:
                    archive = opened.enter_context(zipfile.ZipFile(file))
                    member = _only_member(archive, path)
                    self.place = f"{path}:{member.filename}"
                    raw = opened.enter_context(archive.open(member))
            self._file = cast(BinaryIO, raw if self._seekable else io.BufferedReader(raw, BUFFER))
            self._opened = opened.pop_all()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def read(self, size: int) -> bytes:
        """The next bytes; fewer than `size` at the end of the file only."""
        parts = []
        with reading(self.path):
            while size > 0 and (part := self._file.read(min(size, BUFFER))):
                self._advance(len(part))
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def exactly(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            InputError: the file ends before.
        """
        found = self.read(size)
        if len(found) < size:
            raise self.damaged(f"the file ends after {self.position:,} bytes, in the middle of its content")
        return found

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """The next numbers, as `struct` names their layout; little endian."""
        return struct.unpack(f"<{layout}", self.exactly(struct.calcsize(f"<{layout}")))

    def lines(self, longest: int) -> Iterator[bytes]:
        """The lines that are left, as `line` returns them."""
        with reading(self.path):
            while found := self._file.readline(longest + 1):
                self._advance(len(found))
                yield found

    def line(self, longest: int) -> bytes:
        """The next line with its end; b"" at the end of the file, and more than `longest` bytes of a longer line."""
        with reading(self.path):
            found = self._file.readline(longest + 1)
        self._advance(len(found))
        return found

    def skip(self, size: int) -> None:
        """Pass over bytes, also beyond the end of the file."""
        if self._seekable:
            with reading(self.path):
                self._file.seek(size, io.SEEK_CUR)
            self.position += size
            return
        while size > 0 and (passed := len(self.read(min(size, BUFFER)))):
            size -= passed

    def until(self, end: bytes, longest: int) -> bytes:
        """The bytes up to one that ends a string, which is passed over.

        Raises:
            InputError: the string is longer than `longest`, or the file ends.
        """
        found = bytearray()
        while True:
            with reading(self.path):
                ahead = self._file.peek(1)  # type: ignore[attr-defined]
                at = ahead.find(end)
                part = self._file.read(len(ahead) if at < 0 else at + 1)
            self._advance(len(part))
            found += part
            if not part:
                raise self.damaged(f"the file ends after {self.position:,} bytes, in the middle of a word")
            if len(found) > longest:
                raise self.damaged(f"a word of more than {longest:,} bytes before byte {self.position:,}")
            if at >= 0:
                return bytes(found[:-1])

    def damaged(self, problem: str, hint: Hint = "copy or download the file again") -> InputError:
        """The error for a file that is not as its format demands."""
        return InputError(problem, hint, setting=SETTING, place=self.place)

    def _advance(self, size: int) -> None:
        self.position += size
        if self.position > self.most and not self._seekable:
            raise self.damaged(
                f"unpacks to more than {MOST_EXPANSION} times its size, which no word vectors do", "unpack it first"
            )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong with a file is said as an InputError."""
    try:
        yield
    except FileNotFoundError:
        raise InputError("no such file", setting=SETTING, place=str(path)) from None
    except NotReadable as error:
        raise InputError(str(error.strerror), setting=SETTING, place=str(path)) from None
    # zipfile raises RuntimeError where a password is needed, and NotImplementedError for rare ways of packing.
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError, struct.error) as error:
        raise InputError(
            f"cannot be read ({error})", "copy or download the file again", setting=SETTING, place=str(path)
        ) from None


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir() and "__MACOSX/" not in member.filename]
    if any(Path(member.filename).name == "data.pkl" for member in members):
        raise pickled(path, "torch")
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:5]) + (", …" if len(members) > 5 else "")
        raise InputError(
            f"a zip of {len(members)} files{f' ({names})' if members else ''}; one file of vectors is read",
            shell_command("unzip {}", path) + ", and name one of the files",
            setting=SETTING,
            place=str(path),
        )
    return members[0]


def pickled(path: Path, writer: str) -> InputError:
    """The error for a file that can run code when it is read."""
    hint = "save_word2vec_format(PATH, binary=True) of gensim writes a safe format"
    if writer == "torch":
        hint = "safetensors.torch.save_file writes a safe format, which is read with its tokenizer.json"
    return InputError(
        f"a pickle written by {writer}; reading one can run any code, so textattn never does",
        hint,
        setting=SETTING,
        place=str(path),
    )
