"""Converts texts to token ids with character offsets. Needs only numpy and `tokenizers`, so prediction starts quickly.

A text of several segments (several columns) is one string in which the segments are joined by a tab. The tab is a
separate token of the vocabulary, so offsets always refer to this one string.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tokenizers import Encoding, Tokenizer

from textattn.data.segments import SEGMENT_SEPARATOR
from textattn.errors import InputError
from textattn.storage.reading import parse_json
from textattn.tokens.backend import damage_named, load_backend
from textattn.tokens.pieces import Piece, last_space, next_space
from textattn.tokens.token_arrays import TokenArrays, TokenWriter

if TYPE_CHECKING:
    from textattn.tokens.formulas import Repeat, WrittenOut

T = TypeVar("T")
COMPOSITION = "composition"
PAD, UNK = "[PAD]", "[UNK]"
TRUNCATIONS = ("head", "tail", "head_tail")
# Number of texts in each call into Rust: enough to keep all cores busy, few enough to bound memory.
CHUNK = 512
# A text with more characters than this for each token that is kept counts as long: only its ends are tokenised.
LONG = 32
# An end of this many characters is not enlarged further even if it yields too few tokens. A larger one would hardly
# yield more: such texts consist of spaces or of one huge word.
LARGEST_END = 100_000


@dataclass(frozen=True)
class TokenizedText:
    """One text with its tokens and their positions."""

    input_ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Characters of the original text, half-open."""
    word_ids: list[int]
    """Tokens with the same number belong to one word."""
    truncated: bool
    repeats: tuple[Repeat, ...] = ()
    """Further occurrences of elements of a formula, which are tokenised only once."""


