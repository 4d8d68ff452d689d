"""The contract of attention mechanisms, and the functions that several of them use.

Softmax runs in fp32 or wider, whatever the autocast precision, because bf16 loses weights in texts of hundreds of
tokens. The weighted sum runs in the precision of the states, since matrix products accumulate in fp32 anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph
    from textattn.model.passages import Passages
    from textattn.model.windows import Windows


@dataclass(frozen=True)
class AttentionSizes:
    """The sizes that a mechanism is built from. A mechanism uses those that it needs."""

    dim: int
    """Size of a state."""
    attention_size: int
    """Units of a score network."""
    num_heads: int
    bidirectional: bool
    """Whether the second half of a state comes from a backward direction."""


class PooledOnnx(NamedTuple):
    """The names of the values that a mechanism adds to an ONNX graph."""

    context: str
    """(batch, context_dim)"""
    shares: str
    """(batch, seq), as the second result of `Attention.forward`"""
    contributions: str | None
    """(batch, seq, num_outputs), as `Attention.contributions`; None where the context is no sum over tokens"""


class Attention(nn.Module):
    """A mechanism that pools the states of a text into one vector and reports how much each token contributed.

    This class is the contract of mechanisms whose tokens have no weights of their own, such as the maximum of each
    feature. `WeightedPooling` is the contract of all others. The class attributes decide which settings and losses a
    mechanism supports.
    """

    has_weights: ClassVar[bool] = False
    """Whether tokens have weights, which settings and losses may change before the states are pooled."""
    learns_weights: ClassVar[bool] = False
    """Whether these weights depend on parameters."""
    normalized: ClassVar[bool] = True
    """Whether the weights of a head sum to 1."""
    fits_windows: ClassVar[bool] = True
    """Whether it can weigh the tokens of windows instead of those of whole texts; only if `has_weights`."""
    uses_heads: ClassVar[bool] = False
    """Whether there are `num_heads` heads. If not, there is one head, whatever the setting."""
    additive: ClassVar[bool] = True
    """Whether the pooled vector is the sum of one part for each token, so that logits can be divided among tokens."""
    state_dim: int
    """Size of a state."""
    context_dim: int
    """Size of the pooled vector."""

    def __init__(self, sizes: AttentionSizes) -> None:
        """Builds the mechanism.

        Raises:
            ValueError: the sizes do not fit the mechanism.
        """
        super().__init__()
        self.state_dim = self.context_dim = sizes.dim

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pools the states of each text.

        Args:
            states: (batch, seq, dim), encoder states; undefined at padded positions.
            mask: (batch, seq) bool, True at real tokens; at least one in each row.

        Returns:
            The context, (batch, context_dim), and the share of each token in it, (batch, seq): non-negative, 0 on
            padding, sum 1 over a text.
        """
        raise NotImplementedError

    def contributions(self, states: Tensor, weights: Tensor | None, mask: Tensor, matrix: Tensor) -> Tensor:
        """Divides `context @ matrix.T` among the tokens.

        Args:
            states: (batch, seq, dim), the states that are pooled; undefined at padded positions.
            weights: (batch, heads, seq), the weights they are pooled with; None for mechanisms without weights.
            mask: (batch, seq) bool, True at real tokens.
            matrix: (num_outputs, context_dim), the weights of a linear layer on the context.

        Returns:
            (batch, seq, num_outputs), undefined at padded positions. The sum over the real tokens is
            `context @ matrix.T`.

        Raises:
            NotImplementedError: the mechanism is not `additive`.
        """
        raise NotImplementedError(f"the attention {self.name()!r} does not add up tokens")

    def to_onnx(self, graph: OnnxGraph, scored: str, pooled: str, matrix: Tensor) -> PooledOnnx:
        """Adds the nodes that compute the same as in torch.

        Args:
            graph: contains the mask and the lengths of the texts.
            scored: (batch, seq, dim), the states that the scores are computed from.
            pooled: (batch, seq, dim), the states that are pooled. Mechanisms without weights pool `scored` instead.
            matrix: (num_outputs, context_dim), as for `contributions`.

        Raises:
            NotImplementedError: the mechanism has no ONNX form. The model can still be trained and used in torch.
        """
        raise NotImplementedError(f"the attention {self.name()!r} has no ONNX form")

    @classmethod
    def telling_shapes(cls, sizes: AttentionSizes) -> dict[str, tuple[int, ...]]:
        """The shapes of parameters that reveal `attention_size` and `num_heads`, if any parameter depends on them.

        These shapes are compared with the stored weights before a model is built, so that wrong sizes in a damaged
        config.json do not exhaust the memory.
        """
        return {}

    @classmethod
    def name(cls) -> str:
        """The name of the mechanism in configs, which is that of its file."""
        return cls.__module__.rpartition(".")[2]


