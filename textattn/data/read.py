"""From the data section of a config to texts and class ids by split, with every unusable row named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.config.data_section import DataConfig
from textattn.data.cells import LabelReader, check_column, check_columns, label_columns, shown_label, text_columns
from textattn.data.evidence import Spans, parse_evidence
from textattn.data.known_labels import KnownLabels
from textattn.data.label_column import refuse_column
from textattn.data.labels import UNLABELLED, LabelMap, build_label_map, by_name, for_table, plain
from textattn.data.numbers import NumberColumn
from textattn.data.row_info import InfoWriter, RowInfo, columns_in
from textattn.data.segments import as_segment, text_of
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
    labels: NDArray[Any]
    """(rows,) int64, (rows, num_labels) uint8 for multi-label, or for regression numbers, (rows,) float64."""
    evidence: list[Spans | None] | None = None
    """What people marked as the reason of each label; None where the data say nothing of it."""
    info: RowInfo | None = None
    """Where the rows stand in the user's files; None where that is not known."""

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @property
    def is_numeric(self) -> bool:
        """Whether the labels are numbers to predict."""
        return self.labels.dtype.kind == "f"

    def take(self, indices: NDArray[np.int64]) -> Split:
        """The rows at `indices`, in that order."""
        evidence = self.evidence and [self.evidence[i] for i in indices]
        info = self.info and self.info.take(indices)
        return replace(self, texts=self.texts.take(indices), labels=self.labels[indices], evidence=evidence, info=info)

    def place(self, row: int) -> str:
        """How a user finds a row: its id, its file and line, or else its number in the split."""
        return self.info.place(row) if self.info is not None else f"{self.name} {row}"

    def places(self) -> list[str]:
        """The names of all rows, see `place`."""
        return [self.place(row) for row in range(len(self))]

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
    """Label names in the order of the model's outputs; of numbers the name of their column."""
    multi_label: bool
    num_segments: int
    source: str
    revision: str | None
    notes: list[str] = field(default_factory=list)
    """What the user should know: rows skipped, splits missing."""
    validation_is_drawn: bool = False
    """At random, from the training split."""
    test_fraction: float = 0.0
    """Share of the rows that was set aside as the test split; 0 where the data have one or there is none."""
    num_pseudo_labelled: int = 0
    """The last rows of train have the labels that a teacher gives them."""
    joined: dict[str, int] | None = None
    """The numbers of rows that came from the data of an earlier run, see `textattn.data.join`; None if there were
    none."""

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
    info: RowInfo | None
    """None without labels."""
    evidence: list[Spans | None] | None = None

    def place(self, row: int) -> tuple[str, int]:
        """The table of a row and its number there, for messages."""
        assert self.info is not None
        return self.info.origins[self.info.table[row]], int(self.info.number[row])

    def without(self, rows: list[int]) -> _Rows:
        """The same rows but these."""
        kept = np.setdiff1d(np.arange(len(self.labels)), rows)
        return _Rows(
            self.texts.take(kept),
            [self.labels[i] for i in kept],
            self.info and self.info.take(kept),
            self.evidence and [self.evidence[i] for i in kept],
        )


def read_corpus(
    config: DataConfig,
    opened: list[Tables | None] | None = None,
    *,
    numbers: bool = False,
    known: KnownLabels | None = None,
) -> Corpus:
    """Reads the training, validation and test split, and unlabelled texts; nothing is set aside yet.

    Args:
        opened: what `open_hub` gave, where it was needed before.
        numbers: the label column holds numbers to predict rather than labels.
        known: the labels of a model that is trained on; they come first, and others are added.

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
    for key in ("evidence", "evidence_tokens", "id", "group", "time"):
        column = getattr(config, key)
        if column is not None:
            check_column(tables[config.train_split][0], column, key, config)
    rows = {"train": _read_rows(tables[config.train_split], config, notes)}
    multi_label = not numbers and any(isinstance(label, list) for label in rows["train"].labels)
    for role, split in named.items():
        if role != "train" and split is not None and split in tables:
            rows[role] = _read_rows(tables[split], config, notes, multi_label)
    label_map: LabelMap | NumberColumn = NumberColumn(label_columns(config))
    if not numbers:
        label_map = _label_map(rows["train"], tables, config, multi_label, known)
        multi_label = label_map.multi_label
    _check_separator(rows["train"], config)
    splits = {}
    for role, raw in rows.items():
        own = label_map
        if isinstance(own, LabelMap):
            own = for_table(own, _class_names(tables[named[role] or ""], config))
        splits[role] = _resolve(role, raw, own, config, notes)
    if known is None:
        _check_occurring(splits["train"], label_map, config)
    if not numbers and not multi_label:
        refuse_column(label_map.names, splits["train"].labels, f"{rows['train'].place(0)[0]}: {shown_label(config)}")
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
    config: DataConfig, split: str, labels: list[str], multi_label: bool, seed: int = 0, *, numbers: bool = False
) -> tuple[Split, list[str]]:
    """One labelled split for a model that exists already, its labels matched by name; and notes as in `Corpus`.

    Args:
        labels: those of the model.
        seed: of the rows drawn where `streaming` reads a part.
        numbers: the model predicts numbers.

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
    rows = _read_rows(tables[found], config, notes, multi_label)
    label_map: LabelMap | NumberColumn = NumberColumn(labels)
    if not numbers:
        label_map = for_table(by_name(labels, multi_label), _class_names(tables[found], config))
    return _resolve(split, rows, label_map, config, notes), notes


