"""The labels of a model that is trained on, and how new data add to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textattn.data.labels import UNLABELLED, LabelMap, by_name, name_of, numbered_names, plain
from textattn.errors import InputError


@dataclass(frozen=True)
class KnownLabels:
    """The labels of a model, in the order of its outputs."""

    names: list[str]
    multi_label: bool

    def grown(self, values: Iterable[Any], class_names: Sequence[str | None] | None, *, merged: bool) -> LabelMap:
        """These labels, and after them those that occur in new data only: numbers in numerical order, then the others
        in alphabetical order. Values are matched by name.

        Args:
            values: the cells of the training split.
            class_names: the names of the integers 0, 1, …, where the data or the config give them; see
                `build_label_map`.
            merged: several numbers may have the same name.

        Raises:
            InputError: the data have several labels for each text, but the model has one, or the other way round.
        """
        named = [name for name in class_names or [] if name is not None]
        if named:
            if len(set(named)) < len(named) and not merged:
                raise InputError(f"label names are not all different: {', '.join(named)}")
            return numbered_names(class_names or [], [*self.names, *self._others(named)], self.multi_label)
        known = by_name(self.names, self.multi_label)
        found: dict[str, Any] = {}
        for value in values:
            if self.multi_label != isinstance(value, list):
                several, one = "several labels for each text", "one label for each text"
                here, there = (one, several) if self.multi_label else (several, one)
                raise InputError(
                    f"the data have {here}, but the model that training goes on from has {there}",
                    "data.label_separator=,  where a cell holds several labels" if self.multi_label else None,
                )
            for cell in value if self.multi_label else [value]:
                if plain(cell) != UNLABELLED and not known.has(cell):
                    found[name_of(cell)] = plain(cell)
        numbers = {name: value for name, value in found.items() if isinstance(value, int)}
        new = sorted(found, key=lambda name: (name not in numbers, numbers.get(name, 0), name))
        return by_name([*self.names, *self._others(new)], self.multi_label)

    def _others(self, names: Iterable[str]) -> list[str]:
        return [name for name in dict.fromkeys(names) if name not in self.names]
