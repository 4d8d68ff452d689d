"""The initial word vectors: from elsewhere, made from the periodic table, or learned from the texts of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from textattn.config import Config
from textattn.config.model_section import VectorsConfig
from textattn.errors import ConfigError, InputError
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.storage import cache
from textattn.storage.hub import PREFIX
from textattn.storage.run_dir import TOKENIZER
from textattn.tokens.element_vectors import periodic_vectors
from textattn.tokens.foreign import Foreign, fill_vectors, open_vectors
from textattn.tokens.foreign.hub import from_hub
from textattn.tokens.skipgram import train_skipgram
from textattn.tokens.tokenizer import COMPOSITION
from textattn.tokens.vectors import WordVectors, load_vectors
from textattn.training.processors import available_processors

# The folder of word vectors in the cache.
VECTORS = "vectors"
# Of the words without vectors, as many are named.
SHOWN = 10


def word_vectors(data: TrainingData, report: Report) -> WordVectors | None:
    """Read, make, load from the cache or train the word vectors of a config; None if they are to be random.

    Raises:
        ConfigError: the source of the vectors does not fit the tokenizer.
        InputError: the file cannot be read.
    """
    config, tokenizer = data.config, data.tokenizer
    settings, dim = config.model.vectors, config.model.embedding_dim
    if settings.source == "random":
        return None
    if settings.is_foreign:
        return _foreign(data)
    if settings.source == "periodic_table":
        if config.tokenizer.type != COMPOSITION:
            raise ConfigError(
                f"periodic_table is for formulas, not for tokenizer.type={config.tokenizer.type}",
                f"tokenizer.type={COMPOSITION}",
                setting="model.vectors.source",
            )
        return periodic_vectors(tokenizer, dim, config.seed)
    key = _key(data)
    vectors = load_vectors(cache.find(VECTORS, key, report.note), (tokenizer.vocab_size, dim))
    if vectors is None:
        with report.progress("Word vectors", settings.epochs, "passes") as advance:
            vectors = train_skipgram(
                settings,
                data.vocabulary_texts(),
                tokenizer,
                dim,
                config.seed,
                threads=config.training.threads or available_processors(),
                on_epoch=advance,
            )
        with cache.store(VECTORS, key) as folder:
            if folder is not None:
                vectors.write(folder)
    return vectors


def size_of_vectors(config: Config) -> dict[str, int]:
    """The setting `model.embedding_dim` of vectors from elsewhere, if the config does not give it; else nothing.

    Raises:
        InputError: they cannot be read.
    """
    m = config.model
    if not m.vectors.is_foreign or m.linear == "only" or "embedding_dim" in m.model_fields_set:
        return {}
    return {"model.embedding_dim": _open(m.vectors).dim}


def _open(settings: VectorsConfig) -> Foreign:
    assert settings.path is not None
    if settings.source == "hub":
        return open_vectors(from_hub(settings.path).path)
    if settings.path.startswith(PREFIX):
        raise InputError(
            f"{settings.path} is on the Hub, not a file", "model.vectors.source=hub", setting="model.vectors.path"
        )
    return open_vectors(Path(settings.path))


def _foreign(data: TrainingData) -> WordVectors:
    settings = data.config.model.vectors
    vectors = fill_vectors(_open(settings), data.tokenizer, data.config.model.embedding_dim)
    return vectors if settings.spread is None else vectors.with_spread(settings.spread)


def facts_of(vectors: WordVectors, data: TrainingData) -> dict[str, Any]:
    """What environment.json says about word vectors."""
    settings, found = data.config.model.vectors, {"coverage": vectors.coverage}
    if not settings.is_foreign:
        return found
    assert settings.path is not None
    missing = missing_words(vectors, data)
    facts = found | {"format": _open(settings).what, "missing": len(missing), "frequent_missing": missing[:SHOWN]}
    return facts | ({"commit": from_hub(settings.path).commit} if settings.source == "hub" else {})


def missing_words(vectors: WordVectors, data: TrainingData) -> list[str]:
    """The words of the vocabulary without a vector, the most frequent of the training texts first."""
    tokenizer = data.tokenizer
    counts = np.bincount(data.tokens["train"].ids, minlength=tokenizer.vocab_size)
    words = {row: word for word, row in tokenizer.backend.get_vocab().items()}
    special = (tokenizer.pad_id, tokenizer.unk_id)
    rows = [int(row) for row in np.flatnonzero(~vectors.found) if row not in special and row in words]
    return [words[row] for row in sorted(rows, key=lambda row: (-counts[row], row))]


def are_cached(data: TrainingData) -> bool:
    """Whether the skip-gram vectors of this run are in the cache."""
    return cache.find(VECTORS, _key(data), Report().note) is not None


def _key(data: TrainingData) -> str:
    # The vectors depend on the whole texts and the vocabulary, wherever these were read from.
    content = [part.fingerprint() for part in (data.corpus.train.texts, *data.corpus.unlabelled)]
    m = data.config.model
    tokenizer = data.tokenizer.to_files()[TOKENIZER]
    return cache.key_of(content, tokenizer, m.vectors.model_dump(), m.embedding_dim, data.config.seed)
