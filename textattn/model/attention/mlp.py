"""Attention with scores from a small network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, WeightedPooling, uniform_weights, weighted_sums

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class MLPAttention(WeightedPooling):
    """f_i = relu(W h_i + b), score_i = w^T [f_i; h_i], context = tanh(U [sum_i a_i h_i; mean_i h_i] + c).

    This is the "MLP attention" of the tutorial that this project started from, except that the softmax is taken over
    positions, as the tutorial intended. Because of the outer tanh, logits cannot be divided among the tokens.
    """

    additive = False
    fits_windows = False  # a window would have no sum of its own

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.features = nn.Linear(sizes.dim, sizes.attention_size)
        self.score = nn.Linear(sizes.attention_size + sizes.dim, 1, bias=False)
        self.combine = nn.Linear(2 * sizes.dim, sizes.dim)

    def scores(self, states: Tensor) -> Tensor:
        features = torch.relu(self.features(states))  # (batch, seq, attention_size)
        scores: Tensor = self.score(torch.cat([features, states], dim=-1))  # (batch, seq, 1)
        return scores.transpose(1, 2)

    def pool(self, states: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        pooled = super().pool(states, weights, mask)
        mean = weighted_sums(uniform_weights(mask, states).unsqueeze(1), states).squeeze(1)
        return torch.tanh(self.combine(torch.cat([pooled, mean], dim=-1)))

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        features = graph.op("Relu", graph.linear(states, self.features, "features", quantise=True))
        scores = graph.linear(graph.op("Concat", features, states, axis=-1), self.score, "score")
        return graph.unsqueeze(graph.masked_softmax(graph.squeeze(scores, 2), graph.mask), 1)

    def pool_onnx(self, graph: OnnxGraph, states: str, weights: str) -> str:
        mean = graph.weighted_sum(graph.uniform_weights(), states)
        both = graph.op("Concat", super().pool_onnx(graph, states, weights), mean, axis=-1)
        return graph.op("Tanh", graph.linear(both, self.combine, "combine"))

    @classmethod
    def telling_shapes(cls, sizes: AttentionSizes) -> dict[str, tuple[int, ...]]:
        return {"features.weight": (sizes.attention_size, sizes.dim)}
