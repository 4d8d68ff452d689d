"""Text to token ids and back to character offsets. Light: needs numpy and `tokenizers` only, so prediction can use it.

A text of several segments (several columns) is one string with the segments joined by a tab; the tab is a token of its
own in the vocabulary, so offsets always refer to the one string.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tokenizers import Encoding, Regex, Tokenizer, pre_tokenizers

from textattn.data.segments import SEGMENT_SEPARATOR
from textattn.errors import InputError
from textattn.tokens.token_arrays import TokenArrays, TokenWriter

if TYPE_CHECKING:
    from textattn.tokens.formulas import Repeat, WrittenOut

T = TypeVar("T")
COMPOSITION = "composition"
PAD, UNK = "[PAD]", "[UNK]"
TRUNCATIONS = ("head", "tail", "head_tail")
_SPACE = re.compile(r"\s+")
# Characters to look through for white space to cut at; where there is none the cut is made all the same.
FARTHEST_SPACE = 1000
_GRAPHEMES = pre_tokenizers.Split(Regex(r"\X"), "isolated")
# One call into Rust per this many texts: enough to keep all cores busy, little enough to bound memory.
CHUNK = 512
# Of texts with more characters than this for each token that is kept, only the ends are tokenised.
LONG = 32
# An end of so many characters with too few tokens is enough: millions of spaces, or one word of them, hold no more.
LARGEST_END = 100_000
# What stands so near to a cut may be read otherwise than in the whole text: half of "<br />", of "don't", of an emoji.
MARGIN = 64
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))


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
    repeats: tuple[Repeat, ...] = ()
    """Where words stand again that are read once: elements of a formula."""


class TextTokenizer:
    """A `tokenizers.Tokenizer` with this model's rules for long and empty texts."""

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
        """Its file, for messages."""
        self.max_length = max_length
        self.truncation = truncation
        self.num_segments = num_segments
        self.kind = kind
        # A text that happens to hold "[PAD]" must not become padding; nor where a vocabulary has it as a word.
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()
        pad_id = _id_of(tokenizer, ("[PAD]", "<pad>"))
        if pad_id is None:
            raise InputError(f"{where}: no padding token ([PAD] or <pad>)")
        self.pad_id = pad_id
        unk_id = _id_of(tokenizer, ("[UNK]", "<unk>"))
        self.unk_id = pad_id if unk_id is None else unk_id

    @property
    def vocab_size(self) -> int:
        """Rows an embedding for this tokenizer needs."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    @property
    def reads_formulas(self) -> bool:
        """Whether words are elements, and not words of a language."""
        return self.kind in (COMPOSITION, "formula")

    def encode(self, texts: Iterable[str]) -> TokenArrays:
        """Token ids of many texts, truncated; a text without any token becomes one unknown token.

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
        """The same tokens as `encode`, with strings, character offsets and words.

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
        """The texts as the backend takes them: formulas are written out first."""
        return (self._write_out(text).text for text in texts) if self.kind == COMPOSITION else texts

    def _write_out(self, text: str) -> WrittenOut:
        from textattn.tokens.formulas import write_out

        return write_out(text, SEGMENT_SEPARATOR if self.num_segments > 1 else None)

    def _encode_with_offsets(self, texts: Sequence[str]) -> list[TokenizedText]:
        rows = []
        for chunk in _chunks(texts):
            short = iter(self._encode([text for text in chunk if not self._is_long(text)]))
            for text in chunk:
                pieces, truncated = self._ends(text) if self._is_long(text) else ([_Piece(next(short), text, 0)], False)
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
        with _damage(self.where, "damaged"):
            return list(encode(texts, add_special_tokens=False))

    def _encoded_ahead(self, chunks: Iterator[list[str]]) -> Iterator[tuple[list[str], list[Encoding]]]:
        """Each chunk with the encodings of its short texts, the next ones made while these are used."""

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
        """What is kept of the tokens of a text, and whether that is less than all."""
        if len(tokens) <= self.max_length:
            return tokens, False
        head = self._num_head
        return tokens[:head] + tokens[len(tokens) - (self.max_length - head) :], True

    @property
    def _num_head(self) -> int:
        """Of a text that is too long, so many tokens are kept at its beginning, the others at its end."""
        return {"head": self.max_length, "tail": 0}.get(self.truncation, self.max_length - self.max_length // 2)

    def _is_long(self, text: str) -> bool:
        return len(text) > LONG * self.max_length

    def _ends_of(self, text: str) -> tuple[list[int], bool]:
        pieces, truncated = self._ends(text)
        ids, cut = self._truncated([token_id for piece in pieces for token_id in piece.ids()])
        return ids, truncated or cut

    def _ends(self, text: str) -> tuple[list[_Piece], bool]:
        """The parts of a long text that are read, and whether that is less than all: no book is tokenised in full.

        The tokens are those that the whole text would give: an end is cut at white space, and the words near the cut,
        which might have been read otherwise, are not used.
        """
        head = self._num_head
        # One more than is kept tells that the text is too long; asked of one end only.
        first = self._end(text, self.max_length + 1 if head else 0, at_start=True)
        last = self._end(text, self.max_length - head if head else self.max_length + 1, at_start=False)
        for piece, all_of_it in (first, last):
            if all_of_it:
                return [piece], False
        return [first[0].first(head), last[0].last(self.max_length - head)], True

    def _end(self, text: str, count: int, *, at_start: bool) -> tuple[_Piece, bool]:
        """At least `count` tokens from one end of the text, or all of it; few where there are hardly any."""
        size = LONG * (count + 1) // 2
        while size < len(text):
            if at_start:
                cut = _last_space(text, size)
                piece = _Piece(self._encode([text[:cut]])[0], text[:cut], 0)
                piece = piece.first(piece.num_before_last_word())
            else:
                cut = _next_space(text, len(text) - size)
                piece = _Piece(self._encode([text[cut:]])[0], text[cut:], cut)
                piece = piece.last(piece.num_after_first_word())
            if len(piece.ids()) >= count or (size >= LARGEST_END and 3 * size < len(text)):
                return piece, False
            size *= 4
        return _Piece(self._encode([text])[0], text, 0), True

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
    def from_files(cls, tokenizer: bytes, config: bytes, where: str) -> TextTokenizer:
        """Reads what `to_files` gave.

        Args:
            tokenizer: content of tokenizer.json.
            config: content of tokenizer_config.json.
            where: the folder they lie in, for messages.

        Raises:
            InputError: one of them is damaged.
        """
        file = f"{where}/tokenizer.json"
        backend = load_backend(tokenizer, file)
        try:
            settings: dict[str, Any] = json.loads(config.decode("utf-8"))
            max_length, truncation = int(settings["model_max_length"]), str(settings["truncation"])
            if max_length < 1 or truncation not in TRUNCATIONS:
                raise ValueError(f"model_max_length {max_length}, truncation {truncation!r}")
            num_segments, kind = int(settings["num_segments"]), str(settings.get("kind", "word"))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"{where}/tokenizer_config.json: damaged ({error!r})") from None
        return cls(
            backend, max_length=max_length, truncation=truncation, num_segments=num_segments, kind=kind, where=file
        )


def load_backend(content: bytes, where: str) -> Tokenizer:
    """A tokenizer.json as a `Tokenizer`; InputError, naming `where`, if it is damaged."""
    with _damage(where, "not a tokenizer"):
        return Tokenizer.from_str(content.decode("utf-8"))


@contextlib.contextmanager
def _damage(where: str, what: str) -> Iterator[None]:
    """Turns what the library raises for a damaged tokenizer into an InputError."""
    try:
        yield
    # It raises bare Exception, and what Rust calls a panic is not even that; nothing narrower can be caught.
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise InputError(f"{where}: {what} ({error})") from None
        raise


class _Piece:
    """Some consecutive tokens of a text."""

    def __init__(self, encoding: Encoding, text: str, start: int, kept: slice = slice(None)) -> None:
        self.encoding = encoding
        self.text = text
        """What was encoded."""
        self.start = start
        """Where that begins in the whole text."""
        self.kept = kept

    def ids(self) -> list[int]:
        return list(self.encoding.ids[self.kept])

    def first(self, count: int) -> _Piece:
        return _Piece(self.encoding, self.text, self.start, slice(0, count))

    def last(self, count: int) -> _Piece:
        total = len(self.encoding.ids)
        return _Piece(self.encoding, self.text, self.start, slice(total - count, total))

    def num_before_last_word(self) -> int:
        """Tokens before the first word that ends near the cut."""
        words, limit = self.encoding.word_ids, len(self.text.rstrip()) - MARGIN
        ends = [end for _, end in self.encoding.offsets]
        return _same_word(words, next((i for i, end in enumerate(ends) if end > limit), len(ends) - 1))

    def num_after_first_word(self) -> int:
        """Tokens after the last word that begins near the cut."""
        words, limit = self.encoding.word_ids[::-1], len(self.text) - len(self.text.lstrip()) + MARGIN
        starts = [start for start, _ in self.encoding.offsets[::-1]]
        return _same_word(words, next((i for i, start in enumerate(starts) if start < limit), len(starts) - 1))

    def tokens(self) -> Iterator[tuple[int, str, tuple[int, int], int]]:
        """Id, string, offset in the whole text and word of each token."""
        offsets = _with_composed(self.text, self.encoding.offsets)
        # Added tokens (the separator) belong to no word: give each a number of its own. The place of the piece keeps
        # the words of the two ends of a long text apart.
        words = [self.start + w if w is not None else -1 - i - self.start for i, w in enumerate(self.encoding.word_ids)]
        for token_id, string, (start, end), word in list(
            zip(self.encoding.ids, self.encoding.tokens, offsets, words, strict=True)
        )[self.kept]:
            yield token_id, string, (start + self.start, end + self.start), word


def _same_word(words: list[int | None], position: int) -> int:
    """Where the word begins that the token at `position` belongs to; 0 if there is no token."""
    while position > 0 and words[position] is not None and words[position - 1] == words[position]:
        position -= 1
    return max(position, 0)


def _last_space(text: str, position: int) -> int:
    """The last white space before `position` that has no white space before it, or `position` if there is none."""
    found = max(
        (match.start() for match in _SPACE.finditer(text, max(0, position - FARTHEST_SPACE), position)),
        default=position,
    )
    return found or position


def _next_space(text: str, position: int) -> int:
    """The end of the next white space from `position` on, or `position` if none is near."""
    match = _SPACE.search(text, position, position + FARTHEST_SPACE)
    if match:
        return match.end()
    return between_flags(text, position)


def between_flags(text: str, position: int) -> int:
    """`position`, or one before it if it is inside a flag: two letters are a flag, counted from the first of a row."""
    first = position
    while first and text[first - 1] in _FLAG_LETTERS:
        first -= 1
    return position - (position - first) % 2


def grapheme_boundaries(text: str) -> list[tuple[int, int]]:
    """For each character, and for the end, the span of the grapheme (an emoji, a letter with accents) it belongs to."""
    spans = [(i, i + 1) for i in range(len(text))]
    # CR LF is the only grapheme that is made of several ASCII characters.
    if not text.isascii() or "\r\n" in text:
        for _, (start, end) in _GRAPHEMES.pre_tokenize_str(text):
            if end - start > 1:
                spans[start:end] = [(start, end)] * (end - start)
    spans.append((len(text), len(text)))
    return spans


def _with_composed(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets that take in the accents: where NFKC makes one character of two, `tokenizers` names the first only."""
    import unicodedata

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
