"""Word vectors to start from: read from a text file, or skip-gram trained by gensim on the run's own texts."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.config.schema import VectorsConfig
from textattn.errors import InputError
from textattn.tokens.tokenizer import TextTokenizer

# gensim leaves out what a longer sentence has beyond this (MAX_SENTENCE_LEN).
LONGEST_SENTENCE = 10_000
MATRIX, FOUND = "matrix.npy", "found.npy"
TIMED_PASSES = 3
# What numpy keeps of one beside its numbers.
BYTES_OF_AN_ARRAY = 112


@dataclass(frozen=True)
class WordVectors:
    """A matrix for the embedding, and how much of it was found."""

    matrix: NDArray[np.float32]
    """(vocab_size, embedding_dim); rows that were not found are zero."""
    found: NDArray[np.bool_]
    """(vocab_size,)"""

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that has a vector, between 0 and 1."""
        return float(self.found.mean())

    def write(self, folder: Path) -> None:
        """For `load_vectors`."""
        np.save(folder / MATRIX, self.matrix)
        np.save(folder / FOUND, self.found)


def load_vectors(folder: Path | None, shape: tuple[int, int]) -> WordVectors | None:
    """What `WordVectors.write` wrote; None where there is nothing, or nothing of that shape."""
    if folder is None:
        return None
    try:
        vectors = WordVectors(np.load(folder / MATRIX), np.load(folder / FOUND))
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.matrix.shape == shape and vectors.found.shape == shape[:1] else None


def read_vectors(path: Path, tokenizer: TextTokenizer, embedding_dim: int) -> WordVectors:
    """Vectors in word2vec, GloVe or fastText text format, plain or gzip; only words of the vocabulary are kept.

    The first line may be word2vec's header (`count dim`). A word is looked for as it is, then in lower case.

    Raises:
        InputError: no such file, a line of the wrong length (with its number), or another dimension than the model's.
    """
    vocabulary = tokenizer.backend.get_vocab()
    matrix = np.zeros((tokenizer.vocab_size, embedding_dim), np.float32)
    exact = np.zeros(tokenizer.vocab_size, bool)
    found = np.zeros(tokenizer.vocab_size, bool)
    for number, line in _lines(path):
        word, _, numbers = line.rstrip().partition(" ")
        if number == 1 and word.isdigit() and numbers.isdigit():
            continue
        token_id = vocabulary.get(word, vocabulary.get(word.lower()))
        if token_id is None or (exact[token_id] and word not in vocabulary):
            continue
        fields = numbers.split()
        try:
            with np.errstate(over="ignore"):
                vector = np.array(fields, dtype=np.float32)
        except ValueError:
            if len(fields) > embedding_dim:
                continue  # The word holds spaces, such as ". . ." in GloVe's 840B.
            raise InputError(f"{path}:{number}: expected a word and {embedding_dim} numbers") from None
        if not np.isfinite(vector).all():
            raise InputError(f"{path}:{number}: a number is not finite")
        if len(vector) != embedding_dim:
            raise InputError(
                f"{path}:{number}: {len(vector)} numbers after the word, but model.embedding_dim is {embedding_dim}",
                f"model.embedding_dim={len(vector)}",
            )
        matrix[token_id] = vector
        found[token_id] = True
        exact[token_id] = word in vocabulary
    if not found.any():
        raise InputError(f"{path}: no word of the vocabulary stands in it")
    return WordVectors(matrix, found)


def train_skipgram(
    config: VectorsConfig,
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    embedding_dim: int,
    seed: int,
    on_epoch: Callable[[int], None] | None = None,
) -> WordVectors:
    """Skip-gram with negative sampling (Mikolov et al. 2013) on whole texts, before truncation.

    One worker thread: with more, gensim's updates race and two runs differ.

    Args:
        on_epoch: called with the number of passes done.
    """
    model = _new_skipgram(config, embedding_dim, seed)
    sentences = _Sentences(texts, tokenizer)
    model.build_vocab(sentences)
    model.train(
        sentences,
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=config.epochs,
        callbacks=[_after_each_pass(on_epoch)],
    )
    matrix = np.zeros((tokenizer.vocab_size, embedding_dim), np.float32)
    found = np.zeros(tokenizer.vocab_size, bool)
    for token_id, row in model.wv.key_to_index.items():
        matrix[token_id] = model.wv.vectors[row]
        found[token_id] = True
    return WordVectors(matrix, found)


