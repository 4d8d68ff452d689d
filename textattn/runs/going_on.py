"""Goes on from a finished model: its settings, its weights and the data that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from textattn.config import Config, flat_settings, given_settings, with_defaults
from textattn.config.schema import TrainingConfig
from textattn.data.join import join
from textattn.data.known_labels import KnownLabels
from textattn.data.read import Corpus
from textattn.data.splits import prepare_splits
from textattn.errors import ConfigError, InputError, Option, Problem, Setting
from textattn.inference.classifier import Classifier
from textattn.inference.earlier_data import EarlierData, read_if_possible, start_record
from textattn.inference.evaluation import training_config
from textattn.inference.visible import short_number
from textattn.model.classifier import Architecture, TextClassifier
from textattn.model.grow import load_grown
from textattn.report import Report
from textattn.runs.training_data import TrainingData, vocabulary_texts
from textattn.storage.find_model import find_model
from textattn.storage.model_files import ModelFiles
from textattn.storage.records import StartRecord
from textattn.storage.run_dir import START_FILES, WEIGHTS
from textattn.tasks import Task
from textattn.tasks.ordinal import check_order
from textattn.tokens.grow import can_grow, grow_tokenizer
from textattn.tokens.tokenizer import TextTokenizer

# The tasks that have an output of their own.
TASKS = {"ordinal": "ordinal", "number": "regression"}
# Settings of the model and the tokenizer that may change while the weights stay.
MAY_CHANGE = (
    "model.dropout.", "tokenizer.vocab_size", "tokenizer.min_frequency", "tokenizer.max_length", "tokenizer.truncation",
)  # fmt: skip
# What says how rows of the user's files are read; new files are usually written as the old ones.
DATA_SETTINGS = ("text", "label", "label_names", "label_map", "label_separator")
# Settings of training that suit the model, whatever the data. Weights for labels need the old labels only.
TRAINING_SETTINGS = (
    "batch_size", "max_tokens_per_batch", "schedule", "weight_decay", "max_grad_norm", "label_smoothing", "sampling",
    "attention_alignment", "state_tying", "calibration", "metric",
)  # fmt: skip
# Share of the new numbers that may lie outside of the range of the old ones without a note.
MOST_OUTSIDE = 0.5
# The settings of training that worked best (scripts/going_on.py): few passes, and shares of the learning rates of the
# first training. That of n-grams is the smallest, because Adagrad takes its largest steps at its beginning.
LEARNING_RATES = {"learning_rate": 1 / 2, "ngram_learning_rate": 1 / 6}
# The number of texts to train on in all epochs together, and the smallest and largest number of epochs.
SHOWN, FEWEST_EPOCHS, MOST_EPOCHS = 15_000, 2, 15


@dataclass(frozen=True)
class Start:
    """A finished model that a run goes on from."""

    name: str
    """As it was given."""
    classifier: Classifier
    """With torch."""
    config: Config | None
    """The config that it was trained with; None for a model that does not have it with it."""

    @classmethod
    def load(cls, name: str, copy: Path | None = None) -> Start:
        """Load the model.

        Args:
            name: a run directory, a bundle or a model on the Hub.
            copy: the folder of a copy, which is read instead.

        Raises:
            InputError: there is no such model, it has no weights, or it is damaged.
        """
        try:
            path = copy or find_model(name)
            if not ModelFiles(path).has(WEIGHTS):
                raise InputError(
                    f"{path} has no {WEIGHTS}, so training cannot go on from it; a run directory has one",
                    "start.model=RUN",
                )
            classifier = Classifier.load(path, runtime="torch")
            return cls(name, classifier, training_config(classifier))
        except InputError as error:
            found = [replace(problem, setting="start.model") for problem in error.problems]
            # The model is not named by --model here.
            hint = [
                Setting("start.model", str(part.value)) if isinstance(part, Option) and part.name == "model" else part
                for part in error.hint_parts or []
            ]
            raise InputError(found, hint or None) from None

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return self.classifier.task

    @cached_property
    def fingerprint(self) -> str:
        """The hash of its files."""
        return self.classifier.fingerprint()

    @cached_property
    def earlier(self) -> EarlierData | None:
        """Where its data are; None if that is not known."""
        found = EarlierData.of(self.classifier, self.config)
        # A copy of the model stands for it.
        return None if found is None else replace(found, origin=replace(found.origin, run=Path(self.name)))

    @property
    def labels(self) -> KnownLabels:
        """Its labels."""
        return KnownLabels(list(self.classifier.config.labels), self.classifier.config.multi_label)

    def files(self) -> dict[str, bytes]:
        """The files that a run needs to be resumed without it."""
        files = self.classifier.files
        return {name: files.read(name) for name in START_FILES if files.has(name)}

    # Settings

    def resolve(self, config: Config) -> Config:
        """Set what the config does not set: the model as it is, and training as suits a trained model.

        Raises:
            ConfigError: the config has another task or architecture.
        """
        model = self._model_settings()
        self._check(config, model)
        # The usual output of the task is null, so that it may change with the labels.
        is_usual = (self.classifier.config.output == "sigmoid") == self.labels.multi_label
        left_out = ("task", "model.output") if is_usual else ("task",)
        settings = {name: value for name, value in model.items() if name not in left_out}
        first = TrainingConfig() if self.config is None else self.config.training
        settings |= {f"training.{name}": share * getattr(first, name) for name, share in LEARNING_RATES.items()}
        if self.config is not None:
            before = flat_settings(self.config)
            settings |= {f"training.{name}": before[f"training.{name}"] for name in TRAINING_SETTINGS}
            settings |= {name: before[name] for name in before if name.startswith(("tokenizer.", "model.vectors."))}
            # Who names a label column says how to read it.
            own_label = "label" in config.data.model_fields_set
            settings |= {
                f"data.{name}": getattr(self.config.data, name)
                for name in DATA_SETTINGS
                if name == "text" or not own_label
            }
        elif model["tokenizer.type"] == "pretrained":
            settings["tokenizer.path"] = self.name
        resolved = with_defaults(config, settings)
        return resolved.model_copy(update={"recipe": "plain", "task": model["task"]})

    def _model_settings(self) -> dict[str, Any]:
        """The settings that the weights fit, by dotted name."""
        found: dict[str, Any] = {}
        saved, tokenizer = self.classifier.config, self.classifier.tokenizer
        architecture = self.architecture.to_dict()
        for name, value in flat_settings(Config(data={"path": "-"})).items():  # type: ignore[arg-type]
            part, _, key = name.partition(".")
            if part == "model" and key in architecture and key != "dropout":
                found[name] = value if key == "ngram_buckets" and not architecture["ngrams"] else architecture[key]
        found |= {f"model.dropout.{key}": value for key, value in architecture["dropout"].items()}
        found |= {
            "model.document": "windows" if self.architecture.window_size else "whole",
            "tokenizer.type": tokenizer.kind,
            "tokenizer.max_length": tokenizer.max_length,
            "tokenizer.truncation": tokenizer.truncation,
            "model.output": None if saved.output in TASKS else saved.output,
            "task": TASKS.get(saved.output, "classification"),
        }
        return found

    def _check(self, config: Config, model: dict[str, Any]) -> None:
        given = given_settings(config)
        if config.training.cross_validation is not None:
            raise ConfigError(
                f"{self.name} has seen the rows of all folds, so their figures would be too good",
                "training.cross_validation=null",
                setting="training.cross_validation",
            )
        wanted = dict(model)
        if self.config is not None:
            before = flat_settings(self.config)
            wanted |= {name: before[name] for name in before if name.startswith("tokenizer.")}
        wrong = [
            Problem(f"{self.name} has {_shown(wanted[name])}, and training goes on with the same model", name)
            for name, value in given.items()
            if name in wanted
            and value != wanted[name]
            and not name.startswith(MAY_CHANGE)
            # Null is what fits the labels, and so is softmax for a third label.
            and not (name == "model.output" and value in (None, "softmax"))
        ]
        if wrong:
            raise ConfigError(wrong, "leave these settings out, or start anew without --from")

    # Data

    def divide(self, new: Corpus, config: Config, report: Report) -> Corpus:
        """Divide new data into splits and add the data that the model was trained on, where they can be read.

        Raises:
            ConfigError: the texts have another number of columns.
            InputError: the training split has a single label.
        """
        segments = self.classifier.tokenizer.num_segments
        if new.num_segments != segments:
            raise ConfigError(
                f"{self.name} reads {segments} column{'s' * (segments > 1)} of text, but {new.num_segments} are named",
                setting="data.text",
            )
        self._check_grades(new.labels, config)
        scale = self._other_scale(new)
        report.stage(f"Reading the data of {self.name}")
        why: list[str] = []
        earlier = read_if_possible(self.earlier, why.append)
        if earlier is not None:
            corpus = join(new, earlier, config.data, config.seed, config.start.replay)
        else:
            corpus = prepare_splits(new, config.data, config.seed)
            notes = [
                f"the rows that {self.name} was trained on cannot be read again ({why[0]}): none of them are replayed, "
                "so labels that are rare in the new data may be forgotten, and test rows may be among them"
            ]
            corpus = replace(corpus, notes=[*corpus.notes, *notes])
        if scale is not None:
            corpus = replace(corpus, notes=[*corpus.notes, scale])
        added = corpus.labels[len(self.labels.names) :]
        if added:
            names = ", ".join(map(repr, added[:5])) + (", …" if len(added) > 5 else "")
            note = f"{len(added)} new label{'s' * (len(added) > 1)} after the {len(self.labels.names)} of {self.name}: "
            corpus = replace(corpus, notes=[*corpus.notes, note + names])
        self._check_occurring(corpus)
        return corpus

    def _other_scale(self, new: Corpus) -> str | None:
        """A note if most new numbers lie outside of the range that the model has learned, as in another unit."""
        target = self.classifier.config.target
        if target is None:
            return None
        numbers = new.train.labels
        if np.mean((numbers < target.minimum) | (numbers > target.maximum)) <= MOST_OUTSIDE:
            return None
        found, before = ((short_number(a), short_number(b)) for a, b in
                         ((numbers.min(), numbers.max()), (target.minimum, target.maximum)))  # fmt: skip
        return (
            f"most of the new numbers are outside of those of {self.name}: they are between {found[0]} and {found[1]}, "
            f"those were between {before[0]} and {before[1]}; is the unit the same?"
        )

    def _check_grades(self, labels: list[str], config: Config) -> None:
        """Raises ConfigError unless new grades are higher than the old ones."""
        if self.classifier.config.output != "ordinal":
            return
        named = config.data.label_names
        if named is not None and list(named[: len(labels)]) == labels:
            return
        try:
            check_order(labels, False)
        except ConfigError:
            old = self.labels.names
            new = ", ".join(labels[len(old) :]) or "data.label_names"
            raise ConfigError(
                f"{new}: a model of the grades {', '.join(old)} can only be given higher ones",
                "leave out the lower ones, or start anew without --from",
                setting="start.model",
            ) from None

    def _check_occurring(self, corpus: Corpus) -> None:
        if corpus.train.is_numeric:
            return
        labels = corpus.train.labels
        counts = labels.sum(axis=0) if labels.ndim == 2 else self.task.counts(labels)
        if sum(1 for count in counts if count) < 2:
            raise InputError(
                f"the training split has one label only, so {self.name} would forget all others",
                "start.replay=1.0, or add rows with other labels",
            )

    def grow(self, corpus: Corpus, config: Config) -> tuple[TextTokenizer, list[str]]:
        """The tokenizer with frequent words of the training split that it lacks, and notes about its growth."""
        old = self.classifier.tokenizer
        tokenizer = grow_tokenizer(old, vocabulary_texts(corpus), config.tokenizer)
        added, size = tokenizer.vocab_size - old.vocab_size, config.tokenizer.vocab_size
        if not can_grow(old):
            return tokenizer, [f"the vocabulary stays as it is: a tokenizer of type {old.kind} does not grow"]
        if tokenizer.vocab_size >= size:
            return tokenizer, [
                f"the vocabulary grows by {added:,} words up to tokenizer.vocab_size={size}; a larger value may let in "
                "more"
            ]
        return tokenizer, [f"the vocabulary grows by {added:,} words to {tokenizer.vocab_size:,}"] if added else []

    # The model

    @property
    def architecture(self) -> Architecture:
        """How its network is built."""
        return self.classifier.torch_session.model.architecture

    def load_weights(self, model: TextClassifier, data: TrainingData, *, with_ngrams: bool) -> None:
        """Give a new model the weights of this one.

        Args:
            model: is changed.
            data: of the new run.
            with_ngrams: False leaves the linear part as it is, because it will be fitted anew.
        """
        outputs, bias = data.task.outputs_from(self.task, data.corpus.labelled().train.labels)
        trained = self.classifier.torch_session.model.state_dict()
        load_grown(model, trained, outputs, bias, with_ngrams=with_ngrams)

    def record(self, data: TrainingData) -> StartRecord:
        """What environment.json says of it."""
        joined, before = data.corpus.joined, start_record(self.classifier.files)
        return StartRecord(
            self.name,
            self.fingerprint,
            [] if before is None else [before.fingerprint, *before.ancestors],
            self.labels.names,
            data.tokenizer.vocab_size - self.classifier.tokenizer.vocab_size,
            joined,
            None if joined is None or self.earlier is None else self.earlier.to_json(),
        )


def fit_to_data(config: Config, corpus: Corpus) -> tuple[Config, str | None]:
    """Set what depends on the joined data: the number of epochs, and the kind of output if there are more labels.

    Returns:
        The config, and a note if the number of epochs was given and is larger than needed.
    """
    epochs = min(max(round(SHOWN / len(corpus.train)), FEWEST_EPOCHS), MOST_EPOCHS)
    config, note = with_defaults(config, {"training.epochs": epochs}), None
    if config.training.epochs > epochs:
        note = (
            f"training.epochs={config.training.epochs} is given; a model that is trained already needs about {epochs} "
            "on these data"
        )
    if config.model.output == "sigmoid" and len(corpus.labels) > 2:  # one logit is enough for two labels only
        config = config.model_copy(update={"model": config.model.model_copy(update={"output": None})})
    return config, note


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
