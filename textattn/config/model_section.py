"""The sections `tokenizer` and `model` of a config: how texts become tokens, and tokens become logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from textattn.config.section import LARGEST, FileName, Fraction, PositiveFloat, PositiveInt, Section
from textattn.parts import part_names

# More are never useful, and a number without end would be built layer by layer.
MOST_LAYERS = 100
# Only the names of the files are read. Importing them would load torch.
MODEL = Path(__file__).parents[1] / "model"
ATTENTION = part_names([str(MODEL / "attention")])
ENCODERS = (*part_names([str(MODEL / "encoders")]), "none")
if TYPE_CHECKING:
    AttentionName = str
    EncoderName = str
else:
    AttentionName = Literal[ATTENTION]
    EncoderName = Literal[ENCODERS]


class TokenizerConfig(Section):
    """How texts are split into tokens. The tokenizer is trained on the training split and the texts without labels
    only."""

    type: Literal["word", "wordpiece", "bpe", "unigram", "char", "formula", "composition", "pretrained"] = "word"
    """`char` suits scripts without spaces. `composition` reads a chemical formula as its elements and their shares, so
    that Li2O and Li4O2 are the same; `formula` reads it as it is written. `pretrained` loads the tokenizer at
    `path`."""
    path: FileName | None = None
    """For `pretrained`: a tokenizer.json, a folder that contains one, or a Hub model id."""
    vocab_size: Annotated[StrictInt, Field(ge=10, le=LARGEST)] = 30_000
    """Largest size of the vocabulary, including special tokens."""
    min_frequency: PositiveInt = 2
    """How often a token must occur in the texts that train the tokenizer to enter the vocabulary."""
    lowercase: StrictBool | None = None
    """Convert texts to lower case. null: yes, except for formulas."""
    nfkc: StrictBool = True
    """Apply Unicode NFKC normalisation (full-width letters, ligatures)."""
    strip_html_breaks: StrictBool = True
    """Replace `<br />` with a space."""
    max_length: PositiveInt = 256
    """Largest number of tokens of a text. Longer texts are truncated, and their number is reported."""
    truncation: Literal["head", "tail", "head_tail"] = "head"
    """Which part of a long text to keep: its beginning, its end, or half of `max_length` from each."""

    @model_validator(mode="after")
    def _path_for_pretrained(self) -> TokenizerConfig:
        if (self.type == "pretrained") != (self.path is not None):
            raise ValueError("tokenizer.type=pretrained requires tokenizer.path, and no other type allows it")
        return self


class VectorsConfig(Section):
    """The word vectors at the start of training."""

    source: Literal["random", "file", "hub", "skipgram", "periodic_table"] = "random"
    """`file`: read vectors of word2vec, GloVe, fastText, spaCy, model2vec or sentence-transformers. `hub`: the same,
    from the Hugging Face Hub. `skipgram`: train vectors with gensim on the texts of the run. `periodic_table`, for
    tokenizer.type=composition: elements that are close in the periodic table start with similar vectors, and so do
    similar amounts."""
    path: FileName | None = None
    """For `file`: the file of vectors, plain, gzip or zip, or the folder of a model. For `hub`: user/name or
    user/name@revision."""
    spread: PositiveFloat | None = 0.3
    """For `file` and `hub`: the vectors are multiplied so that the standard deviation of their numbers is this. null:
    leave them as they are."""
    missing: Literal["random", "skipgram"] = "random"
    """For `file` and `hub`: what words without a vector start with. `random`: random numbers. `skipgram`: vectors that
    are trained on the texts of the run, with the settings for `skipgram`, and mapped onto those of the file by the
    words that have both."""
    epochs: PositiveInt = 5
    """For `skipgram`: number of passes over the texts."""
    window: PositiveInt = 5
    """For `skipgram`: number of context words on each side."""
    negative: PositiveInt = 5
    """For `skipgram`: number of negative samples for each pair."""
    subsample: PositiveFloat = 1e-3
    """For `skipgram`: words that make up more than this share of all words are skipped at random. 1e-4 suits large
    corpora."""
    freeze: StrictBool = False
    """Do not update the vectors during training."""

    @model_validator(mode="after")
    def _path_for_file(self) -> VectorsConfig:
        if self.is_foreign != (self.path is not None):
            raise ValueError(
                "model.vectors.source=file or hub requires model.vectors.path, and no other source allows it"
            )
        return self

    @property
    def is_foreign(self) -> bool:
        """Whether the vectors come from elsewhere."""
        return self.source in ("file", "hub")


class DropoutConfig(Section):
    """Dropout rates during training."""

    words: Fraction = 0.1
    """Share of tokens to replace with the unknown token."""
    masking: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.0
    """Replace a further share of the tokens of each text, drawn anew between 0 and this value, with the unknown token.
    The model then knows texts with erased words, which explanations rely on."""
    embedding: Fraction = 0.3
    """Share of embedding channels to drop, the same channels for all tokens of a text."""
    recurrent: Fraction = 0.2
    """Share of the encoder's outputs to drop, between its layers and before the attention."""
    classifier: Fraction = 0.2
    """Share of the pooled vector to drop before the classifier."""


