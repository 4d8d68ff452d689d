"""Attention of the tokens to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from textattn.model.attention._base import AttentionSizes, WeightedPooling, scaled_dot_weights, uniform_weights

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph


class SelfAttention(WeightedPooling):
    """Scaled dot-product attention of the states to one another, then the mean (Vaswani et al. 2017, 3.2.2).

    The weight of a token is the attention that it receives, averaged over all attending tokens and over the heads. This
    is its share in the pooled vector. `num_heads` must divide the size of a state.
    """

    uses_heads = True
    fits_windows = False  # the tokens of all of a text attend to one another

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        dim = sizes.dim
        if dim % sizes.num_heads:
            raise ValueError(f"num_heads must divide the state size {dim}, got {sizes.num_heads}")
        self.num_heads = sizes.num_heads
        self.query = nn.Linear(dim, dim)
        # Keys need no bias: it would add the same number to all scores of a query, which the softmax cancels.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)

    def token_map(self, states: Tensor, mask: Tensor) -> Tensor:
        queries, keys = self._heads(self.query(states)), self._heads(self.key(states))
        return scaled_dot_weights(queries, keys, mask[:, None, None, :])

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        # The mean over the attending tokens is linear, so the weights are averaged first and the values summed once.
        return (uniform_weights(mask, states)[:, None, None, :] @ self.token_map(states, mask)).squeeze(2)

    def pool(self, states: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        values = self.head_values(states)
        return (weights.unsqueeze(2).to(values.dtype) @ values).flatten(1)  # (batch, dim)

    def head_values(self, states: Tensor) -> Tensor:
        return self._heads(self.value(states))

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> (batch, heads, seq, dim / heads)."""
        batch, seq, dim = x.shape
        return x.view(batch, seq, self.num_heads, dim // self.num_heads).transpose(1, 2)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        queries = self._heads_onnx(graph, graph.linear(states, self.query, "query"), [0, 2, 1, 3])
        keys = self._heads_onnx(graph, graph.linear(states, self.key, "key"), [0, 2, 3, 1])
        scale = graph.constant(float((self.context_dim // self.num_heads) ** -0.5))
        scores = graph.op("MatMul", queries, keys)  # (batch, heads, seq from, seq to)
        attention = graph.masked_softmax(graph.op("Mul", scores, scale), graph.unsqueeze(graph.mask, 1, 2))
        share = graph.unsqueeze(graph.uniform_weights(), 1, 2)  # (batch, 1, 1, seq from)
        return graph.squeeze(graph.op("MatMul", share, attention), 2)

    def pool_onnx(self, graph: OnnxGraph, states: str, weights: str) -> str:
        values = self.head_values_onnx(graph, states)
        return graph.op("Flatten", graph.op("MatMul", graph.unsqueeze(weights, 2), values), axis=1)

    def head_values_onnx(self, graph: OnnxGraph, states: str) -> str:
        name = f"{states}_values"
        if name not in graph.names:
            values = self._heads_onnx(graph, graph.linear(states, self.value, "value"), [0, 2, 1, 3])
            graph.op("Identity", values, name=name)
        return name

    def _heads_onnx(self, graph: OnnxGraph, x: str, order: list[int]) -> str:
        """(batch, seq, dim) -> the dimensions (batch, seq, heads, dim / heads), permuted by `order`."""
        shape = graph.constant([0, 0, self.num_heads, self.context_dim // self.num_heads])
        return graph.op("Transpose", graph.op("Reshape", x, shape), perm=order)
