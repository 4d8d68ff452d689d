"""Files of word vectors in every format, written by the library that the format comes from where it is installed."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from gensim.models import FastText, KeyedVectors
from gensim.models.fasttext import save_facebook_model
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from textattn.config.model_section import TokenizerConfig
from textattn.tokens.foreign.spacy_model import key_of
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer
from textattn.tokens.vectors import WordVectors

DIM = 6
WORDS = ["good", "bad", "film", "日本", "naïve", "Paris", "don't", "the", "a", "😀"]
MATRIX = np.random.default_rng(3).normal(size=(len(WORDS), DIM)).astype(np.float32)


def word_tokenizer(*texts: str) -> TextTokenizer:
    return train_tokenizer(TokenizerConfig(type="word", min_frequency=1, nfkc=False), iter(texts), 1)


TOKENIZER = word_tokenizer("good bad film 日本 naïve paris don't the a 😀 unseen")
EXPECTED = {word.lower(): vector for word, vector in zip(WORDS, MATRIX, strict=True)}


def by_word(vectors: WordVectors, tokenizer: TextTokenizer = TOKENIZER) -> dict[str, Any]:
    vocabulary = tokenizer.backend.get_vocab()
    assert not vectors.matrix[~vectors.found].any()
    return {word: vectors.matrix[row] for word, row in vocabulary.items() if vectors.found[row]}


def agree(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 0.0) -> None:
    assert set(found) == set(expected)
    for word, vector in expected.items():
        np.testing.assert_allclose(found[word], vector, rtol=tolerance, atol=tolerance, err_msg=word)


# Writers of each format: what they write holds WORDS and MATRIX


def keyed() -> KeyedVectors:
    vectors = KeyedVectors(DIM)
    vectors.add_vectors(WORDS, MATRIX)
    return vectors


def write_text(path: Path) -> Path:
    keyed().save_word2vec_format(str(path))
    return path


def write_glove(path: Path) -> Path:
    keyed().save_word2vec_format(str(path), write_header=False)
    return path


def write_binary(path: Path) -> Path:
    keyed().save_word2vec_format(str(path), binary=True)
    return path


def write_original_binary(path: Path) -> Path:
    """As word2vec itself writes it, with a line break after each vector."""
    parts = [f"{len(WORDS)} {DIM}\n".encode()]
    parts += [word.encode() + b" " + vector.tobytes() + b"\n" for word, vector in zip(WORDS, MATRIX, strict=True)]
    path.write_bytes(b"".join(parts))
    return path


def write_spacy(path: Path) -> Path:
    vocab = path / "vocab"
    vocab.mkdir(parents=True)
    # The rows are in another order than the words, two words share a row, and one key has none.
    order = np.random.default_rng(0).permutation(len(WORDS))
    with (vocab / "vectors").open("wb") as file:
        np.save(file, MATRIX[order])
    rows = {key_of(word): int(np.flatnonzero(order == i)[0]) for i, word in enumerate(WORDS)}
    rows |= {key_of("other"): 0, key_of("pruned"): -1}
    (vocab / "key2row").write_bytes(msgpack.packb(rows))
    (vocab / "strings.json").write_text(json.dumps([*WORDS, "other", "pruned", "unseen"]))
    return path


def write_static(path: Path, name: str = "embeddings", **more: Any) -> Path:
    """As model2vec does; the words are pieces of their own."""
    path.mkdir(parents=True, exist_ok=True)
    pieces = {"[PAD]": 0, "[UNK]": 1} | {word.lower(): number for number, word in enumerate(WORDS, 2)}
    backend = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if "don't" in WORDS:
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(path / "tokenizer.json"))
    save_file({name: np.concatenate([np.zeros((2, DIM), np.float32), MATRIX]), **more}, path / "model.safetensors")
    return path


def write_fasttext(path: Path) -> Path:
    """A small model of gensim, as fastText saves it."""
    save_facebook_model(fasttext_model(), str(path))
    return path


def fasttext_model() -> FastText:
    texts = [WORDS, WORDS[::-1], ["good", "film"] * 3] * 5
    return FastText(texts, vector_size=DIM, min_count=1, min_n=2, max_n=4, bucket=50, epochs=2, workers=1, seed=1)


def gzipped(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def written(path: Path) -> Path:
        content = write(path).read_bytes()
        path.write_bytes(gzip.compress(content))
        return path

    return written


def zipped(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def written(path: Path) -> Path:
        content = write(path).read_bytes()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._vectors", b"junk")
            archive.writestr("folder/vectors", content)
        return path

    return written


FILES = {
    "text": write_text,
    "glove": write_glove,
    "word2vec": write_binary,
    "original word2vec": write_original_binary,
}
ALL = FILES | {"spacy": write_spacy, "model2vec": write_static}
WRITERS = ALL | {
    f"{kind} {name}": pack(write)
    for name, write in FILES.items()
    for kind, pack in (("gzipped", gzipped), ("zipped", zipped))
}
