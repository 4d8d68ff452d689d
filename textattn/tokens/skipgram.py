"""Word vectors learned from the texts of a run: skip-gram with negative sampling (Mikolov et al. 2013), by gensim.

gensim's own threads race for the vectors, so that two runs differ. Here the texts are dealt out to shards, each with a
copy of the vectors and a thread of its own. From time to time the copies are merged in a fixed order, as in parallel
SGD (McDonald et al. 2010). The number of shards is fixed, so the vectors do not depend on the number of threads.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.config.model_section import VectorsConfig
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.vectors import WordVectors

# With four shards SST-2 lost 0.6 points of accuracy (mean of three seeds), with two 0.2, which is within the noise.
SHARDS = 2
# Words that each shard reads between two merges, at least; a merge comes after each pass at the latest.
WORDS_BETWEEN_MERGES = 500_000
# gensim ignores the rest of a longer sentence (MAX_SENTENCE_LEN).
LONGEST_SENTENCE = 10_000
TIMED_PASSES = 3
# Memory that numpy needs for an array in addition to its numbers.
BYTES_OF_AN_ARRAY = 112
TEXTS_AT_ONCE = 1000


def train_skipgram(
    config: VectorsConfig,
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    embedding_dim: int,
    seed: int,
    *,
    threads: int = 1,
    on_epoch: Callable[[int], None] | None = None,
) -> WordVectors:
    """Train skip-gram vectors on whole texts, before truncation.

    Args:
        config: the `model.vectors` section.
        texts: the texts to train on.
        tokenizer: splits them into words.
        embedding_dim: size of a vector.
        seed: of the initial vectors and the samples.
        threads: threads to compute on. The vectors do not depend on their number.
        on_epoch: called after each pass with the number of completed passes.
    """
    model = _new_model(config, embedding_dim, seed)
    encodings = _encode(texts, tokenizer)
    model.build_vocab(Sentences(encodings))
    shards = _Shards(model, encodings, seed)
    with ThreadPoolExecutor(min(threads, SHARDS)) as pool:
        for epoch in range(config.epochs):
            shards.train_pass(epoch, config.epochs, pool)
            if on_epoch is not None:
                on_epoch(epoch + 1)
    matrix = np.zeros((tokenizer.vocab_size, embedding_dim), np.float32)
    found = np.zeros(tokenizer.vocab_size, bool)
    for token_id, row in model.wv.key_to_index.items():
        matrix[token_id] = shards.vectors[row]
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
    threads: int,
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
        threads: as for `train_skipgram`.
    """
    ends = [time.perf_counter()]
    model = _new_model(config, embedding_dim, seed)
    ends.append(time.perf_counter())
    encodings = _encode(texts, tokenizer)
    ends.append(time.perf_counter())
    model.build_vocab_from_freq({i: int(count) for i, count in enumerate(counts) if count}, corpus_count=1)
    shards = _Shards(model, encodings, seed)
    with ThreadPoolExecutor(min(threads, SHARDS)) as pool:
        passes = [time.perf_counter()]
        for number in range(TIMED_PASSES):
            shards.train_pass(number, TIMED_PASSES, pool)
            passes.append(time.perf_counter())
    start, preparing = np.diff(ends)
    kept = sum(ids.nbytes + BYTES_OF_AN_ARRAY for ids in encodings)
    return SkipgramTime(float(start), float(preparing), float(np.median(np.diff(passes))), kept)


class Sentences:
    """Tokenised texts as gensim reads them: it iterates over them once in each pass."""

    def __init__(self, encodings: Sequence[NDArray[np.int32]]) -> None:
        self.encodings = encodings

    def __iter__(self) -> Iterator[list[int]]:
        return (
            ids[first : first + LONGEST_SENTENCE].tolist()
            for ids in self.encodings
            for first in range(0, len(ids), LONGEST_SENTENCE)
        )


