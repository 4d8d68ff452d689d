"""Finds attention mechanisms, encoders, file formats and explanation methods by the names of their files.

Each kind of part has a folder. Every file in it whose name does not begin with an underscore defines one class, which
configs refer to by the name of the file. Names cannot refer to anything outside the folder, so a config or a downloaded
model cannot make textattn import anything else.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

Part = TypeVar("Part")


def part_names(folder: Iterable[str]) -> tuple[str, ...]:
    """The names of the parts in a folder, in alphabetical order. Their files are not imported.

    Args:
        folder: the `__path__` of the package.
    """
    return tuple(sorted(found.name for found in pkgutil.iter_modules(folder) if not found.name.startswith("_")))


def part_class(package: str, name: str, contract: type[Part]) -> type[Part]:
    """The class that the file `name` of a package defines.

    Args:
        package: the full name of the package.
        name: one of `part_names`, which the caller has to check.
        contract: the class that the part derives from.

    Raises:
        TypeError: the file defines no such class, or more than one.
    """
    module = importlib.import_module(f"{package}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, contract) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define one class derived from {contract.__name__}, not {len(found)}")
    return found[0]
