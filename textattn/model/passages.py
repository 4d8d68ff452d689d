"""Changes to attention weights: spread them over passages, and prefer some parts of a text over others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph

# The learned preference is piecewise linear between this many points, from the first token to the last.
NUM_PLACES = 8
# By how much the preference changes if a parameter changes by 1. A hundred steps of 0.002 then reach a factor of e.
PLACE_SCALE = 5.0
LARGEST_WINDOW = 999


class Passages(nn.Module):
    """Changes the attention weights before the states are pooled.

    With `position`, the weight of token i of n is multiplied by exp(b((i + 0.5) / n)), where b is learned and piecewise
    linear, and the weights are scaled to sum 1 again. This is the same as adding b to the scores of a softmax (the
    location term of Luong et al. 2015, which here depends on the position in the text instead of the words).

    With `window`, each weight is then distributed equally over the tokens of the window around it. In effect passages
    are weighted, and the weight of a token is the sum of the shares that it gets from the passages that contain it.
    """

    def __init__(self, window: int = 1, position: bool = False) -> None:
        super().__init__()
        if not 1 <= window <= LARGEST_WINDOW or window % 2 == 0:
            raise ValueError(f"attention_window must be an odd number from 1 to {LARGEST_WINDOW}, got {window}")
        self.window = window
        self.place = nn.Parameter(torch.zeros(NUM_PLACES)) if position else None

    def forward(self, weights: Tensor, mask: Tensor) -> Tensor:
        """Change weights.

        Args:
            weights: (batch, heads, seq), 0 on padding, sum 1.
            mask: (batch, seq) bool, True at real tokens.

        Returns:
            The changed weights, of the same shape.
        """
        real = mask.unsqueeze(1).to(weights.dtype)  # (batch, 1, seq)
        if self.place is not None:
            weights = weights * self._preference(self.place, real)
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if self.window == 1:
            return weights
        return self._sums(weights / self._sums(real).clamp(min=1)) * real

    @staticmethod
    def _preference(place: Tensor, real: Tensor) -> Tensor:
        """exp(b), scaled to at most 1: (batch, 1, seq)."""
        at = (real.cumsum(dim=-1) - 0.5) / real.sum(dim=-1, keepdim=True) * (NUM_PLACES - 1)
        before = at.floor().clamp(0, NUM_PLACES - 2).long()
        after = at - before
        b = PLACE_SCALE * (place - place.max())
        return torch.exp(b[before] * (1 - after) + b[before + 1] * after)

    def _sums(self, x: Tensor) -> Tensor:
        """(batch, channels, seq) -> the same, summed over the window around each token."""
        return functional.avg_pool1d(x, self.window, stride=1, padding=self.window // 2) * self.window

    def to_onnx(self, graph: OnnxGraph, weights: str) -> str:
        """Adds the nodes that compute the same as in torch: (batch, heads, seq) -> the same."""
        real = graph.cast(graph.unsqueeze("attention_mask", 1), np.float32)  # (batch, 1, seq)
        if self.place is not None:
            weights = graph.op("Mul", weights, self._preference_onnx(graph, self.place, real))
            weights = graph.op("Div", weights, graph.op("ReduceSum", weights, graph.constant([2]), keepdims=1))
        if self.window == 1:
            return weights
        tokens = graph.op("Max", self._sums_onnx(graph, real), graph.constant(1.0))
        return graph.op("Mul", self._sums_onnx(graph, graph.op("Div", weights, tokens)), real)

    @staticmethod
    def _preference_onnx(graph: OnnxGraph, place: Tensor, real: str) -> str:
        """`_preference` in ONNX."""
        op, constant = graph.op, graph.constant
        middle = op("Sub", op("CumSum", real, constant(2)), constant(0.5))
        length = op("ReduceSum", real, constant([2]), keepdims=1)
        at = op("Mul", op("Div", middle, length), constant(float(NUM_PLACES - 1)))
        before = op("Clip", op("Floor", at), constant(0.0), constant(float(NUM_PLACES - 2)))
        values = graph.array(place)
        b = (PLACE_SCALE * (values - values.max())).astype(np.float32)
        number = graph.cast(before, np.int64)
        start, rise = (op("Gather", constant(values), number) for values in (b[:-1], np.diff(b)))
        return op("Exp", op("Add", start, op("Mul", rise, op("Sub", at, before))))

    def _sums_onnx(self, graph: OnnxGraph, x: str) -> str:
        """`_sums` in ONNX."""
        pads = [self.window // 2] * 2
        mean = graph.op("AveragePool", x, kernel_shape=[self.window], pads=pads, count_include_pad=1)
        return graph.op("Mul", mean, graph.constant(float(self.window)))