class _Shards:
    """Copies of a gensim model, each with its part of the texts."""

    def __init__(self, model: Any, encodings: Sequence[NDArray[np.int32]], seed: int) -> None:
        """Deals out the texts.

        Args:
            model: knows its vocabulary.
            encodings: (tokens,) token ids of each text.
            seed: of the samples.
        """
        self.model = model
        self.copies = [copy.deepcopy(model) for _ in range(SHARDS)]
        for number, shard in enumerate(self.copies):
            shard.random = np.random.RandomState(np.random.SeedSequence([seed, number]).generate_state(1))
        total = sum(map(len, encodings))
        self.rounds = max(1, total // (SHARDS * WORDS_BETWEEN_MERGES))
        # Every round and every shard has texts of the whole corpus, however it is sorted.
        step = SHARDS * self.rounds
        self.parts = [[encodings[r * SHARDS + s :: step] for s in range(SHARDS)] for r in range(self.rounds)]
        self.shares = [self._shares(parts) for parts in self.parts]
        self.sizes = [np.array([sum(map(len, texts)) for texts in parts], np.float32) for parts in self.parts]
        self.vectors = model.wv.vectors

    def _shares(self, parts: Sequence[Sequence[NDArray[np.int32]]]) -> list[NDArray[np.float32]]:
        """For each shard the part that it has of the occurrences of each word, (words, 1)."""
        rows = self.model.wv.key_to_index
        counts = np.zeros((len(parts), len(rows)))
        for count, texts in zip(counts, parts, strict=True):
            ids, numbers = np.unique(np.concatenate([np.zeros(0, np.int32), *texts]), return_counts=True)
            count[[rows[int(i)] for i in ids]] = numbers
        total = counts.sum(axis=0)
        shares = np.divide(counts, total, out=np.full_like(counts, 1 / len(parts)), where=total > 0)
        return [share[:, None].astype(np.float32) for share in shares]

    def train_pass(self, epoch: int, epochs: int, pool: ThreadPoolExecutor) -> None:
        """Reads all texts once; the learning rate falls linearly over all passes, as in gensim."""
        for number, parts in enumerate(self.parts):
            first, last = ((epoch + (number + i) / self.rounds) / epochs for i in (0, 1))

            def train(shard: int, first: float = first, last: float = last, parts: Any = parts) -> None:
                texts = parts[shard]
                if not any(map(len, texts)):
                    return
                model = self.copies[shard]
                fall = model.alpha - model.min_alpha
                model.train(
                    Sentences(texts),
                    total_examples=len(texts),
                    epochs=1,
                    start_alpha=model.alpha - fall * first,
                    end_alpha=model.alpha - fall * last,
                )

            list(pool.map(train, range(SHARDS)))
            self._merge(number)

    def _merge(self, number: int) -> None:
        """A word's vector is the mean over the shards, each counted as often as it had the word in this round. Vectors
        of context words change with every negative sample too, so each shard counts there by all its words.
        """
        shares, sizes = self.shares[number], self.sizes[number]
        words = sum(share * shard.wv.vectors for share, shard in zip(shares, self.copies, strict=True))
        of_all = sizes / max(sizes.sum(), 1)
        contexts = sum(share * shard.syn1neg for share, shard in zip(of_all, self.copies, strict=True))
        for shard in self.copies:
            shard.wv.vectors[:] = words
            shard.syn1neg[:] = contexts
        self.vectors = words


def _new_model(config: VectorsConfig, embedding_dim: int, seed: int) -> Any:
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


def _encode(texts: Iterable[str], tokenizer: TextTokenizer) -> list[NDArray[np.int32]]:
    """(tokens,) token ids of each text, of its whole length."""
    iterator = iter(texts)
    chunks = iter(lambda: list(islice(iterator, TEXTS_AT_ONCE)), [])
    return [
        np.array(encoding.ids, dtype=np.int32)
        for chunk in chunks
        for encoding in tokenizer.backend.encode_batch_fast(list(tokenizer.as_read(chunk)), add_special_tokens=False)
    ]
