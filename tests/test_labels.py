"""What the values of a label column mean: their kinds, their order, and matching by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textattn.data.labels import build_label_map, by_name, for_table
from textattn.errors import InputError


@pytest.mark.parametrize(
    ("values", "names", "classes"),
    [
        ([1, 0, 1], ["0", "1"], [1, 0, 1]),
        ([5, 1, 3, 10], ["1", "3", "5", "10"], [2, 0, 1, 3]),
        ([-1, 1, 0], ["-1", "0", "1"], [0, 2, 1]),
        (["10", "9", " 9 ", "+10"], ["9", "10"], [1, 0, 0, 1]),
        (["pos", "neg", " pos\n"], ["neg", "pos"], [1, 0, 1]),
        (["b", "B", "é", "a"], ["B", "a", "b", "é"], [2, 0, 3, 1]),
        ([True, False], ["false", "true"], [1, 0]),
        (["true", "False", "False"], ["False", "true"], [1, 0, 0]),
        ([1.0, 0.0, 1], ["0", "1"], [1, 0, 1]),
        (["no", "1", "2"], ["1", "2", "no"], [2, 0, 1]),
        (["01", "1", "10"], ["01", "1", "10"], [0, 1, 2]),
        (["²", "½", "1"], ["1", "²", "½"], [1, 2, 0]),
    ],
)
def test_labels_have_a_fixed_order_whatever_order_they_come_in(
    values: list[Any], names: list[str], classes: list[int]
) -> None:
    for ordered in (values, values[::-1]):
        label_map = build_label_map(ordered, None, multi_label=False)
        assert label_map.names == names and not label_map.multi_label
        assert [label_map.of(value) for value in values] == [[c] for c in classes]


@given(st.lists(st.text(max_size=3) | st.integers(), min_size=2, max_size=8))
def test_every_value_gets_the_class_that_bears_its_name(values: list[Any]) -> None:
    names = {str(int(v)) if isinstance(v, int) else v.strip() for v in values}
    if len(names) == len({n.lstrip("+") for n in names}) > 1 and "-0" not in names:
        label_map = build_label_map(values, None, multi_label=False)
        assert set(label_map.names) == names
        for value in values:
            assert label_map.names[label_map.of(value)[0]] == str(value).strip()


def test_lists_are_several_labels() -> None:
    label_map = build_label_map([["b", "a"], [], ["c"]], None, multi_label=True)
    assert label_map.names == ["a", "b", "c"] and label_map.multi_label
    assert [label_map.of(v) for v in (["b", "a"], [], ["c"])] == [[1, 0], [], [2]]
    label_map = build_label_map([["10", "9"], [10]], None, multi_label=True)
    assert label_map.names == ["9", "10"] and label_map.of([9, "10"]) == [0, 1]


@pytest.mark.parametrize("values", [[True, 0, 1], [0, 1, True], [1, 0, False], [True, False, 2], [1, True]])
def test_a_boolean_among_integers_is_refused_though_true_equals_one(values: list[Any]) -> None:
    with pytest.raises(InputError) as caught:
        build_label_map(values, None, multi_label=False)
    assert caught.value.message == (
        "the values are of several kinds, bool and int; expected strings, numbers, booleans, or lists of them"
    )


def test_booleans_among_strings_are_refused() -> None:
    with pytest.raises(InputError, match=r"^the values are of several kinds, bool and str;"):
        build_label_map([True, "x", False], None, multi_label=False)


LEAST = "; two different ones are the least that can be told apart"


@pytest.mark.parametrize("values", [["a", "a "], [["a"], ["a", "a"], []]])
def test_one_label_only_is_refused(values: list[Any]) -> None:
    with pytest.raises(InputError) as caught:
        build_label_map(values, None, multi_label=isinstance(values[0], list))
    assert caught.value.message == f"the training split has only the label 'a'{LEAST}"


def test_no_label_at_all_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        build_label_map([[], []], None, multi_label=True)
    assert caught.value.message == f"the training split has no label{LEAST}"


NAMES = ["neg", "neutral", "pos"]


@pytest.mark.parametrize(
    ("value", "name"),
    [(0, "neg"), (2, "pos"), ("1", "neutral"), (2.0, "pos"), ("pos", "pos"), (" neg ", "neg"), (True, "neutral")],
)
def test_class_names_are_those_of_the_numbers_from_zero(value: Any, name: str) -> None:
    label_map = build_label_map([], NAMES, multi_label=False)
    assert label_map.names == NAMES
    assert [NAMES[i] for i in label_map.of(value)] == [name]


def refusal(label_map: Any, value: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        label_map.of(value)
    return str(caught.value)


def test_minus_one_is_no_class_where_classes_have_names() -> None:
    label_map = build_label_map([0, -1], NAMES, multi_label=False)
    for value in (-1, "-1", -1.0):
        assert refusal(label_map, value) == "the label is -1, which means unlabelled"
    assert refusal(build_label_map([], NAMES, multi_label=True), [0, -1]) == "the label is -1, which means unlabelled"


def test_unknown_labels_are_named_with_those_there_are() -> None:
    assert refusal(build_label_map([], NAMES, False), 3) == "unknown label 3; labels are: neg, neutral, pos"
    assert refusal(build_label_map(["a", "b"], None, False), "c") == "unknown label 'c'; labels are: a, b"
    assert refusal(build_label_map([1, 2], None, False), "0") == "unknown label 0; labels are: 1, 2"
    assert refusal(build_label_map([["a"], ["b"]], None, True), ["a", "x"]) == "unknown label 'x'; labels are: a, b"
    many = build_label_map([f"label {i:02}" for i in range(50)], None, False)
    assert refusal(many, "x").endswith("label 18, label 19, …")


def test_names_that_are_numbers_never_stand_for_another_number() -> None:
    """With label_names 1, 2, 3 the number 1 means the second name: a 3 must not be taken for it, nor a 3 for "3"."""
    label_map = build_label_map([], ["1", "2", "3"], multi_label=False)
    assert [label_map.of(value) for value in (0, 1, 2)] == [[0], [1], [2]]
    assert refusal(label_map, 3) == "unknown label 3: label names stand for the numbers from 0, here 1, 2, 3"


def test_a_list_and_a_single_label_are_not_mixed_up() -> None:
    several = build_label_map([["a"], ["b"], "ab"], None, multi_label=True)
    assert several.names == ["a", "b"], "a string is not a list of letters"
    assert refusal(several, "ab") == "expected a list of labels, got 'ab'"
    assert refusal(several, 3) == "expected a list of labels, got 3"
    assert refusal(build_label_map(["a", "b"], None, False), ["a"]) == "expected one label, got ['a']"


def test_label_names_must_differ() -> None:
    with pytest.raises(InputError) as caught:
        build_label_map([0, 1], ["a", "b", "a"], multi_label=False)
    assert caught.value.message == "label names are not all different: a, b, a"


@pytest.mark.parametrize("build", ["training", "trained model"])
def test_a_table_with_an_order_of_its_own_is_matched_by_name(build: str) -> None:
    known = build_label_map([], NAMES, False) if build == "training" else by_name(NAMES, False)
    other = for_table(known, ["pos", "neg"])
    assert other.names == NAMES
    assert [other.of(value) for value in (0, 1, "pos", "neutral")] == [[2], [0], [2], [1]]
    assert refusal(other, 2) == "unknown label 2; labels are: neg, neutral, pos"
    same = for_table(known, NAMES)
    assert [same.of(value) for value in (0, 1, 2)] == [[0], [1], [2]]


def test_numeric_names_are_matched_by_name_too() -> None:
    """A table that numbers its classes "5", "1" as 0, 1; the model knows "1", "5"."""
    other = for_table(by_name(["1", "5"], False), ["5", "1"])
    assert [other.of(value) for value in (0, 1)] == [[1], [0]]


@pytest.mark.parametrize(
    ("class_names", "start"),
    [
        (["pos", "meh"], "the data have the label 'meh', which the model does not know"),
        (["x", "y"], "the data have the labels 'x', 'y', which the model does not know"),
    ],
)
def test_a_table_with_a_class_the_model_lacks_is_refused(class_names: list[str], start: str) -> None:
    with pytest.raises(InputError) as caught:
        for_table(by_name(NAMES, False), class_names)
    assert caught.value.message == f"{start}; its labels are: neg, neutral, pos"


def test_a_trained_model_takes_names_never_positions() -> None:
    assert refusal(by_name(["neg", "pos"], False), 0) == "unknown label 0; labels are: neg, pos"
    stars = by_name(["1", "2", "5"], False)
    assert [stars.of(value) for value in (1, "2", 5.0)] == [[0], [1], [2]]
    assert refusal(stars, 0) == "unknown label 0; labels are: 1, 2, 5"
    truth = by_name(["false", "true"], False)
    assert [truth.of(value) for value in (True, False, "true")] == [[1], [0], [1]]
    assert by_name(["a", "b"], True).of(["b"]) == [1]


def test_to_array() -> None:
    names = ["a", "b", "c"]
    single = by_name(names, False).to_array([[1], [0], [2]])
    assert single.dtype == np.int64 and single.tolist() == [1, 0, 2]
    several = by_name(names, True).to_array([[2, 0], [], [1, 1]])
    assert several.dtype == np.uint8 and several.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert by_name(names, True).to_array([]).shape == (0, 3)
