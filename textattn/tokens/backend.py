"""Reads a tokenizer.json, which may be damaged or come from a stranger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tokenizers import Tokenizer

from textattn.errors import InputError
from textattn.tokens.backend_check import Refused, check_backend


def load_backend(content: bytes, where: str, setting: str | None = None) -> Tokenizer:
    """Read a tokenizer.json after checking it.

    Args:
        content: content of the file.
        where: its name, for messages.
        setting: the setting that names the file, for messages.

    Raises:
        InputError: the content is not a tokenizer, or does what no tokenizer of texts needs.
    """
    with damage_named(where, "not a tokenizer", setting):
        try:
            check_backend(content)
        except Refused as error:
            raise InputError(f"not a tokenizer of texts ({error})", setting=setting, place=where) from None
        return Tokenizer.from_str(content.decode("utf-8"))


@contextlib.contextmanager
def damage_named(where: str, problem: str, setting: str | None = None) -> Iterator[None]:
    """Convert the exceptions that the library raises for a damaged tokenizer to InputError."""
    try:
        yield
    except InputError:
        raise
    # The library raises bare Exception, and a Rust panic is only a BaseException; nothing narrower can be caught.
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise InputError(f"{problem} ({error})", setting=setting, place=where) from None
        raise
