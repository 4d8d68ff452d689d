"""What the values in the label column mean: names in a fixed order, and the class ids of every row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.look_alikes import as_boolean, as_number, differences, folded
from textattn.errors import InputError

# "01" is none: it would become "1", which may be another label.
INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
UNLABELLED = -1
# Characters of a label in a message.
LONGEST_SHOWN = 80
# Labels listed in a message.
MOST_SHOWN = 20


@dataclass(frozen=True)
class LabelMap:
    """Label names in the order of the model's outputs, and how values in the data map to them."""

    names: list[str]
    ids: dict[Any, int]
    """Value as it stands in the data -> class id."""
    multi_label: bool
    alike: dict[Any, int] = field(default_factory=dict)
    """Number or boolean -> class id of the only label that spells it, for values that are spelled differently."""

    def of(self, value: Any) -> list[int]:
        """Class ids of one cell.

        Raises:
            ValueError: the value is missing or unknown; the message says what would be right.
        """
        if self.multi_label != isinstance(value, list):
            raise ValueError(f"expected {'a list of labels' if self.multi_label else 'one label'}, got {value!r}")
        return [self._one(v) for v in (value if self.multi_label else [value])]

    def has(self, value: Any) -> bool:
        """Whether a value stands for one of the labels."""
        return self._find(plain(value)) is not None

    def _find(self, value: Any) -> int | None:
        if value in self.ids:
            return self.ids[value]
        return next((self.alike[key] for key in _meanings(value) if key in self.alike), None)

    def _one(self, value: Any) -> int:
        value = plain(value)
        found = self._find(value)
        if found is not None:
            return found
        if value == UNLABELLED:
            raise ValueError("the label is -1, which means unlabelled")
        names = ", ".join(shortened(name) for name in self.names[:MOST_SHOWN])
        names += ", …" if len(self.names) > MOST_SHOWN else ""
        if isinstance(value, int) and not isinstance(value, bool) and str(value) in self.names:
            raise ValueError(f"unknown label {value}: label names stand for the numbers from 0, here {names}")
        near = [name for name in self.names if folded(name) == folded(str(value))]
        if near:
            raise ValueError(
                f"unknown label {shortened(ascii(str(value)))}, which differs from the label "
                f"{shortened(ascii(near[0]))} only in {differences(str(value), near[0])}"
            )
        raise ValueError(f"unknown label {shortened(repr(value))}; labels are: {names}")

    def to_array(self, ids: Sequence[Sequence[int]]) -> NDArray[np.integer[Any]]:
        """Class ids of all rows: (rows,) int64 for one label each, (rows, num_labels) uint8 of 0 and 1 for several."""
        if not self.multi_label:
            return np.fromiter((row[0] for row in ids), np.int64, len(ids))
        labels = np.zeros((len(ids), len(self.names)), dtype=np.uint8)
        for i, row in enumerate(ids):
            labels[i, list(row)] = 1
        return labels


def shortened(text: str) -> str:
    """For messages: what stands in a label column may be a whole text."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def plain(value: Any) -> Any:
    """A label without surrounding white space; an integral number, also one in text form, as int; 3.5 as text."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if INTEGER.fullmatch(value) else value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else repr(value)
    return value


