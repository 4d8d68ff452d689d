"""Word vectors to start from: read from a file, made from the periodic table, or learned from the run's own texts."""

from __future__ import annotations

from pathlib import Path

from textattn.errors import ConfigError
from textattn.report import Report
from textattn.runs.training_data import TrainingData
from textattn.storage import cache
from textattn.storage.run_dir import TOKENIZER
from textattn.tokens.element_vectors import periodic_vectors
from textattn.tokens.tokenizer import COMPOSITION
from textattn.tokens.vectors import WordVectors, load_vectors, read_vectors, train_skipgram

# Their folder in the cache.
VECTORS = "vectors"


def word_vectors(data: TrainingData, report: Report) -> WordVectors | None:
    """The vectors that a config asks for: read, found in the cache, or trained; None for random ones.

    Raises:
        ConfigError: they do not fit the tokenizer.
        InputError: the file cannot be read.
    """
    config, tokenizer = data.config, data.tokenizer
    settings, dim = config.model.vectors, config.model.embedding_dim
    if settings.source == "random":
        return None
    if settings.source == "file":
        assert settings.path is not None
        return read_vectors(Path(settings.path), tokenizer, dim)
    if settings.source == "periodic_table":
        if config.tokenizer.type != COMPOSITION:
            raise ConfigError(
                f"model.vectors.source: periodic_table is for formulas, not for tokenizer.type={config.tokenizer.type}",
                f"tokenizer.type={COMPOSITION}",
            )
        return periodic_vectors(tokenizer, dim, config.seed)
    key = _key(data)
    vectors = load_vectors(cache.find(VECTORS, key), (tokenizer.vocab_size, dim))
    if vectors is None:
        with report.progress("Word vectors", settings.epochs, "passes") as advance:
            vectors = train_skipgram(settings, data.vocabulary_texts(), tokenizer, dim, config.seed, advance)
        with cache.store(VECTORS, key) as folder:
            if folder is not None:
                vectors.write(folder)
    return vectors


def are_cached(data: TrainingData) -> bool:
    """Whether the skip-gram vectors of this run are there from an earlier one."""
    return cache.find(VECTORS, _key(data)) is not None


def _key(data: TrainingData) -> str:
    # Whole texts and the vocabulary are all that counts, wherever they were read from.
    content = [part.fingerprint() for part in (data.corpus.train.texts, *data.corpus.unlabelled)]
    m = data.config.model
    tokenizer = data.tokenizer.to_files()[TOKENIZER]
    return cache.key_of(content, tokenizer, m.vectors.model_dump(), m.embedding_dim, data.config.seed)
