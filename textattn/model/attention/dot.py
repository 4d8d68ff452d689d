"""Dot-product attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, WeightedPooling

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class DotAttention(WeightedPooling):
    """score_i = q . h_i with a learned query q (Luong et al. 2015, eq. 8, "dot")."""

    scale = 1.0

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.query = nn.Parameter(torch.empty(sizes.dim).normal_(std=sizes.dim**-0.5))

    def scores(self, states: Tensor) -> Tensor:
        return (states @ self.query.to(states.dtype) * self.scale).unsqueeze(1)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        query = graph.array(self.query) * np.float32(self.scale)
        scores = graph.squeeze(graph.op("MatMul", states, graph.constant(query[:, None])), 2)  # (batch, seq)
        return graph.unsqueeze(graph.masked_softmax(scores, graph.mask), 1)
