"""Attention mechanisms, one class in one file each. `model.attention: dot` is the class in dot.py.

To add a mechanism, add a file: a class derived from `WeightedPooling` with `weigh` and `weigh_onnx`, as in dot.py, or
from `Attention` where tokens have no weights of their own, as in max.py. Configs, training, prediction, export and the
tests that hold for every mechanism then know it by the name of its file. tests/reference.py takes its equation.
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
from textattn.model.registry import part_class, part_names

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
    """The mechanism of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in NAMES:
        raise ValueError(f"unknown attention {name!r}")
    return part_class(__name__, name, Attention)
