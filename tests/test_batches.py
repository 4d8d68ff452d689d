"""Batches hold every text once, are padded little, and stay mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.tokens.batches import BATCHES_PER_BUCKET, collate, shuffled_batches, sorted_batches, steps_of_epochs
from textattn.tokens.token_arrays import TokenArrays

many_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=300).map(lambda values: np.array(values, np.int64))


def tokens_of(texts: list[list[int]]) -> TokenArrays:
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return TokenArrays(np.concatenate(texts).astype(np.int32), starts, 0, 0)


@settings(deadline=None)
@given(many_lengths, st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_text_is_in_exactly_one_shuffled_batch(lengths: np.ndarray, batch_size: int, seed: int) -> None:
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)  # what the loop plans its steps by
    assert sorted(map(len, batches))[1:] == [batch_size] * (len(batches) - 1)


@settings(deadline=None)
@given(many_lengths, st.integers(1, 40), st.integers(1, 2000), st.integers(0, 2**32 - 1))
def test_every_text_is_in_exactly_one_shuffled_batch_within_the_limit(
    lengths: np.ndarray, batch_size: int, max_tokens: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    epochs = [shuffled_batches(lengths, batch_size, generator, max_tokens) for _ in range(3)]
    for batches in epochs:
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= max_tokens for batch in batches)
    assert steps_of_epochs(lengths, batch_size, max_tokens, 3, seed) == [len(batches) for batches in epochs]


def test_a_budget_that_never_binds_changes_nothing() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    plain, limited = (
        shuffled_batches(lengths, 8, np.random.default_rng(1), most) for most in (None, 8 * lengths.max())
    )
    assert [batch.tolist() for batch in plain] == [batch.tolist() for batch in limited]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_balanced_epoch_has_as_many_texts_of_each_label(values: list[int], batch_size: int, seed: int) -> None:
    labels, lengths = np.array(values), np.arange(len(values)) % 7 + 1
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed), balance=labels)
    assert list(map(len, batches)).count(batch_size) >= len(values) // batch_size
    drawn = np.concatenate(batches)
    assert len(drawn) == len(values)
    found = [np.count_nonzero(labels[drawn] == label) for label in set(values)]
    assert max(found) - min(found) <= 1
    for label in set(values):
        times = [np.count_nonzero(drawn == row) for row in np.flatnonzero(labels == label)]
        assert max(times) - min(times) <= 1  # all of a label equally often, as far as that goes
    assert steps_of_epochs(lengths, batch_size, 10, 2, seed, labels) == [
        len(shuffled_batches(lengths, batch_size, generator, 10, labels))
        for generator in [np.random.default_rng(seed)]
        for _ in range(2)
    ]


def test_labels_are_mixed_in_balanced_batches() -> None:
    labels = np.array([0] * 980 + [1] * 20)
    batches = shuffled_batches(np.full(1000, 5), 50, np.random.default_rng(0), balance=labels)
    shares = [labels[batch].mean() for batch in batches]
    assert min(shares) > 0.25
    assert max(shares) < 0.75


@settings(deadline=None)
@given(many_lengths, st.integers(1, 40), st.integers(1, 2000))
def test_every_text_is_in_exactly_one_sorted_batch_within_the_limit(
    lengths: np.ndarray, batch_size: int, max_tokens: int
) -> None:
    batches = sorted_batches(lengths, max_tokens, batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[np.concatenate(batches)]) >= 0).all()
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= max_tokens


@pytest.mark.parametrize(
    ("count", "length", "max_tokens", "sizes"),
    [
        (21, 10, 80, [8, 8, 5]),
        (21, 10, 79, [4, 4, 4, 4, 5]),  # halved, except where what is left fits
        (3, 25, 80, [3]),  # the few texts at the end fill one batch, though a full one would not fit
    ],
)
def test_sorted_batches_are_halved_until_they_fit(count: int, length: int, max_tokens: int, sizes: list[int]) -> None:
    batches = sorted_batches(np.full(count, length), batch_size=8, max_tokens=max_tokens)
    assert [len(batch) for batch in batches] == sizes


def test_a_text_beyond_the_limit_stands_alone() -> None:
    batches = sorted_batches(np.array([500, 3, 900]), batch_size=4, max_tokens=100)
    assert [batch.tolist() for batch in batches] == [[1], [0], [2]]


def test_same_generator_gives_the_same_batches_and_the_next_epoch_others() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 1000)
    generator = np.random.default_rng(7)
    first, second = (np.concatenate(shuffled_batches(lengths, 16, generator)) for _ in range(2))
    again = np.concatenate(shuffled_batches(lengths, 16, np.random.default_rng(7)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_texts_of_a_batch_have_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 20_000)

    def padded(batches: list[np.ndarray]) -> float:
        return sum(len(batch) * lengths[batch].max() for batch in batches) / lengths.sum() - 1

    at_random = np.array_split(np.random.default_rng(1).permutation(len(lengths)), len(lengths) // 64)
    assert padded(at_random) > 0.9
    assert padded(shuffled_batches(lengths, 64, np.random.default_rng(1))) < 0.03


def test_batches_do_not_come_in_order_of_length() -> None:
    lengths = np.arange(1, 20 * BATCHES_PER_BUCKET + 1)
    longest = [lengths[batch].max() for batch in shuffled_batches(lengths, 20, np.random.default_rng(0))]
    ranks = np.argsort(np.argsort(longest))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.3


def test_a_file_sorted_by_label_is_mixed() -> None:
    """2000 negative, then 2000 positive texts, as IMDB comes: no batch of 32 is of one kind."""
    labels = np.repeat([0, 1], 2000)
    lengths = np.random.default_rng(0).integers(1, 100, 4000)
    shares = [labels[batch].mean() for batch in shuffled_batches(lengths, 32, np.random.default_rng(0))]
    # Drawn at random the share has a standard deviation of 0.088.
    assert min(shares) > 0.1 and max(shares) < 0.9
    assert np.std(shares) == pytest.approx(0.088, abs=0.02)


def test_collate_pads_to_the_longest_text_of_the_batch() -> None:
    tokens = tokens_of([[5], [6, 7, 8], [9, 10, 11, 12, 13], [14, 15]])
    input_ids, attention_mask = collate(tokens, np.array([3, 1, 0]), pad_id=99)
    assert input_ids.tolist() == [[14, 15, 99], [6, 7, 8], [5, 99, 99]]
    assert attention_mask.tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert input_ids.dtype == attention_mask.dtype == np.int64


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=20), st.data())
def test_collated_rows_are_the_texts(texts: list[list[int]], data: st.DataObject) -> None:
    indices = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=20)))
    input_ids, attention_mask = collate(tokens_of(texts), indices, pad_id=0)
    for row, index in enumerate(indices):
        length = len(texts[index])
        assert input_ids[row, :length].tolist() == texts[index]
        assert not input_ids[row, length:].any()
        assert attention_mask[row].tolist() == [1] * length + [0] * (input_ids.shape[1] - length)
    assert attention_mask.any(axis=0).all()  # no column of nothing but padding