class WeightedPooling(Attention):
    """A mechanism that computes weights for the tokens and pools the states with them.

    A subclass defines `scores`, or `weigh` if its weights are not the softmax of scores, and the corresponding
    `weigh_onnx`. It overrides further methods, again in pairs, only if it does not pool by weighted sums.
    """

    has_weights = True
    learns_weights = True
    num_heads = 1

    def scores(self, states: Tensor) -> Tensor | None:
        """(batch, seq, dim) -> what `weigh` makes weights of, (batch, heads, seq), undefined on padding.

        None for mechanisms that do not give each token a score.
        """
        return None

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        """(batch, seq, dim) -> weights (batch, heads, seq), 0 on padding, sum 1 for each head if `normalized`.

        By default the softmax of `scores`.
        """
        scores = self.scores(states)
        if scores is None:
            raise NotImplementedError(f"the attention {self.name()!r} has neither scores nor weights")
        return masked_softmax(scores, mask.unsqueeze(1))

    def token_map(self, states: Tensor, mask: Tensor) -> Tensor | None:
        """(batch, seq, dim) -> how much each token attends to each, (batch, heads, seq from, seq to).

        None for mechanisms whose tokens do not attend to one another. Rows sum to 1 over the real tokens, and their
        mean over the real attending tokens is `weigh`.
        """
        return None

    def pool(self, states: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """Any weights (batch, heads, seq) -> context (batch, context_dim): the concatenated sums of the heads."""
        return weighted_sums(weights, states).flatten(1)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weigh(states, mask)
        return self.pool(states, weights, mask), self.shares(weights)

    def head_values(self, states: Tensor) -> Tensor:
        """(batch, seq, dim) -> what each head sums up, (batch, heads or 1, seq, context_dim / heads)."""
        return states.unsqueeze(1)

    def contributions(self, states: Tensor, weights: Tensor | None, mask: Tensor, matrix: Tensor) -> Tensor:
        assert weights is not None
        by_head = matrix.view(len(matrix), weights.shape[1], -1).permute(1, 2, 0)  # (heads, dim, num_outputs)
        return (weights.unsqueeze(-1) * (self.head_values(states) @ by_head)).sum(dim=1)

    def shares(self, weights: Tensor) -> Tensor:
        """(batch, heads, seq) -> the share of each token, (batch, seq), sum 1."""
        mean = weights.mean(dim=1)
        return mean if self.normalized else mean / mean.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def to_onnx(
        self,
        graph: OnnxGraph,
        scored: str,
        pooled: str,
        matrix: Tensor,
        passages: Passages | None = None,
        windows: Windows | None = None,
    ) -> PooledOnnx:
        """See `Attention.to_onnx`.

        Args:
            graph: as there.
            scored: as there.
            pooled: as there.
            matrix: as there.
            passages: changes the weights before the states are pooled.
            windows: divides the texts; without it the weights are those of whole texts.
        """
        weights = self.weigh_onnx(graph, scored) if windows is None else windows.weigh_onnx(graph, self, scored)
        if passages is not None:
            weights = passages.to_onnx(graph, weights)
        contributions = self.contributions_onnx(graph, pooled, weights, matrix) if self.additive else None
        return PooledOnnx(self.pool_onnx(graph, pooled, weights), self.shares_onnx(graph, weights), contributions)

    def weigh_onnx(self, graph: OnnxGraph, states: str) -> str:
        """`weigh` in ONNX. It is optional, see `to_onnx`."""
        raise NotImplementedError(f"the attention {self.name()!r} has no ONNX form")

    def pool_onnx(self, graph: OnnxGraph, states: str, weights: str) -> str:
        """`pool` in ONNX."""
        sums = graph.op("MatMul", weights, states)  # (batch, heads, dim)
        return graph.op("Flatten", sums, axis=1) if self.uses_heads else graph.squeeze(sums, 1)

    def head_values_onnx(self, graph: OnnxGraph, states: str) -> str:
        """`head_values` in ONNX."""
        return graph.unsqueeze(states, 1)

    def contributions_onnx(self, graph: OnnxGraph, states: str, weights: str, matrix: Tensor) -> str:
        """`contributions` in ONNX."""
        by_head = graph.array(matrix).reshape(len(matrix), self.num_heads, -1).transpose(1, 2, 0)
        values = graph.op("MatMul", self.head_values_onnx(graph, states), graph.constant(by_head))
        weighted = graph.op("Mul", graph.unsqueeze(weights, 3), values)  # (batch, heads, seq, num_outputs)
        return graph.op("ReduceSum", weighted, graph.constant([1]), keepdims=0)

    def shares_onnx(self, graph: OnnxGraph, weights: str) -> str:
        """`shares` in ONNX."""
        one_head = not self.uses_heads
        mean = graph.squeeze(weights, 1) if one_head else graph.op("ReduceMean", weights, axes=[1], keepdims=0)
        if self.normalized:
            return mean
        total = graph.op("ReduceSum", mean, graph.constant([1]), keepdims=1)
        return graph.op("Div", mean, graph.op("Max", total, graph.constant(1e-12)))


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension, exactly 0 where `mask` (broadcastable) is False."""
    return torch.softmax(scores.to(wide(scores)).masked_fill(~mask, -torch.inf), dim=-1)


def weighted_sums(weights: Tensor, states: Tensor) -> Tensor:
    """sum_i weights_hi states_i: (batch, heads, seq), (batch, seq, dim) -> (batch, heads, dim)."""
    with torch.autocast(states.device.type, enabled=False):
        sums: Tensor = _WeightedSums.apply(weights.to(states.dtype), states)  # type: ignore[no-untyped-call]
    return sums


class _WeightedSums(torch.autograd.Function):
    """`torch.bmm` whose backward pass transposes the small matrices.

    Torch's own transposes the states, and copying them costs more than the products.
    """

    @staticmethod
    def forward(weights: Tensor, states: Tensor) -> Tensor:
        return torch.bmm(weights, states)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weights, states = ctx.saved_tensors
        to_weights = torch.bmm(states, gradient.transpose(1, 2)).transpose(1, 2)
        # With one head, the gradient is an outer product, because there is no sum over heads.
        one = weights.shape[1] == 1
        to_states = weights.transpose(1, 2) * gradient if one else torch.bmm(weights.transpose(1, 2), gradient)
        return to_weights, to_states


def scaled_dot_product(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017, eq. 1).

    Args:
        queries: (..., num_queries, d)
        keys: (..., seq, d)
        values: (..., seq, d_v)
        mask: broadcastable to (..., num_queries, seq), True at real keys

    Returns:
        The outputs, (..., num_queries, d_v), and the weights, (..., num_queries, seq).
    """
    weights = scaled_dot_weights(queries, keys, mask)
    return weights.to(values.dtype) @ values, weights


def scaled_dot_weights(queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)): (..., num_queries, seq)."""
    return masked_softmax(queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1]), mask)


def uniform_weights(mask: Tensor, states: Tensor) -> Tensor:
    """1 / length at every real token: (batch, seq), in fp32 or in the dtype of the states if that is wider."""
    return mask.to(wide(states)) / mask.sum(dim=-1, keepdim=True)


def wide(tensor: Tensor) -> torch.dtype:
    """fp32, or the dtype of the tensor if that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)
