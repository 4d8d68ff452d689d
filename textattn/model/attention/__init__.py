"""Attention mechanisms. Each is one class in its own file: `model.attention: dot` is the class in dot.py.

To add a mechanism, add a file with a class derived from `WeightedPooling` that defines `scores` (or `weigh`) and
`weigh_onnx`, as in dot.py. If its tokens have no weights of their own, derive the class from `Attention`, as in max.py.
Configs, training, prediction, export and the tests of all mechanisms then find it by the name of its file. Add its
equation to tests/reference.py.
"""

from __future__ import annotations

from textattn.model.attention._base import (
    Attention,
    AttentionSizes,
    WeightedPooling,
    masked_softmax,
    scaled_dot_product,
    uniform_weights,
)
from textattn.parts import part_class, part_names

NAMES = part_names(__path__)

__all__ = [
    "NAMES",
    "Attention",
    "AttentionSizes",
    "WeightedPooling",
    "attention_class",
    "masked_softmax",
    "scaled_dot_product",
    "uniform_weights",
]


def attention_class(name: str) -> type[Attention]:
    """The class of a mechanism.

    Raises:
        ValueError: there is no mechanism of that name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown attention {name!r}")
    return part_class(__name__, name, Attention)
