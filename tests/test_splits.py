"""Setting part of the training split aside: stratified, seeded, and never from the test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.config.data_section import DataConfig
from textattn.data.read import Corpus, Split
from textattn.data.splits import prepare_splits
from textattn.data.texts import Texts


def split(name: str, labels: Any) -> Split:
    labels = np.array(labels)
    return Split(name, Texts.of(f"{name} {i}" for i in range(len(labels))), labels)


def corpus(train: Any, validation: Any = None, test: Any = None) -> Corpus:
    multi_label = np.ndim(train) == 2
    aside = None if validation is None else split("validation", validation)
    names = [str(i) for i in range(np.shape(train)[1] if multi_label else max(train) + 1)]
    measured = split("test", test if test is not None else train)
    return Corpus(split("train", train), aside, measured, [], names, multi_label, 1, "made up", None, ["a note"])


def prepare(before: Corpus, seed: int = 0, **more: Any) -> Corpus:
    return prepare_splits(before, DataConfig.model_validate({"path": "x.csv", **more}), seed)


def rows(part: Split | None) -> list[int]:
    """The places the texts had in the training split; that the labels came along is checked by the way."""
    assert part is not None
    return [int(text.split()[1]) for text in part]


def same(one: Split | None, other: Split | None) -> bool:
    return one is not None and other is not None and one.fingerprint() == other.fingerprint()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=5),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_parts_are_disjoint_cover_the_rows_and_keep_the_proportions(
    counts: list[int], fraction: float, seed: int, sort: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)  # a file sorted by label
    labels = labels if sort else np.random.default_rng(1).permutation(labels)
    before = corpus(labels)
    after = prepare(before, seed, validation_fraction=fraction)
    assert same(after.test, before.test)
    if after.validation is None:
        assert same(after.train, before.train)
        return
    kept, aside = rows(after.train), rows(after.validation)
    assert sorted(kept + aside) == list(range(len(labels)))
    assert np.array_equal(after.train.labels, labels[kept])
    assert np.array_equal(after.validation.labels, labels[aside])
    for label, count in enumerate(counts):
        number = int((after.validation.labels == label).sum())
        assert number < count, "every label stays in training"
        assert abs(number - count * fraction) <= 0.5 or number == count - 1


def test_the_seed_alone_decides() -> None:
    before = corpus([0, 1] * 100)
    first, again, other = (prepare(before, seed) for seed in (3, 3, 4))
    assert same(first.train, again.train) and same(first.validation, again.validation)
    assert not same(first.validation, other.validation)
    assert same(first.test, other.test)


def test_the_part_set_aside_is_drawn_at_random_within_a_label() -> None:
    aside = rows(prepare(corpus([0] * 500 + [1] * 500)).validation)
    assert len(aside) == 100
    assert np.std([row % 500 for row in aside]) > 100, "uniform over 500 rows: 144"


def test_the_last_rows_of_each_label_are_set_aside_where_that_is_asked_for() -> None:
    labels = [0] * 100 + [1] * 50 + [0] * 20
    for seed in (0, 1):
        after = prepare(corpus(labels), seed, validation_rows="last")
        assert rows(after.validation) == [*range(145, 150), *range(158, 170)]
        assert sorted(rows(after.train) + rows(after.validation)) == list(range(170))
    several = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(np.uint8)
    assert rows(prepare(corpus(several), validation_rows="last").validation) == list(range(45, 50))


def test_what_is_set_aside_is_noted_after_the_other_notes() -> None:
    after = prepare(corpus([0, 1] * 100))
    assert after.notes == ["a note", "no validation split: 20 of 200 training rows are set aside for it"]
    assert after.validation is not None and after.validation.name == "validation"


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1, 1], [0, 1, 2, 3] * 2, [0] * 9 + [1]])
def test_too_few_rows_mean_no_validation_and_a_note(labels: list[int]) -> None:
    before = corpus(labels)
    after = prepare(before)
    assert after.validation is None and same(after.train, before.train)
    assert after.notes[1:] == [
        f"{len(labels)} training rows are too few to set 10% aside for validation: "
        "training without it, the last epoch is kept"
    ]


def test_a_validation_split_of_its_own_is_used_as_it_is() -> None:
    before = corpus([0, 1] * 50, validation=[1, 0])
    after = prepare(before)
    assert same(after.validation, before.validation) and same(after.train, before.train) and after.notes == ["a note"]


@pytest.mark.parametrize("most", [5, 17, 99, 100, 1000])
def test_max_train_examples_draws_from_the_whole_training_split_only(most: int) -> None:
    before = corpus([0] * 50 + [1] * 50, validation=[0, 1] * 80)
    after = prepare(before, max_train_examples=most)
    kept = rows(after.train)
    assert len(kept) == min(most, 100) and kept == sorted(set(kept))
    assert np.array_equal(after.train.labels, before.train.labels[kept])
    assert same(after.validation, before.validation) and same(after.test, before.test)
    assert len(kept) < 17 or {0, 1} == set(after.train.labels), "not the head of a file sorted by label"
    assert rows(prepare(before, max_train_examples=most).train) == kept


def test_the_part_set_aside_comes_out_of_max_train_examples() -> None:
    after = prepare(corpus([0, 1] * 500), max_train_examples=100)
    assert len(after.train) + len(rows(after.validation)) == 100 and len(rows(after.validation)) == 10


def test_nothing_is_set_aside_where_none_is_wanted() -> None:
    before = corpus([0, 1] * 50)
    after = prepare(before, validation_fraction=0.0)
    assert after.validation is None and same(after.train, before.train)
    assert after.notes[-1] == "data.validation_fraction is 0: training without a validation split"
    given = prepare(corpus([0, 1], validation=[1, 0, 1]), validation_fraction=0.0)
    assert len(rows(given.validation)) == 3


@pytest.mark.parametrize(
    ("number", "fraction", "aside"), [(200, 0.1, 20), (3, 0.9, 2), (2, 0.99, None), (9, 0.1, None)]
)
def test_multi_label_rows_are_set_aside_at_random(number: int, fraction: float, aside: int | None) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (number, 3)).astype(np.uint8)
    after = prepare(corpus(labels), validation_fraction=fraction)
    if aside is None:
        assert after.validation is None and len(after.train) == number
        return
    assert sorted(rows(after.train) + rows(after.validation)) == list(range(number))
    assert len(rows(after.validation)) == aside
    assert after.train.labels.shape == (number - aside, 3)
    assert np.array_equal(after.train.labels, labels[rows(after.train)])
