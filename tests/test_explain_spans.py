"""What is highlighted in texts of any script: pieces of the original text, in order, apart, with no character split."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pytest
from explain_models import build, same
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from textattn.api import Model
from textattn.explain.explanations import Explanation
from textattn.explain.flips import find_flip
from textattn.inference.words import find_words

TYPES = ["word", "wordpiece", "bpe", "unigram", "char", "formula"]
CORPUS = [
    "The film was really good, don't miss it! It's l'été, unbelievable... 10/10",
    "A cafe\u0301, 这部电影很好。العربية جيدة जय ที่ 한국 👍🏽 👩‍👩‍👧 🇫🇷 ❤️ 1️⃣ LiFePO4 Ca(OH)2 Ag0.5 NaCl·6H2O",
]
# Pieces of text as lists of what a reader takes for one character each; none joins with a neighbour.
WHOLE = [
    *(list("don't"), list("it’s"), list("film"), list("unbelievable"), list("l'été"), list("..."), list("!")),
    *(
        list("这部电影"),
        list("很好。"),
        list("日本"),
        list("العربية"),
        ["ع\u064e", "ر"],
        ["य"],
        ["जा"],
        ["ที่"],
        list("한국"),
    ),
    *(["👍🏽"], ["👍"], ["👩‍👩‍👧"], ["🏳️‍🌈"], ["🇫🇷"], ["🇩🇪"], ["❤️"], ["1️⃣"], ["🏴\U000e0067\U000e0062\U000e007f"]),
    *(["e\u0301"], ["q\u0307\u0323"], ["a\u0308\u0304", "b"], ["ﬁ"], ["Ａ"], ["½"], ["ﷺ"], ["\u1112\u1161\u11ab"]),
    *(list("LiFePO4"), list("Ca(OH)2"), list("Ag0.5"), ["<br />"], [" "], ["\r\n"], ["\u3000"], [" ", " "]),
]
TEXT = st.lists(st.sampled_from(WHOLE), max_size=8)
CLASSIFIERS = {kind: build(kind=kind, corpus=CORPUS * 2, vocab_size=400, max_length=200) for kind in TYPES}
every_type = pytest.mark.parametrize("kind", TYPES)


def check(explanation: Explanation, text: str, borders: set[int]) -> None:
    """Spans and the gaps between them are the text; no span begins or ends inside a character."""
    position, rebuilt, gaps = 0, "", ""
    for word in explanation.words:
        assert position <= word.start <= word.end
        assert {word.start, word.end} <= borders
        assert word.text == text[word.start : word.end]
        gaps += text[position : word.start] + " "
        rebuilt += text[position : word.start] + word.text
        position = word.end
    assert rebuilt + text[position:] == text == explanation.text
    assert not explanation.truncated
    assert not (gaps + text[position:]).replace("<br />", "").strip()
    same(sum(word.weight for word in explanation.words), sum(explanation.weights), 1e-9)


def borders_of(characters: Sequence[str]) -> set[int]:
    return {0, *itertools.accumulate(map(len, characters))}


@every_type
@settings(max_examples=40, deadline=None)
@given(pieces=TEXT)
def test_spans_and_gaps_are_the_text_and_no_character_is_split(kind: str, pieces: list[list[str]]) -> None:
    characters = list(itertools.chain.from_iterable(pieces))
    text = "".join(characters)
    assume(text.strip())
    classifier = CLASSIFIERS[kind]
    for method in ("attention", "occlusion"):
        (explanation,) = classifier.explain(text, method=method)
        check(explanation, text, borders_of(characters))
    (tokenized,) = classifier.tokenizer.encode_with_offsets([text])
    spans = find_words(text, tokenized)
    # Every token is in a word, and the words are numbered as they come.
    assert spans.word_of.tolist() == sorted(spans.word_of.tolist())
    assert sorted(set(spans.word_of.tolist())) == list(range(len(spans.spans)))
    assert [(word.start, word.end) for word in explanation.words] == spans.spans
    for (start, end), word in zip(tokenized.offsets, spans.word_of, strict=True):
        first, last = spans.spans[word]
        assert set(re.sub(r"\s", "", text[start:first] + text[max(last, start) : end])) == set()


@every_type
@settings(max_examples=15, deadline=None)
@given(pieces=TEXT)
def test_what_would_flip_an_answer_is_in_whole_characters_too(kind: str, pieces: list[list[str]]) -> None:
    characters = list(itertools.chain.from_iterable(pieces))
    text = "".join(characters)
    assume(text.strip())
    found = find_flip(CLASSIFIERS[kind], text)
    if found is not None:
        last = 0
        for word in found.words:
            assert last <= word.start < word.end
            assert {word.start, word.end} <= borders_of(characters)
            assert word.text == text[word.start : word.end]
            assert word.text.strip()
            last = word.end


def words(classifier: Model, text: str) -> list[str]:
    (explanation,) = classifier.explain(text, method="occlusion")
    return [word.text for word in explanation.words]


@pytest.mark.parametrize("kind", ["word", "wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize(
    "expected",
    [
        ["Don't", "it’s", "l'été", "they'll've"],
        ["电影", "，", "很好", "。"],
        ["العربية", "،", "جيدة"],
        ["👍🏽", "👩‍👩‍👧", "🇫🇷", "🏳️‍🌈", "1️⃣"],
        ["cafe\u0301", "a\u0308\u0304", "ที่"],
        ["한국", "\u1112\u1161\u11ab"],
        ["Ａ", "ﬁ", "½"],
    ],
)
def test_words_of_many_scripts(kind: str, expected: list[str]) -> None:
    assert words(CLASSIFIERS[kind], "  ".join(expected)) == expected
    assert words(CLASSIFIERS[kind], "<br />".join(expected)) == expected
    assert words(CLASSIFIERS[kind], "\n" + "\r\n".join(expected) + "\n\n") == expected


def test_characters_and_formulas() -> None:
    assert words(CLASSIFIERS["char"], "很好。👍🏽e\u0301 ﬁ") == ["很", "好", "。", "👍🏽", "e\u0301", "ﬁ"]
    assert words(CLASSIFIERS["formula"], "LiFePO4") == ["Li", "Fe", "P", "O", "4"]
    assert words(CLASSIFIERS["formula"], "Ca(OH)2 Ag0.5") == ["Ca", "(", "O", "H", ")", "2", "Ag", "0.5"]


@every_type
def test_emoji_in_a_row_stay_apart(kind: str) -> None:
    assert words(CLASSIFIERS[kind], "👍🏽👍👩‍👩‍👧🇫🇷🇩🇪❤️") == ["👍🏽", "👍", "👩‍👩‍👧", "🇫🇷", "🇩🇪", "❤️"]


@every_type
def test_what_was_not_read_is_in_no_word(kind: str) -> None:
    classifier = build(kind=kind, corpus=CORPUS, vocab_size=400, max_length=4)
    text = "good film don't 这部电影 👩‍👩‍👧 miss it e\u0301"
    (explanation,) = classifier.explain(text, method="occlusion")
    assert explanation.truncated
    assert len(explanation.tokens) == 4
    assert explanation.words[-1].end < len(text)
    assert [word.text for word in explanation.words] == [text[w.start : w.end] for w in explanation.words]
    # What is explained is what was read.
    same(explanation.prediction.score, classifier.predict_proba([text]).max())
    assert np.isfinite([word.weight for word in explanation.words]).all()
