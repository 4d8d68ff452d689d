"""What would flip an answer: it does, and a search through all sets finds nothing smaller."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from textattn.config.model_section import TokenizerConfig
from textattn.errors import InputError
from textattn.explain import flips
from textattn.explain.erasure import pack
from textattn.explain.flips import Flip, find_flip
from textattn.inference.classifier import Classifier, Prediction
from textattn.inference.session import BatchOutput
from textattn.storage.model_files import ModelFiles, SavedConfig
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer

WORDS = ["good", "bad", "kind", "not", "room", "food", "staff", "dull"]
many = settings(max_examples=60, deadline=None)


class Rules:
    """A session whose answers are sums: something for each token, and for each pair of neighbours."""

    workers = 1
    threads = None
    gives_contributions = False
    max_tokens = 5000
    metadata = MappingProxyType({})

    def __init__(self, tokens: NDArray[np.float64], neighbours: NDArray[np.float64]) -> None:
        self.tokens = tokens
        self.neighbours = neighbours

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], *, with_contributions: bool = False
    ) -> BatchOutput:
        assert not with_contributions
        both = attention_mask[:, 1:, None] * self.neighbours[input_ids[:, :-1], input_ids[:, 1:]]
        logits = (attention_mask[:, :, None] * self.tokens[input_ids]).sum(1) + both.sum(1)
        weights = attention_mask / attention_mask.sum(1, keepdims=True)
        return BatchOutput(logits.astype(np.float32), weights.astype(np.float32), logits.astype(np.float32))


def tokenizer(kind: str = "word", segments: int = 1) -> TextTokenizer:
    config = TokenizerConfig.model_validate({"type": kind, "min_frequency": 1, "vocab_size": 60, "max_length": 300})
    return train_tokenizer(config, iter([" ".join(WORDS)]), segments)


TOKENIZERS = {kind: tokenizer(kind) for kind in ("word", "bpe")}


def build(
    tokens: Any,
    neighbours: Any = None,
    *,
    labels: int = 2,
    thresholds: list[float] | None = None,
    used: TextTokenizer | None = None,
) -> Classifier:
    used = used or TOKENIZERS["word"]
    size = used.vocab_size
    table = np.zeros((size, size, labels)) if neighbours is None else neighbours
    output = "softmax" if thresholds is None else "sigmoid"
    names = [f"label {i}" for i in range(labels)]
    columns = ["text", "title"][: used.num_segments]
    config = SavedConfig({"num_outputs": labels}, names, thresholds is not None, output, columns, thresholds)
    return Classifier(Rules(np.array(tokens), table), "onnx", used, config, ModelFiles(Path("none")))


def by_word(scores: dict[str, float], other: float = 0.0, used: TextTokenizer | None = None) -> NDArray[np.float64]:
    """(tokens, 2): how much each word speaks for the first label."""
    used = used or TOKENIZERS["word"]
    table = np.zeros((used.vocab_size, 2))
    table[:, 0] = other
    for word, score in scores.items():
        table[used.backend.token_to_id(word), 0] = score
    return table


def answer(classifier: Classifier, ids: Sequence[int]) -> Prediction:
    row = np.array(ids or [classifier.tokenizer.unk_id], np.int32)
    (probs,) = classifier.probabilities(pack([row]))
    return classifier.prediction(probs)


class Search:
    """All sets of the words of a text, and what the model says without them."""

    def __init__(self, classifier: Classifier, text: str) -> None:
        self.classifier = classifier
        (row,) = classifier.tokenizer.encode_with_offsets([text])
        self.ids, self.word_of = row.input_ids, np.unique(row.word_ids, return_inverse=True)[1].tolist()
        self.count = max(self.word_of) + 1
        self.answer = answer(classifier, self.ids)

    def without(self, words: Sequence[int]) -> Prediction:
        left = [token for token, word in zip(self.ids, self.word_of, strict=True) if word not in words]
        return answer(self.classifier, left)

    def flips(self, words: Sequence[int]) -> bool:
        return self.without(words).labels != self.answer.labels

    def probability(self, words: Sequence[int]) -> float:
        """Of the old answer; it orders sets as the log-odds do."""
        return self.without(words).scores[self.answer.label]

    def smallest(self) -> int | None:
        sizes = range(1, self.count + 1)
        sets = (chosen for size in sizes for chosen in itertools.combinations(range(self.count), size))
        return next((len(chosen) for chosen in sets if self.flips(chosen)), None)


def check(classifier: Classifier, text: str, most_pairs: int = 5000) -> Flip | None:
    """Everything that is promised of the answer."""
    search = Search(classifier, text)
    words = text.split()
    assert len(words) == search.count
    found = find_flip(classifier, text)
    smallest = search.smallest()
    tried = 2 if search.count * (search.count - 1) // 2 <= most_pairs else 1
    if found is None:
        assert not search.flips(range(search.count))
        assert smallest is None or smallest > tried
        return None
    places = [len(text[: word.start].split()) for word in found.words]
    assert places == sorted(set(places))
    assert [word.text for word in found.words] == [words[place] for place in places]
    assert all(text[word.start : word.end] == word.text for word in found.words)
    assert search.flips(places)
    expected = search.without(places)
    assert (found.prediction.label, found.prediction.labels) == (expected.label, expected.labels)
    assert found.prediction.scores == pytest.approx(expected.scores, abs=1e-5)
    assert smallest is not None
    assert found.is_smallest == (len(places) <= tried + 1)
    if found.is_smallest:
        assert len(places) == smallest
    for place in places:
        assert len(places) == 1 or not search.flips([other for other in places if other != place])
    if len(places) <= tried:
        sets = itertools.combinations(range(search.count), len(places))
        least = min(search.probability(chosen) for chosen in sets if search.flips(chosen))
        assert search.probability(places) == pytest.approx(least, abs=1e-5)
    for word, place in zip(found.words, places, strict=True):
        p, q = search.probability([]), search.probability([place])
        if min(p, q) > 1e-3 and max(p, q) < 1 - 1e-3:
            assert word.weight == pytest.approx(np.log(p / (1 - p)) - np.log(q / (1 - q)), abs=0.02)
    return found


@st.composite
def models(draw: st.DrawFn, kind: str = "word") -> tuple[Classifier, str]:
    used = TOKENIZERS[kind]
    labels = draw(st.sampled_from([2, 3]))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    tokens = generator.normal(draw(st.sampled_from([0.0, 0.5])), 1, (used.vocab_size, labels))
    # A leaning to the first label: more has to go until it is another.
    tokens[:, 0] += draw(st.sampled_from([0.0, 0.5, 1.0, 2.0]))
    neighbours = draw(st.sampled_from([0.0, 1.0])) * generator.normal(0, 1, (used.vocab_size, used.vocab_size, labels))
    thresholds = draw(st.sampled_from([None, [0.5] * labels]))
    text = " ".join(draw(st.lists(st.sampled_from([*WORDS, "unknown"]), min_size=1, max_size=6)))
    return build(tokens, neighbours, labels=labels, thresholds=thresholds, used=used), text


@many
@given(models())
def test_a_flip_flips_and_nothing_smaller_does(case: tuple[Classifier, str]) -> None:
    check(*case)


@many
@given(models("bpe"))
def test_words_go_with_all_their_pieces(case: tuple[Classifier, str]) -> None:
    check(*case)


@many
@given(case=models())
def test_without_trying_all_pairs_a_flip_still_needs_each_of_its_words(case: tuple[Classifier, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flips, "MOST_PAIRS", 0)
        check(*case, most_pairs=0)


def test_one_word_that_decides() -> None:
    classifier = build(by_word({"good": 3.0, "bad": -2.0}))
    found = check(classifier, "food bad staff good room")
    assert found is not None
    assert [word.text for word in found.words] == ["good"]
    assert found.is_smallest
    assert (found.prediction.label, found.prediction.score) == ("label 1", pytest.approx(1 / (1 + np.exp(-2))))
    assert found.words[0].weight == pytest.approx(3)


def test_of_several_words_the_one_that_matters_most() -> None:
    classifier = build(by_word({"good": 1.0, "kind": 1.5, "bad": -2.0}))
    found = check(classifier, "good kind bad")
    assert found is not None
    assert [word.text for word in found.words] == ["kind"]


def test_two_words_that_only_together_decide() -> None:
    classifier = build(by_word({"good": 3.0, "kind": 3.0, "bad": -1.0}))
    found = check(classifier, "kind food bad good")
    assert found is not None
    assert [word.text for word in found.words] == ["kind", "good"]
    assert found.is_smallest
    assert [word.weight for word in found.words] == pytest.approx([3, 3])


def test_a_pair_that_greed_would_miss() -> None:
    """The strongest word is in no set of two that flips."""
    used = TOKENIZERS["word"]
    neighbours = np.zeros((used.vocab_size, used.vocab_size, 2))
    place = used.backend.token_to_id
    neighbours[place("room"), place("food"), 1] = 9.0  # neighbours once what stood between them is gone
    classifier = build(by_word({"good": 2.5, "kind": 0.5, "not": 0.5}), neighbours)
    found = check(classifier, "good room kind not food")
    assert found is not None
    assert [word.text for word in found.words] == ["kind", "not"]
    assert found.is_smallest


def test_more_words_than_needed_are_put_back() -> None:
    """Greed takes the strong word first, which turns out not to be needed."""
    used = TOKENIZERS["word"]
    neighbours = np.zeros((used.vocab_size, used.vocab_size, 2))
    place = used.backend.token_to_id
    neighbours[place("room"), place("food"), 1] = 20.0
    classifier = build(by_word({"good": 2.0, "kind": 1.0, "not": 1.0, "staff": 1.0}), neighbours)
    found = check(classifier, "good room kind not staff food")
    assert found is not None
    assert [word.text for word in found.words] == ["kind", "not", "staff"]
    assert found.is_smallest


def test_an_answer_that_an_empty_text_has_too_cannot_be_flipped() -> None:
    classifier = build(by_word({}, other=1.0))
    assert check(classifier, "good food") is None
    assert check(classifier, "good") is None


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text_has_no_answer_that_could_flip(text: str) -> None:
    with pytest.raises(InputError, match=r"is empty; expected a text$"):
        find_flip(build(by_word({"good": 1.0})), text)


def test_a_flip_of_several_labels_is_another_set_of_them() -> None:
    used = TOKENIZERS["word"]
    tokens = np.full((used.vocab_size, 2), -1.0)
    place = used.backend.token_to_id
    tokens[place("good")] = [4.0, -1.0]
    tokens[place("kind")] = [3.0, 2.5]
    classifier = build(tokens, thresholds=[0.5, 0.5])
    (before,) = classifier.predict(["good kind"])
    assert before.labels == ["label 0", "label 1"]
    found = check(classifier, "good kind")
    assert found is not None
    # The most probable label stays; the other one is gone.
    assert [word.text for word in found.words] == ["kind"]
    assert (found.prediction.label, found.prediction.labels) == ("label 0", ["label 0"])
    # From one label to none.
    found = find_flip(classifier, "good")
    assert found is not None
    assert found.prediction.labels == []


def test_the_mark_between_segments_stays() -> None:
    used = tokenizer(segments=2)
    tab = used.backend.token_to_id("\t")
    tokens = by_word({"good": 2.0, "bad": -1.0}, used=used)
    tokens[tab, 0] = 9.0
    classifier = build(tokens, used=used)
    assert find_flip(classifier, "good\tbad") is None
    tokens[tab, 0] = 0.0
    found = find_flip(build(tokens, used=used), "good\tbad")
    assert found is not None
    assert [(word.text, word.start) for word in found.words] == [("good", 0)]


def test_a_long_text_is_searched_one_word_at_a_time() -> None:
    generator = np.random.default_rng(0)
    chosen = ["good"] * 130 + ["bad"] * 60 + ["food"] * 60
    text = " ".join(chosen[i] for i in generator.permutation(len(chosen)))
    classifier = build(by_word({"good": 0.75, "bad": -1.0, "food": 0.0}))
    found = find_flip(classifier, text)
    assert found is not None
    # 130 * 0.75 - 60 = 37.5, so 51 of them must go.
    assert [word.text for word in found.words] == ["good"] * 51
    assert not found.is_smallest  # nobody has tried all sets of 50
    assert found.prediction.label == "label 1"
