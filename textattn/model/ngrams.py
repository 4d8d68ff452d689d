"""A linear part beside the network: a weight for each n-gram of tokens and each output, found by hashing.

What a linear model knows at once, which words and pairs of words go with which label, the network needs not learn
(Cheng et al. 2016 have "wide & deep"; the hashed n-grams are those of Joulin et al. 2017). What it adds to the logits
is a sum over the tokens, so what a token contributed is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# An n-gram's number is the sum of its tokens' ids times these, by place from its end, modulo a prime, modulo the number
# of buckets: all below 2**63 for ids below 2**29, whatever computes it.
MULTIPLIERS = (2_654_435_761, 1_640_531_527, 2_246_822_519)
PRIME = 2_147_483_647


class NgramLinear(nn.Module):
    """Runs of 1 to `longest` tokens -> logits: the sum of their weights over the square root of the tokens."""

    def __init__(self, longest: int, buckets: int, num_outputs: int, unk_id: int) -> None:
        super().__init__()
        if not 1 <= longest <= len(MULTIPLIERS):
            raise ValueError(f"n-grams of up to {longest} tokens; there are those of up to {len(MULTIPLIERS)}")
        self.longest, self.unk_id = longest, unk_id
        # Few of the weights occur in a batch: their gradient is sparse.
        self.weights = nn.Embedding(buckets, num_outputs, sparse=True)
        nn.init.zeros_(self.weights.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, seq) each -> (batch, num_outputs)."""
        parts = [
            (self.weights(buckets) * counts.unsqueeze(-1)).sum(dim=1)
            for buckets, counts in self._ngrams(input_ids, attention_mask)
        ]
        return torch.stack(parts).sum(dim=0)

    def contributions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, seq) each -> (batch, seq, num_outputs), whose sum is `forward`: tokens share what they are in."""
        shares = self.weights.weight.new_zeros(*input_ids.shape, self.weights.embedding_dim)
        for extra, (buckets, counts) in enumerate(self._ngrams(input_ids, attention_mask)):
            each = self.weights(buckets) * counts.unsqueeze(-1) / (extra + 1)
            for place in range(extra + 1):
                shares[:, place : place + each.shape[1]] += each
        return shares

    def _ngrams(self, input_ids: Tensor, attention_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each length the buckets of all runs, (batch, seq - length + 1), and how much they count.

        A run with padding does not, nor one with an unknown token, which may stand for any.
        """
        known = attention_mask.bool() & (input_ids != self.unk_id)
        scale = attention_mask.sum(dim=1, keepdim=True).to(self.weights.weight.dtype).rsqrt()
        found = []
        seq = input_ids.shape[1]
        for extra in range(min(self.longest, seq)):
            number = torch.full_like(input_ids[:, extra:], extra)
            there = torch.ones_like(known[:, extra:])
            for place in range(extra + 1):
                part = slice(extra - place, seq - place)
                number = number + input_ids[:, part] * MULTIPLIERS[place]
                there = there & known[:, part]
            found.append((number % PRIME % self.weights.num_embeddings, there * scale))
        return found