def _label_map(
    train: _Rows, tables: Tables, config: DataConfig, multi_label: bool, known: KnownLabels | None
) -> LabelMap:
    class_names = _class_names(tables[config.train_split], config)
    try:
        if known is not None:
            return known.grown(train.labels, class_names, merged=config.label_map is not None)
        return build_label_map(train.labels, class_names, multi_label, merged=config.label_map is not None)
    except InputError as error:
        raise InputError(f"{train.place(0)[0]}: {shown_label(config)}: {error.message}", error.hint) from None


def _own_class_names(tables: list[Table], config: DataConfig) -> list[str] | None:
    """The names of the labels 0, 1, … by the config or the data."""
    if not isinstance(config.label, str):
        return config.label
    return config.label_names or tables[0].class_names.get(config.label)


def _class_names(tables: list[Table], config: DataConfig) -> list[str | None] | None:
    """The same after `data.label_map`; None in the place of a name that is mapped to null."""
    names = _own_class_names(tables, config)
    return None if names is None else [(config.label_map or {}).get(name, name) for name in names]


def _read_rows(
    tables: list[Table], config: DataConfig, notes: list[str], multi_label: bool | None = None, *, labelled: bool = True
) -> _Rows:
    """Texts and labels of a split.

    Args:
        multi_label: whether a text may have several labels, so that an empty cell means none of them; None: if a row
            of these tables has a list.
        labelled: false: texts only, and no label column is needed.
    """
    texts_of = text_columns(config)
    columns = [*texts_of, *label_columns(config)] if labelled else texts_of
    evidence_of = columns_in(tables, [config.evidence, config.evidence_tokens]) if labelled else []
    reader = LabelReader(config, _own_class_names(tables, config)) if labelled else None
    texts = TextsWriter()
    labels: list[Any] = []
    known: dict[Any, Any] = {}
    info = InfoWriter(config, tables) if labelled else None
    also = info.columns if info is not None else []
    evidence: list[Spans | None] = []
    problems: list[RowProblem] = []
    empty: list[int] = []
    left_out = 0
    notes += reading_notes(tables)
    for table in tables:
        check_columns(table, columns, config, "data" if labelled else "data.unlabelled")
        if info is not None:
            info.start(table.origin)
        for item in table.rows([*columns, *also, *evidence_of]):
            if isinstance(item, RowProblem):
                problems.append(item)
                continue
            number, values = item
            try:
                text = text_of(values[: len(texts_of)], texts_of)
                value = reader.read(values[len(texts_of) : len(columns)]) if reader is not None else None
                if value is LabelReader.LEFT_OUT:
                    left_out += 1
                    continue
                spans = _evidence(values[0], values[len(columns) + len(also) :], config) if evidence_of else None
            except ValueError as error:
                problems.append(RowProblem(table.origin, number, str(error)))
                continue
            texts.append(text)
            if reader is not None and info is not None:
                if value is LabelReader.EMPTY:
                    empty.append(len(labels))
                labels.append(value if isinstance(value, list) else known.setdefault((type(value), value), value))
                info.append(number, values[len(columns) : len(columns) + len(also)])
                evidence.append(spans)
    found = _Rows(texts.finish(), labels, None if info is None else info.finish(), evidence if evidence_of else None)
    if empty:
        if multi_label is None:
            multi_label = any(isinstance(label, list) for label in labels)
        if multi_label:
            for row in empty:
                labels[row] = []
        else:
            what = f"{shown_label(config)} is empty; expected a label"
            problems += [RowProblem(*found.place(row), what) for row in empty]
            # In the order of the rows again.
            order = {table.origin: i for i, table in enumerate(tables)}
            problems.sort(key=lambda problem: (order[problem.origin], problem.row))
            found = found.without(empty)
    _report(problems, config, notes, len(found.texts) + len(problems) + left_out)
    if left_out:
        rows = len(found.texts) + len(problems) + left_out
        notes.append(f"left out {left_out:,} of {rows:,} rows, whose labels data.label_map maps to null")
    if not len(found.texts):
        raise InputError(f"{tables[0].origin}: no rows that can be used")
    return found


