"""Several learned poolings side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, WeightedPooling

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class MultiHeadPooling(WeightedPooling):
    """A = softmax(W2 tanh(W1 H^T)), context = flatten(A H) (Lin et al. 2017, eq. 6 and 7, r = num_heads).

    The weight of a token is its mean over the heads.
    """

    uses_heads = True

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.num_heads = sizes.num_heads
        self.context_dim = sizes.dim * sizes.num_heads
        self.projection = nn.Linear(sizes.dim, sizes.attention_size, bias=False)
        self.score = nn.Linear(sizes.attention_size, sizes.num_heads, bias=False)

    def scores(self, states: Tensor) -> Tensor:
        scores: Tensor = self.score(torch.tanh(self.projection(states)))  # (batch, seq, heads)
        return scores.transpose(1, 2)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        hidden = graph.op("Tanh", graph.linear(states, self.projection, "projection", quantise=True))
        scores = graph.op("Transpose", graph.linear(hidden, self.score, "score"), perm=[0, 2, 1])
        return graph.masked_softmax(scores, graph.unsqueeze(graph.mask, 1))

    @classmethod
    def telling_shapes(cls, sizes: AttentionSizes) -> dict[str, tuple[int, ...]]:
        return {
            "projection.weight": (sizes.attention_size, sizes.dim),
            "score.weight": (sizes.num_heads, sizes.attention_size),
        }
