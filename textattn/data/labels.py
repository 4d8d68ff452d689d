"""What the values in the label column mean: names in a fixed order, and the class ids of every row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError

# "01" is none: it would become "1", which may be another label.
INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
UNLABELLED = -1
# Characters of a label in a message.
LONGEST_SHOWN = 80


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
        if self.multi_label != isinstance(value, list):
            raise ValueError(f"expected {'a list of labels' if self.multi_label else 'one label'}, got {value!r}")
        return [self._one(v) for v in (value if self.multi_label else [value])]

    def _one(self, value: Any) -> int:
        value = plain(value)
        try:
            return self.ids[value]
        except KeyError:
            pass
        if value == UNLABELLED:
            raise ValueError("the label is -1, which means unlabelled")
        names = ", ".join(map(shortened, self.names[:20]))
        if isinstance(value, int) and str(value) in self.names:
            raise ValueError(f"unknown label {value}: label names stand for the numbers from 0, here {names}")
        raise ValueError(f"unknown label {shortened(repr(value))}; labels are: {names}")


def shortened(text: str) -> str:
    """For messages: what stands in a label column may be a whole text."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


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
    different value is a label named by itself: integers in numerical order, strings in alphabetical order. Values
    that are no list in multi-label data, or a list in others, are left to `LabelMap.of` to refuse.

    Raises:
        InputError: values of different kinds, or fewer than two labels.
    """
    names = list(class_names or [])
    if names:
        if len(set(names)) < len(names):
            raise InputError(f"label names are not all different: {', '.join(names)}")
        return LabelMap(names, _numbered(names, names), multi_label)
    cells = (v for value in values if isinstance(value, list) for v in value) if multi_label else values
    # By kind as well, for True equals 1.
    found_kinds = {(type(value), value) for value in map(plain, cells)}
    found = {value for _, value in found_kinds}
    kinds = {kind for kind, _ in found_kinds}
    ids: dict[Any, int]
    if kinds == {int, str}:
        # "no", "1", "2": all are names.
        ordered: list[Any] = sorted(str(v) for v in found)
        ids = {plain(name): i for i, name in enumerate(ordered)}
    elif len(kinds) > 1 or not kinds <= {int, str, bool}:
        raise InputError(
            f"the values are of several kinds, {' and '.join(sorted(kind.__name__ for kind in kinds))}; "
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
    if class_names is None:
        return label_map
    unknown = [name for name in class_names if name not in label_map.names]
    if unknown:
        raise InputError(
            f"the data have the label{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}, which the model does "
            f"not know; its labels are: {', '.join(label_map.names[:20])}"
        )
    return LabelMap(label_map.names, _numbered(class_names, label_map.names), label_map.multi_label)


def _numbered(class_names: Sequence[str], names: Sequence[str]) -> dict[Any, int]:
    """Ids, in the order of `names`, of the numbers that stand for `class_names`, and of the names themselves.

    A name such as "2" is no value: the number 2 stands for the third class.
    """
    ids: dict[Any, int] = {i: names.index(name) for i, name in enumerate(class_names)}
    return ids | {plain(name): i for i, name in enumerate(names) if isinstance(plain(name), str)}


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
        return np.fromiter((row[0] for row in ids), np.int64, len(ids))
    labels = np.zeros((len(ids), num_labels), dtype=np.uint8)
    for i, row in enumerate(ids):
        labels[i, list(row)] = 1
    return labels
