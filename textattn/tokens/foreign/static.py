"""Static embeddings with a tokenizer of their own: model2vec, and StaticEmbedding of sentence-transformers.

A folder holds one safetensors file with one vector for each piece, and tokenizer.json. A word of our vocabulary has the
mean of its pieces. If the run reads texts with this very tokenizer, every token has its own vector.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textattn.config.regular_file import read_regular
from textattn.errors import InputError
from textattn.tokens.backend import damage_named, load_backend
from textattn.tokens.foreign.rows import Foreign, Rows, check_size
from textattn.tokens.foreign.safetensors_file import Tensor, open_tensors
from textattn.tokens.foreign.stream import SETTING, reading

TOKENIZER = "tokenizer.json"
LARGEST_TOKENIZER = 2**26
# model2vec may keep a weight for each piece, and the row of each piece where several share one.
WEIGHTS, MAPPING = "weights", "mapping"
WORDS_AT_ONCE = 1000


class StaticVectors(Foreign):
    """A safetensors file of one matrix, with the tokenizer that numbers its rows."""

    what = "static embeddings"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer = path.with_name(TOKENIZER)
        tensors = open_tensors(path)
        matrices = [tensor for tensor in tensors.values() if tensor.values.ndim == 2 and tensor.is_float]
        others = set(tensors) - {WEIGHTS, MAPPING}
        if len(matrices) != 1 or len(others) != 1:
            raise InputError(
                f"{len(tensors):,} tensors; static embeddings are one matrix (and `{WEIGHTS}` and `{MAPPING}` of "
                "model2vec), and the layers of other models are not run",
                "name a model of model2vec, or a StaticEmbedding of sentence-transformers",
                setting=SETTING,
                place=str(path),
            )
        (self.matrix,) = matrices
        self.weights, self.mapping = tensors.get(WEIGHTS), tensors.get(MAPPING)
        self.dim = self.matrix.values.shape[1]
        check_size(self.dim, str(path))
        if not self.tokenizer.is_file():
            raise InputError(
                f"there is no {TOKENIZER} beside it, which says what its rows stand for",
                setting=SETTING,
                place=str(path),
            )

    @staticmethod
    def find(folder: Path) -> Path | None:
        """The safetensors file in a folder or one below it that has a tokenizer beside it; None if there is none."""
        found = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*/*.safetensors"))]
        return next((path for path in found if path.with_name(TOKENIZER).is_file()), None)

    def fill(self, rows: Rows) -> None:
        """Fill the rows; see `Foreign`."""
        with reading(self.tokenizer):
            content = read_regular(self.tokenizer, LARGEST_TOKENIZER)
        backend = load_backend(content, str(self.tokenizer), SETTING)
        theirs = backend.get_vocab()
        if all(rows.vocabulary.get(piece) == number for piece, number in theirs.items()):
            pieces = {row: [number] for row, number in ((n, n) for n in theirs.values())}
            words = {number: piece for piece, number in theirs.items()}
        else:
            backend.encode_special_tokens = True
            backend.no_truncation()
            backend.no_padding()
            words = {row: word for word, row in rows.missing().items()}
            unknown = {theirs[name] for name in ("[UNK]", "<unk>") if name in theirs}
            listed = list(words)
            with damage_named(str(self.tokenizer), "damaged", SETTING):
                encodings = backend.encode_batch([words[row] for row in listed], add_special_tokens=False)
            pieces = {
                row: [number for number in encoding.ids if number not in unknown]
                for row, encoding in zip(listed, encodings, strict=True)
            }
        for row, numbers in pieces.items():
            if numbers:
                vector = self._vectors(np.array(numbers)).mean(axis=0, dtype=np.float64)
                rows.put(row, words[row], vector, f"{self.path}, the pieces of {words[row]!r}")

    def _vectors(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """(pieces, dim)"""
        rows = numbers if self.mapping is None else self._each(self.mapping, numbers).astype(np.int64)
        if rows.min() < 0 or rows.max() >= len(self.matrix.values):
            raise self._damaged(f"row {rows.max():,} of {len(self.matrix.values):,}")
        found = self.matrix.rows(rows)
        return found if self.weights is None else found * self._each(self.weights, numbers)[:, None]

    def _each(self, tensor: Tensor, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        if tensor.values.ndim != 1 or numbers.max() >= len(tensor.values):
            raise self._damaged(f"piece {numbers.max():,}, and a tensor of shape {tensor.values.shape}")
        return tensor.rows(numbers)

    def _damaged(self, problem: str) -> InputError:
        return InputError(
            f"does not fit {TOKENIZER} ({problem})",
            "copy or download the folder again",
            setting=SETTING,
            place=str(self.path),
        )
