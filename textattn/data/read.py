"""From the data section of a config to texts and class ids by split, with every unusable row named."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.schema import DataConfig
from textattn.data.cells import check_column, check_columns, label_problem, text_columns, text_problem
from textattn.data.evidence import Spans, parse_evidence
from textattn.data.labels import UNLABELLED, LabelMap, build_label_map, by_name, for_table, plain, to_array
from textattn.data.segments import join_segments
from textattn.data.sources import Tables, is_file, open_others, open_tables, sources
from textattn.data.table import RowProblem, Table, reading_notes
from textattn.data.texts import Texts, TextsWriter
from textattn.errors import InputError, Option, Setting

SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Split:
    """Texts and their class ids."""

    name: str
    texts: Texts
    """Several segments are joined by a tab."""
    labels: NDArray[np.integer[Any]]
    """(rows,) int64, or (rows, num_labels) uint8 for multi-label."""
    evidence: list[Spans | None] | None = None
    """What people marked as the reason of each label; None where the data say nothing of it."""

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """The rows at `indices`, in that order."""
        evidence = self.evidence and [self.evidence[i] for i in indices]
        return replace(self, texts=self.texts.take(indices), labels=self.labels[indices], evidence=evidence)

    def fingerprint(self) -> str:
        """SHA-256 of texts and labels in their order: the same wherever they were read from."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels).tobytes())
        digest.update(self.texts.fingerprint().encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Corpus:
    """All that a run reads."""

    train: Split
    validation: Split | None
    test: Split | None
    unlabelled: list[Texts]
    labels: list[str]
    """Label names in the order of the model's outputs."""
    multi_label: bool
    num_segments: int
    source: str
    revision: str | None
    notes: list[str] = field(default_factory=list)
    """What the user should know: rows skipped, splits missing."""
    validation_is_drawn: bool = False
    """At random, from the training split."""
    num_pseudo_labelled: int = 0
    """The last rows of train have the labels that a teacher gives them."""

    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def labelled(self) -> Corpus:
        """The same without what a teacher labelled."""
        if not self.num_pseudo_labelled:
            return self
        own = np.arange(len(self.train) - self.num_pseudo_labelled)
        return replace(self, train=self.train.take(own), num_pseudo_labelled=0)


@dataclass
class _Rows:
    """A split before its labels are understood. Millions of rows must fit: equal labels are one object."""

    texts: Texts
    labels: list[Any]
    numbers: array[int]
    """Of each row, in its table."""
    tables: list[tuple[int, str]]
    """The first row of each table, and its name."""
    evidence: list[Spans | None] | None = None

    def place(self, row: int) -> tuple[str, int]:
        """Where a user finds it."""
        origin = next(name for first, name in reversed(self.tables) if first <= row)
        return origin, self.numbers[row]


def read_corpus(config: DataConfig, opened: list[Tables | None] | None = None) -> Corpus:
    """Reads the training, validation and test split, and unlabelled texts; nothing is set aside yet.

    Args:
        opened: what `open_hub` gave, where it was needed before.

    Raises:
        InputError: a source, split or column is missing, or (unless `on_bad_row` is skip) a row cannot be used.
    """
    of_sources = sources(config)
    found = open_others(config, opened or [None] * len(of_sources))
    tables = found[0]
    notes: list[str] = []
    named = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
    for role, split in named.items():
        # Data may well have no split `validation` or `test`; one with another name was asked for.
        if split is not None and split not in tables and (role == "train" or split != role):
            raise InputError(
                f"{config.path or 'data.files'}: no split {split!r}; splits are: {', '.join(tables)}",
                Setting(f"data.{role}_split", next(iter(tables))),
            )
    if config.evidence is not None:
        for column in filter(None, (config.evidence, config.evidence_tokens)):
            check_column(
                tables[config.train_split][0],
                column,
                "evidence" if column == config.evidence else "evidence_tokens",
                config,
            )
    rows = {
        role: _read_rows(tables[split], config, notes)
        for role, split in named.items()
        if split is not None and split in tables
    }
    class_names = _class_names(tables[config.train_split], config)
    multi_label = any(isinstance(label, list) for label in rows["train"].labels)
    try:
        label_map = build_label_map(rows["train"].labels, class_names, multi_label)
    except InputError as error:
        raise InputError(f"{rows['train'].place(0)[0]}: column {config.label!r}: {error.message}", error.hint) from None
    _check_separator(rows["train"], config)
    splits = {
        role: _resolve(role, raw, for_table(label_map, _class_names(tables[named[role] or ""], config)), config, notes)
        for role, raw in rows.items()
    }
    _check_occurring(splits["train"], label_map, config)
    return Corpus(
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        unlabelled=_read_unlabelled(found[-1], of_sources[-1], config, notes),
        labels=label_map.names,
        multi_label=multi_label,
        num_segments=len(text_columns(config)),
        source=config.path or "files",
        revision=tables[config.train_split][0].revision,
        notes=notes,
    )


def read_split(
    config: DataConfig, split: str, labels: list[str], multi_label: bool, seed: int = 0
) -> tuple[Split, list[str]]:
    """One labelled split for a model that exists already, its labels matched by name; and notes as in `Corpus`.

    Args:
        labels: those of the model.
        seed: of the rows drawn where `streaming` reads a part.

    Raises:
        InputError: as `read_corpus`; also a label the model does not know.
    """
    tables = open_tables(config, seed)
    named = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
    found = split if split in tables else named.get(split)
    if config.path is not None and is_file(config.path) and found not in tables:
        # A single file is whatever split it is asked to be.
        found = next(iter(tables))
    if found not in tables:
        raise InputError(f"no split {split!r}; splits are: {', '.join(tables)}", Option("split", next(iter(tables))))
    notes: list[str] = []
    rows = _read_rows(tables[found], config, notes)
    names = _class_names(tables[found], config) or config.label_names
    label_map = for_table(by_name(labels, multi_label), names)
    return _resolve(split, rows, label_map, config, notes), notes


def _class_names(tables: list[Table], config: DataConfig) -> list[str] | None:
    return config.label_names or tables[0].class_names.get(config.label)


def _read_rows(tables: list[Table], config: DataConfig, notes: list[str], labelled: bool = True) -> _Rows:
    """Texts and labels of a split; with `labelled` false texts only, and no label column is needed."""
    texts_of = text_columns(config)
    columns = [*texts_of, config.label] if labelled else texts_of
    evidence_of = _evidence_columns(tables, config) if labelled else []
    texts, numbers = TextsWriter(), array("q")
    labels: list[Any] = []
    known: dict[Any, Any] = {}
    origins: list[tuple[int, str]] = []
    evidence: list[Spans | None] = []
    problems: list[RowProblem] = []
    notes += reading_notes(tables)
    for table in tables:
        check_columns(table, columns, config, "data" if labelled else "data.unlabelled")
        origins.append((len(labels), table.origin))
        for item in table.rows([*columns, *evidence_of]):
            if isinstance(item, RowProblem):
                problems.append(item)
                continue
            number, values = item
            segments, label = values[: len(texts_of)], values[len(columns) - 1]
            message = text_problem(segments, texts_of) or (labelled and label_problem(label, config.label))
            if evidence_of and not message:
                try:
                    evidence.append(parse_evidence(segments[0], *values[len(columns) :]))
                except ValueError as error:
                    message = f"column {config.evidence!r}: {error}"
            if message:
                problems.append(RowProblem(table.origin, number, message))
                continue
            texts.append(_join(segments))
            if labelled:
                value = _split_label(label, config.label_separator)
                labels.append(value if isinstance(value, list) else known.setdefault((type(value), value), value))
                numbers.append(number)
    found = texts.finish()
    _report(problems, config, notes, len(found) + len(problems))
    if not len(found):
        raise InputError(f"{tables[0].origin}: no rows that can be used")
    return _Rows(found, labels, numbers, origins, evidence if evidence_of else None)


def _evidence_columns(tables: list[Table], config: DataConfig) -> list[str]:
    """Of the columns of `data.evidence`, those to read: none where a split, such as test, has no evidence."""
    columns = [name for name in (config.evidence, config.evidence_tokens) if name is not None]
    return columns if all(name in table.columns for table in tables for name in columns) else []


def _read_unlabelled(tables: Tables, source: DataConfig, config: DataConfig, notes: list[str]) -> list[Texts]:
    if config.unlabelled is None:
        return []
    found = []
    for split in dict.fromkeys(config.unlabelled.splits or tables):
        if split not in tables:
            raise InputError(f"no split {split!r}; splits are: {', '.join(tables)}", setting="data.unlabelled.splits")
        found.append(_read_rows(tables[split], source, notes, labelled=False).texts)
    return found


def _join(segments: list[Any]) -> str:
    return str(segments[0]) if len(segments) == 1 else join_segments(segments)


def _split_label(label: Any, separator: str | None) -> Any:
    if separator is None or not isinstance(label, str):
        return label
    return [part.strip() for part in label.split(separator) if part.strip()]


def _resolve(role: str, raw: _Rows, label_map: LabelMap, config: DataConfig, notes: list[str]) -> Split:
    ids: list[tuple[int, ...]] = []
    known: dict[Any, tuple[int, ...]] = {}
    bad: dict[int, RowProblem] = {}
    for i, value in enumerate(raw.labels):
        try:
            if isinstance(value, list):
                ids.append(tuple(label_map.of(value)))
                continue
            key = (type(value), value)
            if key not in known:
                known[key] = tuple(label_map.of(value))
            ids.append(known[key])
        except (ValueError, TypeError) as error:
            bad[i] = RowProblem(*raw.place(i), f"column {config.label!r}: {error}")
    if not ids and role != "train" and all(plain(label) == UNLABELLED for label in raw.labels):
        raise InputError(
            f"{raw.place(0)[0]}: column {config.label!r}: all labels are -1, which means unlabelled",
            f"data.{role}_split=null",
        )
    _report(list(bad.values()), config, notes, len(raw.labels))
    if not ids:
        raise InputError(f"{raw.place(0)[0]}: no rows that can be used")
    texts, evidence = raw.texts, raw.evidence
    if bad:
        kept = np.setdiff1d(np.arange(len(raw.labels)), list(bad))
        texts, evidence = texts.take(kept), evidence and [evidence[i] for i in kept]
    return Split(role, texts, to_array(ids, len(label_map.names), label_map.multi_label), evidence)


def _report(problems: list[RowProblem], config: DataConfig, notes: list[str], total: int) -> None:
    """Bad rows are an error, or a note that counts them: never dropped without a word."""
    if not problems:
        return
    shown = [str(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        shown.append(f"… and {len(problems) - SHOWN_PROBLEMS} more")
    if config.on_bad_row == "error":
        raise InputError(
            "\n".join(shown) + f"\n{len(problems)} of {total} rows cannot be used",
            "mend the rows, or leave them out with data.on_bad_row=skip",
        )
    notes.append(f"skipped {len(problems)} of {total} rows:\n  " + "\n  ".join(shown))


def _check_separator(train: _Rows, config: DataConfig) -> None:
    if config.label_separator is not None and all(
        isinstance(labels, list) and len(labels) < 2 for labels in train.labels
    ):
        raise InputError(
            f"{train.place(0)[0]}: column {config.label!r}: data.label_separator {config.label_separator!r} "
            "separates nothing: no row has several labels",
            "data.label_separator=null",
        )


def _check_occurring(train: Split, label_map: LabelMap, config: DataConfig) -> None:
    counts = train.labels.sum(axis=0) if label_map.multi_label else np.bincount(train.labels)
    if (counts > 0).sum() < 2:
        raise InputError(
            f"the training split has only the label {label_map.names[int(np.argmax(counts))]!r}; "
            "two different ones are the least that can be told apart",
            # Only the first rows were read, and they may be sorted.
            "data.streaming=false" if config.streaming and config.max_train_examples else None,
        )
