"""Long texts on a terminal: what is left out, and what never is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.explain.explanations import Explanation
from textattn.explain.folding import SHORT, fold
from textattn.explain.terminal import View, highlight
from textattn.inference.classifier import Prediction
from textattn.inference.words import Word


def words_of(text: str, strong: dict[str, float]) -> list[Word]:
    words, position = [], 0
    for piece in text.split():
        start = text.index(piece, position)
        position = start + len(piece)
        words.append(Word(piece, start, position, strong.get(piece.strip("."), 0.0)))
    return words


def explained(text: str, strong: dict[str, float]) -> Explanation:
    prediction = Prediction("pos", 0.9, {"neg": 0.1, "pos": 0.9}, ["pos"])
    words = words_of(text, strong)
    return Explanation(text, prediction, "pos", None, "occlusion", [], [], [], [], words, [0.0] * len(words), False)


FOLDED, WHOLE = View(8, 80, False, False, folded=True), View(8, 80, True, False)


FILLER = "This is a sentence about nothing at all. " * 40


def test_a_short_text_is_whole() -> None:
    text = "word " * SHORT
    assert fold(text, words_of(text, {}), lambda word: word.weight) == []


def test_only_telling_sentences_of_a_long_text_stay() -> None:
    text = FILLER + "It was superb throughout. " + FILLER + "The end was dull. " + FILLER
    shown = "".join(piece for piece, _ in highlight(explained(text, {"superb": 1.0, "dull": -0.6}), FOLDED))
    assert shown == (
        "[… 320 words …] It was [superb] throughout. [… 320 words …] The end was {dull.} [… 320 words …] "
    ).replace("{dull.}", "{dull.}")


def test_unfolded_the_text_is_as_it_is() -> None:
    text = FILLER + "It was superb throughout."
    assert "".join(piece for piece, _ in highlight(explained(text, {}), WHOLE)) == text


def test_the_strongest_word_is_shown_however_long_its_sentence() -> None:
    text = "One. " + "word " * 400 + "superb " + "word " * 400 + "end. " + FILLER
    shown = "".join(piece for piece, _ in highlight(explained(text, {"superb": 1.0}), FOLDED))
    assert "[superb]" in shown


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "bb.", "c!\n", "早。", "d…", "e"]), st.floats(-1, 1)), max_size=400),
    st.sampled_from([" ", "\n", ""]),
)
def test_what_is_left_out_and_what_is_shown_make_the_text(pieces: list[tuple[str, float]], space: str) -> None:
    text, words = "", []
    for piece, weight in pieces:
        words.append(Word(piece.strip(), len(text), len(text) + len(piece.strip()), weight))
        text += piece + space
    folds = fold(text, words, lambda word: abs(word.weight))
    ends = [0, *(end for passage in folds for end in (passage.start, passage.end)), len(text)]
    assert ends == sorted(ends)
    inside = [word for word in words if any(f.start <= word.start < f.end for f in folds)]
    assert sum(passage.num_words for passage in folds) == len(inside)
    # No word is cut, and the strongest of all is shown.
    assert all(word.end <= f.end for word in inside for f in folds if f.start <= word.start < f.end)
    if words and max(abs(word.weight) for word in words) > 0:
        top = max(abs(word.weight) for word in words)
        assert any(abs(word.weight) == top for word in words if word not in inside)
