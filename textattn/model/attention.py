"""Attention mechanisms that turn the states of a text into one vector and say how much each token counted.

Every mechanism is a module with

    forward(states, mask) -> context, weights

    states   (batch, seq, dim)      encoder states, anything at padded positions
    mask     (batch, seq) bool      True at real tokens; at least one in each row
    context  (batch, context_dim)   pooled text
    weights  (batch, seq)           non-negative, 0 on padding, sum 1 over the tokens of a text

Softmax runs in fp32 or wider whatever the autocast precision: with hundreds of tokens bf16 loses weights. The weighted
sum runs in the precision of the states; matrix products accumulate in fp32 anyway.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension, exactly 0 where `mask` (broadcastable) is False."""
    return torch.softmax(scores.to(_wide(scores)).masked_fill(~mask, -torch.inf), dim=-1)


def weighted_sums(weights: Tensor, states: Tensor) -> Tensor:
    """sum_i weights_hi states_i: (batch, heads, seq), (batch, seq, dim) -> (batch, heads, dim)."""
    with torch.autocast(states.device.type, enabled=False):
        sums: Tensor = _WeightedSums.apply(weights.to(states.dtype), states)  # type: ignore[no-untyped-call]
    return sums


class _WeightedSums(torch.autograd.Function):
    """`torch.bmm` whose gradients turn the small matrices, not the states: that copy cost more than the products."""

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
        # With one head there is nothing to sum over: an outer product.
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
        outputs (..., num_queries, d_v) and weights (..., num_queries, seq).
    """
    weights = scaled_dot_weights(queries, keys, mask)
    return weights.to(values.dtype) @ values, weights


def scaled_dot_weights(queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)): (..., num_queries, seq)."""
    return masked_softmax(queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1]), mask)


class WeightedPooling(nn.Module):
    """What all mechanisms with weights of their own share: weigh the tokens, then pool the states."""

    context_dim: int
    normalized = True
    """Whether the weights of a head sum to 1."""

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        """(batch, seq, dim) -> weights (batch, heads, seq), 0 on padding, sum 1 for each head where `normalized`."""
        raise NotImplementedError

    def pool(self, states: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """Any weights (batch, heads, seq) -> context (batch, context_dim): the heads' weighted sums in a row."""
        return weighted_sums(weights, states).flatten(1)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weigh(states, mask)
        return self.pool(states, weights, mask), self.shares(weights)

    def shares(self, weights: Tensor) -> Tensor:
        """(batch, heads, seq) -> each token's share, (batch, seq), sum 1."""
        mean = weights.mean(dim=1)
        return mean if self.normalized else mean / mean.sum(dim=1, keepdim=True).clamp(min=1e-12)


class AdditiveAttention(WeightedPooling):
    """score_i = v^T tanh(W h_i + b) (Bahdanau et al. 2015, eq. in A.1.2).

    With one learned query for the whole task their term U q is a constant vector: the bias b.
    """

    def __init__(self, dim: int, attention_size: int) -> None:
        super().__init__()
        self.context_dim = dim
        self.projection = nn.Linear(dim, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.projection(states))).squeeze(-1)  # (batch, seq)
        return masked_softmax(scores, mask).unsqueeze(1)


class SigmoidAttention(AdditiveAttention):
    """a_i = sigmoid(v^T tanh(W h_i + b) + c): each token is weighed for itself (Ramapuram et al. 2024).

    Softmax shares out one weight, so that the words left take over what an erased word had, and a word that says what
    the text says on average costs nothing to leave out. Here what it said is gone. The context is a sum over the text;
    divided by any measure of its length, the words left would take over again.
    """

    normalized = False

    def __init__(self, dim: int, attention_size: int) -> None:
        super().__init__(dim, attention_size)
        # Of most words little at first: a text is not the sum of all of them.
        self.bias = nn.Parameter(torch.full((1,), -3.0))

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.projection(states))).squeeze(-1)  # (batch, seq)
        return torch.sigmoid(scores.to(_wide(scores)) + self.bias).masked_fill(~mask, 0).unsqueeze(1)


class DotAttention(WeightedPooling):
    """score_i = q . h_i with a learned query q (Luong et al. 2015, eq. 8, "dot")."""

    scale = 1.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context_dim = dim
        self.query = nn.Parameter(torch.empty(dim).normal_(std=dim**-0.5))

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(states @ self.query.to(states.dtype) * self.scale, mask).unsqueeze(1)


class ScaledDotAttention(DotAttention):
    """score_i = q . h_i / sqrt(dim) with a learned query q (Vaswani et al. 2017, eq. 1, one query)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.scale = dim**-0.5
        # Scores start with the spread of the unscaled form, so that the query is not slow to learn.
        nn.init.normal_(self.query)


class GeneralAttention(WeightedPooling):
    """score_i = q^T W h_i with a learned query q (Luong et al. 2015, eq. 8, "general")."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context_dim = dim
        self.query = nn.Parameter(torch.empty(dim).normal_(std=dim**-0.5))
        self.weight = nn.Linear(dim, dim, bias=False)

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(self.weight(states) @ self.query.to(states.dtype), mask).unsqueeze(1)