# A fitted linear part stores 4 bytes for each bucket, and weights only for the n-grams that it knows.
FITTED_BUCKETS = 2**21


class ModelConfig(Section):
    """The network: embedding -> encoder -> attention -> classifier."""

    embedding_dim: PositiveInt = 128
    """Size of a word vector."""
    vectors: VectorsConfig = VectorsConfig()
    """Word vectors at the start of training."""
    encoder: EncoderName = "lstm"
    """Recurrent encoder over the embeddings. `none`: attention reads the embeddings directly."""
    hidden_size: PositiveInt = 128
    """Units of the encoder in each direction."""
    num_layers: Annotated[StrictInt, Field(gt=0, le=MOST_LAYERS)] = 1
    """Layers of the encoder."""
    bidirectional: StrictBool = True
    """Read the text in both directions."""
    anchor: Literal["none", "states", "values"] = "none"
    """Bind each encoder state to the word at its position. `states`: add the projected embedding of the word to the
    state. `values`: add it for the attention scores only, and pool a vector that depends on the word alone."""
    attention: AttentionName = "additive"
    """How the states are weighted and pooled. mean, max and last are controls without learned weights."""
    attention_size: PositiveInt = 64
    """Units inside the score network of additive, sigmoid, mlp and multi_head."""
    num_heads: PositiveInt = 1
    """Heads of multi_head and self_attention."""
    document: Literal["whole", "windows"] = "whole"
    """How a text is read. `whole`: the encoder and the attention run over all of it. `windows`: they run over windows
    of `window_size` tokens, side by side, and a second attention weighs the windows, so that long texts can be read to
    their end."""
    window_size: Annotated[StrictInt, Field(ge=2, le=10_000)] = 64
    """For document=windows: tokens of a window."""
    window_context: Annotated[StrictInt, Field(ge=0)] = 0
    """For document=windows: tokens on each side of a window that the encoder reads as well. Less than `window_size`."""
    attention_window: PositiveInt = 1
    """Odd number of tokens over which each attention weight is spread. More than 1 puts the attention on passages, as
    human readers do."""
    attention_position: StrictBool = False
    """Learn which parts of a text deserve more attention, such as the last lines of a review."""
    ngrams: Annotated[StrictInt, Field(ge=0, le=3)] = 0
    """Add the logits of a linear model on n-grams of up to this many tokens to those of the network. 0: none."""
    ngram_buckets: PositiveInt = 262_144
    """Number of weights of the n-gram model for each output. N-grams in the same bucket share a weight."""
    linear: Literal["together", "first", "only"] = "together"
    """How the linear model on n-grams is learned. `together`: its weights are trained with the network. `first`: it is
    fitted before the network, as a logistic regression on features like TF-IDF, and the network learns what it leaves.
    `only`: it is fitted, and there is no network. With `first` and `only`, model.ngrams is 2 and model.ngram_buckets is
    2,097,152 if they are not given: only n-grams that occur in several texts get weights, so that more buckets cost
    little."""
    output: Literal["softmax", "sigmoid"] | None = None
    """null: softmax if each text has one label, sigmoid if it may have several. `sigmoid` with two classes: a single
    output unit."""
    dropout: DropoutConfig = DropoutConfig()
    """Dropout rates."""

    @model_validator(mode="before")
    @classmethod
    def _ngrams_to_fit(cls, values: Any) -> Any:
        """Give the linear part that is fitted its n-grams."""
        if not isinstance(values, Mapping) or values.get("linear") not in ("first", "only"):
            return values
        return {"ngrams": 2, "ngram_buckets": FITTED_BUCKETS} | dict(values)
