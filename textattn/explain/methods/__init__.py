"""Explanation methods: each is one class in one file of this folder, and its name is the file's.

To add a method, add a file with a class derived from `Method` (see `_base.py`) and a test. Nothing else names it: the
command line, `--methods all`, the audit and the HTML page read the list of files.

Listing the names imports neither numpy nor torch: the files of this folder import them inside their functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textattn.errors import ConfigError, Option
from textattn.explain.methods._base import Method, Need
from textattn.parts import part_class, part_names

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier

FILES = part_names(__path__)


def method_names() -> tuple[str, ...]:
    """Names of the methods for every model, in the order in which they are listed."""
    return tuple(method.name for method in _methods() if Need.NGRAMS not in method.needs)


def ngram_method_names() -> tuple[str, ...]:
    """Names of the methods for models with n-grams (`model.ngrams`) only."""
    return tuple(method.name for method in _methods() if Need.NGRAMS in method.needs)


def audited_names() -> tuple[str, ...]:
    """Names of the methods that `textattn audit` measures where none are named."""
    return tuple(name for name in method_names() if find_method(name).in_default_audit)


def default_method(classifier: Classifier) -> str:
    """The method for this model where none is named: contributions, or attention where they are not to be had."""
    return "attention" if classifier.dividing_session is None else "contributions"


def find_method(name: str) -> Method:
    """The method with this name.

    Raises:
        ConfigError: there is no such method. The message lists the methods for every model.
    """
    if name not in FILES:
        from difflib import get_close_matches

        names = method_names()
        near = get_close_matches(name, names, n=1)
        raise ConfigError(
            f"unknown method {name!r}; methods are: {', '.join(names)}",
            Option("method", near[0] if near else "occlusion"),
        )
    return part_class(__name__, name, Method)()


def is_signed(name: str) -> bool:
    """Whether scores of this method speak for the target or against it. A name that is not a method's: True."""
    return name not in FILES or find_method(name).signed


def _methods() -> list[Method]:
    return sorted(map(find_method, FILES), key=lambda method: (method.place, method.name))
