"""A linear model next to the network: one weight for each hashed n-gram of tokens and each output.

A linear model quickly learns which words and pairs of words indicate a label, so the network does not have to ("wide &
deep" models, Cheng et al. 2016; n-grams are hashed as in Joulin et al. 2017). It adds a sum over the tokens to the
logits, so the contribution of each token is exact.

Its weights are either trained with the network or fitted before it, see `textattn.training.linear`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from textattn.model.onnx_graph import OnnxGraph

# The bucket of an n-gram is the sum of its token ids times these factors (the first belongs to the last token), modulo
# a prime, modulo the number of buckets. If ids are below 2**29, all sums stay below 2**63, in torch and in ONNX.
MULTIPLIERS = (2_654_435_761, 1_640_531_527, 2_246_822_519)
PRIME = 2_147_483_647


class NgramLinear(nn.Module):
    """Logits from n-grams of 1 to `longest` tokens: the sum of their weights, divided by the size of the text.

    Weights that are trained with the network have a row for each bucket, and the size is the square root of the number
    of tokens. Weights that are fitted before it have a row for each n-gram of the training texts that counts, and the
    size is like that of a TF-IDF vector, see `textattn.training.ngram_features`.
    """

    places: Tensor | None
    """(buckets,) int32, for fitted weights: the row of each bucket; row 0, which is 0, for all other n-grams."""
    squares: Tensor | None
    """(features, 1) for fitted weights: what an n-gram adds to the square of the size."""

    def __init__(self, longest: int, buckets: int, num_outputs: int, unk_id: int, features: int = 0) -> None:
        """Create the part with weights of 0.

        Args:
            longest: most tokens of an n-gram.
            buckets: number of buckets that n-grams are hashed to.
            num_outputs: number of logits.
            unk_id: the unknown token.
            features: rows of fitted weights; 0 if they are trained.
        """
        super().__init__()
        if not 1 <= longest <= len(MULTIPLIERS):
            raise ValueError(f"n-grams may have 1 to {len(MULTIPLIERS)} tokens, got {longest}")
        self.longest, self.buckets, self.unk_id = longest, buckets, unk_id
        # A batch contains few of the n-grams, so the gradient is sparse.
        self.weights = nn.Embedding(features or buckets, num_outputs, sparse=True)
        nn.init.zeros_(self.weights.weight)
        self.weights.weight.requires_grad_(not features)
        self.register_buffer("places", torch.zeros(buckets, dtype=torch.int32) if features else None)
        self.register_buffer("squares", torch.zeros(features, 1) if features else None)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, seq) each -> (batch, num_outputs)."""
        parts = [
            (self.weights(rows) * counts.unsqueeze(-1)).sum(dim=1)
            for rows, counts in self._ngrams(input_ids, attention_mask)
        ]
        return torch.stack(parts).sum(dim=0)

    def contributions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, seq) each -> (batch, seq, num_outputs), whose sum over seq is `forward`.

        The tokens of an n-gram share its weight equally.
        """
        shares = self.weights.weight.new_zeros(*input_ids.shape, self.weights.embedding_dim)
        for extra, (rows, counts) in enumerate(self._ngrams(input_ids, attention_mask)):
            each = self.weights(rows) * counts.unsqueeze(-1) / (extra + 1)
            for position in range(extra + 1):
                shares[:, position : position + each.shape[1]] += each
        return shares

    def to_onnx(self, graph: OnnxGraph) -> tuple[str, str]:
        """Adds the nodes of `forward` and `contributions`; returns the names of both results."""
        op, constant = graph.op, graph.constant
        table = constant(self.weights.weight, "ngrams.weights.weight")
        known = op("And", graph.mask, op("Not", op("Equal", "input_ids", constant(self.unk_id))))
        buckets, total, shares = constant(self.buckets), "", ""
        places = squares = size = scale = ""
        if self.places is not None and self.squares is not None:
            places, squares = constant(self.places, "ngrams.places"), constant(self.squares, "ngrams.squares")
        else:
            scale = op("Sqrt", graph.cast(graph.length, np.float32))  # (batch, 1)
        for extra in range(self.longest):
            number, counts = constant(extra), ""
            for position in range(extra + 1):
                part = [constant([extra - position]), constant([-position or np.iinfo(np.int64).max]), constant([1])]
                term = op("Mul", op("Slice", "input_ids", *part), constant(MULTIPLIERS[position]))
                number = op("Add", number, term)
                each = op("Slice", known, *part)
                counts = op("And", counts, each) if counts else each
            bucket = op("Mod", op("Mod", number, constant(PRIME)), buckets)
            if places:
                bucket = op("Gather", places, bucket, axis=0)
            weights = op("Gather", table, bucket, axis=0)  # (batch, n-grams, num_outputs)
            factor = graph.unsqueeze(graph.cast(counts, np.float32), 2)
            counted = op("Mul", weights, factor)
            if squares:
                each = op("Mul", op("Gather", squares, bucket, axis=0), factor)
                part_of_size = op("ReduceSum", each, constant([1]), keepdims=0)  # (batch, 1)
                size = op("Add", size, part_of_size) if size else part_of_size
            part_of_logits = op("ReduceSum", counted, constant([1]), keepdims=0)
            total = op("Add", total, part_of_logits) if total else part_of_logits
            each = op("Div", counted, constant(float(extra + 1)))
            for position in range(extra + 1):
                pads = constant([0, position, 0, 0, extra - position, 0])
                share = op("Pad", each, pads)  # (batch, seq, num_outputs)
                if extra > 1:  # A text of a single token has no three in a row, but was padded as if it had.
                    share = op("Slice", share, constant([0]), graph.seq, constant([1]))
                shares = op("Add", shares, share) if shares else share
        # Divided by the size at the end. A text without known n-grams has size 1.
        scale = scale or op("Sqrt", op("Max", size, constant(1.0)))
        return op("Div", total, scale), op("Div", shares, graph.unsqueeze(scale, 2))

    def _ngrams(self, input_ids: Tensor, attention_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each n-gram length, the rows of weights of all n-grams and their factors, both (batch, seq - length + 1).

        The factor is 0 for an n-gram that contains padding or an unknown token, which may be any token.
        """
        known = attention_mask.bool() & (input_ids != self.unk_id)
        found = []
        seq = input_ids.shape[1]
        for extra in range(min(self.longest, seq)):
            number = torch.full_like(input_ids[:, extra:], extra)
            counts = torch.ones_like(known[:, extra:])
            for position in range(extra + 1):
                part = slice(extra - position, seq - position)
                number = number + input_ids[:, part] * MULTIPLIERS[position]
                counts = counts & known[:, part]
            rows = number % PRIME % self.buckets
            found.append((rows if self.places is None else self.places[rows], counts))
        scale = self._size(found, attention_mask).rsqrt()
        return [(rows, counts * scale) for rows, counts in found]

    def _size(self, found: list[tuple[Tensor, Tensor]], attention_mask: Tensor) -> Tensor:
        """The square of the size of each text, (batch, 1)."""
        if self.squares is None:
            return attention_mask.sum(dim=1, keepdim=True).to(self.weights.weight.dtype)
        # No n-gram adds less than 1, so only texts without known n-grams are below it; their size does not matter.
        squares = self.squares
        parts = [(squares[rows].squeeze(-1) * counts).sum(dim=1, keepdim=True) for rows, counts in found]
        return torch.stack(parts).sum(dim=0).clamp(min=1)
