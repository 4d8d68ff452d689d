"""Attention that weights each token independently of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, wide
from textattn.model.attention.additive import AdditiveAttention

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class SigmoidAttention(AdditiveAttention):
    """a_i = sigmoid(v^T tanh(W h_i + b) + c) (Ramapuram et al. 2024).

    Softmax distributes a total weight of 1. If a word is erased, the remaining words take over its weight, so a word
    that is close to the average of the text can be erased without effect. Here the contribution of an erased word is
    lost. The context is a sum over the text. If it were divided by any measure of the length, the remaining words would
    again take over.
    """

    normalized = False

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        # Weights are small initially, because the context should not be the sum of all words.
        self.bias = nn.Parameter(torch.full((1,), -3.0))

    def scores(self, states: Tensor) -> Tensor:
        scores = super().scores(states)
        return scores.to(wide(scores)) + self.bias

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.scores(states)).masked_fill(~mask.unsqueeze(1), 0)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        hidden = graph.op("Tanh", graph.linear(states, self.projection, "projection", quantise=True))
        scores = graph.op("Add", graph.linear(hidden, self.score, "score"), graph.constant(self.bias))
        weights = graph.op("Sigmoid", graph.squeeze(scores, 2))  # (batch, seq)
        return graph.unsqueeze(graph.op("Where", graph.mask, weights, graph.constant(0.0)), 1)
