"""Explained texts as one HTML page that needs nothing else: no network, no files beside it, every text as it is."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template

from textattn.explain.explanations import Explanation
from textattn.explain.methods import METHODS, UNSIGNED
from textattn.runtime.classifier import Prediction

# Shades of a hue; a word is marked from the first strength on, and a passage with one of the second is telling.
SHADES = 4
LEAST_SHADED = 0.1
TELLING = 0.5
# Of a text of more words than this only the telling passages are unfolded; fewer words than the second never fold.
SHOWN_IN_FULL = 150
LEAST_FOLDED = 15
# A sentence of more words than this is cut into passages of so many.
LONGEST_PASSAGE = 50
# Rows in the table of the strongest words.
TABLE_ROWS = 10

# A control character is shown as a picture of itself: browsers drop, replace or obey it.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    code: 0x2421 if code == 127 else 0xFFFD for code in range(127, 160)
}
# Words as they are counted for people: one for each Chinese or Japanese character; long runs count as several.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]{1,20}")
_SENTENCE_END = re.compile(r"(?:<br ?/?>|\n)\s*|[.!?…؟।]+[\"'”’»)\]]*\s+|[。！？｡]+[”’」』）]*\s*")


@dataclass(frozen=True)
class PageText:
    """One text of the page."""

    explanations: Sequence[Explanation]
    """One for each method, all of the same text."""
    gold: str | None = None
    """Its true label where known; of several labels: joined by ", "."""
    evidence: Sequence[tuple[int, int]] = ()
    """Characters that people marked, half-open."""

    @property
    def right(self) -> bool | None:
        """Whether all true labels were given and no other; None where they are not known."""
        if self.gold is None:
            return None
        # Piece by piece, as a label may hold a comma itself and the order may differ.
        return sorted(self.gold.split(", ")) == sorted(", ".join(self.prediction.labels).split(", "))

    @property
    def prediction(self) -> Prediction:
        """The model's answer, the same for every method."""
        return self.explanations[0].prediction


def render_page(texts: Sequence[PageText], verdicts: Mapping[str, str], *, labels: Sequence[str], model: str) -> str:
    """The page; the same input gives the same bytes.

    Args:
        verdicts: method -> how far its highlights can be trusted, in a sentence; may lack methods.
        labels: of the model, in its order.
        model: its name.
    """
    methods = list(dict.fromkeys(explanation.method for text in texts for explanation in text.explanations))
    gold = _Choices([_gold_labels(text.gold, labels) for text in texts], labels)
    given = _Choices([text.prediction.labels for text in texts], labels)
    articles = (
        _article(number, text, methods, gold.indices[number - 1], given.indices[number - 1])
        for number, text in enumerate(texts, 1)
    )
    evidence = any(text.evidence for text in texts)
    return Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8")).substitute(
        title=_shown(f"{model}: {_counted(len(texts), 'text')} explained"),
        model=_shown(model),
        facts=_facts(texts),
        about="\n".join(_about(i, method, verdicts.get(method), evidence) for i, method in enumerate(methods)),
        methods=_method_switch(methods),
        right="" if all(text.right is None for text in texts) else _RIGHT,
        gold=_select("gold", "True label", gold),
        given=_select("given", "Predicted", given),
        count=_counted(len(texts), "text"),
        texts="\n".join(articles),
    )


class _Choices:
    """The labels that occur, as options of a filter, and for each text those that it has."""

    def __init__(self, of_texts: Sequence[Sequence[str] | None], labels: Sequence[str]) -> None:
        # A text without any label is found under an option of its own.
        rows = [None if names is None else names or [""] for names in of_texts]
        found = [name for names in rows for name in names or ()]
        self.names = [name for name in dict.fromkeys([*labels, *found]) if name in set(found)]
        number = {name: i for i, name in enumerate(self.names)}
        self.counts = [found.count(name) for name in self.names]
        self.indices = [" ".join(str(number[name]) for name in names or ()) for names in rows]


