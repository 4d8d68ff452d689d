"""The data of a finished run, as a run that goes on from it reads them again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textattn.config.data_section import DataConfig
from textattn.data.join import join
from textattn.data.known_labels import KnownLabels
from textattn.data.read import Corpus, read_corpus
from textattn.data.sources import Tables, open_hub
from textattn.data.splits import prepare_splits
from textattn.errors import InputError, TextattnError
from textattn.inference.original_data import Origin
from textattn.storage.model_files import ModelFiles
from textattn.storage.records import SplitRecord, StartRecord
from textattn.storage.run_dir import ENVIRONMENT

if TYPE_CHECKING:
    from textattn.config import Config
    from textattn.inference.classifier import Classifier


@dataclass(frozen=True)
class EarlierData:
    """Where the data of a finished run are, and what is needed to divide them into the same splits again."""

    data: DataConfig
    seed: int
    replay: float
    labels: KnownLabels
    numbers: bool
    """Whether they are numbers to predict rather than labels."""
    origin: Origin
    splits: dict[str, SplitRecord]
    """The splits that training had, by name."""
    num_rows: int
    """The number of rows that were read and divided."""
    num_pseudo_labelled: int
    """The last rows of its training split, which are not read again."""
    earlier: EarlierData | None
    """The data of the run that this run went on from itself."""

    @classmethod
    def of(cls, classifier: Classifier, config: Config | None) -> EarlierData | None:
        """What a run records of its data; None if it does not.

        Args:
            classifier: the model of the run.
            config: its config.
        """
        files = classifier.files
        if config is None or not files.has(ENVIRONMENT):
            return None
        try:
            environment = files.read_json(ENVIRONMENT)
            dataset = environment["dataset"]
            splits = {name: SplitRecord(**split) for name, split in dataset["splits"].items()}
            pseudo = int(dataset.get("num_pseudo_labelled", 0))
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            return None
        start = start_record(files)
        return cls(
            # Texts without labels are not read again: they were used for the vocabulary and by a teacher.
            config.data.model_copy(update={"unlabelled": None, "teacher": None}),
            config.seed,
            config.start.replay,
            KnownLabels(list(classifier.config.labels), classifier.config.multi_label),
            config.task == "regression",
            Origin.of(classifier.path, environment),
            splits,
            sum(split.num_examples for split in splits.values()) - pseudo
            if start is None or start.rows is None
            else start.rows["read"],
            pseudo,
            None if start is None or start.data is None else cls.from_json(start.data),
        )

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, for environment.json of a run that goes on."""
        return {
            "data": self.data.model_dump(),
            "seed": self.seed,
            "replay": self.replay,
            "labels": self.labels.names,
            "multi_label": self.labels.multi_label,
            "numbers": self.numbers,
            "run": str(self.origin.run),
            "directory": self.origin.directory,
            "is_local": self.origin.is_local,
            "splits": {name: vars(split) for name, split in self.splits.items()},
            "num_rows": self.num_rows,
            "num_pseudo_labelled": self.num_pseudo_labelled,
            "earlier": None if self.earlier is None else self.earlier.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any) -> EarlierData:
        """Read the result of `to_json`.

        Raises:
            InputError: it is damaged.
        """
        try:
            return cls(
                DataConfig.model_validate(value["data"]),
                int(value["seed"]),
                float(value["replay"]),
                KnownLabels([str(name) for name in value["labels"]], bool(value["multi_label"])),
                bool(value["numbers"]),
                Origin(Path(value["run"]), value["directory"], bool(value["is_local"])),
                {name: SplitRecord(**split) for name, split in value["splits"].items()},
                int(value["num_rows"]),
                int(value["num_pseudo_labelled"]),
                None if value["earlier"] is None else cls.from_json(value["earlier"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"environment.json: damaged (the record of the earlier data: {error!r})") from None

    def levels(self) -> list[EarlierData]:
        """These data, those that they were added to, and so on."""
        return [self, *(self.earlier.levels() if self.earlier is not None else [])]

    def located(self) -> DataConfig:
        """The settings of the data with the paths at which they are now.

        Raises:
            InputError: files are missing.
        """
        return self.origin.locate(self.data)

    def read(self) -> Corpus:
        """Read the data and divide them as they were divided for training.

        Rows that were appended to the only file of a run since then are left out.

        Raises:
            TextattnError: the data cannot be read, or have changed since training.
        """
        config = self.located()
        corpus = read_corpus(config, open_hub(config, self.seed), numbers=self.numbers, known=self.labels)
        divided = divide(corpus, config, self.seed, self.earlier, self.replay)
        if self._is_as_recorded(divided):
            return self._with_own_labels(divided)
        if corpus.validation is None and corpus.test is None and self.num_rows < len(corpus.train):
            # Of a file that has grown, the first rows are those of the run.
            first = self._with_own_labels(replace(corpus, train=corpus.train.take(np.arange(self.num_rows))))
            divided = divide(first, config, self.seed, self.earlier, self.replay)
            if self._is_as_recorded(divided):
                return divided
        raise InputError(f"{config.path or 'their files'} changed after {self.origin.run} was trained on them")

    def _with_own_labels(self, corpus: Corpus) -> Corpus:
        """The corpus without labels that only rows appended since then have."""
        number = len(self.labels.names)
        if corpus.train.labels.ndim == 2:
            splits = {role: replace(split, labels=split.labels[:, :number]) for role, split in corpus.splits().items()}
            train, validation, test = splits["train"], splits.get("validation"), splits.get("test")
            corpus = replace(corpus, train=train, validation=validation, test=test)
        return replace(corpus, labels=corpus.labels[:number])

    def _is_as_recorded(self, corpus: Corpus) -> bool:
        splits = self._with_own_labels(corpus).splits()
        if splits.keys() != self.splits.keys():
            return False
        for name, split in splits.items():
            recorded = self.splits[name]
            pseudo = self.num_pseudo_labelled if name == "train" else 0
            if len(split) != recorded.num_examples - pseudo:
                return False
            if not pseudo and split.fingerprint() != recorded.sha256:
                return False
        return True


def divide(corpus: Corpus, data: DataConfig, seed: int, earlier: EarlierData | None, replay: float) -> Corpus:
    """Divide the data of a run into splits, with the rows of the run that it goes on from.

    Raises:
        TextattnError: see `prepare_splits` and `EarlierData.read`.
    """
    if earlier is None:
        return prepare_splits(corpus, data, seed)
    return join(corpus, earlier.read(), data, seed, replay)


def read_if_possible(earlier: EarlierData | None, on_failure: Callable[[str], None]) -> Corpus | None:
    """The data of an earlier run, or None with a reason if they cannot be read."""
    if earlier is None:
        on_failure("it does not say where they are")
        return None
    try:
        return earlier.read()
    except TextattnError as error:
        on_failure(error.message)
        return None


def start_record(files: ModelFiles) -> StartRecord | None:
    """What a model records of the one that it went on from; None if it did not, or if that cannot be read."""
    if not files.has(ENVIRONMENT):
        return None
    try:
        return StartRecord.from_json(files.read_json(ENVIRONMENT).get("from"))
    except (InputError, TypeError, AttributeError):
        return None


def started_from(classifier: Classifier) -> tuple[KnownLabels | None, EarlierData | None]:
    """The labels of the model that a run went on from, and its data if they were read again; None for other runs.

    Raises:
        InputError: the record of the data is damaged.
    """
    start = start_record(classifier.files)
    if start is None:
        return None, None
    known = KnownLabels(start.labels, classifier.config.multi_label)
    return known, None if start.data is None else EarlierData.from_json(start.data)


def content_tables(earlier: EarlierData) -> list[tuple[DataConfig, list[Tables | None]]]:
    """The data of every level that can be found, with what `open_hub` gives for them: for the key of the cache."""
    found = []
    for level in earlier.levels():
        with contextlib.suppress(TextattnError):
            config = level.located()
            found.append((config, open_hub(config, level.seed)))
    return found
