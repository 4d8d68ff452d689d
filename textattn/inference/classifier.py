"""A loaded model: texts in, labels, probabilities and vectors out."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError, InputError, Option, shell_command
from textattn.inference.given_texts import given_texts
from textattn.inference.session import Floats, Session, run_in_batches
from textattn.inference.visible import UNSURE, one_line
from textattn.storage.model_files import ModelFiles, SavedConfig, check_metadata, read_model_config
from textattn.storage.run_dir import CONFIG, ONNX, ONNX_INT8, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from textattn.storage.target import Target
from textattn.tasks import Task, task_of
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from typing_extensions import Self

    from textattn.inference.torch_session import TorchSession

T = TypeVar("T")
Text = str | Sequence[str] | Mapping[str, str]
# Name -> the file it runs, in the order of preference.
RUNTIMES = {"onnx": ONNX, "int8": ONNX_INT8, "torch": WEIGHTS}


@dataclass(frozen=True)
class Prediction:
    """The answer for one text."""

    label: str
    """The most probable label. If a number is predicted, the name of its column, as on the Hub."""
    score: float
    """Its probability; or the number."""
    scores: dict[str, float]
    """Probability of every label; or the number, under the name of its column."""
    labels: list[str]
    """The labels given: the one above, or for a multi-label model all from their thresholds on. None of them with a
    probability below `min_score`, so that there may be no label. None either if the text cannot be read."""
    unknown: float = 0.0
    """The share of the tokens of the text that are not in the vocabulary."""
    is_readable: bool = True
    """Whether the text is of the kind that the model reads: not if a model of formulas is given something else."""
    low: float | None = None
    """The lower end of the interval that should cover 90 % of new numbers; None for labels, and without an interval."""
    high: float | None = None
    """Its upper end."""
    decimals: int | None = None
    """How many digits after the decimal point a number is shown with; None for labels."""

    @property
    def is_number(self) -> bool:
        """Whether a number is predicted."""
        return self.decimals is not None

    @property
    def shown_score(self) -> str:
        """The probability or the number as text."""
        return f"{self.score:.{4 if self.decimals is None else self.decimals}f}"

    @property
    def interval(self) -> tuple[str, str] | None:
        """The ends of the interval of a number as text; None without one."""
        if self.low is None or self.high is None:
            return None
        return f"{self.low:.{self.decimals}f}", f"{self.high:.{self.decimals}f}"

    def is_unsure(self, min_score: float) -> bool:
        """Whether the most probable label is less probable than `min_score`."""
        return not self.is_number and self.score < min_score

    def line(self, min_score: float = 0.0) -> str:
        """`label<TAB>score` of the labels given, several joined by commas; `?` and the score of the most probable label
        where even that is less probable than `min_score` or the text cannot be read. A line break inside a label is
        escaped: `\\n`. Of a number `number<TAB>low<TAB>high`."""
        if self.is_number:
            return "\t".join([self.shown_score, *(self.interval or ())]) if self.is_readable else UNSURE
        if self.is_unsure(min_score) or not self.is_readable:
            return f"{UNSURE}\t{self.score:.4f}"
        return f"{one_line(','.join(self.labels))}\t{','.join(f'{self.scores[label]:.4f}' for label in self.labels)}"

    def _repr_html_(self) -> str:
        from textattn.inference.notebook import prediction_html

        return prediction_html(self)


class Classifier:
    """A loaded model that answers texts. `textattn.load` gives a `textattn.Model`, which explains them as well."""

    def __init__(
        self, session: Session, runtime: str, tokenizer: TextTokenizer, config: SavedConfig, files: ModelFiles
    ) -> None:
        self.session = session
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.config = config
        self.files = files

    @classmethod
    def load(cls, path: Path, device: str = "cpu", runtime: str | None = None) -> Self:
        """The model of a run directory or a bundle.

        Args:
            device: other than cpu: with torch.
            runtime: `onnx`, `int8` or `torch`; default: the first of these that the model has a file for.

        Raises:
            InputError: a file is missing, damaged, or does not fit the others.
            ConfigError: there is no such device or runtime.
        """
        files = ModelFiles(path)
        config = read_model_config(files)
        runtime = _choose_runtime(files, device, runtime)
        content, settings = files.read(TOKENIZER), files.read(TOKENIZER_CONFIG)
        reading = _Background(lambda: TextTokenizer.from_files(content, settings, str(path)))
        try:
            session = _open_session(files, config, device, runtime)
        finally:
            tokenizer = reading.result()
        if tokenizer.vocab_size != config.architecture.get("vocab_size"):
            raise InputError(
                f"{files.where(TOKENIZER)}: {tokenizer.vocab_size} tokens, "
                f"but the model has {config.architecture.get('vocab_size')}"
            )
        if tokenizer.num_segments != len(config.text_columns):
            raise InputError(
                f"{files.where(TOKENIZER_CONFIG)}: num_segments is {tokenizer.num_segments}, "
                f"but {CONFIG} has {len(config.text_columns)} text_columns"
            )
        check_metadata(files, RUNTIMES[runtime], session.metadata, config, content)
        return cls(session, runtime, tokenizer, config, files)

    @property
    def path(self) -> Path:
        """The run directory or bundle."""
        return self.files.path

    @cached_property
    def torch_session(self) -> TorchSession:
        """The same model in PyTorch, whatever answers: for gradients.

        Raises:
            InputError: it has no model.safetensors.
        """
        from textattn.inference.torch_session import TorchSession

        if isinstance(self.session, TorchSession):
            return self.session
        if not self.files.has(WEIGHTS):
            raise InputError(
                f"{self.files.where(WEIGHTS)}: no such file, and gradients need it; a bundle has none",
                Option("method", "occlusion"),
            )
        session = TorchSession.load(self.files, self.config)
        content = self.files.read(TOKENIZER)
        check_metadata(self.files, WEIGHTS, session.metadata, self.config, content)
        return session

    @cached_property
    def dividing_session(self) -> Session | None:
        """What divides logits among tokens: the session that answers, or PyTorch where an older ONNX graph cannot.

        None if the attention is not additive (`mlp`), or a bundle of an earlier version has no weights for PyTorch.
        """
        if self.session.gives_contributions:
            return self.session
        if not self.files.has(WEIGHTS) or not self.torch_session.gives_contributions:
            return None
        return self.torch_session

    @property
    def task(self) -> Task:
        """What the model answers."""
        config = self.config
        return task_of(config.labels, config.multi_label, config.output, config.target)

    @property
    def labels(self) -> list[str]:
        """Label names, in the order of the columns of `predict_proba`."""
        return list(self.config.labels)

    def predict(self, texts: Text | Iterable[Text], min_score: float = 0.0) -> list[Prediction]:
        """One prediction a text, in order, in a list that a notebook shows. A single string is one text.

        For a model of several text columns, a text is a sequence of strings, or one string with tabs between them.

        Args:
            texts: any iterable, also a column of a data frame, or a data frame with the text columns of the model.
            min_score: where the most probable label is less probable than this, `labels` is empty.

        Raises:
            InputError: a text is missing (None, NaN), empty or no text at all; the message names its position.
            ConfigError: a text has the wrong number of segments.
        """
        from textattn.inference.notebook import Answers

        rows = self.normalise(texts)
        tokens = self.tokenizer.encode(rows)
        return Answers(self.predictions(rows, tokens, self.probabilities(tokens), min_score))

    def predictions(
        self, texts: Sequence[str], tokens: TokenArrays, probs: NDArray[np.float64], min_score: float = 0.0
    ) -> list[Prediction]:
        """The answers to texts from their tokens and their probabilities, (texts, labels)."""
        found = []
        for text, row, unknown in zip(texts, probs, tokens.unknown_shares(self.tokenizer.unk_id), strict=True):
            prediction = replace(self.prediction(row, min_score), unknown=float(unknown))
            if not self.tokenizer.can_read(text):
                prediction = replace(prediction, labels=[], is_readable=False)
            found.append(prediction)
        return found

    def predict_proba(self, texts: Text | Iterable[Text]) -> NDArray[np.float64]:
        """(texts, labels) probabilities; rows sum to 1 unless the model is multi-label."""
        return self.probabilities(self.tokenizer.encode(self.normalise(texts)))

    def probabilities(self, tokens: TokenArrays, on_batch: Callable[[int], None] | None = None) -> NDArray[np.float64]:
        """Like `predict_proba`, for texts already tokenised."""
        return self.logits_to_probabilities(self.logits(tokens, on_batch))

    def logits(self, tokens: TokenArrays, on_batch: Callable[[int], None] | None = None) -> Floats:
        """(texts, num_outputs) of the network, before calibration."""
        return run_in_batches(self.session, tokens, self.tokenizer.pad_id, on_batch=on_batch).logits

    def embed(self, texts: Text | Iterable[Text]) -> NDArray[np.float32]:
        """(texts, context_dim) the pooled vector of each text, as the classifier layer sees it."""
        tokens = self.tokenizer.encode(self.normalise(texts))
        outputs = run_in_batches(self.session, tokens, self.tokenizer.pad_id, with_context=True)
        assert outputs.context is not None
        return outputs.context

    def logits_to_probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """(texts, num_outputs) as the session gave them -> (texts, labels)."""
        if not np.isfinite(logits).all():
            raise InputError(f"{self.files.where(RUNTIMES[self.runtime])}: damaged (its answers are no numbers)")
        return self.task.probabilities(logits / self.config.temperature)

    def uncalibrated(self) -> Self:
        """The same with the probabilities that the network gives by itself."""
        same = copy.copy(self)
        same.config = replace(self.config, temperature=1.0)
        return same

    def prediction(self, probs: NDArray[np.float64], min_score: float = 0.0) -> Prediction:
        """The answer from the probabilities of one text, (labels,).

        Args:
            min_score: no label is given with a smaller probability.
        """
        labels, target = self.config.labels, self.config.target
        if target is not None:
            return _number(labels[0], float(probs[0]), target)
        top = int(self.task.top(probs))
        limits = self.config.thresholds
        given = [top] if limits is None else [i for i, limit in enumerate(limits) if probs[i] >= limit]
        scores = {name: float(p) for name, p in zip(labels, probs, strict=True)}
        return Prediction(labels[top], float(probs[top]), scores, [labels[i] for i in given if probs[i] >= min_score])

    def fingerprint(self) -> str:
        """Tells whether two classifiers are the same: a digest of their files."""
        return fingerprint_of(self.files, self.runtime)

    def normalise(self, texts: Text | Iterable[Text]) -> list[str]:
        """One string a text, its segments joined by tabs; see `given_texts` for what may be given.

        Raises:
            InputError: a text is missing, empty or no text at all; the message names its position.
            ConfigError: a text has the wrong number of segments.
        """
        return given_texts(texts, self.config.text_columns)


def fingerprint_of(files: ModelFiles, runtime: str = "torch") -> str:
    """The fingerprint of the classifier with these files."""
    import hashlib

    digest = hashlib.sha256()
    for name in (CONFIG, TOKENIZER, TOKENIZER_CONFIG, RUNTIMES[runtime]):
        digest.update(hashlib.sha256(files.read(name)).digest())
    return digest.hexdigest()


def _number(name: str, number: float, target: Target) -> Prediction:
    low, high = (None, None) if target.margin is None else (number - target.margin, number + target.margin)
    return Prediction(name, number, {name: number}, [name], low=low, high=high, decimals=target.decimals)


class _Background(Generic[T]):
    """A call that goes on while something else is done. `concurrent.futures` takes longer to import than it saves."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
            self._error: BaseException | None = None
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result