def _gold_labels(gold: str | None, labels: Sequence[str]) -> list[str] | None:
    if gold is None or not gold:
        return None if gold is None else []
    if gold in labels:
        return [gold]
    # A label may hold a comma itself.
    return [name for name in labels if f", {name}, " in f", {gold}, "] or [gold]


def _shown(text: str) -> str:
    """Escaped for content and for attributes, control characters made visible."""
    return escape(_visible(text))


def _visible(text: str) -> str:
    """As long as the text. The carriage return of a Windows line end becomes a space, which is not seen there."""
    return text.replace("\r\n", " \n").translate(_VISIBLE)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _number(weight: float, signed: bool) -> str:
    return f"{weight:{'+' if signed else ''}.3g}".replace("-", "−")


def _facts(texts: Sequence[PageText]) -> str:
    known = [text.right for text in texts if text.right is not None]
    facts = [_counted(len(texts), "text")]
    if known:
        of = "" if len(known) == len(texts) else f" of the {len(known):,} with a known label"
        facts.append(f"{sum(known):,}{of} right ({100 * sum(known) / len(known):.1f} %)")
    return " · ".join(facts)


def _about(index: int, method: str, verdict: str | None, evidence: bool) -> str:
    """A method with its verdict and its legend."""
    said = f'<p class="verdict">{_shown(verdict)}</p>' if verdict else ""
    shades = range(1, SHADES + 1)
    if method in UNSIGNED:
        legend = f"<span>less</span>{''.join(_swatch('a', level) for level in shades)}<span>more attention</span>"
    else:
        legend = (
            f"<span>against the label</span>{''.join(_swatch('c', level) for level in reversed(shades))}"
            f'<i class="gap"></i>{"".join(_swatch("p", level) for level in shades)}<span>for the label</span>'
        )
    if evidence:
        legend += '<span class="ev key">marked by people</span>'
    return (
        f'<section data-method="{index}"{" hidden" if index else ""}><h2>{_shown(method)} '
        f'<small>{_shown(METHODS.get(method, ""))}</small></h2>{said}<p class="legend">{legend}</p></section>'
    )


def _swatch(hue: str, level: int) -> str:
    return f'<mark class="{hue}{level}">word</mark>'


def _method_switch(methods: Sequence[str]) -> str:
    if len(methods) < 2:
        return ""
    names = [*methods, "side by side"]
    radios = (
        f'<label><input type="radio" name="method" value="{"all" if i == len(methods) else i}"'
        f"{'' if i else ' checked'}><span>{_shown(name)}</span></label>"
        for i, name in enumerate(names)
    )
    return f'<fieldset class="switch"><legend>Method</legend>{"".join(radios)}</fieldset>'


_RIGHT = (
    '<label>Answers<select id="right"><option value="">all</option><option value="1">right</option>'
    '<option value="0">wrong</option></select></label>'
)


def _select(name: str, title: str, choices: _Choices) -> str:
    if not choices.names:
        return ""
    options = (
        f'<option value="{i}">{_shown(label) if label else "(none)"} ({count:,})</option>'
        for i, (label, count) in enumerate(zip(choices.names, choices.counts, strict=True))
    )
    return f'<label>{title}<select id="{name}"><option value="">any</option>{"".join(options)}</select></label>'


def _article(number: int, text: PageText, methods: Sequence[str], gold: str, given: str) -> str:
    right = "" if text.right is None else str(int(text.right))
    shape = _Shape(text)
    panels = (_panel(methods.index(explanation.method), explanation, shape) for explanation in text.explanations)
    return (
        f'<article data-right="{right}" data-gold="{gold}" data-given="{given}">'
        f'<header><h2><span class="number">{number}</span> {_answer(text.prediction)}</h2>{_marker(text)}</header>'
        f'<div class="panels">{"".join(panels)}</div></article>'
    )


