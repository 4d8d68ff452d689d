"""The checksums of a model's files: what was written is what is loaded, or the damage is named.

checksums.json holds a CRC-32 for each file that predictions depend on, and one for itself. A CRC-32 detects every
flipped bit and every damaged stretch of up to 32 bits, and misses other damage once in four billion cases. It takes a
millisecond for a model, where a cryptographic digest takes five. It is no protection against people, who can write a
new one. Models of earlier versions have no such file and are loaded unchecked, as are files without an entry.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from mmap import mmap
from pathlib import Path

from textattn.errors import Hint, InputError
from textattn.storage.files import write_bytes
from textattn.storage.reading import parse_json

CHECKSUMS = "checksums.json"
OWN = "crc32_of_this_file"
FORMAT_VERSION = 1


def checksum(content: bytes | mmap) -> str:
    """The CRC-32 of a content, as eight hexadecimal digits."""
    return f"{zlib.crc32(content):08x}"


def to_bytes(checksums: Mapping[str, str]) -> bytes:
    """The content of checksums.json for these checksums by file name."""
    return _sealed({"format_version": FORMAT_VERSION, "crc32": dict(sorted(checksums.items()))})


def _sealed(facts: Mapping[str, object]) -> bytes:
    """The content of a file with these entries and their own checksum, as every version writes it."""
    own = checksum(json.dumps(facts).encode())
    return (json.dumps({**facts, OWN: own}, indent=2) + "\n").encode()


def from_bytes(content: bytes, where: str) -> dict[str, str]:
    """The checksums by file name.

    Raises:
        InputError: the content is not exactly what `to_bytes` has made, or made by a newer version.
    """
    try:
        value = parse_json(content)
        if content != _sealed({key: entry for key, entry in value.items() if key != OWN}):
            raise ValueError("its own checksum differs")
        version, found = value["format_version"], value.get("crc32")
        if version > FORMAT_VERSION:
            raise InputError(
                f"has format version {version}, but this version of textattn reads formats up to {FORMAT_VERSION}",
                "pip install --upgrade textattn",
                place=where,
            )
        return {str(name): str(entry) for name, entry in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(where, str(error) if isinstance(error, ValueError) else "an entry is missing") from None


def damaged(
    where: str, why: str = "its checksum differs from that of the file that was written", hint: Hint = None
) -> InputError:
    """The error for a file whose content is not what was written."""
    usual = f"copy the model anew or train it again; if the file was edited on purpose, remove {CHECKSUMS} beside it"
    return InputError(f"damaged: {why}", usual if hint is None else hint, place=where)


def write_checksums(folder: Path, names: tuple[str, ...]) -> None:
    """Write checksums.json for those of the named files that are in the folder."""
    found = {name: checksum((folder / name).read_bytes()) for name in names if (folder / name).is_file()}
    write_bytes(folder / CHECKSUMS, to_bytes(found))


def forget_checksums(folder: Path) -> None:
    """Remove checksums.json, because training will change the files that it describes."""
    (folder / CHECKSUMS).unlink(missing_ok=True)


def replace_file_of_model(folder: Path, name: str, content: bytes) -> None:
    """Write one file of a model and its checksum. Whenever the process is killed, the model can be loaded.

    Raises:
        InputError: checksums.json is damaged.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        write_bytes(folder / name, content)
        return
    others = {key: value for key, value in from_bytes(path.read_bytes(), str(path)).items() if key != name}
    write_bytes(path, to_bytes(others))
    write_bytes(folder / name, content)
    write_bytes(path, to_bytes(others | {name: checksum(content)}))