class SkipgramTime(NamedTuple):
    """Seconds that word vectors take on some texts, and what is kept of them meanwhile."""

    start: float
    """Loading gensim."""
    preparing: float
    """Tokenising."""
    epoch: float
    """One pass."""
    bytes: int
    """Their tokens."""


def time_skipgram(
    config: VectorsConfig,
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    embedding_dim: int,
    seed: int,
    counts: NDArray[np.integer[Any]],
) -> SkipgramTime:
    """Trains for a few passes on a part of the texts, and on vectors of the whole vocabulary: they fill no cache.

    Args:
        counts: (vocab_size,) how often each token stands in all texts.
    """
    ends = [time.perf_counter()]
    model = _new_skipgram(config, embedding_dim, seed)
    ends.append(time.perf_counter())
    sentences = _Sentences(texts, tokenizer)
    ends.append(time.perf_counter())
    model.build_vocab_from_freq({i: int(count) for i, count in enumerate(counts) if count}, corpus_count=1)
    passes = [time.perf_counter()]
    model.train(
        sentences,
        total_examples=len(sentences.encodings),
        epochs=TIMED_PASSES,
        callbacks=[_after_each_pass(lambda _: passes.append(time.perf_counter()))],
    )
    start, preparing = np.diff(ends)
    kept = sum(ids.nbytes + BYTES_OF_AN_ARRAY for ids in sentences.encodings)
    return SkipgramTime(float(start), float(preparing), float(np.median(np.diff(passes))), kept)


class _Sentences:
    """What gensim goes through once a pass."""

    def __init__(self, texts: Iterable[str], tokenizer: TextTokenizer) -> None:
        self.encodings = [
            np.array(e.ids, dtype=np.int32)
            for chunk in _chunks(texts)
            for e in tokenizer.backend.encode_batch_fast(list(tokenizer.as_read(chunk)), add_special_tokens=False)
        ]

    def __iter__(self) -> Iterator[list[int]]:
        return (
            ids[first : first + LONGEST_SENTENCE].tolist()
            for ids in self.encodings
            for first in range(0, len(ids), LONGEST_SENTENCE)
        )


def _new_skipgram(config: VectorsConfig, embedding_dim: int, seed: int) -> Any:
    from gensim.models import Word2Vec

    return Word2Vec(
        vector_size=embedding_dim,
        sg=1,
        window=config.window,
        negative=config.negative,
        sample=config.subsample,
        epochs=config.epochs,
        min_count=1,
        workers=1,
        seed=seed,
    )


def _after_each_pass(call: Callable[[int], None] | None) -> Any:
    """For gensim: calls with the number of passes done."""
    from gensim.models.callbacks import CallbackAny2Vec

    class Progress(CallbackAny2Vec):  # type: ignore[misc]
        done = 0

        def on_epoch_end(self, model: Any) -> None:
            self.done += 1
            if call is not None:
                call(self.done)

    return Progress()


def _chunks(texts: Iterable[str], size: int = 1000) -> Iterator[list[str]]:
    from itertools import islice

    iterator = iter(texts)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        # Words may hold any other kind of line break.
        options: dict[str, Any] = {"mode": "rt", "encoding": "utf-8", "newline": "\n"}
        with gzip.open(path, **options) if path.suffix == ".gz" else path.open(**options) as file:
            yield from enumerate(file, 1)
    except FileNotFoundError:
        raise InputError(f"model.vectors.path: {path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"model.vectors.path: {path}: cannot be read ({error})") from None