def _answer(prediction: Prediction) -> str:
    given = (
        f'<span class="label"><bdi>{_shown(label)}</bdi> <span class="score">{prediction.scores[label]:.3f}</span></span>'
        for label in prediction.labels
    )
    return " ".join(given) or '<span class="label">no label</span>'


def _marker(text: PageText) -> str:
    if text.gold is None:
        return ""
    if text.right:
        return f'<p class="marker right">✓ right<span class="unseen">: <bdi>{_shown(text.gold)}</bdi></span></p>'
    return f'<p class="marker wrong">✗ wrong: <bdi>{_shown(text.gold) or "no label"}</bdi></p>'


def _panel(index: int, explanation: Explanation, shape: _Shape) -> str:
    notes = []
    if explanation.truncated:
        notes.append("The text is longer than the model reads; the rest was left out.")
    if (error := explanation.completeness_error) is not None:
        figure = f"{100 * error:.1f} %" if math.isfinite(error) else "not defined"
        notes.append(f'<span title="How far the weights’ sum is from the change">Completeness error: {figure}</span>')
    hidden = " hidden" if index else ""
    return (
        f'<section class="panel" data-method="{index}"{hidden}><p class="why"><b>{_shown(explanation.method)}</b> '
        f'<span>{_why(explanation)}</span></p><div class="text" dir="auto">{_body(explanation, shape)}</div>'
        f"{''.join(f'<p class="note">{note}</p>' for note in notes)}{_table(explanation)}</section>"
    )


def _why(explanation: Explanation) -> str:
    if not explanation.signed:
        return "where it looked, the same for every label"
    against = "" if explanation.against is None else f" rather than <bdi>{_shown(explanation.against)}</bdi>"
    return f"why <bdi>{_shown(explanation.target)}</bdi>{against}"


def _strengths(explanation: Explanation) -> list[float]:
    """For each word, from -1 to 1: against the target or for it; of attention: what is over an equal share."""
    words = explanation.words
    top = max((abs(word.weight) for word in words), default=0.0) or 1.0
    floor = 0.0 if explanation.signed else 1 / max(len(words), 1)
    return [
        (word.weight if explanation.signed else max(word.weight - floor, 0.0)) / top if word.text.strip() else 0.0
        for word in words
    ]


def _shade(strength: float, signed: bool) -> str:
    """A class of the page's style: hue and level; "" for none."""
    if not abs(strength) >= LEAST_SHADED:
        return ""
    hue = "a" if not signed else "p" if strength > 0 else "c"
    return f"{hue}{min(int(abs(strength) * SHADES) + 1, SHADES)}"


@dataclass(frozen=True)
class _Passage:
    start: int
    end: int
    num_words: int
    read: bool
    folded: bool