def _choose_runtime(files: ModelFiles, device: str, runtime: str | None) -> str:
    if runtime is not None and runtime not in RUNTIMES:
        raise ConfigError(f"runtime: must be {', '.join(RUNTIMES)}, got {runtime!r}", Option("runtime", "onnx"))
    if device != "cpu":
        if runtime not in (None, "torch"):
            raise ConfigError(f"runtime {runtime} runs on the cpu only, not on {device!r}", Option("runtime", "torch"))
        return "torch"
    if runtime is None:
        return next((name for name, file in RUNTIMES.items() if files.has(file)), "torch")
    if not files.has(RUNTIMES[runtime]):
        option = " --int8" if runtime == "int8" else ""
        raise InputError(
            f"{files.where(RUNTIMES[runtime])}: no such file, so this model has no runtime {runtime}",
            None
            if runtime == "torch" or files.is_bundle
            else shell_command("textattn export --model {}", files.path) + option,
        )
    return runtime


def _open_session(files: ModelFiles, config: SavedConfig, device: str, runtime: str) -> Session:
    # Each imports its own heavy library, and only one of them is wanted.
    if runtime == "torch":
        from textattn.inference.torch_session import TorchSession

        return TorchSession.load(files, config, device)
    from textattn.inference.onnx_session import OnnxSession

    return OnnxSession.load(files, RUNTIMES[runtime], config)
