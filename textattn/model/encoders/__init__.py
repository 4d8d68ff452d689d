"""Encoders, one class in one file each. `model.encoder: gru` is the class in gru.py; `none` means that there is none.

To add an encoder, add a file with a class derived from `RecurrentEncoder`, as in gru.py.
"""

from __future__ import annotations

from textattn.model.encoders._recurrent import EncoderSizes, RecurrentEncoder
from textattn.model.registry import part_class, part_names

NAMES = part_names(__path__)

__all__ = ["NAMES", "EncoderSizes", "RecurrentEncoder", "encoder_class"]


def encoder_class(name: str) -> type[RecurrentEncoder]:
    """The encoder of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in NAMES:
        raise ValueError(f"unknown encoder {name!r}")
    return part_class(__name__, name, RecurrentEncoder)