class TextTokenizer:
    """A `tokenizers.Tokenizer` with the model's rules for long and empty texts."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int,
        truncation: str,
        num_segments: int = 1,
        kind: str = "word",
        where: str = "tokenizer.json",
    ) -> None:
        self.backend = tokenizer
        self.where = where
        """The file of the tokenizer, for messages."""
        self.max_length = max_length
        self.truncation = truncation
        self.num_segments = num_segments
        self.kind = kind
        # "[PAD]" in a text must not become padding. (A vocabulary that has it as a word is handled in `encode`.)
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()
        pad_id = _id_of(tokenizer, ("[PAD]", "<pad>"))
        if pad_id is None:
            raise InputError("no padding token ([PAD] or <pad>)", place=where)
        self.pad_id = pad_id
        unk_id = _id_of(tokenizer, ("[UNK]", "<unk>"))
        self.unk_id = pad_id if unk_id is None else unk_id

    @property
    def vocab_size(self) -> int:
        """The number of rows of an embedding for this tokenizer."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    @property
    def reads_formulas(self) -> bool:
        """Whether texts are chemical formulas rather than language."""
        return self.kind in (COMPOSITION, "formula")

    def can_read(self, text: str) -> bool:
        """Whether a text is of the kind that the model reads: a formula, for a model of formulas."""
        if not self.reads_formulas:
            return True
        from textattn.tokens.formulas import is_formula

        return all(map(is_formula, text.split(SEGMENT_SEPARATOR)))

    def encode(self, texts: Iterable[str]) -> TokenArrays:
        """Tokenise and truncate many texts. A text without any token becomes one unknown token.

        Raises:
            InputError: the tokenizer is damaged.
        """
        tokens = TokenWriter()
        num_truncated = num_unknown = largest = 0
        for chunk, encodings in self._encoded_ahead(_chunks(self.as_read(texts))):
            short, rows = iter(encodings), []
            for text in chunk:
                row, truncated = self._ends_of(text) if self._is_long(text) else self._truncated(next(short).ids)
                rows.append(row or [self.unk_id])
                num_truncated += truncated
            ids = np.concatenate([np.array(row, np.int32) for row in rows])
            ids[ids == self.pad_id] = self.unk_id
            num_unknown += int((ids == self.unk_id).sum())
            largest = max(largest, int(ids.max()))
            tokens.extend(ids, [len(row) for row in rows])
        self._check_ids(largest)
        return tokens.finish(num_truncated, num_unknown)

    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenise texts as `encode` does, and add the strings, character offsets and words of the tokens.

        Raises:
            InputError: the tokenizer is damaged.
        """
        if self.kind == COMPOSITION:
            written = [self._write_out(text) for text in texts]
            rows = self._encode_with_offsets([formula.text for formula in written])
            return [
                replace(row, **formula.locate([start for start, _ in row.offsets]))
                for row, formula in zip(rows, written, strict=True)
            ]
        return self._encode_with_offsets(texts)

    def as_read(self, texts: Iterable[str]) -> Iterable[str]:
        """The texts as the backend reads them: formulas are converted to their canonical form."""
        return (self._write_out(text).text for text in texts) if self.kind == COMPOSITION else texts

    def _write_out(self, text: str) -> WrittenOut:
        from textattn.tokens.formulas import write_out

        return write_out(text, SEGMENT_SEPARATOR if self.num_segments > 1 else None)

    def _encode_with_offsets(self, texts: Sequence[str]) -> list[TokenizedText]:
        rows = []
        for chunk in _chunks(texts):
            short = iter(self._encode([text for text in chunk if not self._is_long(text)]))
            for text in chunk:
                pieces, truncated = self._ends(text) if self._is_long(text) else ([Piece(next(short), text, 0)], False)
                tokens = [token for piece in pieces for token in piece.tokens()]
                if not tokens:
                    rows.append(TokenizedText([self.unk_id], [UNK], [(0, len(text))], [0], False))
                    continue
                tokens, cut = self._truncated(tokens)
                ids, strings, offsets, words = zip(*tokens, strict=True)
                rows.append(
                    TokenizedText(
                        [self.unk_id if token_id == self.pad_id else token_id for token_id in ids],
                        list(strings),
                        list(offsets),
                        list(words),
                        truncated or cut,
                    )
                )
        self._check_ids(max((max(row.input_ids) for row in rows), default=0))
        return rows

    def _check_ids(self, largest: int) -> None:
        """Raises InputError where an id has no row in the embedding."""
        if largest >= self.vocab_size:
            raise InputError(f"{self.where}: damaged (token {largest} of {self.vocab_size})")

    def _encode(self, texts: list[str], *, offsets: bool = True) -> list[Encoding]:
        encode = self.backend.encode_batch if offsets else self.backend.encode_batch_fast
        with damage_named(self.where, "damaged"):
            return list(encode(texts, add_special_tokens=False))

    def _encoded_ahead(self, chunks: Iterator[list[str]]) -> Iterator[tuple[list[str], list[Encoding]]]:
        """Each chunk with the encodings of its short texts. The next chunk is encoded while this one is used."""

        def encode(chunk: list[str]) -> list[Encoding]:
            return self._encode([text for text in chunk if not self._is_long(text)], offsets=False)

        chunk = next(chunks, None)
        following = next(chunks, None)
        if following is None:
            if chunk is not None:
                yield chunk, encode(chunk)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            encodings = pool.submit(encode, chunk or [])
            while chunk is not None:
                done = encodings.result()
                if following is not None:
                    encodings = pool.submit(encode, following)
                yield chunk, done
                chunk, following = following, next(chunks, None)

    def _truncated(self, tokens: list[T]) -> tuple[list[T], bool]:
        """The tokens that remain after truncation, and whether any were dropped."""
        if len(tokens) <= self.max_length:
            return tokens, False
        head = self._num_head
        return tokens[:head] + tokens[len(tokens) - (self.max_length - head) :], True

    @property
    def _num_head(self) -> int:
        """How many tokens are kept from the beginning of a text that is too long. The others come from its end."""
        return {"head": self.max_length, "tail": 0}.get(self.truncation, self.max_length - self.max_length // 2)

    def _is_long(self, text: str) -> bool:
        return len(text) > LONG * self.max_length

    def _ends_of(self, text: str) -> tuple[list[int], bool]:
        pieces, truncated = self._ends(text)
        ids, cut = self._truncated([token_id for piece in pieces for token_id in piece.ids()])
        return ids, truncated or cut

    def _ends(self, text: str) -> tuple[list[Piece], bool]:
        """Tokenise only the ends of a long text, so that no book is tokenised in full.

        The tokens are the same as those of the whole text: an end is cut at white space, and words near the cut are
        not used, because they might have been tokenised differently.

        Returns:
            The pieces that were tokenised, and whether the text is truncated.
        """
        head = self._num_head
        # One token more than is kept shows that the text is too long. One end is enough for that.
        first = self._end(text, self.max_length + 1 if head else 0, at_start=True)
        last = self._end(text, self.max_length - head if head else self.max_length + 1, at_start=False)
        for piece, all_of_it in (first, last):
            if all_of_it:
                return [piece], False
        return [first[0].first(head), last[0].last(self.max_length - head)], True

    def _end(self, text: str, count: int, *, at_start: bool) -> tuple[Piece, bool]:
        """Tokenise one end of a text, or all of it.

        Returns:
            A piece with at least `count` tokens, or with fewer if a large end contains hardly any; and whether it is
            the whole text.
        """
        size = LONG * (count + 1) // 2
        while size < len(text):
            if at_start:
                cut = last_space(text, size)
                piece = Piece(self._encode([text[:cut]])[0], text[:cut], 0)
                piece = piece.first(piece.num_before_last_word())
            else:
                cut = next_space(text, len(text) - size)
                piece = Piece(self._encode([text[cut:]])[0], text[cut:], cut)
                piece = piece.last(piece.num_after_first_word())
            if len(piece.ids()) >= count or (size >= LARGEST_END and 3 * size < len(text)):
                return piece, False
            size *= 4
        return Piece(self._encode([text])[0], text, 0), True

    def to_files(self) -> dict[str, str]:
        """The files of a run directory that hold the tokenizer: content by file name."""
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
    def from_files(cls, tokenizer: bytes, config: bytes, where: str) -> TextTokenizer:
        """Read the files that `to_files` has made.

        Args:
            tokenizer: content of tokenizer.json.
            config: content of tokenizer_config.json.
            where: the folder of these files, for messages.

        Raises:
            InputError: one of them is damaged.
        """
        file = f"{where}/tokenizer.json"
        backend = load_backend(tokenizer, file)
        try:
            settings: dict[str, Any] = parse_json(config)
            max_length, truncation = int(settings["model_max_length"]), str(settings["truncation"])
            if max_length < 1 or truncation not in TRUNCATIONS:
                raise ValueError(f"model_max_length {max_length}, truncation {truncation!r}")
            num_segments, kind = int(settings["num_segments"]), str(settings.get("kind", "word"))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(f"damaged ({error!r})", place=f"{where}/tokenizer_config.json") from None
        return cls(
            backend, max_length=max_length, truncation=truncation, num_segments=num_segments, kind=kind, where=file
        )


def _id_of(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    found = (tokenizer.token_to_id(name) for name in names)
    return next((int(token_id) for token_id in found if token_id is not None), None)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
