"""Word vectors from elsewhere. The format is found by the content of the file; none of the readers runs code from it.

Each format has a file of its own: `text`, `word2vec` (binary), `fasttext` (binary, with sub-words), `spacy_model` and
`static` (model2vec, sentence-transformers). `stream` unpacks gzip and zip, and `rows` is what a reader fills.
"""

from __future__ import annotations

from pathlib import Path

from textattn.errors import InputError
from textattn.tokens.foreign import fasttext
from textattn.tokens.foreign.fasttext import FastTextVectors
from textattn.tokens.foreign.rows import Foreign, Rows
from textattn.tokens.foreign.spacy_model import SpacyVectors
from textattn.tokens.foreign.static import StaticVectors
from textattn.tokens.foreign.stream import SETTING, Stream, pickled, reading
from textattn.tokens.foreign.text import HEADER, TextVectors
from textattn.tokens.foreign.word2vec import Word2VecVectors
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.vectors import WordVectors

FORMATS = "text of word2vec, GloVe and fastText, binary files of word2vec and fastText, spaCy, model2vec"
# As much of a file is looked at to find its format.
HEAD = 2**16
NUMPY = b"\x93NUMPY"
# How a pickle begins, in its protocols since 2003. Older protocols are text, and none of the formats.
PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
# Bytes that do not occur in text.
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\x0b\x0c\x1b")


def open_vectors(path: Path) -> Foreign:
    """Find the format of a file or folder of vectors, and open it.

    Raises:
        InputError: it is not there, of no format that is read, or damaged.
    """
    # The name may be too long, and the folder may be locked.
    with reading(path):
        is_folder = path.is_dir()
        files = _files_in(path) if is_folder else []
    if is_folder:
        return _open_folder(path, files)
    with Stream(path) as stream:
        head = stream.read(HEAD)
    if not head:
        raise InputError("an empty file", "copy or download the file again", setting=SETTING, place=str(path))
    if head.startswith(PICKLES):
        raise pickled(path, "gensim's `save` or torch")
    if head.startswith(NUMPY):
        raise InputError(
            "a matrix of numpy, which does not say which row is which word",
            "save_word2vec_format(PATH, binary=True) of gensim writes both",
            setting=SETTING,
            place=str(path),
        )
    if head.startswith(fasttext.MAGIC):
        return FastTextVectors(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return StaticVectors(path)
    first, _, rest = head.partition(b"\n")
    if HEADER.fullmatch(first):
        return Word2VecVectors(path) if _is_binary(rest) else TextVectors(path)
    if b"\0" in head or not (_is_text(first) or _has_numbers(first)):
        raise InputError(f"of none of the formats that are read: {FORMATS}", setting=SETTING, place=str(path))
    return TextVectors(path)


def read_vectors(path: Path, tokenizer: TextTokenizer, embedding_dim: int | None = None) -> WordVectors:
    """Read the vectors of the words of a vocabulary from a file or folder.

    Args:
        path: see `open_vectors`.
        tokenizer: has the vocabulary. A word of the file is looked up as it is, then in lower case.
        embedding_dim: the size that the vectors must have; None: whatever they have.

    Raises:
        InputError: the file cannot be read, has no vector of a word of the vocabulary, or vectors of another size.
    """
    return fill_vectors(open_vectors(path), tokenizer, embedding_dim)


def fill_vectors(foreign: Foreign, tokenizer: TextTokenizer, embedding_dim: int | None = None) -> WordVectors:
    """As `read_vectors`, of vectors that are open."""
    dim = foreign.dim if embedding_dim is None else embedding_dim
    # Text is read first, for the line to be named.
    if foreign.dim != dim and not isinstance(foreign, TextVectors):
        raise other_size(foreign, dim)
    rows = Rows(tokenizer, dim)
    foreign.fill(rows)
    if not rows.found.any():
        raise InputError(rows.nothing_found(), place=str(foreign.path))
    return WordVectors(rows.matrix, rows.found)


def other_size(foreign: Foreign, dim: int) -> InputError:
    """The error where the config asks for another size of vectors."""
    return InputError(
        f"vectors of {foreign.dim} numbers, but model.embedding_dim is {dim}",
        f"model.embedding_dim={foreign.dim}",
        setting=SETTING,
        place=str(foreign.path),
    )


def _files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]


def _open_folder(folder: Path, files: list[Path]) -> Foreign:
    vocab = SpacyVectors.find(folder)
    if vocab is not None:
        return SpacyVectors(vocab)
    model = StaticVectors.find(folder)
    if model is not None:
        return StaticVectors(model)
    if len(files) == 1:
        return open_vectors(files[0])
    raise InputError(
        "a folder without vectors: expected vocab/vectors of a spaCy model, a safetensors file with tokenizer.json, or "
        "one file of vectors",
        setting=SETTING,
        place=str(folder),
    )


def _is_binary(content: bytes) -> bool:
    """Whether what follows a header of word2vec is numbers as bytes, and not as text."""
    if CONTROL.isdisjoint(content):
        return not (_is_text(content) or _has_numbers(content))
    return not _has_numbers(content)


def _is_text(content: bytes) -> bool:
    # Cut at HEAD, the last character may not be whole.
    return "\N{REPLACEMENT CHARACTER}" not in content[:-4].decode("utf-8", "replace")


def _has_numbers(content: bytes) -> bool:
    """Whether most words of the first line are numbers."""
    line = content.partition(b"\n")[0].split()[1:]
    return bool(line) and sum(map(_is_number, line)) * 2 >= len(line)


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
