"""The whole model: token ids -> embeddings -> states -> context -> logits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from textattn.model import noise
from textattn.model.attention import AttentionSizes, WeightedPooling, attention_class
from textattn.model.dropout import Dropout
from textattn.model.embedding import Embedding
from textattn.model.encoders import EncoderSizes, RecurrentEncoder, encoder_class
from textattn.model.ngrams import NgramLinear
from textattn.model.passages import Passages
from textattn.model.windows import Windows, WindowSizes

ANCHORS = ("none", "states", "values")
TOGETHER = "together"


@dataclass(frozen=True)
class Architecture:
    """All sizes that the model is built from. They are stored in config.json."""

    vocab_size: int
    num_outputs: int
    embedding_dim: int = 128
    encoder: str = "lstm"
    hidden_size: int = 128
    num_layers: int = 1
    bidirectional: bool = True
    anchor: str = "none"
    attention: str = "additive"
    attention_size: int = 64
    num_heads: int = 1
    attention_window: int = 1
    attention_position: bool = False
    ngrams: int = 0
    ngram_buckets: int = 1
    unk_id: int = 1
    dropout: dict[str, float] = field(default_factory=dict)
    linear: str = TOGETHER
    """How the weights of n-grams are learned, as `model.linear` says: `together`, `first` or `only`."""
    ngram_features: int = 0
    """The number of rows of weights that are fitted before the network; 0 if they are trained together."""
    window_size: int = 0
    """Tokens of a window; 0: texts are read as a whole."""
    window_context: int = 0
    """Tokens on each side of a window that the encoder reads as well."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. What came later is left out where it is not used, as in models of earlier versions."""
        later = set() if self.ngram_features else {"linear", "ngram_features"}
        later |= set() if self.window_size else {"window_size", "window_context"}
        return {name: value for name, value in asdict(self).items() if name not in later}

    @property
    def encoder_sizes(self) -> EncoderSizes:
        """The sizes of the encoder. They have no meaning if there is none."""
        return EncoderSizes(self.embedding_dim, self.hidden_size, self.num_layers, self.bidirectional)

    @property
    def attention_sizes(self) -> AttentionSizes:
        """The sizes of the attention mechanism."""
        if self.encoder == "none":
            return AttentionSizes(self.embedding_dim, self.attention_size, self.num_heads, bidirectional=False)
        return AttentionSizes(self.encoder_sizes.output_size, self.attention_size, self.num_heads, self.bidirectional)


class Output(NamedTuple):
    """The result of a forward pass."""

    logits: Tensor
    """(batch, num_outputs)"""
    attention_weights: Tensor
    """(batch, seq), 0 on padding, sum 1"""
    context: Tensor
    """(batch, context_dim) the pooled text"""
    hidden_states: Tensor
    """(batch, seq, state_dim) the states that the attention pools; undefined on padding"""
    head_weights: Tensor | None
    """(batch, heads, seq) the weights with which each head pools; None for mechanisms without weights for tokens"""
    encoder_states: Tensor
    """(batch, seq, state_dim) the output of the encoder, after dropout"""
    embeddings: Tensor
    """(batch, seq, embedding_dim) the input of the encoder, after dropout"""


class Contributions(NamedTuple):
    """The logits divided among the tokens: `logits = bias + (network + ngrams).sum(1)`."""

    network: Tensor
    """(batch, seq, num_outputs) the part of the attention, 0 on padding"""
    ngrams: Tensor | None
    """(batch, seq, num_outputs) the part of the n-grams, 0 on padding; None without n-grams"""

    @property
    def total(self) -> Tensor:
        """(batch, seq, num_outputs)"""
        return self.network if self.ngrams is None else self.network + self.ngrams


class States(NamedTuple):
    """The states of a text, all (batch, seq, dim). `scored` and `pooled` are equal unless `anchor` is `values`."""

    scored: Tensor
    """Input of the attention scores."""
    pooled: Tensor
    """The states that the attention pools."""
    encoder_states: Tensor
    """Output of the encoder, after dropout."""


