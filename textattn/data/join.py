"""Joins new data with those of an earlier run, so that each row of the earlier run stays in its split.

A model must not be measured on rows that it was trained on. A file may repeat rows that the earlier run had, with or
without new ones, so rows are matched by their texts: rows that the earlier run set aside for validation or for the test
are set aside again, and its training rows are trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.data_section import DataConfig
from textattn.data.evidence import Spans
from textattn.data.read import Corpus, Split
from textattn.data.row_info import RowInfo
from textattn.data.splits import prepare_splits, unseen_labels
from textattn.data.texts import Texts
from textattn.errors import InputError

Rows = NDArray[np.int64]
ROLES = ("train", "validation", "test")


def join(new: Corpus, earlier: Corpus, data: DataConfig, seed: int, replay: float) -> Corpus:
    """Divide new data into splits and add the rows of an earlier run.

    A validation or test split that the new data bring is used as it is. Where they bring none, it consists of the rows
    of the earlier run and of new rows that are set aside. Where a text is in the new data too, its label there counts.

    Args:
        new: the new data as they were read, before anything is set aside; its first labels are those of `earlier`.
        earlier: the data of the earlier run, divided into splits.
        data: the settings of the new data.
        seed: chooses the rows that are set aside and replayed.
        replay: share of the earlier training rows, other than those in the new data, to train on again.
    """
    # A split that the new data bring replaces that of the earlier run.
    brought = {role: getattr(new, role) for role in ("validation", "test") if getattr(new, role) is not None}
    places: dict[bytes, str] = {}
    for role in ROLES:
        split = earlier.splits().get(role)
        if split is not None and role not in brought:
            places |= dict.fromkeys(_digests(split), role)
    roles = np.array([places.get(digest, "") for digest in _digests(new.train)])
    fresh = np.flatnonzero(roles == "")
    drawn = _divide(replace(new, train=new.train.take(fresh)), data, seed)
    given = set(_digests(new.train)).union(*map(_digests, brought.values()))
    parts: dict[str, list[Split]] = {role: [] for role in ROLES}
    counts = {"read": len(new.train), "known": len(new.train) - len(fresh)}
    for role in ROLES:
        if role in brought:
            parts[role] = [brought[role]]
            continue
        if role == "test" and data.test_split is None:
            continue
        old = earlier.splits().get(role)
        if old is not None:
            kept = np.array([i for i, digest in enumerate(_digests(old)) if digest not in given], np.int64)
            if role == "train":
                generator = np.random.default_rng([seed, 2])
                kept = np.sort(generator.permutation(kept)[: round(replay * len(kept))])
            counts[role] = len(kept)
            parts[role].append(old.take(kept))
        parts[role].append(new.train.take(np.flatnonzero(roles == role)))
        own = drawn.splits().get(role)
        if own is not None:
            parts[role].append(own)
    joined = {role: _joined(role, found, len(new.labels)) for role, found in parts.items()}
    train = joined["train"]
    if train is None:
        raise InputError("the data have no row to train on: all of them are validation or test rows of the earlier run")
    whole = replace(drawn, train=train, validation=joined["validation"], test=joined["test"], joined=counts)
    notes = [*drawn.notes, _in_words(counts, brought), *_seen(brought, earlier.train)]
    if whole.test is not None:
        notes = [note for note in notes if drawn.test is None or note not in unseen_labels(drawn.test, drawn)]
        notes += unseen_labels(whole.test, whole)
    return replace(whole, notes=notes)


def _divide(fresh: Corpus, data: DataConfig, seed: int) -> Corpus:
    """`prepare_splits`, also where there are no rows to divide."""
    if len(fresh.train):
        return prepare_splits(fresh, data, seed)
    return replace(fresh, test_fraction=data.test_fraction or 0.0)


def _in_words(counts: dict[str, int], brought: Iterable[str]) -> str:
    parts = [f"{counts.get('train', 0):,} training rows"]
    parts += [f"{counts[role]:,} {role} rows" for role in ("validation", "test") if counts.get(role)]
    again = f"; {counts['known']:,} others are in the new data too" if counts["known"] else ""
    own = "".join(f"; the {role} split is that of the new data" for role in brought)
    return f"from the data of the earlier run: {', '.join(parts)}{again}{own}"


def _seen(brought: Mapping[str, Split], trained: Split) -> list[str]:
    """Notes about splits of the new data with rows that the earlier run was trained on."""
    digests = set(_digests(trained))
    counts = {role: sum(digest in digests for digest in _digests(split)) for role, split in brought.items()}
    return [
        f"the model was trained on {count:,} of the {len(brought[role]):,} {role} rows before: its figures will be "
        "too good"
        for role, count in counts.items()
        if count
    ]


def _digests(split: Split) -> Sequence[bytes]:
    """The texts of a split in a form of which millions fit into memory."""
    return [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in split]


def _joined(role: str, parts: Sequence[Split], num_labels: int) -> Split | None:
    """One split of the rows of several, in their order; None if there are no rows."""
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return replace(parts[0], name=role, labels=_widened(parts[0].labels, num_labels)) if parts else None
    evidence: list[Spans | None] | None = None
    if any(part.evidence is not None for part in parts):
        evidence = [spans for part in parts for spans in part.evidence or [None] * len(part)]
    return Split(
        role,
        Texts.of(text for part in parts for text in part),
        np.concatenate([_widened(part.labels, num_labels) for part in parts]),
        evidence,
        _joined_info(parts),
    )


def _widened(labels: NDArray[Any], num_labels: int) -> NDArray[Any]:
    """Labels of a model with fewer labels: those that it did not know are absent."""
    if labels.ndim == 1:
        return labels
    return np.pad(labels, ((0, 0), (0, num_labels - labels.shape[1])))


def _joined_info(parts: Sequence[Split]) -> RowInfo | None:
    """Where the rows are from. Groups and times are left out: they are for dividing rows, which has been done."""
    infos = [part.info for part in parts if part.info is not None]
    if len(infos) < len(parts):
        return None
    starts = np.cumsum([0, *(len(info.origins) for info in infos)])
    return RowInfo(
        [origin for info in infos for origin in info.origins],
        np.concatenate([info.table + start for info, start in zip(infos, starts, strict=False)]).astype(np.int32),
        np.concatenate([info.number for info in infos]),
        [place for part in parts for place in part.places()] if any(info.ids is not None for info in infos) else None,
    )
