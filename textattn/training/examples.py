"""The examples that the loop trains on, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.tokens.batches import collate
from textattn.tokens.token_arrays import TokenArrays


class Batch(NamedTuple):
    """Some texts, padded to the same length, on the device of the model."""

    input_ids: Tensor
    """(batch, seq)"""
    attention_mask: Tensor
    """(batch, seq)"""
    labels: Tensor
    """(batch,) class ids, or (batch, num_labels) of 0 and 1."""
    evidence: Tensor | None
    """(batch, seq) True at tokens that people marked."""
    ngram_logits: Tensor | None
    """(batch, num_outputs) what the network adds its logits to; None: what the n-grams of the model say."""


@dataclass(frozen=True)
class Examples:
    """Tokenised texts with their labels."""

    tokens: TokenArrays
    labels: NDArray[Any]
    """In the form of `Task.encode`: (rows,) class ids or numbers, or (rows, num_labels) of 0 and 1."""
    pad_id: int
    evidence: NDArray[np.bool_] | None = None
    """(total_tokens,) True at tokens that people marked as the reason for the label."""
    ngram_logits: NDArray[np.float32] | None = None
    """(rows, num_outputs) the logits of a linear part that was fitted to other rows."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) number of tokens of each text."""
        return self.tokens.lengths

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Select rows, in the given order."""
        evidence = self.evidence
        if evidence is not None:
            evidence = np.concatenate([evidence[self.tokens.starts[i] : self.tokens.starts[i + 1]] for i in rows])
        linear = None if self.ngram_logits is None else self.ngram_logits[rows]
        return replace(
            self, tokens=self.tokens.take(rows), labels=self.labels[rows], evidence=evidence, ngram_logits=linear
        )

    def batch(self, rows: NDArray[np.int64], device: torch.device, seq: int | None = None) -> Batch:
        """The texts at `rows`, padded to the longest of them or to `seq` tokens."""
        input_ids, attention_mask = (
            torch.from_numpy(array).to(device, non_blocking=True)
            for array in collate(self.tokens, rows, self.pad_id, seq)
        )
        labels = torch.from_numpy(self.labels[rows]).to(device, non_blocking=True)
        evidence = None
        if self.evidence is not None:
            flat = np.concatenate([self.evidence[self.tokens.starts[i] : self.tokens.starts[i + 1]] for i in rows])
            evidence = torch.zeros_like(attention_mask, dtype=torch.bool).masked_scatter(
                attention_mask.bool(), torch.from_numpy(flat).to(device)
            )
        linear = None
        if self.ngram_logits is not None:
            linear = torch.from_numpy(self.ngram_logits[rows]).to(device, non_blocking=True)
        return Batch(input_ids, attention_mask, labels, evidence, linear)
