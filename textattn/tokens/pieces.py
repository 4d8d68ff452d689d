"""Parts of a text that are tokenised by themselves, and where a text may be cut without changing its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import Encoding, Regex, pre_tokenizers

_SPACE = re.compile(r"\s+")
# Number of characters to search for white space to cut at. If there is none, the cut is made anyway.
FARTHEST_SPACE = 1000
_GRAPHEMES = pre_tokenizers.Split(Regex(r"\X"), "isolated")
# Within this many characters of a cut, tokens may differ from those of the whole text, because the cut may split
# "<br />", "don't" or an emoji.
MARGIN = 64
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))


class Piece:
    """Some consecutive tokens of a text."""

    def __init__(self, encoding: Encoding, text: str, start: int, kept: slice = slice(None)) -> None:
        self.encoding = encoding
        self.text = text
        """The part of the text that was encoded."""
        self.start = start
        """Its position in the whole text."""
        self.kept = kept

    def ids(self) -> list[int]:
        """The ids of the tokens that are kept."""
        return list(self.encoding.ids[self.kept])

    def first(self, count: int) -> Piece:
        """The first `count` tokens of what was encoded."""
        return Piece(self.encoding, self.text, self.start, slice(0, count))

    def last(self, count: int) -> Piece:
        """The last `count` tokens of what was encoded."""
        total = len(self.encoding.ids)
        return Piece(self.encoding, self.text, self.start, slice(total - count, total))

    def num_before_last_word(self) -> int:
        """The number of tokens before the first word that ends near the cut."""
        words, limit = self.encoding.word_ids, len(self.text.rstrip()) - MARGIN
        ends = [end for _, end in self.encoding.offsets]
        return _same_word(words, next((i for i, end in enumerate(ends) if end > limit), len(ends) - 1))

    def num_after_first_word(self) -> int:
        """The number of tokens after the last word that begins near the cut."""
        words, limit = self.encoding.word_ids[::-1], len(self.text) - len(self.text.lstrip()) + MARGIN
        starts = [start for start, _ in self.encoding.offsets[::-1]]
        return _same_word(words, next((i for i, start in enumerate(starts) if start < limit), len(starts) - 1))

    def tokens(self) -> Iterator[tuple[int, str, tuple[int, int], int]]:
        """The id, string, offset in the whole text and word number of each token."""
        offsets = _with_composed(self.text, self.encoding.offsets)
        # Added tokens (the separator) belong to no word, so each gets a unique number. Adding the position of the piece
        # keeps the word numbers of the two ends of a long text distinct.
        words = [self.start + w if w is not None else -1 - i - self.start for i, w in enumerate(self.encoding.word_ids)]
        for token_id, string, (start, end), word in list(
            zip(self.encoding.ids, self.encoding.tokens, offsets, words, strict=True)
        )[self.kept]:
            yield token_id, string, (start + self.start, end + self.start), word


def _same_word(words: list[int | None], position: int) -> int:
    """The number of the first token of the word that the token at `position` belongs to; 0 if there is no token."""
    while position > 0 and words[position] is not None and words[position - 1] == words[position]:
        position -= 1
    return max(position, 0)


def last_space(text: str, position: int) -> int:
    """The start of the last run of white space before `position`, or `position` if none is near."""
    found = max(
        (match.start() for match in _SPACE.finditer(text, max(0, position - FARTHEST_SPACE), position)),
        default=position,
    )
    return found or position


def next_space(text: str, position: int) -> int:
    """The end of the first run of white space from `position` on, or about `position` if none is near."""
    match = _SPACE.search(text, position, position + FARTHEST_SPACE)
    if match:
        return match.end()
    return between_flags(text, position)


def between_flags(text: str, position: int) -> int:
    """Move a position that would split a flag emoji back by one character.

    Two regional indicator letters make a flag. In a run of them, pairs are counted from the first letter.
    """
    first = position
    while first and text[first - 1] in _FLAG_LETTERS:
        first -= 1
    return position - (position - first) % 2


def grapheme_boundaries(text: str) -> list[tuple[int, int]]:
    """The span of the grapheme (an emoji, a letter with accents) that each character belongs to.

    The list has one more entry, for the end of the text.
    """
    spans = [(i, i + 1) for i in range(len(text))]
    # CR LF is the only grapheme that is made of several ASCII characters.
    if not text.isascii() or "\r\n" in text:
        for _, (start, end) in _GRAPHEMES.pre_tokenize_str(text):
            if end - start > 1:
                spans[start:end] = [(start, end)] * (end - start)
    spans.append((len(text), len(text)))
    return spans


def _with_composed(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extend offsets to include accents. If NFKC composes two characters, `tokenizers` reports only the first."""
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