class MLPAttention(WeightedPooling):
    """Scores from a small network over the states, its output combined with the input again.

    f_i = relu(W h_i + b), score_i = w^T [f_i; h_i], context = tanh(U [sum_i a_i h_i; mean_i h_i] + c): the "MLP
    attention" of the tutorial this project began with, with the softmax over positions as it was meant.
    """

    def __init__(self, dim: int, attention_size: int) -> None:
        super().__init__()
        self.context_dim = dim
        self.features = nn.Linear(dim, attention_size)
        self.score = nn.Linear(attention_size + dim, 1, bias=False)
        self.combine = nn.Linear(2 * dim, dim)

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        features = torch.relu(self.features(states))  # (batch, seq, attention_size)
        return masked_softmax(self.score(torch.cat([features, states], dim=-1)).squeeze(-1), mask).unsqueeze(1)

    def pool(self, states: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        pooled = super().pool(states, weights, mask)
        mean = weighted_sums(uniform_weights(mask, states).unsqueeze(1), states).squeeze(1)
        return torch.tanh(self.combine(torch.cat([pooled, mean], dim=-1)))


class MultiHeadPooling(WeightedPooling):
    """A = softmax(W2 tanh(W1 H^T)), context = flatten(A H) (Lin et al. 2017, eq. 6 and 7, r = num_heads).

    The weight of a token is its mean over the heads.
    """

    def __init__(self, dim: int, attention_size: int, num_heads: int) -> None:
        super().__init__()
        self.context_dim = dim * num_heads
        self.projection = nn.Linear(dim, attention_size, bias=False)
        self.score = nn.Linear(attention_size, num_heads, bias=False)

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.projection(states))).transpose(1, 2)  # (batch, heads, seq)
        return masked_softmax(scores, mask.unsqueeze(1))


class SelfAttention(WeightedPooling):
    """Scaled dot-product attention of the states over themselves, then their mean (Vaswani et al. 2017, 3.2.2).

    The weight of a token is the attention it receives: the mean over all tokens that look and over the heads, which is
    its share in the pooled vector.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide the state size {dim}, got {num_heads}")
        self.context_dim = dim
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        # A bias of the keys would add the same number to all scores of a query, which the softmax cancels.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        queries, keys = self._heads(self.query(states)), self._heads(self.key(states))
        looks = scaled_dot_weights(queries, keys, mask[:, None, None, :])
        # looks: (batch, heads, seq looking, seq looked at). The mean over the tokens that look is linear: average the
        # weights first, and sum the values once.
        return (uniform_weights(mask, states)[:, None, None, :] @ looks).squeeze(2)

    def pool(self, states: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        values = self._heads(self.value(states))
        return (weights.unsqueeze(2).to(values.dtype) @ values).flatten(1)  # (batch, dim)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> (batch, heads, seq, dim / heads)."""
        batch, seq, dim = x.shape
        return x.view(batch, seq, self.num_heads, dim // self.num_heads).transpose(1, 2)


class MeanPooling(WeightedPooling):
    """Control: every token counts the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context_dim = dim

    def weigh(self, states: Tensor, mask: Tensor) -> Tensor:
        return uniform_weights(mask, states).unsqueeze(1)


class MaxPooling(nn.Module):
    """Control: the largest value of each feature; a token's weight is the share of features it gives."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context_dim = dim

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        context, positions = states.masked_fill(~mask.unsqueeze(-1), -torch.inf).max(dim=1)  # (batch, dim) each
        won = functional.one_hot(positions, states.shape[1])  # (batch, dim, seq)
        return context, won.float().mean(dim=1)


class LastPooling(nn.Module):
    """Control: the final state of each direction; they share the weight."""

    def __init__(self, dim: int, bidirectional: bool) -> None:
        super().__init__()
        self.context_dim = dim
        self.bidirectional = bidirectional

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


def uniform_weights(mask: Tensor, states: Tensor) -> Tensor:
    """1 / length at every real token: (batch, seq), in fp32 or the precision of the states where that is wider."""
    return mask.to(_wide(states)) / mask.sum(dim=-1, keepdim=True)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def build_attention(
    name: str, dim: int, attention_size: int, num_heads: int, bidirectional: bool
) -> WeightedPooling | MaxPooling | LastPooling:
    """The mechanism of that name for states of size `dim`; it has an attribute `context_dim`.

    Raises:
        ValueError: `num_heads` does not fit, or there is no such mechanism.
    """
    if name == "additive":
        return AdditiveAttention(dim, attention_size)
    if name == "sigmoid":
        return SigmoidAttention(dim, attention_size)
    if name == "dot":
        return DotAttention(dim)
    if name == "scaled_dot":
        return ScaledDotAttention(dim)
    if name == "general":
        return GeneralAttention(dim)
    if name == "mlp":
        return MLPAttention(dim, attention_size)
    if name == "multi_head":
        return MultiHeadPooling(dim, attention_size, num_heads)
    if name == "self_attention":
        return SelfAttention(dim, num_heads)
    if name == "mean":
        return MeanPooling(dim)
    if name == "max":
        return MaxPooling(dim)
    if name == "last":
        return LastPooling(dim, bidirectional)
    raise ValueError(f"unknown attention {name!r}")
