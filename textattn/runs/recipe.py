"""What a config leaves open, by the kind of its texts: the settings that scripts/quality.py found best for each."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from textattn.config import Config, with_defaults
from textattn.config.schema import Recipe
from textattn.data.read import Split
from textattn.tokens.formulas import UNREAD, read_formula
from textattn.tokens.tokenizer import COMPOSITION

# Texts looked at, from the whole of the training split.
SAMPLE = 2000
# From this median of words on, texts are long.
LONG = 100
# Scripts that write no spaces between words: Thai, Lao, Myanmar, Khmer, kana, Chinese characters.
WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# What of the texts must be of a kind, for all to be.
MOST = 0.9


class Facts(NamedTuple):
    """Of a training split."""

    num_texts: int
    words: float
    """Median of a text."""
    tokens: float
    """All of its words, or characters where there are no spaces, estimated."""
    formulas: float
    """Share of texts that are chemical formulas."""
    without_spaces: float
    """Share of letters of scripts that put no spaces between words."""


def resolve_recipe(config: Config, train: Split) -> tuple[Config, str | None]:
    """Replaces `recipe: auto` by the recipe for these texts, and sets what the config leaves open.

    A config that is resolved already stays as it is.

    Returns:
        The config, and a note for the user where the recipe was chosen by looking at the texts.
    """
    if config.recipe == "plain":
        return config, None
    facts = _facts(train)
    kind, why = _kind(config, facts)
    settings = _settings(kind, facts, config)
    resolved = with_defaults(config, settings).model_copy(update={"recipe": kind})
    note = None
    if config.recipe == "auto":
        note = f"recipe {kind}: {why}; it sets what is not given (recipe=plain: the schema's defaults)"
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
        tokens=(sum(words) + alone) * len(train) / len(texts),
        formulas=sum(map(_is_formula, texts)) / len(texts),
        without_spaces=alone / max(letters, 1),
    )


def _is_formula(text: str) -> bool:
    """One word that can be read to its end; `I` and `No` could be words, so there is a digit or a second element."""
    if len(text.split()) != 1:
        return False
    parts = read_formula(text)
    return all(part.symbol != UNREAD for part in parts) and (len(parts) > 1 or any(map(str.isdigit, text)))


def _kind(config: Config, facts: Facts) -> tuple[Recipe, str]:
    """Which recipe, and why. A tokenizer that is given decides, where it says something."""
    if config.recipe != "auto":
        return config.recipe, "as set"
    given = config.tokenizer.type if "type" in config.tokenizer.model_fields_set else None
    if given == COMPOSITION or (given is None and facts.formulas >= MOST):
        return "formulas", f"{facts.formulas:.0%} of the texts are chemical formulas"
    if given == "char" or (given is None and facts.without_spaces >= 0.5):
        return "characters", f"{facts.without_spaces:.0%} of the letters are of scripts without spaces"
    return ("long" if facts.words >= LONG else "short"), f"{facts.words:.0f} words in the median text"


def _settings(kind: Recipe, facts: Facts, config: Config) -> dict[str, Any]:
    """By dotted keys."""
    if kind == "formulas":
        return {
            "tokenizer.type": COMPOSITION,
            "model.vectors.source": "periodic_table",
            "model.attention": "self_attention",
            "model.num_heads": _heads(config),
            "model.dropout.words": 0.05,
            "model.dropout.embedding": 0.2,
            "training.epochs": 20,
            "training.batch_size": 32,
            "training.label_smoothing": 0.1,
        }
    # Texts to be shown in all, and epochs at least.
    shown, least = (50_000, 2) if kind == "long" else (75_000, 4)
    settings: dict[str, Any] = {
        # Few texts shown over and over would be learnt by heart.
        "model.ngrams": 0 if config.training.sampling == "balanced" else 2,
        "model.vectors.source": "skipgram",
        "model.vectors.epochs": _clamp(12_000_000 / facts.tokens, 2, 40),
        "training.epochs": _clamp(shown / facts.num_texts, least, 15),
    }
    if kind == "long":
        return settings | {
            "tokenizer.max_length": 400,
            "tokenizer.truncation": "head_tail",
            "model.ngram_buckets": 524_288,
            "training.ngram_learning_rate": 0.2,
            "training.evaluations_per_epoch": 2,
        }
    settings |= {"model.dropout.embedding": 0.5, "training.batch_size": 32}
    if kind == "characters":
        return settings | {
            "tokenizer.type": "char",
            "tokenizer.max_length": 300,
            "tokenizer.truncation": "head_tail",
        }
    return settings | {"tokenizer.min_frequency": 1}


def _heads(config: Config) -> int:
    """4, or what divides the states that are asked for."""
    states = config.model.hidden_size * (2 if config.model.bidirectional else 1)
    if config.model.encoder == "none":
        states = config.model.embedding_dim
    return next(heads for heads in (4, 2, 1) if states % heads == 0)


def _clamp(value: float, least: int, most: int) -> int:
    return max(least, min(most, round(value)))
