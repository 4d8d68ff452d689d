"""What the tests of the page share: explanations to show, a reader of pages, what a reader should see."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from textattn.explain.explanations import Explanation
from textattn.explain.html import PageText, render_page
from textattn.inference.classifier import Prediction
from textattn.inference.words import Word

LABELS = ["neg", "pos"]
METHODS = ["attention", "integrated_gradients", "occlusion"]
POS = Prediction("pos", 0.9, {"neg": 0.1, "pos": 0.9}, ["pos"])


def explain(
    text: str,
    weights: Mapping[str, float] | None = None,
    method: str = "occlusion",
    prediction: Prediction = POS,
    **more: Any,
) -> Explanation:
    """By hand: a word for each run without white space, with the weight given for it, else 0."""
    words = [
        Word(match[0], match.start(), match.end(), (weights or {}).get(match[0], 0.0))
        for match in re.finditer(r"\S+", text)
    ]
    return of_words(text, words, method, prediction, **more)


def of_words(
    text: str, words: list[Word], method: str = "occlusion", prediction: Prediction = POS, **more: Any
) -> Explanation:
    settings = {"target": prediction.label, "against": None, "truncated": False, **more}
    tokens, offsets = [word.text for word in words], [(word.start, word.end) for word in words]
    weights = [word.weight for word in words]
    attention = [1 / len(words) for _ in words]
    settings = {"attention_weights": attention, "word_attention": attention, **settings}
    return Explanation(
        text, prediction, method=method, tokens=tokens, offsets=offsets, weights=weights, words=words, **settings
    )


def render(*texts: PageText | Explanation, labels: Sequence[str] = LABELS, model: str = "m", **verdicts: str) -> str:
    pages = [text if isinstance(text, PageText) else PageText([text]) for text in texts]
    return render_page(pages, verdicts, labels=labels, model=model)


@dataclass(eq=False, repr=False)  # a repr would hold all elements around it, each with its own
class Element:
    """One element of the page as it was written."""

    tag: str
    attributes: dict[str, str]
    inside: tuple[Element, ...]
    """From the outermost on."""
    text: str = ""
    characters: list[tuple[str, tuple[Element, ...]]] = field(default_factory=list)
    """Of a text: with the elements within this one that each is in."""

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


class Page(HTMLParser):
    """Elements in order; refuses tags that do not match."""

    VOID = ("meta", "input")
    UNCLOSED = ("tr", "td", "th", "thead", "tbody", "dt", "dd")  # closed by what follows them

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.comments = 0
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len({name for name, _ in attrs}) < len(attrs):
            raise AssertionError(f"an attribute twice: {self.get_starttag_text()}")
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in (*self.VOID, *self.UNCLOSED):
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for depth, element in enumerate(self.open):
            element.text += data
            if "text" in element.classes:
                element.characters += [(character, tuple(self.open[depth + 1 :])) for character in data]

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    def all(self, tag: str = "", class_: str = "", **attributes: str) -> list[Element]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if (not tag or element.tag == tag)
            and (not class_ or class_ in element.classes)
            and wanted.items() <= element.attributes.items()
        ]

    def bodies(self) -> list[Element]:
        return self.all("div", "text")


def seen(text: str) -> str:
    """What a reader should see of it, as long as the text."""
    shown = ""
    for i, character in enumerate(text):
        code = ord(character)
        if text[i : i + 2] == "\r\n":
            shown += " "
        elif code < 32 and character not in "\t\n":
            shown += chr(0x2400 + code)
        elif code == 127:
            shown += "␡"
        else:
            shown += "�" if 128 <= code < 160 else character
    return shown


def expected_shade(word: Word, words: list[Word], signed: bool) -> str:
    """By the rules as they are told to users: relative to the strongest word; attention above an equal share."""
    top = max(abs(other.weight) for other in words)
    weight = word.weight if signed else max(word.weight - 1 / len(words), 0)
    if not word.text.strip() or top == 0 or abs(weight) / top < 0.15:
        return ""
    hue = ("p" if weight > 0 else "c") if signed else "a"
    return hue + str(1 + sum(abs(weight) / top >= border for border in (0.25, 0.5, 0.75)))


PIECES = [
    *("word", " ", " ", ". ", "! ", "\n", "\n\n", "\t", "\r\n", "\r", "<br />", "<br /><br />", "。", "日本語の映画"),
    *("…", "Mr. ", "x" * 50),
    *("<", "&", "&amp;", "</mark>", "\x00", "\x85", "\u2028", "العربية", "؟ ", "e\u0301", "👩‍👩‍👧"),
]  # fmt: skip
PIECE = st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
TEXTS = st.lists(PIECE, max_size=12).map("".join) | st.lists(PIECE, min_size=150, max_size=400).map("".join)
# Few different values, so that some are equal to each other and to the limits.
WEIGHTS = st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.15, -0.25, 0.5, -0.5, 0.75, 1.0, -1.0]) | st.floats(-2, 2)


@st.composite
def page_texts(draw: st.DrawFn) -> PageText:
    text = draw(TEXTS)
    places = st.integers(0, len(text))
    borders = sorted(draw(st.lists(places, max_size=60, unique=True)))
    spans = [(a, b) for a, b in pairwise(borders) if draw(st.booleans())]
    explanations = []
    for method in ("occlusion", "attention"):
        words = [Word(text[a:b], a, b, draw(WEIGHTS)) for a, b in spans]
        if method == "attention":
            total = math.fsum(abs(word.weight) for word in words) or 1
            words = [replace(word, weight=abs(word.weight) / total) for word in words]
        explanations.append(of_words(text, words, method, truncated=draw(st.booleans())))
    evidence = draw(st.lists(st.tuples(places, places).map(lambda pair: (min(pair), max(pair))), max_size=4))
    return PageText(explanations, draw(st.sampled_from([None, ["pos"], ["neg"]])), evidence)
