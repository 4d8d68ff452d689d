"""A text as HTML, with its words marked; a long text is folded around what is telling."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise

from textattn.explain.explanations import Explanation
from textattn.explain.marks import marked_words, strengths
from textattn.explain.windows import Window, strongest
from textattn.inference.markup import visible

# A passage with a word of this strength is telling.
TELLING = 0.5
# Of a text of more words than this only the telling passages are unfolded; fewer words than the second never fold.
SHOWN_IN_FULL = 150
LEAST_FOLDED = 15
# A sentence of more words than this is cut into passages of so many.
LONGEST_PASSAGE = 50

# Words as they are counted for people: one for each Chinese or Japanese character; long runs count as several.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]{1,20}")
_SENTENCE_END = re.compile(r"(?:<br ?/?>\s*)+|\n\s*|[.!?…؟।]+[\"'”’»)\]]*\s+|[。！？｡]+[”’」』）]*\s*")


def counted(count: int, noun: str) -> str:
    """`1 text`, `2,000 texts`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class _Passage:
    start: int
    end: int
    num_words: int
    read: bool
    folded: bool


class Shape:
    """What the panels of a text have in common, so that they can be compared: passages, and what people marked."""

    def __init__(self, explanations: Sequence[Explanation], evidence: Sequence[tuple[int, int]] = ()) -> None:
        """
        Args:
            explanations: at least one, all of the same text.
            evidence: characters that people marked, half-open.
        """
        first = explanations[0]
        self.evidence = _merged(evidence)
        self.visible = visible(first.text)
        self.unread = _unread(first)
        self._starts = [match.start() for match in _WORD.finditer(first.text)]
        windows = first.windows if first.windows is not None and len(first.windows) > 1 else []
        self.windows = {window.start if i else 0: i for i, window in enumerate(windows)}
        """Where each window begins that the model read by itself, and its number; empty for other models."""
        if self._count(0, len(first.text)) <= SHOWN_IN_FULL:
            cuts = sorted({0, *self.unread, len(first.text)})
            self.passages = [self._passage(a, b, False) for a, b in pairwise(cuts)]
        else:
            self.passages = list(self._fold(explanations))

    def _count(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def _passage(self, start: int, end: int, folded: bool) -> _Passage:
        count = self._count(start, end)
        read = not self.unread or not self.unread[0] <= start < self.unread[1]
        return _Passage(start, end, count, read, folded and count >= LEAST_FOLDED)

    def _fold(self, explanations: Sequence[Explanation]) -> Iterator[_Passage]:
        """Passages with strong words of any method, or with evidence, and between them folded ones. Of a text that was
        read window by window, the passages are its windows, and the one that counts most is among those shown."""
        strong = sorted(
            word.start
            for explanation in explanations
            for word, strength in zip(explanation.words, strengths(explanation), strict=True)
            if abs(strength) >= TELLING
        )
        if self.windows:
            cuts = sorted({*self.windows, *self.unread, len(explanations[0].text)})
            strong = sorted([*strong, *(strongest(e.windows, 1)[0].start for e in explanations if e.windows)])
        else:
            cuts = self._cuts(explanations[0])
        # Of a text with nothing to tell the beginning is shown.
        telling = strong if strong or self.evidence else [0]

        def kind(span: tuple[int, int]) -> tuple[bool, bool, int]:
            start, end = span
            tells = bisect_left(telling, end) > bisect_left(telling, start)
            tells = tells or any(a < end and start < b for a, b in self.evidence)
            # Windows that are shown stay apart, because each has its own weight.
            return tells, self._passage(start, end, False).read, self.windows.get(start, 0) if tells else 0

        for (tells, *_), group in groupby(pairwise(cuts), kind):
            spans = list(group)
            yield self._passage(spans[0][0], spans[-1][1], not tells)

    def _cuts(self, explanation: Explanation) -> list[int]:
        """Ends of sentences and lines, and of too long a passage in between; never inside a word."""
        text = explanation.text
        ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
        cuts = {*ends, *self.unread}
        for start, end in pairwise(ends):
            first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
            cuts.update(self._starts[first + LONGEST_PASSAGE : last : LONGEST_PASSAGE])
        words, starts = explanation.words, [word.start for word in explanation.words]
        return sorted(place for place in cuts if (i := bisect_left(starts, place)) == 0 or words[i - 1].end <= place)


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order and apart."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((int(start), int(end)) for start, end in spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _unread(explanation: Explanation) -> tuple[int, int] | tuple[()]:
    """Characters that the model did not read: of a truncated text the longest stretch without words."""
    if not explanation.truncated:
        return ()
    words = explanation.words
    starts, ends = [word.start for word in words], [word.end for word in words]
    return max(zip([0, *ends], [*starts, len(explanation.text)], strict=True), key=lambda gap: gap[1] - gap[0])


def body_html(explanation: Explanation, shape: Shape) -> str:
    """The text in passages, those in pieces that people marked or not, those in words."""
    marked = list(marked_words(explanation))
    ends = [word.end for word, _, _ in marked]

    def words(start: int, end: int) -> Iterator[str]:
        position = start
        for i in range(bisect_right(ends, start), len(marked)):
            word, shade, weight = marked[i]
            if word.start >= end:
                break
            a, b = max(word.start, start), min(word.end, end)
            yield escape(shape.visible[position:a], quote=False)
            yield f'<mark class="{shade}" title="{weight}">{escape(shape.visible[a:b], quote=False)}</mark>'
            position = b
        yield escape(shape.visible[position:end], quote=False)

    def pieces(start: int, end: int) -> Iterator[str]:
        position = start
        for a, b in shape.evidence:
            a, b = max(a, start), min(b, end)
            if a < b:
                yield from words(position, a)
                yield f'<span class="ev">{"".join(words(a, b))}</span>'
                position = b
        yield from words(position, end)

    def passage_html(passage: _Passage) -> str:
        content = "".join(pieces(passage.start, passage.end))
        number = shape.windows.get(passage.start)
        if number is not None and not passage.folded and explanation.windows is not None:
            content = _window(explanation.windows[number], explanation.signed) + content
        return _folded(passage, content)

    return "".join(map(passage_html, shape.passages))


def _window(window: Window, signed: bool) -> str:
    """What a window counts. The style shows it, so that it is no part of the text that is searched and copied."""
    says = f"attention {100 * window.attention:.0f}\u00a0%" + (f", weight {window.weight:+.2f}" if signed else "")
    return f'<span class="window" data-says="{says}"></span>'


def _folded(passage: _Passage, content: str) -> str:
    if not passage.read:
        content = f'<span class="unread">{content}</span>'
    if not passage.folded:
        return content
    # The button's text is made by the style, so that it is no part of the text that is searched and copied.
    name = counted(passage.num_words, "word") + ("" if passage.read else " not read")
    return (
        f'<button type="button" class="fold" aria-expanded="false" data-at="{passage.start}" aria-label="{name}">'
        f'</button><span class="rest">{content}</span>'
    )
