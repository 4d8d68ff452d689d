"""From a config to data, tokens and a model that is ready to train."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.config import Config
from textattn.config.schema import ModelConfig as ModelSettings
from textattn.config.schema import TrainingConfig
from textattn.storage import cache
from textattn.runs import training_data as prepared
from textattn.data.cells import text_columns
from textattn.tokens.element_vectors import periodic_vectors
from textattn.data.evidence import marked_tokens
from textattn.runs.training_data import Prepared
from textattn.data.read import Corpus, Split, read_corpus
from textattn.runs.recipe import settle
from textattn.data.sources import open_hub
from textattn.data.splits import prepare_splits
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import COMPOSITION, TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer
from textattn.tokens.vectors import WordVectors, load_vectors, read_vectors, train_skipgram
from textattn.errors import ConfigError, InputError
from textattn.model.attention import attention_class
from textattn.model.classifier import Architecture, TextClassifier
from textattn.model.passages import LARGEST_WINDOW
from textattn.storage.model_files import ModelConfig, find_model
from textattn.runs.pseudo_labels import with_pseudo_labels
from textattn.report import Report
from textattn.storage.run_dir import TOKENIZER
from textattn.inference.classifier import Classifier

# Texts whose tokens' places are held in memory at once.
ROWS_AT_ONCE = 1000
# Their folder in the cache.
VECTORS = "vectors"


def prepare_data(config: Config, report: Report) -> tuple[Config, Prepared]:
    """Texts, tokenizer and tokens of every split, and the config with what it leaves open set for these texts.

    Tells `report` about the recipe, rows skipped and texts truncated.
    """
    report.stage(f"Reading {config.data.path or 'files'}")
    opened = open_hub(config.data, config.seed)
    teacher = _teacher(config)

    def key_of() -> str | None:
        return prepared.key_of(config, opened, None if teacher is None else teacher.fingerprint())

    key = key_of()
    found = prepared.load(key)
    if found is not None:
        settled, note = settle(config, found.corpus.train)
    else:
        corpus = prepare_splits(read_corpus(config.data, opened), config.data, config.seed)
        if teacher is not None:
            corpus = with_pseudo_labels(corpus, teacher, str(config.data.teacher), report)
        settled, note = settle(config, corpus.train)
        report.stage(f"Tokenising {sum(map(len, corpus.splits().values())):,} texts")
        tokenizer = train_tokenizer(settled.tokenizer, learnable_texts(corpus), corpus.num_segments)
        tokens = {name: tokenizer.encode(split) for name, split in corpus.splits().items()}
        found = Prepared(corpus, tokenizer, tokens)
        # A file may have been written to while it was read: the key must still be that of its content.
        if key is not None and key == key_of():
            prepared.save(key, found)
            # As the next run will have it; and what lay in temporary files need not lie there any longer.
            found = prepared.load(key) or found
    for text in (*found.corpus.notes, *([note] if note else [])):
        report.note(text)
    for name, arrays in found.tokens.items():
        if arrays.num_truncated:
            report.note(
                f"{name}: {arrays.num_truncated:,} of {len(arrays):,} texts ({arrays.num_truncated / len(arrays):.1%}) "
                f"are longer than {settled.tokenizer.max_length} tokens and are truncated "
                f"({found.tokenizer.truncation})"
            )
    return settled, found


def learnable_texts(corpus: Corpus) -> Iterator[str]:
    """Those that words may be learnt from: of the training split, and without labels."""
    return chain(corpus.train, *corpus.unlabelled)


def kept_data(config: Config) -> Prepared | None:
    """What `prepare_data` of an earlier run left in the cache."""
    opened = open_hub(config.data, config.seed)
    teacher = _teacher(config)
    return prepared.load(prepared.key_of(config, opened, None if teacher is None else teacher.fingerprint()))


def _teacher(config: Config) -> Classifier | None:
    name = config.data.teacher
    if name is None:
        return None
    try:
        return Classifier.load(find_model(name))
    except InputError as error:
        raise InputError(
            f"data.teacher: {error.message.removeprefix('--model: ')}", f"textattn train CONFIG output.dir={name}"
        ) from None


def without_vectors(config: Config) -> Config:
    """The same model, from random vectors."""
    random = config.model.vectors.model_copy(update={"source": "random", "path": None})
    return config.model_copy(update={"model": config.model.model_copy(update={"vectors": random})})


def build_model(
    config: Config, corpus: Corpus, tokenizer: TextTokenizer, report: Report
) -> tuple[TextClassifier, ModelConfig, dict[str, Any]]:
    """The model with its word vectors, its config.json, and facts about the vectors."""
    m = config.model
    output = m.output or ("sigmoid" if corpus.multi_label else "softmax")
    if corpus.multi_label and output == "softmax":
        raise ConfigError(
            "model.output: softmax gives one label a text, but the data have several", "model.output=sigmoid"
        )
    if not corpus.multi_label and output == "sigmoid" and len(corpus.labels) != 2:
        raise ConfigError(
            f"model.output: sigmoid needs two labels or multi-label data, but there are {len(corpus.labels)} labels",
            "model.output=softmax",
        )
    if corpus.multi_label and config.training.sampling == "balanced":
        raise ConfigError(
            "training.sampling: balanced needs one label a text, but the data have several",
            "training.sampling=shuffled training.class_weights=balanced",
        )
    _check_cross_validation(config, corpus)
    choose_metric(config.training, corpus.multi_label)
    architecture = Architecture(
        vocab_size=tokenizer.vocab_size,
        num_outputs=1 if output == "sigmoid" and not corpus.multi_label else len(corpus.labels),
        embedding_dim=m.embedding_dim,
        encoder=m.encoder,
        hidden_size=m.hidden_size,
        num_layers=m.num_layers,
        bidirectional=m.bidirectional,
        anchor=m.anchor,
        attention=m.attention,
        attention_size=m.attention_size,
        num_heads=m.num_heads,
        attention_window=m.attention_window,
        attention_position=m.attention_position,
        ngrams=m.ngrams,
        ngram_buckets=m.ngram_buckets if m.ngrams else 1,
        unk_id=tokenizer.unk_id,
        dropout=m.dropout.model_dump(),
    )
    _check_faithfulness(config)
    try:
        model = TextClassifier(architecture)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise ConfigError(
            "model: too large for the memory of this machine",
            f"model.embedding_dim={ModelSettings().embedding_dim} model.hidden_size={ModelSettings().hidden_size}",
        ) from None
    facts: dict[str, Any] = {"source": m.vectors.source}
    vectors = word_vectors(config, corpus, tokenizer, report)
    if vectors is not None:
        facts["coverage"] = vectors.coverage
        report.note(f"word vectors for {vectors.coverage:.1%} of the vocabulary ({m.vectors.source})")
        with torch.no_grad():
            found = torch.from_numpy(vectors.found)
            model.embedding.weight[found] = torch.from_numpy(vectors.matrix)[found]
    model.embedding.weight.requires_grad_(not m.vectors.freeze)
    model_config = ModelConfig(
        architecture.to_dict(), corpus.labels, corpus.multi_label, output, text_columns(config.data)
    )
    return model, model_config, facts


def choose_metric(settings: TrainingConfig, multi_label: bool) -> str:
    """The validation metric that the best checkpoint is chosen by.

    Raises:
        ConfigError: it does not fit the data.
    """
    metric = settings.metric or ("micro_f1" if multi_label else "accuracy")
    if multi_label and metric == "balanced_accuracy":
        raise ConfigError(
            "training.metric: balanced_accuracy is not defined for multi-label data", "training.metric=macro_f1"
        )
    return metric


def _check_cross_validation(config: Config, corpus: Corpus) -> None:
    """Raises ConfigError where there is something else to stop by, or are too few texts for so many folds."""
    number, rows = config.training.cross_validation, len(corpus.train) - corpus.num_pseudo_labelled
    if number is None:
        return
    if corpus.validation is not None:
        raise ConfigError(
            "training.cross_validation: there is a validation split to stop by; cross-validation is for data without",
            "data.validation_split=null data.validation_fraction=0.0",
        )
    if rows < 2 * number:
        raise ConfigError(
            f"training.cross_validation: {rows} training rows are too few for {number} folds",
            f"training.cross_validation={rows // 2 if rows >= 4 else 'null'}",
        )


def _check_faithfulness(config: Config) -> None:
    """Raises ConfigError where a loss does not fit the model or the data."""
    m, t = config.model, config.training
    attention = attention_class(m.attention)
    if m.anchor != "none" and m.encoder == "none":
        raise ConfigError(
            f"model.anchor: {m.anchor} needs an encoder; without one the states are the embeddings", "model.anchor=none"
        )
    if m.anchor == "values" and not attention.learns_weights:
        raise ConfigError(
            f"model.anchor: values needs an attention that learns weights, not {m.attention}",
            "model.anchor=none training.attention_alignment=0.0",
        )
    for key, off in (("attention_window", 1), ("attention_position", False)):
        if getattr(m, key) != off and not attention.has_weights:
            raise ConfigError(
                f"model.{key}: model.attention={m.attention} has no weights to place",
                f"model.{key}={str(off).lower()}",
            )
    if m.attention_position and not attention.normalized:
        raise ConfigError(
            f"model.attention_position: model.attention={m.attention} shares out no weight that could move",
            "model.attention=additive",
        )
    if m.attention_window % 2 == 0 or m.attention_window > LARGEST_WINDOW:
        odd = min(m.attention_window + 1, LARGEST_WINDOW)
        raise ConfigError(
            f"model.attention_window: must be an odd number of tokens up to {LARGEST_WINDOW}, got {m.attention_window}",
            f"model.attention_window={odd}",
        )
    for key in ("attention_alignment", "attention_supervision"):
        if getattr(t, key) and not attention.learns_weights:
            raise ConfigError(
                f"training.{key}: model.attention={m.attention} has no weights to learn",
                f"training.{key}=0.0",
            )
    if t.attention_supervision and config.data.evidence is None:
        raise ConfigError("training.attention_supervision: needs data.evidence", "data.evidence=COLUMN")
    if t.state_tying and m.encoder == "none":
        raise ConfigError("training.state_tying: model.encoder=none has no states to tie", "training.state_tying=0.0")
    if t.state_tying and m.hidden_size != m.embedding_dim:
        raise ConfigError(
            f"training.state_tying: model.hidden_size is {m.hidden_size}, model.embedding_dim {m.embedding_dim}; "
            "they must be equal",
            f"model.hidden_size={m.embedding_dim}",
        )


def evidence_of(split: Split, tokenizer: TextTokenizer, tokens: TokenArrays) -> NDArray[np.bool_] | None:
    """(total_tokens,) which tokens of a split people marked; None where the data have no evidence."""
    if split.evidence is None:
        return None
    marked = np.zeros(len(tokens.ids), np.bool_)
    for first in range(0, len(split), ROWS_AT_ONCE):
        texts = split.texts[first : first + ROWS_AT_ONCE]
        for row, tokenized in enumerate(tokenizer.encode_with_offsets(texts), first):
            spans = split.evidence[row]
            if spans is not None:
                marked[tokens.starts[row] : tokens.starts[row + 1]] = marked_tokens(spans, tokenized.offsets)
    return marked


def word_vectors(config: Config, corpus: Corpus, tokenizer: TextTokenizer, report: Report) -> WordVectors | None:
    """Those to start from: read, found in the cache, or trained; None for random ones."""
    settings = config.model.vectors
    if settings.source == "random":
        return None
    if settings.source == "file":
        assert settings.path is not None
        return read_vectors(Path(settings.path), tokenizer, config.model.embedding_dim)
    if settings.source == "periodic_table":
        if config.tokenizer.type != COMPOSITION:
            raise ConfigError(
                f"model.vectors.source: periodic_table is for formulas, not for tokenizer.type={config.tokenizer.type}",
                f"tokenizer.type={COMPOSITION}",
            )
        return periodic_vectors(tokenizer, config.model.embedding_dim, config.seed)

    key = _key_of_vectors(config, corpus, tokenizer)
    vectors = load_vectors(cache.find(VECTORS, key), (tokenizer.vocab_size, config.model.embedding_dim))
    if vectors is None:
        with report.progress("Word vectors", settings.epochs, "passes") as advance:
            vectors = train_skipgram(
                settings, learnable_texts(corpus), tokenizer, config.model.embedding_dim, config.seed, advance
            )
        with cache.store(VECTORS, key) as folder:
            if folder is not None:
                vectors.write(folder)
    return vectors


def kept_vectors(config: Config, corpus: Corpus, tokenizer: TextTokenizer) -> bool:
    """Whether the skip-gram vectors of this training are there from an earlier one."""
    return cache.find(VECTORS, _key_of_vectors(config, corpus, tokenizer)) is not None


def content_of_learnable(corpus: Corpus) -> list[str]:
    """The fingerprints of what `learnable_texts` gives."""
    return [part.fingerprint() for part in (corpus.train.texts, *corpus.unlabelled)]


def _key_of_vectors(config: Config, corpus: Corpus, tokenizer: TextTokenizer) -> str:
    # Whole texts and the vocabulary are all that counts, wherever they were read from.
    content = content_of_learnable(corpus)
    vectors = config.model.vectors.model_dump()
    return cache.key_of(content, tokenizer.to_files()[TOKENIZER], vectors, config.model.embedding_dim, config.seed)
