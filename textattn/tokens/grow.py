"""Adds frequent words of new texts to the vocabulary of a trained tokenizer; the ids of its tokens stay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer

from textattn.config.model_section import TokenizerConfig
from textattn.tokens.tokenizer import TextTokenizer

# Their vocabularies are lists of whole words, characters or symbols. Those of the other kinds consist of pieces with
# which every word can be written: a new piece would change how words are divided that the model knows.
GROWING = ("word", "char", "formula")


def can_grow(tokenizer: TextTokenizer) -> bool:
    """Whether words can be added to this tokenizer without a change to how texts are divided."""
    return tokenizer.kind in GROWING


def grow_tokenizer(tokenizer: TextTokenizer, texts: Iterable[str], config: TokenizerConfig) -> TextTokenizer:
    """Add the words of texts that the vocabulary lacks, the most frequent ones first.

    Args:
        tokenizer: is not changed.
        texts: the texts to train on.
        config: `min_frequency`, how often a word must occur in these texts; `vocab_size`, the largest size of the whole
            vocabulary; `max_length` and `truncation` of the new tokenizer.
    """
    backend = Tokenizer.from_str(tokenizer.backend.to_str(pretty=False))
    words = _new_words(tokenizer, texts, config) if can_grow(tokenizer) else []
    if words:
        state = json.loads(backend.to_str())
        vocabulary = state["model"]["vocab"]
        # An added token, such as the separator of segments, has the id after the words. It must keep it.
        vocabulary |= {token["content"]: token["id"] for token in state["added_tokens"]}
        vocabulary |= {word: number for number, word in enumerate(words, tokenizer.vocab_size)}
        backend = Tokenizer.from_str(json.dumps(state))
    return TextTokenizer(
        backend,
        max_length=config.max_length,
        truncation=config.truncation,
        num_segments=tokenizer.num_segments,
        kind=tokenizer.kind,
    )


def _new_words(tokenizer: TextTokenizer, texts: Iterable[str], config: TokenizerConfig) -> list[str]:
    backend = tokenizer.backend
    known = backend.get_vocab(with_added_tokens=True)
    counts: Counter[str] = Counter()
    for text in texts:
        text = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text) if word not in known)
    frequent = [word for word, count in counts.items() if count >= config.min_frequency]
    room = max(0, config.vocab_size - tokenizer.vocab_size)
    return sorted(frequent, key=lambda word: (-counts[word], word))[:room]
