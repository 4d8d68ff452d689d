"""The section `data` of a config: where the texts and labels are read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictStr, model_validator

from textattn.config.section import FileName, Files, Fraction, Name, PositiveInt, Section, SomeFiles


class DataFiles(Section):
    """Files of each split: a path or a list of paths. Globs are allowed, and formats such as csv or parquet."""

    train: SomeFiles
    """Files of the training split."""
    validation: Files | None = None
    """Files of the validation split. null: set aside part of the training split."""
    test: Files | None = None
    """Files of the test split. null: compute no test metrics."""


class Unlabelled(Section):
    """Texts without labels, from the labelled data or from elsewhere."""

    path: SomeFiles | None = None
    """Files (globs allowed), a folder or a data set on the Hub. null: the same as `data.path`."""
    name: Name | None = None
    """Configuration (subset) of a Hub data set."""
    revision: Name | None = None
    """Branch, tag or commit of a Hub data set."""
    splits: Annotated[list[Name], Field(min_length=1)] | None = None
    """Splits to read. null: all splits of `path`."""
    text: Name | list[Name] | None = None
    """Column or columns that hold the text. null: the same as `data.text`."""

    @model_validator(mode="after")
    def _splits_without_path(self) -> Unlabelled:
        if self.path is None:
            if self.splits is None:
                raise ValueError("give data.unlabelled.path, or name splits of data.path in data.unlabelled.splits")
            if extra := [key for key in ("name", "revision", "text") if getattr(self, key) is not None]:
                raise ValueError(f"data.unlabelled.{extra[0]} requires data.unlabelled.path")
        return self


class DataConfig(Section):
    """Where the texts and labels are read from."""

    path: FileName | None = None
    """A file such as a csv, a folder, a data set on the Hub (`stanfordnlp/imdb`, or `hf://stanfordnlp/imdb` if the name
    could also be a path), or `bundled:reviews`. Give either `path` or `files`."""
    files: DataFiles | None = None
    """Files of each split, as an alternative to `path`."""
    name: Name | None = None
    """Configuration (subset) of a Hub data set."""
    revision: Name | None = None
    """Commit, branch or tag of a Hub data set. The commit that was read is recorded in environment.json."""
    streaming: StrictBool = False
    """Read a Hub data set over the network without storing its files on this machine. With `max_train_examples`, only
    that many training examples are read, plus the buffer from which they are drawn."""
    text: Name | Annotated[list[Name], Field(min_length=1)] = "text"
    """Column that holds the text, or several columns, which are joined as segments with a separator token."""
    label: Name | Annotated[list[Name], Field(min_length=2)] = "label"
    """Column that holds the label: a string, a number, a boolean, or a list of them (multi-label). Or a list of columns
    of 0 and 1 (or false and true), each of which is a label (multi-label)."""
    label_names: Annotated[list[Name], Field(min_length=2)] | None = None
    """Names of the labels 0, 1, … for data whose labels are integers without names."""
    label_map: dict[StrictStr, Name | None] | None = None
    """Other names for labels as they stand in the data, such as `{POS: pos, "nan": null}`. null: the row has no label
    and is left out; of several labels, only this one is left out."""
    evidence: Name | None = None
    """Column with the parts of the text that are the reason for its label: [start, end] pairs of character positions,
    strings, or (with `evidence_tokens`) a 0 or 1 for each token. Used by `textattn audit` and
    `training.attention_supervision`."""
    evidence_tokens: Name | None = None
    """Column with the tokens to which the 0s and 1s of `evidence` refer."""
    id: Name | None = None
    """Column that names each row, for instance a ticket number. Reports and predictions refer to rows by it. null: rows
    are called by their file and line (`tickets.csv:2966`)."""
    group: Name | None = None
    """Column whose rows stay together when data are set aside for validation, for the test or for cross-validation: the
    rows of one customer, author or document. Rows without a value count as unrelated."""
    time: Name | None = None
    """Column with a date or a number that puts the rows in order. What is set aside for the test are then the last
    rows, and for validation the last of the others."""
    label_separator: Name | None = None
    """Separator, for instance `,`, that splits the label column of csv and tsv files into several labels
    (multi-label)."""
    train_split: Name = "train"
    """Split to train on."""
    validation_split: Name | None = "validation"
    """Split that the best checkpoint is selected on. If the data have no such split, `validation_fraction` of the
    training split is set aside."""
    test_split: Name | None = "test"
    """Split for the final metrics. Nothing is ever selected on it. If the data have no such split, `test_fraction` of
    the training split is set aside. null: none."""
    unlabelled: Unlabelled | None = None
    """Texts without labels. They are used for the vocabulary and the word vectors and, with `teacher`, for training."""
    teacher: FileName | None = None
    """Model (run directory, bundle or `hf://user/name`) whose predictions become the labels of the texts without
    labels. These texts are then trained on like the others."""
    validation_fraction: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.1
    """Share of the training split to set aside for validation (seeded, stratified by label) if there is no validation
    split. 0: no validation; the model of the last epoch is kept and is not calibrated. With
    `training.cross_validation`, the default is 0."""
    test_fraction: Fraction | None = None
    """Share of the training split to set aside for the test if there is no test split, chosen like the validation
    split. 0: no test. null: 0.2, but 0 with `files`, with `training.cross_validation`, and where there are too few rows
    (fewer than 50, or fewer than 5 of every label). The training_config.yaml of a finished run contains the share that
    was used."""
    validation_rows: Literal["random", "last"] = "random"
    """Which rows to set aside for validation and for the test: random ones, or the last ones of each label. Choose
    `last` if related rows follow one another (the same film, author or day): the texts set aside are then less similar
    to training texts. With `time` the last rows are chosen whatever their labels."""
    max_train_examples: PositiveInt | None = None
    """Train on at most this many examples, drawn at random (seeded). null: use all examples."""
    duplicates: Literal["keep", "drop", "error"] = "keep"
    """What to do with training rows that stand there twice, with the same text and labels, and with texts of the
    training split that are also in the validation or test split. `drop`: leave them out of the training split; `error`:
    stop and name them."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a malformed row or one without text or label. `error`: stop and report its file, row and column;
    `skip`: skip the row and count it."""
    encoding: Name | None = None
    """Encoding of text files, such as csv and jsonl. null: recognised; a note names it if it is not UTF-8."""
    delimiter: Name | None = None
    """Character between the cells of csv and tsv files: `,`, `;`, `|` or another one, or the word `tab`. null:
    recognised; a note names it if it is not the one that the suffix stands for."""
    quoting: Literal["minimal", "none"] | None = None
    """Quotation marks in csv and tsv files. `minimal`: they enclose cells that contain a delimiter or a line break;
    `none`: they are characters like others, and every line is a row. null: recognised."""
    escape: Name | None = None
    r"""Character before a quotation mark inside an enclosed cell of csv and tsv files, usually `\`; `none`: quotation
    marks are doubled. null: recognised."""
    header: StrictBool = True
    """Whether the first line of csv and tsv files names the columns. false: it is a row, and the columns are called
    `column_1`, `column_2` and so on."""

    @model_validator(mode="before")
    @classmethod
    def _older_keys(cls, values: Any) -> Any:
        """Read the former spellings of `unlabelled`, which occur in the training_config.yaml of older runs."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        splits = values.pop("unlabelled_splits", None)
        if isinstance(values.get("files"), Mapping):
            values["files"] = dict(values["files"])
            if files := values["files"].pop("unlabelled", None):
                values["unlabelled"] = {"path": files}
        if splits:
            values["unlabelled"] = {"splits": splits}
        return values

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.path is None) == (self.files is None):
            raise ValueError("give either data.path or data.files" + (", not both" if self.path else ""))
        if self.teacher is not None and self.unlabelled is None:
            raise ValueError("data.teacher needs texts without labels: data.unlabelled")
        if self.unlabelled is not None and self.unlabelled.path is None and self.files is not None:
            raise ValueError("data.unlabelled needs data.unlabelled.path if data.files is used")
        for name, value, word in (("delimiter", self.delimiter, "tab"), ("escape", self.escape, "none")):
            if value not in (None, word) and (len(value) != 1 or value in '"\r\n\0'):
                raise ValueError(f"data.{name} must be one character or {word}, got {value!r}")
        if self.delimiter is not None and self.delimiter == self.escape:
            raise ValueError("data.delimiter and data.escape are the same character")
        if self.streaming and self.path is None:
            raise ValueError("data.streaming requires data.path")
        texts = [self.text] if isinstance(self.text, str) else self.text
        if self.unlabelled is not None and self.unlabelled.text is not None:
            given = 1 if isinstance(self.unlabelled.text, str) else len(self.unlabelled.text)
            if given != len(texts):
                raise ValueError(f"data.unlabelled.text names {given} columns, but data.text names {len(texts)}")
        labels = [self.label] if isinstance(self.label, str) else self.label
        if both := [name for name in labels if name in texts]:
            raise ValueError(f"data.text and data.label are both {both[0]!r}")
        if len(set(labels)) < len(labels):
            raise ValueError("data.label names the same column twice")
        if not isinstance(self.label, str):
            for key in ("label_names", "label_separator", "label_map"):
                if getattr(self, key) is not None:
                    raise ValueError(f"data.{key} is for one label column, but data.label names {len(labels)}")
        if len(set(texts)) < len(texts):
            raise ValueError("data.text names the same column twice")
        if self.label_names is not None and len(set(self.label_names)) < len(self.label_names):
            raise ValueError("data.label_names contains the same name twice")
        if self.group is not None and self.time is not None:
            raise ValueError("data.group and data.time cannot be used together: the last rows may be of any group")
        if self.group is not None and self.validation_rows == "last":
            raise ValueError("data.group draws groups at random; it does not go with data.validation_rows: last")
        if self.evidence_tokens is not None and self.evidence is None:
            raise ValueError("data.evidence_tokens requires data.evidence")
        if self.evidence is not None and not isinstance(self.text, str):
            raise ValueError("data.evidence needs a single text column, but data.text names several")
        return self
