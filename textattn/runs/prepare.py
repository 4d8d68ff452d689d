"""Prepare the data of a config: the texts of every split, the tokenizer and the tokens."""

from __future__ import annotations

from dataclasses import replace

from textattn.config import Config
from textattn.data.read import read_corpus
from textattn.data.sources import Tables, open_hub
from textattn.data.splits import prepare_splits
from textattn.errors import InputError, shell_command
from textattn.inference.classifier import Classifier
from textattn.report import Report
from textattn.runs import data_cache
from textattn.runs.data_cache import Tokenised
from textattn.runs.pseudo_labels import with_pseudo_labels
from textattn.runs.recipe import resolve_recipe
from textattn.runs.training_data import TrainingData, vocabulary_texts
from textattn.storage.find_model import find_model
from textattn.tokens.train_tokenizer import train_tokenizer


def prepare(config: Config, report: Report) -> TrainingData:
    """Read, split and tokenise the data of a config, or load them from the cache.

    The recipe, skipped rows and truncated texts are reported.

    Raises:
        InputError: the data cannot be read.
        ConfigError: a setting does not fit the data.
    """
    report.stage(f"Reading {config.data.path or 'files'}")
    opened = open_hub(config.data, config.seed)
    teacher = _load_teacher(config)
    key = _key(config, opened, teacher)
    found = data_cache.load(key, report)
    if found is None:
        resolved, note, found = _read(config, opened, teacher, report)
        # A file may have changed while it was read, so the key is computed again.
        if key is not None and key == _key(config, opened, teacher):
            data_cache.save(key, found)
            # This run then uses the same files as the next one, and temporary files can be removed.
            found = data_cache.load(key, report) or found
    else:
        resolved, note = resolve_recipe(config, found.corpus.train)
    # Later readers of this config set the same rows aside, whatever the default is then.
    of_test = {"test_fraction": found.corpus.test_fraction}
    resolved = resolved.model_copy(update={"data": resolved.data.model_copy(update=of_test)})
    data = TrainingData(resolved, *found)
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
    key = _key(config, open_hub(config.data, config.seed), _load_teacher(config))
    return data_cache.load(key, Report()) is not None


def _read(
    config: Config, opened: list[Tables | None], teacher: Classifier | None, report: Report
) -> tuple[Config, str | None, Tokenised]:
    """Read the data.

    Returns:
        The config with its recipe resolved, a note about the recipe, and the tokenised data.
    """
    data = config.data
    if data.test_fraction is None and config.training.cross_validation is not None:
        data = data.model_copy(update={"test_fraction": 0.0})  # the folds measure the model
    numbers = config.task == "regression"
    corpus = prepare_splits(read_corpus(data, opened, numbers=numbers), data, config.seed)
    if teacher is not None:
        corpus = with_pseudo_labels(corpus, teacher, str(config.data.teacher), report)
    resolved, note = resolve_recipe(config, corpus.train)
    report.stage(f"Tokenising {sum(map(len, corpus.splits().values())):,} texts")
    tokenizer = train_tokenizer(resolved.tokenizer, vocabulary_texts(corpus), corpus.num_segments)
    tokens = {name: tokenizer.encode(split) for name, split in corpus.splits().items()}
    return resolved, note, Tokenised(corpus, tokenizer, tokens)


def _key(config: Config, opened: list[Tables | None], teacher: Classifier | None) -> str | None:
    return data_cache.key_of(config, opened, None if teacher is None else teacher.fingerprint())


def _load_teacher(config: Config) -> Classifier | None:
    name = config.data.teacher
    if name is None:
        return None
    try:
        return Classifier.load(find_model(name))
    except InputError as error:
        found = [replace(problem, setting="data.teacher") for problem in error.problems]
        raise InputError(found, shell_command("textattn train CONFIG output.dir={}", name)) from None
