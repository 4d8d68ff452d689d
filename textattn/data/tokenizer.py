"""Text to token ids and back to character offsets. Light: needs numpy and `tokenizers` only, so prediction can use it.

A text of several segments (several columns) is one string with the segments joined by a tab; the tab is a token of its
own in the vocabulary, so offsets always refer to the one string.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, pre_tokenizers

from textattn.errors import InputError

SEGMENT_SEPARATOR = "\t"
PAD, UNK = "[PAD]", "[UNK]"
TRUNCATIONS = ("head", "tail", "head_tail")
_GRAPHEMES = pre_tokenizers.Split(Regex(r"\X"), "isolated")
# One call into Rust per this many texts: enough to keep all cores busy, little enough to bound memory.
CHUNK = 1000


@dataclass(frozen=True)
class TokenArrays:
    """The tokens of many texts, one after the other, without padding."""

    ids: NDArray[np.int32]
    """(total_tokens,) token ids, truncated to `max_length` for each text."""
    starts: NDArray[np.int64]
    """(num_texts + 1,) text i holds ids[starts[i]:starts[i + 1]]."""
    num_truncated: int
    """Texts that were longer than `max_length`."""
    num_tokens: int
    """Tokens before truncation."""
    num_unknown: int
    """Tokens, of those kept, that are not in the vocabulary."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(num_texts,) tokens of each text."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class TokenizedText:
    """One text with the place of every token in it."""

    input_ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Characters of the original text, half-open."""
    word_ids: list[int]
    """Tokens with the same number belong to one word."""
    truncated: bool


class TextTokenizer:
    """A `tokenizers.Tokenizer` with this model's rules for long and empty texts."""

    def __init__(
        self, tokenizer: Tokenizer, *, max_length: int, truncation: str, num_segments: int = 1, kind: str = "word"
    ) -> None:
        self.backend = tokenizer
        self.max_length = max_length
        self.truncation = truncation
        self.num_segments = num_segments
        self.kind = kind
        # A text that happens to hold "[PAD]" must not become padding; nor where a vocabulary has it as a word.
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()
        self.pad_id = _id_of(tokenizer, ("[PAD]", "<pad>"))
        self.unk_id = _id_of(tokenizer, ("[UNK]", "<unk>"), default=self.pad_id)

    @property
    def vocab_size(self) -> int:
        """Rows an embedding for this tokenizer needs."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Iterable[str]) -> TokenArrays:
        """Token ids of many texts, truncated; a text without any token becomes one unknown token."""
        ids: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        num_truncated = num_tokens = 0
        for chunk in _chunks(texts):
            for encoding in self.backend.encode_batch_fast(chunk, add_special_tokens=False):
                row = np.array(encoding.ids or [self.unk_id], dtype=np.int32)
                num_tokens += len(row)
                if len(row) > self.max_length:
                    row = row[self._kept(len(row))]
                    num_truncated += 1
                ids.append(row)
                lengths.append(len(row))
        flat = np.concatenate(ids) if ids else np.zeros(0, np.int32)
        flat[flat == self.pad_id] = self.unk_id
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        num_unknown = int((flat == self.unk_id).sum())
        return TokenArrays(flat, starts, num_truncated, num_tokens, num_unknown)

    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenizedText]:
        """The same tokens as `encode`, with strings, character offsets and words."""
        rows = []
        for chunk in _chunks(texts):
            for text, encoding in zip(chunk, self.backend.encode_batch(chunk, add_special_tokens=False), strict=True):
                if not encoding.ids:
                    rows.append(TokenizedText([self.unk_id], [UNK], [(0, len(text))], [0], False))
                    continue
                kept = self._kept(len(encoding.ids))
                offsets = _with_composed(text, encoding.offsets)
                # Added tokens (the separator) belong to no word: give each a number of its own.
                words = [w if w is not None else -1 - i for i, w in enumerate(encoding.word_ids)]
                rows.append(
                    TokenizedText(
                        [self.unk_id if encoding.ids[i] == self.pad_id else encoding.ids[i] for i in kept],
                        [encoding.tokens[i] for i in kept],
                        [offsets[i] for i in kept],
                        [words[i] for i in kept],
                        len(kept) < len(encoding.ids),
                    )
                )
        return rows

    def _kept(self, length: int) -> NDArray[np.int64]:
        """Positions of a text of `length` tokens that survive truncation."""
        positions = np.arange(length)
        if length <= self.max_length:
            return positions
        if self.truncation == "head":
            return positions[: self.max_length]
        if self.truncation == "tail":
            return positions[-self.max_length :]
        head = self.max_length - self.max_length // 2
        return np.concatenate([positions[:head], positions[length - (self.max_length - head) :]])

    def to_files(self) -> dict[str, str]:
        """File name -> content, to be put into a run directory."""
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.max_length,
            "truncation": self.truncation,
            "num_segments": self.num_segments,
            "kind": self.kind,
            "pad_token": self.backend.id_to_token(self.pad_id),
            "unk_token": self.backend.id_to_token(self.unk_id),
        }
        return {
            "tokenizer.json": self.backend.to_str(pretty=False),
            "tokenizer_config.json": json.dumps(settings, indent=2, sort_keys=True) + "\n",
        }

    @classmethod
    def from_dir(cls, path: Path) -> TextTokenizer:
        """Reads what `to_files` gave.

        Raises:
            InputError: a file is missing or damaged.
        """
        backend = load_backend(path / "tokenizer.json")
        try:
            settings: dict[str, Any] = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
            max_length, truncation = int(settings["model_max_length"]), str(settings["truncation"])
            if max_length < 1 or truncation not in TRUNCATIONS:
                raise ValueError(f"model_max_length {max_length}, truncation {truncation!r}")
            return cls(
                backend,
                max_length=max_length,
                truncation=truncation,
                num_segments=int(settings["num_segments"]),
                kind=str(settings.get("kind", "word")),
            )
        except FileNotFoundError:
            raise InputError(f"{path}: tokenizer_config.json is missing") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path / 'tokenizer_config.json'}: damaged ({error!r})") from None


def load_backend(file: Path) -> Tokenizer:
    """A tokenizer.json as a `Tokenizer`; InputError where it is missing or damaged."""
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    try:
        return Tokenizer.from_file(str(file))
    # The binding raises bare Exception for a damaged file; nothing narrower can be caught.
    except Exception as error:
        raise InputError(f"{file}: not a tokenizer ({error})") from None


def grapheme_boundaries(text: str) -> list[tuple[int, int]]:
    """For each character, and for the end, the span of the grapheme (an emoji, a letter with accents) it belongs to."""
    spans = [(i, i + 1) for i in range(len(text))]
    if not text.isascii():
        for _, (start, end) in _GRAPHEMES.pre_tokenize_str(text):
            if end - start > 1:
                spans[start:end] = [(start, end)] * (end - start)
    spans.append((len(text), len(text)))
    return spans


def _with_composed(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets that take in the accents: where NFKC makes one character of two, `tokenizers` names the first only."""
    if unicodedata.is_normalized("NFKC", text):
        return offsets
    boundaries = grapheme_boundaries(text)
    closed: dict[tuple[int, int], tuple[int, int]] = {}
    following = len(text)
    for start, end in reversed(offsets):
        if start < end <= following:
            closed.setdefault((start, end), (start, max(end, min(boundaries[end - 1][1], following))))
        following = min(following, start)
    return [closed.get(offset, offset) for offset in offsets]


def _id_of(tokenizer: Tokenizer, names: Sequence[str], default: int | None = None) -> int:
    for name in names:
        token_id = tokenizer.token_to_id(name)
        if token_id is not None:
            return int(token_id)
    if default is None:
        raise InputError(f"the tokenizer has no padding token (looked for {', '.join(names)})")
    return default


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
