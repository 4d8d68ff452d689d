"""The largest value of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from textattn.model.attention._base import Attention, PooledOnnx

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class MaxPooling(Attention):
    """context_k = max_i h_ik; a control for mechanisms that learn weights.

    The weight of a token is the share of features that take their value from it.
    """

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        context, won = self._largest(states, mask)
        return context, won.float().mean(dim=1)

    def contributions(self, states: Tensor, weights: Tensor | None, mask: Tensor, matrix: Tensor) -> Tensor:
        context, won = self._largest(states, mask)
        return (won * context.unsqueeze(-1)).transpose(1, 2) @ matrix.T

    @staticmethod
    def _largest(states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The maxima, (batch, dim), and where they are, (batch, dim, seq), 0 or 1."""
        context, positions = states.masked_fill(~mask.unsqueeze(-1), -torch.inf).max(dim=1)  # (batch, dim) each
        return context, functional.one_hot(positions, states.shape[1])

    def to_onnx(self, graph: OnnxGraph, scored: str, pooled: str, matrix: Tensor) -> PooledOnnx:
        real = graph.op("Where", graph.unsqueeze(graph.mask, 2), scored, graph.constant(float("-inf")))
        context = graph.op("ReduceMax", real, axes=[1], keepdims=0)
        won = graph.one_hot(graph.op("ArgMax", real, axis=1, keepdims=0))  # (batch, dim, seq)
        parts = graph.op("Transpose", graph.op("Mul", won, graph.unsqueeze(context, 2)), perm=[0, 2, 1])
        contributions = graph.op("MatMul", parts, graph.constant(graph.array(matrix).T))
        return PooledOnnx(context, graph.op("ReduceMean", won, axes=[1], keepdims=0), contributions)
