"""Prepare the data of a config: the texts of every split, the tokenizer and the tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from textattn.config import Config, with_defaults
from textattn.data.read import Corpus, read_corpus
from textattn.data.sources import Tables, open_hub
from textattn.data.splits import prepare_splits
from textattn.errors import InputError, shell_command
from textattn.inference.classifier import Classifier
from textattn.report import Report
from textattn.runs import data_cache
from textattn.runs.data_cache import Tokenised
from textattn.runs.going_on import Start, fit_to_data
from textattn.runs.pseudo_labels import with_pseudo_labels
from textattn.runs.recipe import resolve_recipe
from textattn.runs.training_data import TrainingData, vocabulary_texts
from textattn.runs.vectors import size_of_vectors
from textattn.storage.find_model import find_model
from textattn.tokens.train_tokenizer import train_tokenizer


def prepare(config: Config, report: Report, start: Path | None = None) -> TrainingData:
    """Read, split and tokenise the data of a config, or load them from the cache.

    The recipe, skipped rows and truncated texts are reported.

    Args:
        config: the config as it was given.
        report: receives notes and progress.
        start: a copy of the model `start.model`, which is read instead of it.

    Raises:
        InputError: the data cannot be read.
        ConfigError: a setting does not fit the data.
    """
    first = None if config.start.model is None else Start.load(config.start.model, start)
    if first is not None:
        config = first.resolve(config)
    report.stage(f"Reading {config.data.path or 'files'}")
    opened = open_hub(config.data, config.seed)
    teacher = _load_teacher(config)
    key = _key(config, opened, teacher, first)
    found = data_cache.load(key, report)
    if found is None:
        resolved, note, found = _Reading(config, opened, teacher, first, report).read()
        # A file may have changed while it was read, so the key is computed again.
        if key is not None and key == _key(config, opened, teacher, first):
            data_cache.save(key, found)
            # This run then uses the same files as the next one, and temporary files can be removed.
            found = data_cache.load(key, report) or found
    else:
        resolved, note = _resolve(config, found.corpus)
    # Later readers of this config set the same rows aside, whatever the default is then.
    of_test = {"test_fraction": found.corpus.test_fraction}
    resolved = resolved.model_copy(update={"data": resolved.data.model_copy(update=of_test)})
    if first is None:
        resolved = with_defaults(resolved, size_of_vectors(resolved))
    data = TrainingData(resolved, *found, start=first)
    for text in (*data.corpus.notes, *([note] if note else [])):
        report.note(text)
    for name, arrays in data.tokens.items():
        if arrays.num_truncated:
            report.note(
                f"{name}: {arrays.num_truncated:,} of {len(arrays):,} texts ({arrays.num_truncated / len(arrays):.1%}) "
                f"are longer than {resolved.tokenizer.max_length} tokens and are truncated "
                f"({data.tokenizer.truncation})"
            )
    return data


def is_cached(config: Config) -> bool:
    """Whether `prepare` will load the data from the cache."""
    start = None if config.start.model is None else Start.load(config.start.model)
    if start is not None:
        config = start.resolve(config)
    key = _key(config, open_hub(config.data, config.seed), _load_teacher(config), start)
    return data_cache.load(key, Report()) is not None


@dataclass(frozen=True)
class _Reading:
    """The reading of the data of a config."""

    config: Config
    opened: list[Tables | None]
    teacher: Classifier | None
    start: Start | None
    report: Report

    def read(self) -> tuple[Config, str | None, Tokenised]:
        """Read the data.

        Returns:
            The config with its recipe resolved, a note about the recipe, and the tokenised data.
        """
        corpus = self._divided()
        if self.teacher is not None:
            corpus = with_pseudo_labels(corpus, self.teacher, str(self.config.data.teacher), self.report)
        resolved, note = _resolve(self.config, corpus)
        self.report.stage(f"Tokenising {sum(map(len, corpus.splits().values())):,} texts")
        if self.start is None:
            tokenizer = train_tokenizer(resolved.tokenizer, vocabulary_texts(corpus), corpus.num_segments)
        else:
            tokenizer, growth = self.start.grow(corpus, resolved)
            corpus = replace(corpus, notes=[*corpus.notes, *growth])
        tokens = {name: tokenizer.encode(split) for name, split in corpus.splits().items()}
        return resolved, note, Tokenised(corpus, tokenizer, tokens)

    def _divided(self) -> Corpus:
        config, data = self.config, self.config.data
        numbers = config.task == "regression"
        if self.start is not None:
            corpus = read_corpus(data, self.opened, numbers=numbers, known=self.start.labels)
            return self.start.divide(corpus, config, self.report)
        if data.test_fraction is None and config.training.cross_validation is not None:
            data = data.model_copy(update={"test_fraction": 0.0})  # the folds measure the model
        return prepare_splits(read_corpus(data, self.opened, numbers=numbers), data, config.seed)


def _resolve(config: Config, corpus: Corpus) -> tuple[Config, str | None]:
    """Set what depends on the texts: the settings of the recipe, or those for going on from a model."""
    if config.start.model is not None:
        return fit_to_data(config, corpus)
    return resolve_recipe(config, corpus.train)


def _key(config: Config, opened: list[Tables | None], teacher: Classifier | None, start: Start | None) -> str | None:
    models = [None if teacher is None else teacher.fingerprint(), None if start is None else start.fingerprint]
    return data_cache.key_of(config, opened, models, None if start is None else start.earlier)


def _load_teacher(config: Config) -> Classifier | None:
    name = config.data.teacher
    if name is None:
        return None
    try:
        return Classifier.load(find_model(name))
    except InputError as error:
        found = [replace(problem, setting="data.teacher") for problem in error.problems]
        raise InputError(found, shell_command("textattn train CONFIG output.dir={}", name)) from None
