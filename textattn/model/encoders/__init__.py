"""Encoders. Each is one class in its own file: `model.encoder: gru` is the class in gru.py. `none` is no encoder.

To add an encoder, add a file with a class derived from `RecurrentEncoder`, as in gru.py.
"""

from __future__ import annotations

from textattn.model.encoders._recurrent import EncoderSizes, RecurrentEncoder
from textattn.parts import part_class, part_names

NAMES = part_names(__path__)

__all__ = ["NAMES", "EncoderSizes", "RecurrentEncoder", "encoder_class"]


def encoder_class(name: str) -> type[RecurrentEncoder]:
    """The class of an encoder.

    Raises:
        ValueError: there is no encoder of that name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown encoder {name!r}")
    return part_class(__name__, name, RecurrentEncoder)
