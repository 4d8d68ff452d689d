"""The largest value of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from textattn.model.attention._base import Attention

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph
    from textattn.model.passages import Passages


class MaxPooling(Attention):
    """context_k = max_i h_ik; a control for mechanisms that learn weights.

    The weight of a token is the share of features that take their value from it.
    """

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        context, positions = states.masked_fill(~mask.unsqueeze(-1), -torch.inf).max(dim=1)  # (batch, dim) each
        won = functional.one_hot(positions, states.shape[1])  # (batch, dim, seq)
        return context, won.float().mean(dim=1)

    def to_onnx(self, graph: OnnxGraph, scored: str, pooled: str, passages: Passages | None = None) -> tuple[str, str]:
        real = graph.op("Where", graph.unsqueeze(graph.mask, 2), scored, graph.constant(float("-inf")))
        context = graph.op("ReduceMax", real, axes=[1], keepdims=0)
        won = graph.one_hot(graph.op("ArgMax", real, axis=1, keepdims=0))  # (batch, dim, seq)
        return context, graph.op("ReduceMean", won, axes=[1], keepdims=0)