class TextClassifier(nn.Module):
    """Embedding -> encoder, if any -> attention (on words or passages, in windows or whole texts) -> linear.

    To take gradients with respect to embeddings, call `forward_from_embeddings`.

    The state of a recurrent encoder at a position may say little about the word there, so attention to a state need not
    be attention to the word (Tutek & Šnajder 2020). `anchor` binds the states to their words. With `states`, the
    projected embedding of the word is added to its state, which is then scored and pooled. With `values`, it is added
    for the scores only, and the pooled vector is a function of the word alone: the words vote, and the context decides
    whose vote counts.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.architecture = a
        self.word_dropout = a.dropout.get("words", 0.0)
        self.masking = a.dropout.get("masking", 0.0)
        self.embedding_dropout = a.dropout.get("embedding", 0.0)
        self.embedding = Embedding(a.vocab_size, a.embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.encoder: RecurrentEncoder | None = None
        if a.encoder != "none":
            self.encoder = encoder_class(a.encoder)(a.encoder_sizes, a.dropout.get("recurrent", 0.0))
        state_dim = a.attention_sizes.dim
        self.anchor: nn.Linear | None = None
        self.values: nn.Linear | None = None
        if a.anchor not in ANCHORS:
            raise ValueError(f"unknown anchor {a.anchor!r}")
        if a.anchor != "none":
            if self.encoder is None:
                raise ValueError("anchor needs an encoder, because without one the states are the embeddings")
            self.anchor = nn.Linear(a.embedding_dim, state_dim, bias=False)
        if a.anchor == "values":
            self.values = nn.Linear(a.embedding_dim, state_dim)
        self.recurrent_dropout = Dropout(a.dropout.get("recurrent", 0.0))
        self.attention = attention_class(a.attention)(a.attention_sizes)
        if self.values is not None and not self.attention.learns_weights:
            raise ValueError(f"anchor: values needs an attention that learns weights, not {a.attention}")
        self.passages: Passages | None = None
        if a.attention_window != 1 or a.attention_position:
            if not isinstance(self.attention, WeightedPooling):
                raise ValueError(
                    f"{a.attention} has no weights that attention_window and attention_position could change"
                )
            if not self.attention.normalized and a.attention_position:
                raise ValueError(f"attention_position needs weights that sum to 1, but those of {a.attention} do not")
            self.passages = Passages(a.attention_window, a.attention_position)
        self.windows: Windows | None = None
        if a.window_size:
            if not isinstance(self.attention, WeightedPooling) or not self.attention.fits_windows:
                raise ValueError(f"the attention {a.attention} cannot weigh the tokens of windows (document: windows)")
            sizes = WindowSizes(a.window_size, a.window_context)
            self.windows = Windows(sizes, self.attention.context_dim, a.attention_size)
        self.classifier_dropout = Dropout(a.dropout.get("classifier", 0.0))
        self.classifier = nn.Linear(self.attention.context_dim, a.num_outputs)
        self.ngrams: NgramLinear | None = None
        if a.ngrams:
            self.ngrams = NgramLinear(a.ngrams, a.ngram_buckets, a.num_outputs, a.unk_id, a.ngram_features)

    @staticmethod
    def telling_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
        """The shapes of parameters that together reveal all sizes of the model except `num_layers`.

        Raises:
            ValueError: the encoder or attention is unknown.
        """
        shapes: dict[str, tuple[int, ...]] = {
            "embedding.weight": (a.vocab_size, a.embedding_dim),
            "classifier.bias": (a.num_outputs,),
        }
        if a.encoder != "none":
            for name, shape in encoder_class(a.encoder).telling_shapes(a.encoder_sizes).items():
                shapes[f"encoder.{name}"] = shape
        if a.ngrams:
            shapes["ngrams.weights.weight"] = (a.ngram_features or a.ngram_buckets, a.num_outputs)
            if a.ngram_features:
                shapes["ngrams.places"] = (a.ngram_buckets,)
        if a.anchor != "none":
            shapes["anchor.weight"] = (a.attention_sizes.dim, a.embedding_dim)
        if a.window_size:
            shapes["windows.score.weight"] = (1, a.attention_size)
        for name, shape in attention_class(a.attention).telling_shapes(a.attention_sizes).items():
            shapes[f"attention.{name}"] = shape
        return shapes

    def forward(self, input_ids: Tensor, attention_mask: Tensor, ngram_logits: Tensor | None = None) -> Output:
        """Classify texts.

        Args:
            input_ids: (batch, seq) int64.
            attention_mask: (batch, seq) int64, 1 at real tokens; each row has at least one.
            ngram_logits: (batch, num_outputs), take the place of those of the n-grams.
        """
        if ngram_logits is None and self.ngrams is not None:
            ngram_logits = self.ngrams(input_ids, attention_mask)
        return self.forward_from_embeddings(self.embed(input_ids), attention_mask, ngram_logits)

    def ngram_contributions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The contribution of each token to the logits through n-grams: (batch, seq) -> (batch, seq, num_outputs)."""
        if self.ngrams is None:
            return self.classifier.weight.new_zeros(*input_ids.shape, self.architecture.num_outputs)
        return self.ngrams.contributions(input_ids, attention_mask)

    def embed(self, input_ids: Tensor) -> Tensor:
        """(batch, seq) -> (batch, seq, embedding_dim). In training, word dropout replaces tokens by the unknown one."""
        if self.training and self.word_dropout:
            dropped = self._uniform(input_ids.shape, input_ids.device) < self.word_dropout
            input_ids = input_ids.masked_fill(dropped, self.architecture.unk_id)
        if self.training and self.masking:
            # The share varies from text to text: the model learns from texts with few and with many words erased.
            share = self.masking * self._uniform((len(input_ids), 1), input_ids.device)
            input_ids = input_ids.masked_fill(
                self._uniform(input_ids.shape, input_ids.device) < share, self.architecture.unk_id
            )
        embeddings: Tensor = self.embedding(input_ids)
        return embeddings

    @staticmethod
    def _generator(device: torch.device) -> torch.Generator | None:
        """What dropout draws from: on a processor the generator of this thread."""
        return noise.generator() if device.type == "cpu" else None

    def _uniform(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return torch.rand(shape, device=device, generator=self._generator(device))

    def forward_from_embeddings(
        self, embeddings: Tensor, attention_mask: Tensor, ngram_logits: Tensor | None = None
    ) -> Output:
        """Classify texts that are given by their embeddings.

        Args:
            embeddings: (batch, seq, embedding_dim)
            attention_mask: (batch, seq), nonzero at real tokens.
            ngram_logits: (batch, num_outputs), added to the logits.
        """
        mask = attention_mask.bool()
        if self.training and self.embedding_dropout:
            # Drop the same channels for all tokens of a text (Gal & Ghahramani 2016), because the encoder could average
            # out noise that differs from token to token.
            keep = 1 - self.embedding_dropout
            shape = (embeddings.shape[0], 1, embeddings.shape[2])
            embeddings = embeddings * embeddings.new_empty(shape).bernoulli_(
                keep, generator=self._generator(embeddings.device)
            ).div_(keep)
        states = self.states(embeddings, mask)
        head_weights = self.head_weights(states, mask)
        if head_weights is not None:
            assert isinstance(self.attention, WeightedPooling)
            context = self.attention.pool(states.pooled, head_weights, mask)
            weights = self.attention.shares(head_weights)
        else:
            context, weights = self.attention(states.scored, mask)
        logits = self.classifier(self.classifier_dropout(context))
        if ngram_logits is not None:
            logits = logits + ngram_logits
        return Output(logits, weights, context, states.pooled, head_weights, states.encoder_states, embeddings)

    def head_weights(self, states: States, attention_mask: Tensor) -> Tensor | None:
        """The weights with which each head pools, (batch, heads, seq); None for mechanisms without weights.

        Everything that reads or exchanges the weights of a model takes them from here, after those of windows,
        `attention_window` and `attention_position`.
        """
        if not isinstance(self.attention, WeightedPooling):
            return None
        mask = attention_mask.bool()
        if self.windows is None:
            weights = self.attention.weigh(states.scored, mask)
        else:
            weights = self.windows.weigh(self.attention, states.scored, mask)
        if self.passages is not None:
            weights = self.passages(weights, mask)
        return weights

    def contributions(self, output: Output, input_ids: Tensor, attention_mask: Tensor) -> Contributions:
        """Divides the logits among the tokens, exactly: they are linear in what the attention pools.

            logits = bias + sum_i c_i,    c_i = sum_h a_hi (W_h v_i) + the share of token i in the n-grams

        Here a_hi is the weight of token i in head h, v_i its pooled state (or value), and W_h the columns of the
        classifier layer for head h. No gradient is needed.

        Args:
            output: of the forward pass of the same texts, without dropout.
            input_ids: (batch, seq) int64.
            attention_mask: (batch, seq) int64, 1 at real tokens.

        Raises:
            NotImplementedError: the attention is not additive (`mlp`).
        """
        mask = attention_mask.bool()
        parts = self.attention.contributions(output.hidden_states, output.head_weights, mask, self.classifier.weight)
        network = parts.masked_fill(~mask.unsqueeze(-1), 0)
        ngrams = None if self.ngrams is None else self.ngrams.contributions(input_ids, attention_mask)
        return Contributions(network, ngrams)

    def states(self, embeddings: Tensor, attention_mask: Tensor) -> States:
        """Encode texts: embeddings (batch, seq, embedding_dim), attention_mask (batch, seq)."""
        mask = attention_mask.bool()
        if self.encoder is None:
            states = embeddings
        elif self.windows is None:
            states = self.encoder(embeddings, mask)
        else:
            states = self.windows.encode(self.encoder, embeddings, mask)
        states = self.recurrent_dropout(states)
        scored = states if self.anchor is None else states + self.anchor(embeddings)
        pooled = scored if self.values is None else torch.tanh(self.values(embeddings))
        return States(scored, pooled, states)
