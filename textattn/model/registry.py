"""Parts of the model that are found by the name of the file they are in.

Each kind of part has a folder. Every file in it whose name does not begin with an underscore holds one part: one class,
named in configs as the file is. Nothing outside of the folder can be named, so a config or a downloaded model cannot
make textattn import anything else.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

Part = TypeVar("Part")


def part_names(folder: Iterable[str]) -> tuple[str, ...]:
    """Names of the parts in a folder, in alphabetical order.

    Args:
        folder: the `__path__` of its package.
    """
    return tuple(sorted(found.name for found in pkgutil.iter_modules(folder) if not found.name.startswith("_")))


def part_class(package: str, name: str, contract: type[Part]) -> type[Part]:
    """The class that the file `name` of a package defines.

    Args:
        package: full name of the package.
        name: must be one of `part_names`; the caller has checked it.
        contract: class that the part derives from.

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
