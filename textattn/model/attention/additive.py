"""Additive attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, WeightedPooling

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class AdditiveAttention(WeightedPooling):
    """score_i = v^T tanh(W h_i + b) (Bahdanau et al. 2015, equation in A.1.2).

    Here a single query is learned for the whole task, so the term U q of the paper is a constant vector: the bias b.
    """

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.projection = nn.Linear(sizes.dim, sizes.attention_size)
        self.score = nn.Linear(sizes.attention_size, 1, bias=False)

    def scores(self, states: Tensor) -> Tensor:
        scores: Tensor = self.score(torch.tanh(self.projection(states)))  # (batch, seq, 1)
        return scores.transpose(1, 2)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        hidden = graph.op("Tanh", graph.linear(states, self.projection, "projection", quantise=True))
        scores = graph.squeeze(graph.linear(hidden, self.score, "score"), 2)  # (batch, seq)
        return graph.unsqueeze(graph.masked_softmax(scores, graph.mask), 1)

    @classmethod
    def telling_shapes(cls, sizes: AttentionSizes) -> dict[str, tuple[int, ...]]:
        return {"projection.weight": (sizes.attention_size, sizes.dim)}