def name_of(value: Any) -> str:
    """The name that a value gives to its label: `true` for a boolean, else as it is written."""
    value = plain(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meanings(value: Any) -> list[Any]:
    """What a plain value may be matched by where no label is spelled like it: a boolean, a number."""
    if isinstance(value, bool):
        return [("boolean", value)]
    if isinstance(value, int):
        return [("number", value)]
    if not isinstance(value, str):
        return []
    boolean, number = as_boolean(value), as_number(value)
    return ([] if boolean is None else [("boolean", boolean)]) + ([] if number is None else [("number", number)])


def _alike(names: Sequence[str], *, with_numbers: bool = True) -> dict[Any, int]:
    """The numbers and booleans that exactly one label spells."""
    found: dict[Any, list[int]] = {}
    for i, name in enumerate(names):
        for key in _meanings(plain(name)):
            if with_numbers or key[0] == "boolean":
                found.setdefault(key, []).append(i)
    alike = {key: ids[0] for key, ids in found.items() if len(ids) == 1}
    if len(names) == 2 and ("number", 0) in alike and ("number", 1) in alike:
        alike |= {("boolean", truth): alike["number", int(truth)] for truth in (False, True)}
    return alike


def _with_booleans(names: Sequence[str], ids: dict[Any, int]) -> dict[Any, int]:
    """With the booleans where the labels are just these two, however they are spelled; 0 and 1 are equal to them."""
    spelled = {as_boolean(name): ids[plain(name)] for name in names} if len(names) == 2 else {}
    return ids | ({False: spelled[False], True: spelled[True]} if set(spelled) == {False, True} else {})


def build_label_map(
    values: Iterable[Any], class_names: Sequence[str | None] | None, multi_label: bool, *, merged: bool = False
) -> LabelMap:
    """The labels that occur in the training split, in a fixed order.

    `class_names` are the names of the integers 0, 1, …, where the data or the config give them; otherwise each
    different value is a label named by itself: integers in numerical order, strings in alphabetical order. Values
    that are no list in multi-label data, or a list in others, are left to `LabelMap.of` to refuse.

    Args:
        class_names: None in the place of a name: the number stands for no label.
        merged: several numbers may have the same name.

    Raises:
        InputError: values of different kinds, or fewer than two labels.
    """
    named = [name for name in class_names or [] if name is not None]
    if named:
        if len(set(named)) < len(named) and not merged:
            raise InputError(f"label names are not all different: {', '.join(named)}")
        return numbered_names(class_names or [], list(dict.fromkeys(named)), multi_label)
    cells = (v for value in values if isinstance(value, list) for v in value) if multi_label else values
    # By kind as well, for True equals 1.
    found_kinds = {(type(value), value) for value in map(plain, cells)}
    kinds = {kind for kind, _ in found_kinds}
    if kinds == {bool, str} and all(kind is bool or as_boolean(value) is not None for kind, value in found_kinds):
        # Files that spell booleans as text beside files that have them: the text gives the names.
        texts = {value for kind, value in found_kinds if kind is str}
        spelled = {as_boolean(text) for text in texts}
        texts |= {name_of(value) for kind, value in found_kinds if kind is bool and value not in spelled}
        found_kinds, kinds = {(str, text) for text in texts}, {str}
    found = {value for _, value in found_kinds}
    if kinds == {int, str}:
        # "no", "1", "2": all are names.
        ordered: list[Any] = sorted(str(v) for v in found)
        ids = {plain(name): i for i, name in enumerate(ordered)}
    elif len(kinds) > 1 or not kinds <= {int, str, bool}:
        raise InputError(
            f"the values are of several kinds, {' and '.join(sorted(kind.__name__ for kind in kinds))}; "
            "expected strings, numbers, booleans, or lists of them"
        )
    else:
        ordered = sorted(found)
        ids = {value: i for i, value in enumerate(ordered)}
    names = [name_of(v) if isinstance(v, bool) else str(v) for v in ordered]
    if len(names) < 2:
        raise InputError(
            f"the training split has {'only the label ' + repr(shortened(names[0])) if names else 'no label'}; "
            "two different ones are the least that can be told apart"
        )
    return LabelMap(names, ids if kinds == {bool} else _with_booleans(names, ids), multi_label, _alike(names))


def for_table(label_map: LabelMap, class_names: Sequence[str | None] | None) -> LabelMap:
    """The same labels for a table that numbers them in an order of its own: matched by name, never by number.

    Raises:
        InputError: the table names a label the map does not have.
    """
    if class_names is None:
        return label_map
    known = set(label_map.names)
    unknown = [name for name in class_names if name is not None and name not in known]
    if unknown:
        raise InputError(
            f"the data have the label{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}, which the model does "
            f"not know; its labels are: {', '.join(label_map.names[:MOST_SHOWN])}"
        )
    return numbered_names(class_names, label_map.names, label_map.multi_label)


def numbered_names(class_names: Sequence[str | None], names: list[str], multi_label: bool) -> LabelMap:
    """The labels `names` for data whose numbers 0, 1, … stand for `class_names`."""
    return LabelMap(names, _numbered(class_names, names), multi_label, _alike(names, with_numbers=False))


def _numbered(class_names: Sequence[str | None], names: Sequence[str]) -> dict[Any, int]:
    """Ids, in the order of `names`, of the numbers that stand for `class_names`, and of the names themselves.

    A name such as "2" is no value: the number 2 stands for the third class.
    """
    place = {name: i for i, name in enumerate(names)}
    ids: dict[Any, int] = {i: place[name] for i, name in enumerate(class_names) if name is not None}
    return ids | {plain(name): i for i, name in enumerate(names) if isinstance(plain(name), str)}


def by_name(names: Sequence[str], multi_label: bool) -> LabelMap:
    """The labels of a trained model: values in the data must be the names, or numbers and booleans that they spell."""
    ids: dict[Any, int] = {plain(name): i for i, name in enumerate(names)}
    return LabelMap(list(names), _with_booleans(names, ids), multi_label, _alike(names))
