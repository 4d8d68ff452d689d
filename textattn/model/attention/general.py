"""Bilinear attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, WeightedPooling

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class GeneralAttention(WeightedPooling):
    """score_i = q^T W h_i with a learned query q (Luong et al. 2015, eq. 8, "general")."""

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.query = nn.Parameter(torch.empty(sizes.dim).normal_(std=sizes.dim**-0.5))
        self.weight = nn.Linear(sizes.dim, sizes.dim, bias=False)

    def scores(self, states: Tensor) -> Tensor:
        scores: Tensor = self.weight(states) @ self.query.to(states.dtype)  # (batch, seq)
        return scores.unsqueeze(1)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        # q^T W h = (W^T q)^T h, so each token needs a product of two vectors instead of one with a matrix.
        query = graph.array(self.query) @ graph.array(self.weight.weight)
        scores = graph.squeeze(graph.op("MatMul", states, graph.constant(query[:, None])), 2)  # (batch, seq)
        return graph.unsqueeze(graph.masked_softmax(scores, graph.mask), 1)