def _evidence(text: Any, values: list[Any], config: DataConfig) -> Spans | None:
    """What is marked in a text; raises ValueError, which names the column."""
    try:
        return parse_evidence(as_segment(text) or "", *values)
    except ValueError as error:
        raise ValueError(f"column {config.evidence!r}: {error}") from None


def _read_unlabelled(tables: Tables, source: DataConfig, config: DataConfig, notes: list[str]) -> list[Texts]:
    if config.unlabelled is None:
        return []
    found = []
    for split in dict.fromkeys(config.unlabelled.splits or tables):
        if split not in tables:
            raise InputError(f"no split {split!r}; splits are: {', '.join(tables)}", setting="data.unlabelled.splits")
        found.append(_read_rows(tables[split], source, notes, labelled=False).texts)
    return found


def _resolve(role: str, raw: _Rows, label_map: LabelMap | NumberColumn, config: DataConfig, notes: list[str]) -> Split:
    if isinstance(label_map, NumberColumn):
        label_map = NumberColumn.of_values(label_map.names, raw.labels)
        if label_map.has_decimal_commas:
            notes.append(f"{raw.place(0)[0]}: {shown_label(config)}: 1,5 is read as 1.5")
    ids: list[tuple[Any, ...]] = []
    known: dict[Any, tuple[Any, ...] | str] = {}
    bad: dict[int, RowProblem] = {}
    for i, value in enumerate(raw.labels):
        key = tuple((type(part), part) for part in value) if isinstance(value, list) else (type(value), value)
        if key not in known:
            try:
                known[key] = tuple(label_map.of(value))
            except (ValueError, TypeError) as error:
                known[key] = f"{shown_label(config)}: {error}"
        found = known[key]
        if isinstance(found, str):
            bad[i] = RowProblem(*raw.place(i), found)
        else:
            ids.append(found)
    if not ids and role != "train" and all(plain(label) == UNLABELLED for label in raw.labels):
        raise InputError(
            f"{raw.place(0)[0]}: {shown_label(config)}: all labels are -1, which means unlabelled",
            f"data.{role}_split=null",
        )
    _report(list(bad.values()), config, notes, len(raw.labels))
    if not ids:
        raise InputError(f"{raw.place(0)[0]}: no rows that can be used")
    texts, evidence, info = raw.texts, raw.evidence, raw.info
    if bad:
        kept = raw.without(list(bad))
        texts, evidence, info = kept.texts, kept.evidence, kept.info
    return Split(role, texts, label_map.to_array(ids), evidence, info)


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
            f"{train.place(0)[0]}: {shown_label(config)}: data.label_separator {config.label_separator!r} "
            "separates nothing: no row has several labels",
            "data.label_separator=null",
        )


def _check_occurring(train: Split, label_map: LabelMap | NumberColumn, config: DataConfig) -> None:
    if isinstance(label_map, NumberColumn):
        if len(train) > 1 and train.labels.min() == train.labels.max():
            raise InputError(
                f"the training split has only the number {train.labels[0]:g} in {shown_label(config)}; "
                "two different ones are the least that can be told apart"
            )
        return
    counts = train.labels.sum(axis=0) if label_map.multi_label else np.bincount(train.labels)
    if (counts > 0).sum() < 2:
        raise InputError(
            f"the training split has only the label {label_map.names[int(np.argmax(counts))]!r}; "
            "two different ones are the least that can be told apart",
            # Only the first rows were read, and they may be sorted.
            "data.streaming=false" if config.streaming and config.max_train_examples else None,
        )
