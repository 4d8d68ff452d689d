"""The initial word vectors: from elsewhere, made from the periodic table, or learned from the texts of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config import Config
from textattn.config.model_section import VectorsConfig
from textattn.errors import ConfigError, InputError
from textattn.inference.visible import visible
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.storage import cache
from textattn.storage.hub import PREFIX
from textattn.storage.run_dir import TOKENIZER
from textattn.tokens.element_vectors import periodic_vectors
from textattn.tokens.foreign import fill_vectors, open_vectors
from textattn.tokens.foreign.hub import from_hub
from textattn.tokens.foreign.rows import Foreign
from textattn.tokens.mapping import fill_missing
from textattn.tokens.skipgram import train_skipgram
from textattn.tokens.tokenizer import COMPOSITION
from textattn.tokens.vectors import WordVectors, load_vectors
from textattn.training.processors import available_processors

# The folder of word vectors in the cache.
VECTORS = "vectors"
# The settings that skip-gram vectors depend on.
OF_SKIPGRAM = {"epochs", "window", "negative", "subsample"}
# The size of those that are mapped onto vectors from elsewhere.
SIZE_OF_OWN = 128
# Tokens that are counted at once.
IDS_AT_ONCE = 2**22
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
    return _skipgram(data, dim, report)


def _skipgram(data: TrainingData, dim: int, report: Report) -> WordVectors:
    """Vectors of the run's own texts, from the cache if they are there."""
    config, tokenizer, settings = data.config, data.tokenizer, data.config.model.vectors
    key = _key(data, dim)
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


def with_missing(vectors: WordVectors, data: TrainingData, report: Report) -> WordVectors:
    """The vectors that training starts with: those from elsewhere, and what the config says for words without one."""
    settings = data.config.model.vectors
    if not settings.is_foreign or settings.missing != "skipgram" or not missing_words(vectors, data):
        return vectors
    own = _skipgram(data, SIZE_OF_OWN, report)
    return fill_missing(vectors, own, _counts(data))


def report_on(vectors: WordVectors, data: TrainingData, report: Report) -> dict[str, Any]:
    """Report how many words have a vector, and return what environment.json says about the vectors."""
    settings = data.config.model.vectors
    facts: dict[str, Any] = {"coverage": vectors.coverage}
    note = f"{vectors.coverage:.1%} of the vocabulary have word vectors ({settings.source})"
    if settings.is_foreign:
        assert settings.path is not None
        missing = missing_words(vectors, data)
        facts |= {"format": _open(settings).what, "missing": len(missing), "frequent_missing": missing[:SHOWN]}
        if settings.source == "hub":
            facts["commit"] = from_hub(settings.path).commit
        if missing:
            most = f", the most frequent: {', '.join(map(visible, missing[:SHOWN]))}" if len(missing) > SHOWN else ""
            most = most or f": {', '.join(map(visible, missing))}"
            note += f"; {len(missing):,} word{'s have' if len(missing) > 1 else ' has'} none{most}"
    report.note(note)
    return facts


def missing_words(vectors: WordVectors, data: TrainingData) -> list[str]:
    """The words of the vocabulary without a vector, the most frequent of the training texts first."""
    tokenizer, counts = data.tokenizer, _counts(data)
    words = {row: word for word, row in tokenizer.backend.get_vocab().items()}
    special = (tokenizer.pad_id, tokenizer.unk_id)
    rows = [int(row) for row in np.flatnonzero(~vectors.found) if row not in special and row in words]
    return [words[row] for row in sorted(rows, key=lambda row: (-counts[row], row))]


def _counts(data: TrainingData) -> NDArray[np.int64]:
    """(vocab_size,) how often each word occurs in the training texts."""
    ids, counts = data.tokens["train"].ids, np.zeros(data.tokenizer.vocab_size, np.int64)
    for first in range(0, len(ids), IDS_AT_ONCE):
        counts += np.bincount(ids[first : first + IDS_AT_ONCE], minlength=len(counts))
    return counts


def are_cached(data: TrainingData) -> bool:
    """Whether the skip-gram vectors of this run are in the cache, or it has none."""
    size = size_learned(data)
    return size is None or cache.find(VECTORS, _key(data, size), Report().note) is not None


def size_learned(data: TrainingData) -> int | None:
    """The size of the skip-gram vectors that a run learns; None if it learns none."""
    m = data.config.model
    if data.start is not None or m.linear == "only":
        return None
    if m.vectors.is_foreign and m.vectors.missing == "skipgram":
        return SIZE_OF_OWN
    return m.embedding_dim if m.vectors.source == "skipgram" else None


def _key(data: TrainingData, dim: int) -> str:
    # The vectors depend on the whole texts and the vocabulary, wherever these were read from.
    content = [part.fingerprint() for part in (data.corpus.train.texts, *data.corpus.unlabelled)]
    m = data.config.model
    tokenizer = data.tokenizer.to_files()[TOKENIZER]
    settings = m.vectors.model_dump(include=OF_SKIPGRAM)
    return cache.key_of(content, tokenizer, settings, dim, data.config.seed)
