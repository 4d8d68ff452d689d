"""Files that are not on this machine (`s3://bucket/file.parquet`), through fsspec. Importing this module is fast.

They are copied: an input before it is read, because a file is read more than once, and an output when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textattn.errors import ConfigError, InputError, MissingExtra, Option, TextattnError, shell_command

# `C:\` is no protocol, and neither is a Windows path with slashes.
URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)(::[^:]+)*://.")
# Protocols whose files appear when they are complete. Elsewhere a file is written beside its place and then moved.
ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory", "hf"}
READ_ONLY = {"http", "https", "github", "zip", "tar", "data"}
OUTPUT = Option("output")
# Those of the extra `remote`.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}


def is_remote(name: str) -> bool:
    """Whether a name is a URL rather than a path of this machine."""
    return URL.match(name) is not None and not Path(name).exists()


def expand(name: str) -> list[str]:
    """The URLs that a URL with a pattern (`s3://bucket/*.parquet`) stands for, in the order of their names.

    Raises:
        InputError: there is no such file, or it cannot be reached.
        MissingExtra: a package is missing.
        ConfigError: there is no such protocol.
    """
    system, path = _open(name, Option("input"))
    # In a web address, a question mark begins the query.
    is_pattern = any(mark in path for mark in ("*[" if _protocol(name) in ("http", "https") else "*?["))
    if not is_pattern:
        return [name]
    with _reading(name):
        found = sorted(system.glob(path))
    if not found:
        raise InputError(f"{name}: no such file")
    return [str(system.unstrip_protocol(path)) for path in found]


def fetch(name: str, target: Path) -> None:
    """Copy a remote file to a file of this machine.

    Raises:
        InputError: there is no such file, or it cannot be reached.
        MissingExtra, ConfigError: as for `expand`.
    """
    system, path = _open(name, Option("input"))
    with _reading(name):
        system.get_file(path, str(target))
        if not target.is_file():
            raise InputError(f"{name}: a folder", Option("input", f"{name.rstrip('/')}/*.parquet"))


class RemoteOutput:
    """A remote file to write. What is written until it is complete lies in a folder of this machine."""

    def __init__(self, name: str) -> None:
        """Open the file system.

        Raises:
            ConfigError: its protocol cannot be written or does not exist.
            MissingExtra: a package is missing.
        """
        self.name = name
        if _protocol(name) in READ_ONLY:
            raise ConfigError(f"{name}: {_protocol(name)} can only be read", "s3://bucket/…", setting=OUTPUT)
        self._system, self._path = _open(name, OUTPUT)

    def check_new(self, overwrite: bool) -> None:
        """Check that no file is replaced unasked.

        Raises:
            ConfigError: the file exists and `overwrite` is not set, or it cannot be reached.
        """
        try:
            exists = self._system.exists(self._path)
        except Exception as error:  # each file system raises its own
            raise ConfigError(f"{self.name} cannot be written: {_reason(error)}", setting=OUTPUT) from None
        if exists and not overwrite:
            raise ConfigError(
                f"{self.name} exists; nothing was changed", Option("overwrite", flag=True), setting=OUTPUT
            )

    @property
    def local(self) -> Path:
        """Where the file is written before it is sent: the same for the same URL, so that a job can be resumed."""
        import hashlib

        digest = hashlib.sha256(self.name.encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"textattn-{_user()}-{digest}"
        return folder / self._path.rstrip("/").rpartition("/")[2]

    @contextlib.contextmanager
    def written(self) -> Iterator[Path]:
        """Send the file that the block writes to the given path of this machine.

        Raises:
            ConfigError: somebody else has a folder of that name.
            TextattnError: the file cannot be sent; it is kept here.
        """
        folder = self.local.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != _user()):
            raise ConfigError(f"{folder} belongs to somebody else", "set TMPDIR to a folder of your own")
        self.local.unlink(missing_ok=True)  # of a job whose file could not be sent
        try:
            yield self.local
            self._send()
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _send(self) -> None:
        is_atomic = _protocol(self.name) in ATOMIC
        target = self._path if is_atomic else f"{self._path}.{os.urandom(4).hex()}.tmp"
        try:
            if not is_atomic:
                self._system.makedirs(self._path.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(self.local), target)
            if not is_atomic:
                self._system.mv(target, self._path)
        except Exception as error:  # each file system raises its own
            if not is_atomic:
                with contextlib.suppress(Exception):
                    self._system.rm_file(target)
            raise TextattnError(
                f"{self.name} cannot be written: {_reason(error)}; all rows are answered in {self.local}",
                "copy that file to its place yourself",
            ) from None
        self.local.unlink()


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _protocol(name: str) -> str:
    """The outermost protocol of a URL."""
    match = URL.match(name)
    assert match is not None
    return match["protocol"].lower()


def _open(name: str, option: Option) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtra(f"{_protocol(name)}://", "fsspec", "remote") from None
    try:
        system, path = fsspec.core.url_to_fs(name)
    except ImportError as error:
        raise _missing(_protocol(name), error) from None
    except ValueError as error:
        raise ConfigError(f"{name}: {_reason(error)}", "s3://bucket/file.parquet", setting=option) from None
    return system, str(path)


def _missing(protocol: str, error: ImportError) -> TextattnError:
    """The error about a package that a protocol needs."""
    package = PACKAGES.get(protocol)
    if package is not None:
        return MissingExtra(f"{protocol}://", package, "remote")
    # An ordinary import names the package; fsspec's own errors say what to install.
    problem = f"{protocol}:// needs another package: {_reason(error)}"
    return ConfigError(problem, shell_command("pip install {}", error.name) if error.name else None)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Raises InputError where a remote file cannot be read."""
    try:
        yield
    except TextattnError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except Exception as error:  # each file system raises its own
        raise InputError(f"{name}: cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
