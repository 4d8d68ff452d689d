"""Short names of runs, kept in runs/aliases.json: `--model best` then means that run. Importing this module is fast."""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path

from textattn.errors import ConfigError, InputError, shell_command
from textattn.storage.hub import looks_like_a_path
from textattn.storage.run_dir import RUNS

ALIASES = "aliases.json"
FORMAT_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LARGEST = 2**20


def read_aliases(root: Path = RUNS) -> dict[str, Path]:
    """The runs by their aliases, in the order of the aliases; empty if there are none.

    Raises:
        InputError: the file is damaged, or written by a newer version.
    """
    from textattn.storage.reading import parse_json, read_regular

    file = root / ALIASES
    try:
        value = parse_json(read_regular(file, LARGEST))
        if value["format_version"] > FORMAT_VERSION:
            raise InputError("written by a newer version", "pip install --upgrade textattn", place=str(file))
        found = {str(name): str(run) for name, run in value["aliases"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = shell_command("rm {}   # and name the runs again", file)
        raise InputError(f"damaged ({error!r})", hint, place=str(file)) from None
    return {name: root / run for name, run in sorted(found.items()) if NAME.fullmatch(name) and "\0" not in run}


def find_alias(name: str, root: Path = RUNS) -> Path | None:
    """The run that has this alias, None if none has.

    Raises:
        InputError: a file or folder here has the name too; and as for `read_aliases`.
    """
    if not NAME.fullmatch(name) or not (root / ALIASES).is_file():
        return None
    run = read_aliases(root).get(name)
    if run is not None and os.path.lexists(name):
        hint = shell_command("write {} or {}", run, f"./{name}")
        raise InputError(f"{name} is both an alias of {run} and a file or folder here", hint)
    return run


def give_alias(name: str, run: Path, root: Path = RUNS) -> Path | None:
    """Give a run an alias; returns the run that had it before.

    Raises:
        ConfigError: the name could be taken for something else, or another process is changing the aliases.
        InputError: as for `read_aliases`.
    """
    check_name(name)
    with _changing(root):
        aliases = read_aliases(root)
        before = aliases.get(name)
        _write(aliases | {name: run}, root)
    return before


def remove_alias(name: str, root: Path = RUNS) -> Path:
    """Remove an alias; returns the run that had it.

    Raises:
        ConfigError: no run has it, or another process is changing the aliases.
        InputError: as for `read_aliases`.
    """
    with _changing(root):
        aliases = read_aliases(root)
        if name not in aliases:
            known = f"; the aliases are: {', '.join(aliases)}" if aliases else ""
            raise ConfigError(f"no run has the alias {name}{known}", "textattn runs ls")
        run = aliases.pop(name)
        _write(aliases, root)
    return run


def forget_run(run: Path, root: Path = RUNS) -> list[str]:
    """Remove the aliases of a run; returns them."""
    names = aliases_of(run, read_aliases(root))
    for name in names:
        remove_alias(name, root)
    return names


def aliases_of(run: Path, aliases: dict[str, Path]) -> list[str]:
    """The aliases of one run."""
    place = os.path.realpath(run)
    return [name for name, path in aliases.items() if os.path.realpath(path) == place]


def check_name(name: str) -> None:
    """Check that an alias cannot be taken for a path or for a name on the Hub.

    Raises:
        ConfigError: it can.
    """
    if not NAME.fullmatch(name) or looks_like_a_path(name):
        why = (
            "it looks like a path or a name on the Hub"
            if "/" in name or looks_like_a_path(name)
            else "expected letters, digits, dots, dashes and underscores, at most 64"
        )
        raise ConfigError(f"{name!r} cannot be an alias: {why}", "textattn runs name RUN best")
    if os.path.lexists(name):
        raise ConfigError(
            f"{name!r} cannot be an alias: a file or folder here has this name", "textattn runs name RUN another-name"
        )


def _changing(root: Path) -> AbstractContextManager[object]:
    from textattn.storage.locks import owned

    return owned(root, "given an alias", "try again in a moment")


def _write(aliases: dict[str, Path], root: Path) -> None:
    from textattn.storage.files import write_text

    real = Path(os.path.realpath(root))
    stored = {}
    for name, run in sorted(aliases.items()):
        place = Path(os.path.realpath(run))
        # A folder of runs that is moved as a whole keeps its aliases.
        stored[name] = place.relative_to(real).as_posix() if place.is_relative_to(real) else str(place)
    value = {"format_version": FORMAT_VERSION, "aliases": stored}
    write_text(root / ALIASES, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
