"""Every setting of the schema by its dotted path, the names nearest to a misspelt one, and what its values may be."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from textattn.config.schema import Config
from textattn.config.section import Section
from textattn.config.yaml12 import KeyPath

# A misspelt name is compared with others up to this length. Nobody means a name that is longer.
LONGEST_NAME = 100


def _fields(section: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every setting with the path of its keys, sections included."""
    for name, field in section.model_fields.items():
        path = (*prefix, name)
        yield path, field
        for part in (field.annotation, *get_args(field.annotation)):
            # On Python 3.10 list[str] counts as a type, but issubclass refuses it.
            if get_origin(part) is None and isinstance(part, type) and issubclass(part, Section):
                yield from _fields(part, path)


FIELDS = dict(_fields(Config))


@cache
def forms_of(path: tuple[str, ...]) -> frozenset[str]:
    """The forms that the values of a setting may take: text, choice, texts (a list of texts), null and other.

    Empty if there is no such setting.
    """
    return frozenset(_forms(FIELDS[path].annotation)) if path in FIELDS else frozenset()


def _forms(annotation: Any) -> Iterator[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _forms(arguments[0])
    elif origin in (Union, types.UnionType):
        for part in arguments:
            yield from _forms(part)
    elif origin is Literal:
        yield "choice"
    elif origin is list:
        yield "texts" if {*_forms(arguments[0])} == {"text"} else "other"
    elif annotation is type(None):
        yield "null"
    else:
        yield "text" if annotation is str else "other"


def keys_of(section: KeyPath) -> list[str]:
    """The names of the settings in a section."""
    return [path[-1] for path in FIELDS if path[:-1] == section]


def meant_setting(path: KeyPath) -> tuple[str, ...] | None:
    """The setting that an unknown key most likely means: one in its section, or one of the same name elsewhere."""
    section, key = path[:-1], str(path[-1])
    keys = keys_of(section)
    elsewhere = [known for known in FIELDS if _same(key, known[-1])]
    if elsewhere and not any(_same(key, name) for name in keys):
        return min(elsewhere, key=lambda known: (known[: len(section)] != section, len(known)))
    near = nearest(key, keys)
    return (*map(str, section), near) if near else None


def nearest(word: str, choices: list[str]) -> str | None:
    """The choice that a word most likely means, or None."""
    if len(word) > LONGEST_NAME:
        return None
    same = [choice for choice in choices if _same(word, choice)]
    return next(iter(same or difflib.get_close_matches(word.lower(), choices, n=1)), None)


def _same(word: str, name: str) -> bool:
    """Whether a word differs from a name only in case and separators, or is its initials (`lr`: learning_rate)."""
    bare = re.sub(r"[-_ ]", "", word[: LONGEST_NAME + 1]).lower()
    parts = re.split(r"[-_]", name)
    return bare == "".join(parts) or (len(parts) > 1 and bare == "".join(part[:1] for part in parts))
