"""From weights of tokens to words: spans in order, apart, whole graphemes, and no weight lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.config.model_section import TokenizerConfig
from textattn.inference.words import Word, merge_words
from textattn.tokens.tokenizer import TextTokenizer, TokenizedText
from textattn.tokens.train_tokenizer import train_tokenizer

TYPES = ["word", "wordpiece", "bpe", "unigram", "char", "formula", "composition"]
TEXTS = [
    "The film was really good, don't miss it! unbelievable",
    "A cafe\u0301, 日本語 and العربية 👍🏽 👩‍👩‍👧 🇫🇷 ❤️ LiFePO4 Ag0.5",
] * 3
PIECES = [
    *("👍🏽", "👍", "🏽", "👩‍👩‍👧", "👩‍", "🇫🇷", "❤️", "1️⃣", "a🏽b", "e\u0301", "e\u0323\u0301", "q\u0307\u0323"),
    *("\u0301", "\u200d", "\u1112\u1161\u11ab", "ﬁ", "ﷺ", "Ａ１", "ｶﾞ", "½", "日本", "عَ", "का", "\u0600", "don't"),
    *("unbelievable", "film", " ", "\t", "\r\n", "\x00", "\u3000", "<br />", "<br/>", "...", "[PAD]", "LiFePO4"),
]  # fmt: skip
NASTY = st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=10)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, TextTokenizer]:
    def train(kind: str) -> TextTokenizer:
        size = 300 if kind == "bpe" else 120
        config = TokenizerConfig.model_validate(
            {"type": kind, "min_frequency": 1, "vocab_size": size, "max_length": 12}
        )
        return train_tokenizer(config.model_copy(update={"truncation": "head_tail"}), iter(TEXTS), 2)

    return {kind: train(kind) for kind in TYPES}


def cuts_a_grapheme(text: str, place: int) -> bool:
    """By rules of our own: what certainly belongs to the character before it."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if before in "\r\n" or unicodedata.category(before) in ("Cc", "Zl", "Zp") or before == "\u00ad":
        return before + after == "\r\n"
    joined = unicodedata.combining(after) > 0 or after in "\u200d\ufe0f\u20e3" or "\U0001f3fb" <= after <= "\U0001f3ff"
    emoji = place > 1 and before == "\u200d" and text[place - 2] in "👩👧" and after in "👩👧👍"
    return joined or emoji


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=150, deadline=None)
@given(pieces=NASTY, data=st.data())
def test_words_are_in_order_apart_whole_and_keep_all_weight(
    tokenizers: dict[str, TextTokenizer], kind: str, pieces: list[str], data: st.DataObject
) -> None:
    text = "".join(pieces)
    tokenized = tokenizers[kind].encode_with_offsets([text])[0]
    number = len(tokenized.tokens)
    weights = data.draw(st.lists(st.floats(0, 1, width=32), min_size=number, max_size=number))
    words = merge_words(text, tokenized, weights)
    assert abs(sum(word.weight for word in words) - sum(weights)) < 1e-6
    last = 0
    for word in words:
        assert last <= word.start <= word.end <= len(text)
        assert word.text == text[word.start : word.end]
        assert not cuts_a_grapheme(text, word.start) and not cuts_a_grapheme(text, word.end)
        last = word.end
    assert words
    covered = {i for word in words for i in range(word.start, word.end)}
    assert {i for start, end in tokenized.offsets for i in range(start, end) if not text[i].isspace()} <= covered


def words(tokenizer: TextTokenizer, text: str) -> list[str]:
    tokenized = tokenizer.encode_with_offsets([text])[0]
    return [word.text for word in merge_words(text, tokenized, [0.5] * len(tokenized.tokens))]


@pytest.mark.parametrize("kind", ["word", "wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unbelievable films, don't!", ["Unbelievable", "films", ",", "don't", "!"]),
        ("cafe\u0301 👍🏽👩‍👩‍👧", ["cafe\u0301", "👍🏽", "👩‍👩‍👧"]),
        ("a🏽b ½ ﷺ", ["a🏽", "b", "½", "ﷺ"]),
        ("fine\tfilm", ["fine", "\t", "film"]),
        ("one<br />two", ["one", "two"]),
    ],
)
def test_sub_words_become_the_words_a_person_sees(
    tokenizers: dict[str, TextTokenizer], kind: str, text: str, expected: list[str]
) -> None:
    tokenizer = TextTokenizer(tokenizers[kind].backend, max_length=100, truncation="head")
    assert words(tokenizer, text) == expected


def test_characters_stay_apart(tokenizers: dict[str, TextTokenizer]) -> None:
    assert words(tokenizers["char"], "ab e\u0301👩‍👩‍👧") == ["a", "b", "e\u0301", "👩‍👩‍👧"]
    assert words(tokenizers["formula"], "Ag0.5(OH)") == ["Ag", "0.5", "(", "O", "H", ")"]


def test_weights_of_one_word_are_summed() -> None:
    tokenized = TokenizedText([1, 2, 3, 4], ["un", "##kind", "▁film", "!"], [(0, 2), (2, 6), (6, 11), (11, 12)],
                              [0, 0, 1, 2], False)  # fmt: skip
    assert merge_words("unkind film!", tokenized, [0.1, 0.25, 0.5, 0.15]) == [
        Word("unkind", 0, 6, pytest.approx(0.35)),
        Word("film", 7, 11, 0.5),
        Word("!", 11, 12, 0.15),
    ]


def test_a_word_cut_by_truncation_is_shown_as_far_as_it_is_kept() -> None:
    config = TokenizerConfig(type="char", min_frequency=1, max_length=4, truncation="head_tail")
    tokenizer = train_tokenizer(config, iter(["abcdefgh"]), 1)
    assert words(tokenizer, "abcdefgh") == ["a", "b", "g", "h"]


@pytest.mark.parametrize("text", ["", "   ", "<br />"])
def test_a_text_without_tokens_keeps_its_weight(tokenizers: dict[str, TextTokenizer], text: str) -> None:
    tokenized = tokenizers["word"].encode_with_offsets([text])[0]
    (word,) = merge_words(text, tokenized, [1.0])
    assert word.weight == 1.0 and word.text == text.strip()
