"""Initial word vectors: read from a text file, or trained by gensim (skip-gram) on the texts of the run."""

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

# gensim ignores the rest of a longer sentence (MAX_SENTENCE_LEN).
LONGEST_SENTENCE = 10_000
MATRIX, FOUND = "matrix.npy", "found.npy"
TIMED_PASSES = 3
# Memory that numpy needs for an array in addition to its numbers.
BYTES_OF_AN_ARRAY = 112


@dataclass(frozen=True)
class WordVectors:
    """A matrix for the embedding, and which of its rows were found."""

    matrix: NDArray[np.float32]
    """(vocab_size, embedding_dim); rows that were not found are zero."""
    found: NDArray[np.bool_]
    """(vocab_size,)"""

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that has a vector, between 0 and 1."""
        return float(self.found.mean())

    def write(self, folder: Path) -> None:
        """Write the vectors for `load_vectors`."""
        np.save(folder / MATRIX, self.matrix)
        np.save(folder / FOUND, self.found)


def load_vectors(folder: Path | None, shape: tuple[int, int]) -> WordVectors | None:
    """Read what `WordVectors.write` has written; None if there are no vectors, or none of that shape."""
    if folder is None:
        return None
    try:
        vectors = WordVectors(np.load(folder / MATRIX), np.load(folder / FOUND))
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.matrix.shape == shape and vectors.found.shape == shape[:1] else None


def read_vectors(path: Path, tokenizer: TextTokenizer, embedding_dim: int) -> WordVectors:
    """Read vectors in the text format of word2vec, GloVe or fastText, plain or gzip, for the words of the vocabulary.

    The first line may be the header of word2vec (`count dim`). A word of the file is looked up as it is, then in lower
    case.

    Raises:
        InputError: the file cannot be read, contains no word of the vocabulary, or has an invalid line or another
            dimension than the model.
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
                continue  # The word contains spaces, such as ". . ." in GloVe's 840B.
            raise InputError(f"expected a word and {embedding_dim} numbers", place=f"{path}:{number}") from None
        if not np.isfinite(vector).all():
            raise InputError("a number is not finite", place=f"{path}:{number}")
        if len(vector) != embedding_dim:
            raise InputError(
                f"{len(vector)} numbers after the word, but model.embedding_dim is {embedding_dim}",
                f"model.embedding_dim={len(vector)}",
                place=f"{path}:{number}",
            )
        matrix[token_id] = vector
        found[token_id] = True
        exact[token_id] = word in vocabulary
    if not found.any():
        raise InputError("contains no word of the vocabulary", place=str(path))
    return WordVectors(matrix, found)


def train_skipgram(
    config: VectorsConfig,
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    embedding_dim: int,
    seed: int,
    on_epoch: Callable[[int], None] | None = None,
) -> WordVectors:
    """Train skip-gram vectors with negative sampling (Mikolov et al. 2013) on whole texts, before truncation.

    gensim gets one worker thread, because with more its updates race and two runs differ.

    Args:
        config: the `model.vectors` section.
        texts: the texts to train on.
        tokenizer: splits them into words.
        embedding_dim: size of a vector.
        seed: of the initial vectors and the samples.
        on_epoch: called after each pass with the number of completed passes.
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
    """The time, in seconds, and the memory that training word vectors takes on some texts."""

    start: float
    """Time to load gensim."""
    preparing: float
    """Time to tokenise the texts."""
    epoch: float
    """Time of one pass."""
    bytes: int
    """Memory of the tokens, in bytes."""


def time_skipgram(
    config: VectorsConfig,
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    embedding_dim: int,
    seed: int,
    counts: NDArray[np.integer[Any]],
) -> SkipgramTime:
    """Measure a few passes over a sample of the texts.

    The vectors are those of the whole vocabulary, because vectors of the sample alone might fit into the processor's
    cache.

    Args:
        config: the `model.vectors` section.
        texts: the sample.
        tokenizer: splits it into words.
        embedding_dim: size of a vector.
        seed: of the initial vectors and the samples.
        counts: (vocab_size,) how often each token occurs in all texts.
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
    """The tokenised texts, which gensim iterates over once in each pass."""

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
    """A callback for gensim that passes on the number of completed passes."""
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
        # Only "\n" ends a line, because words may contain other kinds of line breaks.
        options: dict[str, Any] = {"mode": "rt", "encoding": "utf-8", "newline": "\n"}
        with gzip.open(path, **options) if path.suffix == ".gz" else path.open(**options) as file:
            yield from enumerate(file, 1)
    except FileNotFoundError:
        raise InputError("no such file", setting="model.vectors.path", place=str(path)) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", setting="model.vectors.path", place=str(path)) from None
