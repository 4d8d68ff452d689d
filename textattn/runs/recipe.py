"""Recipes: the best settings for each kind of texts, as scripts/quality.py found them, where a config sets nothing."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from textattn.config import Config, with_defaults
from textattn.config.model_section import FITTED_BUCKETS
from textattn.config.schema import Recipe
from textattn.data.read import Split
from textattn.model.attention import attention_class
from textattn.tokens.formulas import UNREAD, read_formula
from textattn.tokens.tokenizer import COMPOSITION

# The number of texts that are examined, evenly spaced over the training split.
SAMPLE = 2000
# Texts are long if the median text has at least this many words.
LONG = 100
# The tokens of a text that the recipe for long texts reads. Texts are documents if it would leave out at least this
# share of all words.
TOKENS_OF_LONG, MOST_LEFT_OUT = 400, 0.25
TOKENS_OF_DOCUMENTS, TOKENS_OF_BATCH = 20_000, 16_384
FEW_DOCUMENTS = 5_000
# Words to train on in all epochs together.
WORDS_SHOWN_OF_DOCUMENTS = 8_000_000
# Scripts that write no spaces between words: Thai, Lao, Myanmar, Khmer, kana, Chinese characters.
WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# A corpus counts as formulas if at least this share of its texts are formulas.
MOST = 0.9


# n-grams have a weight for each bucket and label. If that is more weights than this (1 GiB), they are left out.
MOST_NGRAM_WEIGHTS = 2**28
# Tokens of all texts, and tokens times labels, to which a linear part is fitted before the network. With more it is
# trained with the network. A million tokens of 10 labels take about a minute and 0.1 GB.
MOST_TOKENS_TO_FIT, MOST_WORK_TO_FIT = 20_000_000, 200_000_000
LONG_BUCKETS = 524_288
# The tokens that a linear model reads of each text: many more than a network, because it is so much faster.
TOKENS_OF_LINEAR = 20_000


class Facts(NamedTuple):
    """Facts about a training split by which its recipe is chosen."""

    num_texts: int
    words: float
    """The median number of words of a text."""
    left_out: float
    """The share of the words that come after the first `TOKENS_OF_LONG` of their text."""
    tokens: float
    """The estimated number of words (in scripts without spaces: characters) of all texts."""
    formulas: float
    """The share of texts that are chemical formulas."""
    without_spaces: float
    """The share of letters that belong to scripts without spaces between words."""
    num_labels: int
    """The number of labels that occur."""
    multi_label: bool
    """Whether a text may have several labels."""


def resolve_recipe(config: Config, train: Split) -> tuple[Config, str | None]:
    """Replace `recipe: auto` by the recipe for these texts, and set what the config does not set.

    A config that is resolved already does not change.

    Returns:
        The config, and a note for the user if the recipe was chosen according to the texts.
    """
    if config.recipe == "plain":
        return config, None
    facts = _facts(train)
    kind, why = _kind(config, facts)
    settings = _settings(kind, facts, config)
    if config.model.linear == "only":
        settings["tokenizer.max_length"] = TOKENS_OF_LINEAR
    resolved = with_defaults(config, settings).model_copy(update={"recipe": kind})
    note = None
    if config.recipe == "auto":
        note = (
            f"recipe {kind}: {why}; the recipe sets all settings that are not given (recipe=plain uses the defaults of "
            "the schema)"
        )
    return resolved, note


def _facts(train: Split) -> Facts:
    places = np.unique(np.linspace(0, len(train) - 1, SAMPLE).round().astype(np.int64))
    texts = list(train.texts.take(places))
    words = [len(text.split()) for text in texts]
    letters = sum(sum(map(str.isalpha, text)) for text in texts)
    alone = sum(len(WITHOUT_SPACES.findall(text)) for text in texts)
    return Facts(
        num_texts=len(train),
        words=float(np.median(words)),
        left_out=sum(max(0, number - TOKENS_OF_LONG) for number in words) / max(sum(words), 1),
        tokens=(sum(words) + alone) * len(train) / len(texts),
        formulas=sum(map(_is_formula, texts)) / len(texts),
        without_spaces=alone / max(letters, 1),
        num_labels=_num_labels(train),
        multi_label=train.labels.ndim == 2,
    )


def _num_labels(train: Split) -> int:
    if train.is_numeric:
        return 1
    return len(np.unique(train.labels)) if train.labels.ndim == 1 else int(train.labels.shape[1])


def _is_formula(text: str) -> bool:
    """Whether a text is one word that can be read as a formula; words like `I` and `No` do not count as formulas."""
    if len(text.split()) != 1:
        return False
    parts = read_formula(text)
    return all(part.symbol != UNREAD for part in parts) and (len(parts) > 1 or any(map(str.isdigit, text)))


def _kind(config: Config, facts: Facts) -> tuple[Recipe, str]:
    """Choose the recipe, and give the reason. The type of the tokenizer decides, if the config sets it."""
    if config.recipe != "auto":
        return config.recipe, "it is set"
    given = config.tokenizer.type if "type" in config.tokenizer.model_fields_set else None
    if given == COMPOSITION or (given is None and facts.formulas >= MOST):
        return "formulas", f"{facts.formulas:.0%} of the texts are chemical formulas"
    if given == "char" or (given is None and facts.without_spaces >= 0.5):
        return "characters", f"{facts.without_spaces:.0%} of the letters belong to scripts without spaces"
    if facts.left_out >= MOST_LEFT_OUT and _can_read_windows(config):
        return "documents", f"{facts.left_out:.0%} of the words come after the first {TOKENS_OF_LONG} of their text"
    return ("long" if facts.words >= LONG else "short"), f"the median text has {facts.words:.0f} words"


def _can_read_windows(config: Config) -> bool:
    if "document" in config.model.model_fields_set:
        return config.model.document == "windows"
    attention = attention_class(config.model.attention)
    return attention.has_weights and attention.fits_windows


def _settings(kind: Recipe, facts: Facts, config: Config) -> dict[str, Any]:
    """The settings of a recipe, by dotted keys."""
    if kind == "formulas":
        return {
            "tokenizer.type": COMPOSITION,
            "model.vectors.source": "periodic_table",
            "model.attention": "self_attention",
            "model.num_heads": _heads(config),
            "model.dropout.words": 0.05,
            "model.dropout.embedding": 0.2,
            "training.epochs": 40 if config.task == "regression" else 20,
            "training.batch_size": 32,
            "training.label_smoothing": 0.0 if config.task == "regression" else 0.1,
        }
    # The number of texts to train on in all epochs together, and the minimum number of epochs.
    shown, least = (75_000, 4) if kind in ("short", "characters") else (50_000, 2)
    epochs = _clamp(shown / facts.num_texts, least, 15)
    if kind == "documents":
        epochs = _clamp(WORDS_SHOWN_OF_DOCUMENTS / facts.tokens, 2, epochs)
    linear = _linear(kind, facts, config)
    buckets = LONG_BUCKETS if kind in ("long", "documents") else config.model.ngram_buckets
    if "ngram_buckets" in config.model.model_fields_set:
        buckets = config.model.ngram_buckets
    too_many = linear == "together" and buckets * facts.num_labels > MOST_NGRAM_WEIGHTS
    settings: dict[str, Any] = {
        # Balanced sampling repeats the texts of rare labels, and their n-grams would be memorised.
        "model.ngrams": 0 if config.training.sampling == "balanced" or too_many else 2,
        "model.linear": linear,
        "model.ngram_buckets": buckets if linear == "together" else FITTED_BUCKETS,
        "model.vectors.source": "skipgram",
        "model.vectors.epochs": _clamp(12_000_000 / facts.tokens, 2, 40),
        "training.epochs": epochs,
    }
    if kind != "characters":
        settings["model.anchor"] = _anchor(facts, config)
    if kind in ("long", "documents"):
        settings |= {
            "tokenizer.max_length": TOKENS_OF_LONG,
            "tokenizer.truncation": "head_tail",
            "training.ngram_learning_rate": 0.2,
            "training.evaluations_per_epoch": 2,
        }
    if kind == "documents":
        settings |= {
            "tokenizer.max_length": TOKENS_OF_DOCUMENTS,
            "model.document": "windows",
            "training.batch_size": 32 if facts.num_texts < FEW_DOCUMENTS else 64,
            # A batch of long documents has few of them, so that memory is bounded.
            "training.max_tokens_per_batch": TOKENS_OF_BATCH,
        }
    if kind in ("long", "documents"):
        return settings
    settings |= {"model.dropout.embedding": 0.5, "training.batch_size": 32}
    if kind == "characters":
        return settings | {
            "tokenizer.type": "char",
            "tokenizer.max_length": 300,
            "tokenizer.truncation": "head_tail",
        }
    return settings | {"tokenizer.min_frequency": 1}


def _linear(kind: Recipe, facts: Facts, config: Config) -> str:
    """How the linear part is learned, as measured in docs/results.md.

    Fitted first, it is much better for long texts with many labels, and better where texts have several labels each.
    For characters, for short texts with one label and for long texts with two labels it is no better or worse. For
    numbers it was not measured, and with balanced sampling there are no n-grams.
    """
    m = config.model
    if "linear" in m.model_fields_set:
        return m.linear
    suits = facts.multi_label if kind == "short" else kind in ("long", "documents") and facts.num_labels > 2
    suits = suits and config.task != "regression" and config.training.sampling != "balanced"
    has_ngrams = m.ngrams > 0 or "ngrams" not in m.model_fields_set
    is_little = facts.tokens <= MOST_TOKENS_TO_FIT and facts.tokens * facts.num_labels <= MOST_WORK_TO_FIT
    return "first" if suits and has_ngrams and is_little else "together"


def _anchor(facts: Facts, config: Config) -> str:
    """What makes contributions lie on words at no cost in accuracy, as measured in docs/results.md.

    With two labels, words alone can vote. With more labels, such as kinds of questions, the answer depends on what
    stands beside a word. For texts with several labels each, `values` costs accuracy, and `states` was not measured.
    """
    attention = attention_class(config.model.attention)
    fits = config.model.encoder != "none" and attention.learns_weights and attention.additive
    if not fits or facts.multi_label:
        return "none"
    return "values" if facts.num_labels <= 2 else "states"


def _heads(config: Config) -> int:
    """The number of heads: 4, or less if 4 does not divide the size of the states."""
    states = config.model.hidden_size * (2 if config.model.bidirectional else 1)
    if config.model.encoder == "none":
        states = config.model.embedding_dim
    return next(heads for heads in (4, 2, 1) if states % heads == 0)


def _clamp(value: float, least: int, most: int) -> int:
    return max(least, min(most, round(value)))