class _Shape:
    """What the panels of a text have in common, so that they can be compared: passages, and what people marked."""

    def __init__(self, page_text: PageText) -> None:
        first = page_text.explanations[0]
        self.evidence = _merged(page_text.evidence)
        self.visible = _visible(first.text)
        self.unread = _unread(first)
        self._starts = [match.start() for match in _WORD.finditer(first.text)]
        if self._count(0, len(first.text)) <= SHOWN_IN_FULL:
            cuts = sorted({0, *self.unread, len(first.text)})
            self.passages = [self._passage(a, b, False) for a, b in pairwise(cuts)]
        else:
            self.passages = self._fold(first, self._telling(page_text))

    def _count(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def _passage(self, start: int, end: int, folded: bool) -> _Passage:
        read = not (self.unread and self.unread[0] <= start < self.unread[1])
        count = self._count(start, end)
        return _Passage(start, end, count, read, folded and count >= LEAST_FOLDED)

    def _telling(self, page_text: PageText) -> list[int]:
        """Characters, in order: strong words of any method, so that all panels unfold the same, and evidence."""
        strong = [
            word.start
            for explanation in page_text.explanations
            for word, strength in zip(explanation.words, _strengths(explanation), strict=True)
            if abs(strength) >= TELLING
        ]
        return sorted([*strong, *(start for start, _ in self.evidence), *(end - 1 for _, end in self.evidence)])

    def _fold(self, explanation: Explanation, telling: list[int]) -> list[_Passage]:
        cuts = self._cuts(explanation)
        # Of a text without any the beginning is shown.
        telling = telling or cuts[:1]
        spans: list[tuple[int, int]] = []
        kinds: list[tuple[bool, bool]] = []
        for start, end in pairwise(cuts):
            tells = bisect_left(telling, end) > bisect_left(telling, start) or any(
                a < end and start < b for a, b in self.evidence
            )
            kind = (tells, self._passage(start, end, False).read)
            if kinds and kinds[-1] == kind:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
                kinds.append(kind)
        return [self._passage(start, end, not tells) for (start, end), (tells, _) in zip(spans, kinds, strict=True)]

    def _cuts(self, explanation: Explanation) -> list[int]:
        """Ends of sentences and lines, and of too long a passage in between; never inside a word."""
        text = explanation.text
        ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
        cuts = {*ends, *self.unread}
        for start, end in pairwise(ends):
            first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
            cuts.update(self._starts[first + LONGEST_PASSAGE : last : LONGEST_PASSAGE])
        starts = [word.start for word in explanation.words]

        def inside(place: int) -> bool:
            before = bisect_left(starts, place) - 1
            return before >= 0 and explanation.words[before].end > place

        return sorted(place for place in cuts if not inside(place))


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
    ends = [0, *(place for word in explanation.words for place in (word.start, word.end)), len(explanation.text)]
    return max(((a, b) for a, b in pairwise(ends)), key=lambda gap: gap[1] - gap[0])


def _body(explanation: Explanation, shape: _Shape) -> str:
    """The text in passages, those in pieces that people marked or not, those in words."""
    strengths = _strengths(explanation)
    marked = [
        (word.start, word.end, shade, _number(word.weight, explanation.signed))
        for word, strength in zip(explanation.words, strengths, strict=True)
        if (shade := _shade(strength, explanation.signed))
    ]
    ends = [end for _, end, _, _ in marked]

    def words(start: int, end: int) -> Iterator[str]:
        position = start
        for a, b, shade, number in marked[bisect_right(ends, start) :]:
            if a >= end:
                break
            a, b = max(a, start), min(b, end)
            yield escape(shape.visible[position:a], quote=False)
            yield f'<mark class="{shade}" title="{number}">{escape(shape.visible[a:b], quote=False)}</mark>'
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

    return "".join(_folded(passage, "".join(pieces(passage.start, passage.end))) for passage in shape.passages)


def _folded(passage: _Passage, content: str) -> str:
    if not passage.read:
        content = f'<span class="unread">{content}</span>'
    if not passage.folded:
        return content
    # The button's text is made by the style, so that it is no part of the text that is searched and copied.
    name = _counted(passage.num_words, "word") + ("" if passage.read else " not read")
    return (
        f'<button type="button" class="fold" aria-expanded="false" data-at="{passage.start}" aria-label="{name}">'
        f'</button><span class="rest">{content}</span>'
    )


def _table(explanation: Explanation) -> str:
    strengths = _strengths(explanation)
    words = [pair for pair in zip(explanation.words, strengths, strict=True) if pair[0].text.strip()]
    if not words:
        return ""
    top = max(abs(word.weight) for word, _ in words) or 1.0
    rows = "".join(
        f"<tr><td><bdi>{_shown(' '.join(word.text.split()))}</bdi><td>{_number(word.weight, explanation.signed)}"
        f'<td><i class="{_shade(strength, explanation.signed)}" style="width:{100 * abs(word.weight) / top:.0f}%"></i>'
        for word, strength in sorted(words, key=lambda pair: -abs(pair[0].weight))[:TABLE_ROWS]
    )
    return (
        f'<details><summary>Strongest words</summary><table><thead><tr><th scope="col">word<th scope="col">weight'
        f'<th scope="col"><span class="unseen">as a bar</span><tbody>{rows}</table></details>'
    )
