"""What the values in the label column mean: names in a fixed order, and the class ids of every row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError

INTEGER = re.compile(r"[+-]?\d+")
UNLABELLED = -1


@dataclass(frozen=True)
class LabelMap:
    """Label names in the order of the model's outputs, and how values in the data map to them."""

    names: list[str]
    ids: dict[Any, int]
    """Value as it stands in the data -> class id."""
    multi_label: bool

    def of(self, value: Any) -> list[int]:
        """Class ids of one cell.

        Raises:
            ValueError: the value is missing or unknown; the message says what would be right.
        """
        values = list(value) if self.multi_label else [value]
        return [self._one(v) for v in values]

    def _one(self, value: Any) -> int:
        value = plain(value)
        try:
            return self.ids[value]
        except KeyError:
            pass
        if value == UNLABELLED:
            raise ValueError("the label is -1, which means unlabelled")
        raise ValueError(f"unknown label {value!r}; labels are: {', '.join(self.names[:20])}")


def plain(value: Any) -> Any:
    """A label without surrounding white space, an integral number as int, an integer in text form as int."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if INTEGER.fullmatch(value) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def build_label_map(values: Iterable[Any], class_names: Sequence[str] | None, multi_label: bool) -> LabelMap:
    """The labels that occur in the training split, in a fixed order.

    `class_names` are the names of the integers 0, 1, …, where the data or the config give them; otherwise each
    different value is a label named by itself: integers in numerical order, strings in alphabetical order.

    Raises:
        InputError: values of different kinds, or fewer than two labels.
    """
    names = list(class_names or [])
    if names:
        if len(set(names)) < len(names):
            raise InputError(f"label names are not all different: {', '.join(names)}")
        ids: dict[Any, int] = {i: i for i in range(len(names))}
        # Files often hold the names themselves; numbers keep their meaning as ids.
        ids |= {plain(name): i for i, name in enumerate(names) if plain(name) not in ids}
        return LabelMap(names, ids, multi_label)
    cells = (v for value in values for v in value) if multi_label else values
    found = {plain(v) for v in cells}
    kinds = {type(v) for v in found}
    if kinds == {int, str}:
        # "no", "1", "2": all are names.
        found, kinds = {str(v) for v in found}, {str}
        ordered: list[Any] = sorted(found)
        ids = {name: i for i, name in enumerate(ordered)}
        ids |= {plain(name): i for i, name in enumerate(ordered)}
    elif len(kinds) > 1 or not kinds <= {int, str, bool}:
        raise InputError(
            f"the label column mixes {' and '.join(sorted(kind.__name__ for kind in kinds))}; "
            "expected strings, integers, booleans, or lists of them"
        )
    else:
        ordered = sorted(found)
        ids = {value: i for i, value in enumerate(ordered)}
    names = [str(v).lower() if isinstance(v, bool) else str(v) for v in ordered]
    if len(names) < 2:
        raise InputError(
            f"the training split has {'only the label ' + repr(names[0]) if names else 'no label'}; "
            "two different ones are the least that can be told apart"
        )
    return LabelMap(names, ids, multi_label)


def for_table(label_map: LabelMap, class_names: Sequence[str] | None) -> LabelMap:
    """The same labels for a table that numbers them in an order of its own: matched by name, never by number.

    Raises:
        InputError: the table names a label the map does not have.
    """
    if class_names is None or list(class_names) == label_map.names:
        return label_map
    unknown = [name for name in class_names if name not in label_map.names]
    if unknown:
        raise InputError(
            f"the data have the label{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}, which the model does "
            f"not know; its labels are: {', '.join(label_map.names[:20])}"
        )
    ids: dict[Any, int] = {i: label_map.names.index(name) for i, name in enumerate(class_names)}
    return LabelMap(label_map.names, ids | by_name(label_map.names, label_map.multi_label).ids, label_map.multi_label)


def by_name(names: Sequence[str], multi_label: bool) -> LabelMap:
    """The labels of a trained model: values in the data must be the names themselves (or the booleans they spell)."""
    ids: dict[Any, int] = {plain(name): i for i, name in enumerate(names)}
    for spelled, value in (("false", False), ("true", True)):
        if spelled in ids and {"false", "true"} == set(names):
            ids[value] = ids[spelled]
    return LabelMap(list(names), ids, multi_label)


def to_array(ids: Sequence[Sequence[int]], num_labels: int, multi_label: bool) -> NDArray[np.integer[Any]]:
    """Class ids of all rows: (rows,) int64 for one label each, (rows, num_labels) uint8 of 0 and 1 for several."""
    if not multi_label:
        return np.array([row[0] for row in ids], dtype=np.int64)
    labels = np.zeros((len(ids), num_labels), dtype=np.uint8)
    for i, row in enumerate(ids):
        labels[i, list(row)] = 1
    return labels
