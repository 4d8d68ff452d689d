"""The whole model: token ids -> embeddings -> states -> context -> logits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from textattn.model.attention import build_attention
from textattn.model.encoder import RecurrentEncoder


@dataclass(frozen=True)
class Architecture:
    """All sizes the model is built from; stored in config.json."""

    vocab_size: int
    num_outputs: int
    embedding_dim: int = 128
    encoder: str = "lstm"
    hidden_size: int = 128
    num_layers: int = 1
    bidirectional: bool = True
    attention: str = "additive"
    attention_size: int = 64
    num_heads: int = 1
    dropout: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Output(NamedTuple):
    """What one forward pass gives."""

    logits: Tensor
    """(batch, num_outputs)"""
    attention_weights: Tensor
    """(batch, seq), 0 on padding, sum 1"""
    context: Tensor
    """(batch, context_dim) the pooled text"""
    hidden_states: Tensor
    """(batch, seq, state_dim) what the attention pools; garbage on padding"""


class TextClassifier(nn.Module):
    """Embedding -> (LSTM or GRU) -> attention -> linear.

    `forward_from_embeddings` is the way in for gradients with respect to embeddings.
    """

    def __init__(self, architecture: Architecture, pad_id: int = 0, unk_id: int = 1) -> None:
        super().__init__()
        a = architecture
        self.architecture = a
        self.unk_id, self.pad_id = unk_id, pad_id
        self.word_dropout = a.dropout.get("words", 0.0)
        self.embedding_dropout = a.dropout.get("embedding", 0.0)
        self.embedding = nn.Embedding(a.vocab_size, a.embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.encoder: RecurrentEncoder | None = None
        state_dim = a.embedding_dim
        if a.encoder != "none":
            self.encoder = RecurrentEncoder(
                a.encoder,
                a.embedding_dim,
                a.hidden_size,
                a.num_layers,
                a.bidirectional,
                a.dropout.get("recurrent", 0.0),
            )
            state_dim = self.encoder.output_size
        self.recurrent_dropout = nn.Dropout(a.dropout.get("recurrent", 0.0))
        self.attention = build_attention(
            a.attention, state_dim, a.attention_size, a.num_heads, a.bidirectional and a.encoder != "none"
        )
        self.classifier_dropout = nn.Dropout(a.dropout.get("classifier", 0.0))
        self.classifier = nn.Linear(self.attention.context_dim, a.num_outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Output:
        """input_ids, attention_mask: (batch, seq) int64; each row has at least one real token."""
        return self.forward_from_embeddings(self.embed(input_ids), attention_mask)

    def embed(self, input_ids: Tensor) -> Tensor:
        """(batch, seq) -> (batch, seq, embedding_dim); in training some tokens become the unknown one."""
        if self.training and self.word_dropout:
            dropped = torch.rand(input_ids.shape, device=input_ids.device) < self.word_dropout
            input_ids = input_ids.masked_fill(dropped, self.unk_id)
        embeddings: Tensor = self.embedding(input_ids)
        return embeddings

    def forward_from_embeddings(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """embeddings: (batch, seq, embedding_dim); attention_mask: (batch, seq)."""
        mask = attention_mask.bool()
        if self.training and self.embedding_dropout:
            # The same channels for all tokens of a text (Gal & Ghahramani 2016): noise the encoder cannot average out.
            keep = 1 - self.embedding_dropout
            shape = (embeddings.shape[0], 1, embeddings.shape[2])
            embeddings = embeddings * embeddings.new_empty(shape).bernoulli_(keep).div_(keep)
        states = self.states(embeddings, mask)
        context, weights = self.attention(states, mask)
        logits = self.classifier(self.classifier_dropout(context))
        return Output(logits, weights, context, states)

    def states(self, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, seq, embedding_dim), (batch, seq) -> what the attention pools, (batch, seq, state_dim)."""
        states = embeddings if self.encoder is None else self.encoder(embeddings, attention_mask.bool())
        return self.recurrent_dropout(states)  # type: ignore[no-any-return]
