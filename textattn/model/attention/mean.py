"""The mean of the states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from textattn.model.attention._base import WeightedPooling, uniform_weights

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class MeanPooling(WeightedPooling):
    """Every token has the same weight; a control for mechanisms that learn weights."""

    learns_weights = False

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        return uniform_weights(mask, states).unsqueeze(1)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        return graph.unsqueeze(graph.uniform_weights(), 1)
