"""Documents that are read window by window, with an attention that weighs the windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from textattn.model.attention import WeightedPooling
from textattn.model.attention._base import masked_softmax, wide

if TYPE_CHECKING:
    from textattn.model.encoders import RecurrentEncoder
    from textattn.model.onnx_graph import OnnxGraph

LARGEST_SIZE = 10_000


@dataclass(frozen=True)
class WindowSizes:
    """The sizes of windows, in tokens."""

    size: int
    """Tokens of a window. Each token belongs to one window."""
    context: int
    """Tokens on each side of a window that the encoder reads as well."""

    @property
    def read(self) -> int:
        """The most tokens that the encoder reads for a window."""
        return self.size + 2 * self.context


class Windows(nn.Module):
    """Hierarchical attention (Yang et al. 2016) over windows of the same number of tokens.

        a_si = the weight of token i within window s, by the attention mechanism
        u_s = the states of window s, pooled with a_s
        b_s = softmax over windows of  log(tokens of s) + v^T tanh(W u_s + c)

    The weight of a token is b_s * a_si, so that everything that needs weights (pooling, contributions, the report of
    the attention) is the same as for texts that are read as a whole. The logarithm gives every token the same share
    before anything is learned, although the last window of a text is shorter.

    The encoder starts anew in each window, a few tokens before it. Time and memory are linear in the length of a text,
    and the windows of a text are computed side by side.
    """

    def __init__(self, sizes: WindowSizes, context_dim: int, attention_size: int) -> None:
        """Create the attention over windows.

        Args:
            sizes: the sizes of windows.
            context_dim: size of the vector of a window.
            attention_size: units of the score network.
        """
        super().__init__()
        if not 2 <= sizes.size <= LARGEST_SIZE or not 0 <= sizes.context < sizes.size:
            raise ValueError(
                f"window_size must be 2 to {LARGEST_SIZE:,} and window_context less, got {sizes.size} and "
                f"{sizes.context}"
            )
        self.sizes = sizes
        self.projection = nn.Linear(context_dim, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def encode(self, encoder: RecurrentEncoder, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Run the encoder over each window.

        Args:
            encoder: of single windows.
            embeddings: (batch, seq, embedding_dim).
            mask: (batch, seq) bool, True at real tokens.

        Returns:
            The states, (batch, seq, dim); undefined on padding.
        """
        batch, seq, _ = embeddings.shape
        if seq <= self.sizes.size:
            return encoder(embeddings, mask)  # type: ignore[no-any-return]
        size, read = self.sizes.size, self.sizes.read
        position = torch.arange(seq, device=mask.device)
        # The first window has no tokens before it, and an encoder expects that padding is at the end.
        start = (position[::size] - self.sizes.context).clamp(min=0)  # (windows,)
        index = start.unsqueeze(1) + torch.arange(read, device=mask.device)  # (windows, read)
        flat = index.clamp(max=seq - 1).flatten()
        real = mask.index_select(1, flat) & (index < seq).flatten()  # (batch, windows * read)
        read_again = embeddings.index_select(1, flat).view(batch * len(start), read, -1)
        states = encoder(read_again, real.view(batch * len(start), read))
        window = position // size
        back = window * read + position - start[window]
        return states.view(batch, len(start) * read, -1).index_select(1, back)  # type: ignore[no-any-return]

    def weigh(self, attention: WeightedPooling, states: Tensor, mask: Tensor) -> Tensor:
        """The weights of all tokens of each text.

        Args:
            attention: weighs the tokens of a window.
            states: (batch, seq, dim), undefined on padding.
            mask: (batch, seq) bool, True at real tokens.

        Returns:
            (batch, heads, seq), 0 on padding, sum 1 for each head if the attention is `normalized`.
        """
        (batch, seq, dim), size = states.shape, self.sizes.size
        number = -(-seq // size)
        padding = number * size - seq
        if padding:
            states = functional.pad(states, (0, 0, 0, padding))
            mask = functional.pad(mask, (0, padding))
        states, mask = states.view(batch * number, size, dim), mask.view(batch * number, size)
        tokens = mask.sum(dim=1)
        # A window of nothing but padding has weight 0 below. Until then it counts as one token, for its softmax.
        counted = mask.clone()
        counted[:, 0] |= tokens == 0
        weights = attention.weigh(states, counted)  # (batch * windows, heads, size)
        vectors = attention.pool(states, weights, counted)
        scores = self.score(torch.tanh(self.projection(vectors))).view(batch, number)
        scores = scores.to(wide(scores)) + tokens.clamp(min=1).to(wide(scores)).log().view(batch, number)
        shares = masked_softmax(scores, (tokens > 0).view(batch, number))  # (batch, windows)
        product = weights * shares.view(batch * number, 1, 1)
        return product.view(batch, number, -1, size).transpose(1, 2).flatten(2)[..., :seq]

    def encode_onnx(self, graph: OnnxGraph, encoder: RecurrentEncoder, embeddings: str) -> str:
        """`encode` in ONNX: (batch, seq, embedding_dim) -> (batch, seq, dim)."""
        op, constant = graph.op, graph.constant
        size, read = self.sizes.size, self.sizes.read
        position = _positions(graph)
        start = op("Max", op("Sub", _every(graph, position, size), constant(self.sizes.context)), constant(0))
        cut = _Cut(graph, start, read)
        with graph.masked_by(cut.of_mask()):
            windows = op("Transpose", cut.of(embeddings, encoder.input_size), perm=[1, 0, 2])
            states = encoder.to_onnx(graph, windows)  # (batch * windows, read, dim)
        shape = op("Concat", constant([-1]), cut.tokens, constant([encoder.output_size]), axis=0)
        states = op("Reshape", states, shape)  # (batch, windows * read, dim)
        window = op("Div", position, constant(size))
        back = op("Add", op("Mul", window, constant(read)), op("Sub", position, op("Gather", start, window, axis=0)))
        return op("Gather", states, back, axis=1)

    def weigh_onnx(self, graph: OnnxGraph, attention: WeightedPooling, states: str) -> str:
        """`weigh` in ONNX: (batch, seq, dim) -> (batch, heads, seq)."""
        op, constant, size = graph.op, graph.constant, self.sizes.size
        cut = _Cut(graph, _every(graph, _positions(graph), size), size)
        mask, windows = cut.of_mask(), cut.of(states, attention.state_dim)
        tokens = op("ReduceSum", mask, constant([1]), keepdims=0)  # (batch * windows,)
        empty = op("Equal", tokens, constant(0))
        first = graph.constant((np.arange(size) == 0).astype(np.int64))
        counted = op("Max", mask, op("Mul", graph.unsqueeze(graph.cast(empty, np.int64), 1), first))
        with graph.masked_by(counted):
            weights = attention.weigh_onnx(graph, windows)  # (batch * windows, heads, size)
            vectors = attention.pool_onnx(graph, windows, weights)
        hidden = op("Tanh", graph.linear(vectors, self.projection, "windows.projection", quantise=True))
        scores = graph.squeeze(graph.linear(hidden, self.score, "windows.score"), 1)
        scores = op("Add", scores, op("Log", graph.cast(op("Max", tokens, constant(1)), np.float32)))
        by_text = op("Concat", constant([-1]), cut.number, axis=0)
        shares = graph.masked_softmax(op("Reshape", scores, by_text), op("Reshape", op("Not", empty), by_text))
        product = op("Mul", weights, op("Reshape", shares, constant([-1, 1, 1])))
        shape = op("Concat", constant([-1]), cut.number, constant([attention.num_heads, size]), axis=0)
        turned = op("Transpose", op("Reshape", product, shape), perm=[0, 2, 1, 3])
        flat = op("Reshape", turned, constant([0, attention.num_heads, -1]))
        return op("Slice", flat, constant([0]), graph.seq, constant([2]))


class _Cut:
    """Windows of the texts of an ONNX graph, each of `length` tokens from its start; beyond a text they are padded."""

    def __init__(self, graph: OnnxGraph, start: str, length: int) -> None:
        """
        Args:
            graph: the graph.
            start: (windows,) int64, the first token of each window.
            length: tokens of a window.
        """
        op, constant = graph.op, graph.constant
        self.graph, self.length = graph, length
        self.number = op("Shape", start)
        """(1,) the number of windows of each text."""
        self.tokens = op("Mul", self.number, constant([length]))
        """(1,) the tokens of all windows of a text."""
        index = op("Add", graph.unsqueeze(start, 1), constant(np.arange(length, dtype=np.int64)))
        self._inside = op("Less", index, graph.seq)
        self._index = op("Min", index, op("Sub", graph.seq, constant(1)))  # (windows, length)

    def of(self, x: str, dim: int) -> str:
        """(batch, seq, dim) -> (batch * windows, length, dim)."""
        windows = self.graph.op("Gather", x, self._index, axis=1)
        return self.graph.op("Reshape", windows, self.graph.constant([-1, self.length, dim]))

    def of_mask(self) -> str:
        """(batch * windows, length) int64, 1 at real tokens."""
        real = self.graph.op("And", self.graph.op("Gather", self.graph.mask, self._index, axis=1), self._inside)
        flat = self.graph.op("Reshape", real, self.graph.constant([-1, self.length]))
        return self.graph.cast(flat, np.int64)


def _positions(graph: OnnxGraph) -> str:
    """(seq,) int64: 0, 1, …"""
    row = graph.op("Gather", "input_ids", graph.constant(0), axis=0)
    ones = graph.cast(graph.op("Equal", row, row), np.int64)
    return graph.op("Sub", graph.op("CumSum", ones, graph.constant(0)), graph.constant(1))


def _every(graph: OnnxGraph, x: str, step: int) -> str:
    """Every `step`-th element of a vector."""
    constant = graph.constant
    return graph.op("Slice", x, constant([0]), constant([np.iinfo(np.int64).max]), constant([0]), constant([step]))
