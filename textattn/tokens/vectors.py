"""Initial word vectors: what they are, and how they are read from a text file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.regular_file import NotReadable, check_regular
from textattn.errors import InputError
from textattn.tokens.tokenizer import TextTokenizer

# A word with a thousand numbers has about ten thousand characters. A file of one endless line is not read to its end.
LONGEST_LINE = 2**22
MATRIX, FOUND = "matrix.npy", "found.npy"


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


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        # Only "\n" ends a line, because words may contain other kinds of line breaks.
        options: dict[str, Any] = {"mode": "rt", "encoding": "utf-8", "newline": "\n"}
        check_regular(path)
        with gzip.open(path, **options) if path.suffix == ".gz" else path.open(**options) as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InputError(
                        f"a line of more than {LONGEST_LINE:,} characters; expected a word and its numbers",
                        setting="model.vectors.path",
                        place=f"{path}:{number}",
                    )
                yield number, line
    except FileNotFoundError:
        raise InputError("no such file", setting="model.vectors.path", place=str(path)) from None
    except NotReadable as error:
        raise InputError(str(error.strerror), setting="model.vectors.path", place=str(path)) from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"cannot be read ({error})", setting="model.vectors.path", place=str(path)) from None
