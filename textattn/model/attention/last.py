"""The final state of the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from textattn.model.attention._base import Attention, AttentionSizes, PooledOnnx

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class LastPooling(Attention):
    """The final state of each direction; a control for mechanisms that learn weights.

    The last token and, with two directions, the first one share the weight.
    """

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.bidirectional = sizes.bidirectional

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, dim = states.shape
        final = states[torch.arange(batch, device=states.device), mask.sum(dim=1) - 1]  # (batch, dim)
        at_last, at_first = self._ends(states, mask)
        if not self.bidirectional:
            return final, at_last
        # The backward direction ends at the first token.
        context = torch.cat([final[:, : dim // 2], states[:, 0, dim // 2 :]], dim=-1)
        return context, (at_last + at_first) / 2

    def contributions(self, states: Tensor, weights: Tensor | None, mask: Tensor, matrix: Tensor) -> Tensor:
        at_last, at_first = (at.to(states.dtype).unsqueeze(-1) for at in self._ends(states, mask))  # (batch, seq, 1)
        if not self.bidirectional:
            return at_last * (states @ matrix.T)
        half = self.context_dim // 2
        forwards, backwards = states[..., :half] @ matrix[:, :half].T, states[..., half:] @ matrix[:, half:].T
        return at_last * forwards + at_first * backwards

    @staticmethod
    def _ends(states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """1 at the last token and 1 at the first token, 0 elsewhere: (batch, seq) each."""
        seq = states.shape[1]
        last = mask.sum(dim=1) - 1  # (batch,)
        return functional.one_hot(last, seq).float(), functional.one_hot(torch.zeros_like(last), seq).float()

    def to_onnx(self, graph: OnnxGraph, scored: str, pooled: str, matrix: Tensor) -> PooledOnnx:
        last = graph.op("Sub", graph.squeeze(graph.length, 1), graph.constant(1))  # (batch,)
        weights = graph.one_hot(last)  # (batch, seq)
        final = graph.weighted_sum(weights, scored)
        by_output = graph.array(matrix).T  # (context_dim, num_outputs)
        if not self.bidirectional:
            contributions = graph.op("MatMul", scored, graph.constant(by_output))
            return PooledOnnx(final, weights, graph.op("Mul", graph.unsqueeze(weights, 2), contributions))
        # The backward direction ends at the first token.
        first = graph.op("Gather", scored, graph.constant(0), axis=1)
        is_forward = np.arange(self.context_dim) < self.context_dim // 2
        context = graph.op("Where", graph.constant(is_forward), final, first)
        at_first = graph.one_hot(graph.op("Mul", last, graph.constant(0)))
        shares = graph.op("Mul", graph.op("Add", weights, at_first), graph.constant(0.5))
        forwards, backwards = (
            graph.op("MatMul", scored, graph.constant(by_output * half[:, None].astype(np.float32)))
            for half in (is_forward, ~is_forward)
        )
        contributions = graph.op(
            "Add",
            graph.op("Mul", graph.unsqueeze(weights, 2), forwards),
            graph.op("Mul", graph.unsqueeze(at_first, 2), backwards),
        )
        return PooledOnnx(context, shares, contributions)
