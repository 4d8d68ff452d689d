"""The final state of the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from textattn.model.attention._base import Attention, AttentionSizes

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph
    from textattn.model.passages import Passages


class LastPooling(Attention):
    """The final state of each direction; a control for mechanisms that learn weights.

    The last token and, with two directions, the first one share the weight.
    """

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.bidirectional = sizes.bidirectional

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        batch, seq, dim = states.shape
        last = mask.sum(dim=1) - 1  # (batch,)
        final = states[torch.arange(batch, device=states.device), last]  # (batch, dim)
        weights = functional.one_hot(last, seq).float()
        if not self.bidirectional:
            return final, weights
        # The backward direction ends at the first token.
        context = torch.cat([final[:, : dim // 2], states[:, 0, dim // 2 :]], dim=-1)
        first = torch.zeros_like(weights)
        first[:, 0] = 1
        return context, (weights + first) / 2

    def to_onnx(self, graph: OnnxGraph, scored: str, pooled: str, passages: Passages | None = None) -> tuple[str, str]:
        last = graph.op("Sub", graph.squeeze(graph.length, 1), graph.constant(1))  # (batch,)
        weights = graph.one_hot(last)  # (batch, seq)
        final = graph.weighted_sum(weights, scored)
        if not self.bidirectional:
            return final, weights
        # The backward direction ends at the first token.
        first = graph.op("Gather", scored, graph.constant(0), axis=1)
        is_forward = np.arange(self.context_dim) < self.context_dim // 2
        context = graph.op("Where", graph.constant(is_forward), final, first)
        at_first = graph.one_hot(graph.op("Mul", last, graph.constant(0)))
        return context, graph.op("Mul", graph.op("Add", weights, at_first), graph.constant(0.5))
