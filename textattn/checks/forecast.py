"""Forecast the time and memory of a run on this machine, by timing pieces of it on its data.

The results of these pieces are not kept, and the caller's random generators keep their states.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textattn.checks.linear_forecast import forecast_linear
from textattn.errors import CheckFailed
from textattn.explain.audit import audit
from textattn.export.onnx_model import export_onnx
from textattn.inference.classifier import Classifier
from textattn.inference.torch_session import TorchSession
from textattn.report import Evaluation, Report, Step
from textattn.runs import vectors
from textattn.runs.checkpoints import save_state
from textattn.runs.dumps import write_attention
from textattn.runs.finish import AUDITED_WITH, SPLITS, TOKENS_OF_SHORT_AUDIT, audited_split
from textattn.runs.limits import check_limits
from textattn.runs.linear import is_fitted
from textattn.runs.setup import Setup, build
from textattn.runs.training_data import TrainingData
from textattn.storage.run_dir import RunDir
from textattn.tokens.batches import collate, sorted_batches
from textattn.tokens.skipgram import time_skipgram
from textattn.training.loop import TrainingLoop, bytes_of_primitive, primitives_kept
from textattn.training.memory import forget_peak_memory, peak_memory
from textattn.training.placement import Placement
from textattn.training.processors import available_processors

# Seconds spent on training steps: a first pass over some batches and at least two more passes.
STEP_SECONDS = 1.5
MOST_BATCHES, FEWEST_BATCHES, PASSES = 12, 3, 5
# On a CPU: the number of batch shapes that are timed, and the number of primitives that oneDNN prepares for each.
SHAPES_TRIED, PRIMITIVES_PER_SHAPE = 12, 7
# Number of tokens on which the training of word vectors is timed.
VECTOR_TOKENS = 60_000
# Number of batches per worker on which prediction is timed.
BATCHES_PER_WORKER = 5
# The two numbers of texts (fewer, more) with which each stage is timed: metrics, attention files, audit.
MEASURED, WRITTEN, AUDITED = (100, 1000), (8, 40), (2, 6)
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Forecast:
    """The time and memory that `textattn train` would take."""

    seconds_by_stage: dict[str, float]
    peak_memory_bytes: int
    """Peak memory of the process."""
    peak_gpu_memory_bytes: int | None = None
    """None if training does not use a GPU."""

    @property
    def seconds(self) -> float:
        """Seconds of all stages, as a run prints them at its end."""
        return sum(self.seconds_by_stage.values())

    def to_json(self) -> dict[str, Any]:
        """The forecast as JSON values."""
        value = {"seconds": self.seconds, **asdict(self)}
        if self.peak_gpu_memory_bytes is None:
            del value["peak_gpu_memory_bytes"]
        return value


def forecast(data: TrainingData, placement: Placement, known_seconds: dict[str, float]) -> Forecast:
    """Forecast the time and memory of `textattn train` with this config.

    Args:
        known_seconds: seconds of the stages that have already run: `reading`, and `word_vectors` if they were read
            from a file.

    Raises:
        OSError: the system's folder for temporary files cannot be written to.
    """
    stages = {"reading": 0.0, "word_vectors": 0.0} | known_seconds
    on_gpu = placement.device.type == "cuda"
    with torch.random.fork_rng():
        torch.manual_seed(data.config.seed)
        forget_peak_memory()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(placement.device)
        before = peak_memory()
        vector_bytes = 0
        m = data.config.model
        size = vectors.size_learned(data)
        if size is not None and not vectors.are_cached(data):
            seconds, vector_bytes = _skipgram(data, size)
            stages["word_vectors"] += seconds
        if not is_fitted(data):
            setup, linear = build(data, placement, Report(), vectors=False), None
        else:
            check_limits(data)
            linear = forecast_linear(data)
            stages["linear"] = linear.seconds
            setup = build(linear.sample, placement, Report(), vectors=False, linear=linear.part)
            setup = replace(setup, data=data, linear=None)
        with tempfile.TemporaryDirectory(prefix="textattn-") as folder:
            run = RunDir(Path(folder))
            pieces = _Pieces(setup, run)
            if m.linear != "only":
                stages |= pieces.training()
            stages |= pieces.finishing()
        if linear is not None and data.config.training.cross_validation is not None:
            folds = data.config.training.cross_validation * linear.seconds_of_fold
            stages["cross_validation"] = stages.get("cross_validation", 0.0) + folds
        fitting = 0 if linear is None else linear.bytes
        return Forecast(
            {stage: float(value) for stage, value in stages.items()},
            # Word vectors are trained and the linear part is fitted before everything else, and their memory is freed
            # afterwards.
            max(peak_memory() + pieces.kept_bytes, before + max(vector_bytes, fitting)),
            torch.cuda.max_memory_allocated(placement.device) if on_gpu else None,
        )


def _spread(number: int, of: int) -> Rows:
    """Choose `number` evenly spaced positions in a sequence of length `of`: the middle of each equal part."""
    number = min(number, of)
    return np.asarray((np.arange(number) + 0.5) * of / max(number, 1), dtype=np.int64)


def _skipgram(data: TrainingData, size: int) -> tuple[float, int]:
    """The seconds and the bytes of memory that training word vectors of a size takes."""
    config, tokenizer, train = data.config, data.tokenizer, data.tokens["train"]
    counts = np.bincount(train.ids[:], minlength=tokenizer.vocab_size)
    per_text = max(1.0, float(train.lengths.mean()))
    parts = [data.corpus.train.texts, *data.corpus.unlabelled]
    total = sum(map(len, parts))
    number = min(total, max(1, round(VECTOR_TOKENS / per_text)))
    # Each part contributes texts in proportion to its size.
    texts = [
        text for part in parts for text in part.take(_spread(max(1, round(number * len(part) / total)), len(part)))
    ]
    threads = config.training.threads or available_processors()
    timed = time_skipgram(config.model.vectors, texts, tokenizer, size, config.seed, counts, threads)
    epochs = config.model.vectors.epochs
    seconds = timed.start + (timed.preparing + epochs * timed.epoch) * total / len(texts)
    matrices = 4 * 4 * tokenizer.vocab_size * size
    return seconds, round(timed.bytes * total / len(texts)) + matrices


class _Pieces:
    """The pieces of one run, which are timed one after another."""

    def __init__(self, setup: Setup, run: RunDir) -> None:
        self.setup, self.data, self.run = setup, setup.data, run
        self.settings = setup.data.config.training
        self.kept_bytes = 0
        """Bytes that a whole training needs in addition to these pieces."""

    def training(self) -> dict[str, float]:
        """Seconds of training and validating, from steps on batches of various lengths, an evaluation, a checkpoint."""
        lengths = self.data.examples.lengths
        started = time.perf_counter()
        # The real loop gives the number of steps. Building it takes time: the first optimiser of a process loads a lot.
        plan = self.setup.loop()
        seconds = time.perf_counter() - started
        epoch = plan.schedule.batches(np.random.default_rng(self.data.config.seed))
        sizes = np.array([len(batch) * lengths[batch].max() for batch in epoch])
        epoch = [epoch[i] for i in np.argsort(sizes, kind="stable")]
        per_step, loop = self._steps(epoch, np.sort(sizes))
        seconds += self.first_seconds + per_step * plan.schedule.total_steps
        found = {"training": seconds}
        total_steps = plan.schedule.total_steps
        evaluations = len([step for step in plan.schedule.evaluation_steps if step <= total_steps])
        if "validation" in self.data.tokens:
            found["validating"] = evaluations * self._validating()
        if self.settings.cross_validation is not None:
            # There is one training per fold, on all the other folds.
            found["cross_validation"] = (self.settings.cross_validation - 1) * found["training"]
        started = time.perf_counter()
        save_state(self.run, loop.state(), None)
        every = self.settings.checkpoint_steps
        checkpoints = evaluations + (total_steps // every if every else 0)
        found["training"] += checkpoints * (time.perf_counter() - started)
        return found

    def _steps(self, epoch: list[Rows], sizes: NDArray[np.int64]) -> tuple[float, TrainingLoop]:
        """Time training steps; sets `first_seconds` to the seconds that are spent only once.

        Args:
            epoch: the batches of an epoch, the smallest first.
            sizes: tokens of each batch, with padding.

        Returns:
            The seconds of a typical step, and the loop that made the last steps.
        """
        lengths = self.data.examples.lengths
        first, each = 0.0, 0.0
        shapes = len({(len(batch), int(lengths[batch].max())) for batch in epoch})
        if self.setup.placement.device.type == "cpu":
            first, each = self._new_shapes(lengths)
            prepared = min(PRIMITIVES_PER_SHAPE * shapes, primitives_kept(self.setup.model, lengths, self.settings))
            self.kept_bytes = prepared * bytes_of_primitive(self.setup.model, lengths, self.settings)
        # The largest batch comes first, because it determines the peak memory.
        loop = self._loop_over(epoch[-1:], PASSES)
        cold, typical = _passes(loop, STEP_SECONDS / 3)
        first += max(0.0, cold - typical)
        typical *= sizes.mean() / sizes.max()
        number = min(MOST_BATCHES, len(epoch), int(STEP_SECONDS / typical / 3))
        if number >= min(FEWEST_BATCHES, len(epoch)):
            loop = self._loop_over([epoch[i] for i in _spread(number, len(epoch))], PASSES)
            typical = _passes(loop, STEP_SECONDS)[1] / loop.schedule.steps[0]
        self.first_seconds = first + each * shapes
        return typical, loop

    def _loop_over(self, batches: list[Rows], epochs: int, batch_size: int | None = None) -> TrainingLoop:
        """A loop over the texts of some batches that hardly changes the weights."""
        # With this learning rate nothing can diverge.
        short: dict[str, Any] = {"epochs": epochs, "max_steps": None, "evaluations_per_epoch": 1}
        short |= {"learning_rate": 1e-12, "batch_size": batch_size or self.settings.batch_size}
        config = self.settings.model_copy(update=short)
        return self.setup.loop(examples=self.data.examples.take(np.concatenate(batches)), config=config)

    def _new_shapes(self, lengths: Rows) -> tuple[float, float]:
        """Time how long oneDNN prepares for batch shapes that it has not seen before.

        Batches of two texts are used, because only the shape matters.

        Returns:
            The seconds spent once, and the seconds for each new shape.
        """
        order = np.argsort(lengths, kind="stable")
        some = np.unique(lengths[order[:-1]], return_index=True)[1]
        if not len(some):
            return 0.0, 0.0
        some = some[_spread(SHAPES_TRIED, len(some))]
        loop = self._loop_over([order[i : i + 2] for i in some], 2, batch_size=2)
        number = loop.schedule.steps[0]
        steps = np.diff([0.0, *(event.seconds for event in loop if isinstance(event, Step))])
        cold, warm = steps[1:number], float(np.median(steps[number:]))
        return max(0.0, float(steps[0]) - warm), max(0.0, float(np.median(cold)) - warm) if len(cold) else 0.0

    def _validating(self) -> float:
        """Seconds of one evaluation."""
        tokens, model = self.data.tokens["validation"], self.setup.model
        session = TorchSession(model, str(self.setup.placement.device))
        batches = sorted_batches(tokens.lengths, session.max_tokens)
        sizes = np.array([len(batch) * tokens.lengths[batch].max() for batch in batches])
        chosen = [*_spread(3, len(batches)), len(batches) - 1]
        took = []
        for i in [chosen[-1], *chosen]:
            started = time.perf_counter()
            session.run(*collate(tokens, batches[i], self.data.tokenizer.pad_id))
            took.append(time.perf_counter() - started)
        model.train()
        return sum(took[1:]) * float(sizes.sum() / sizes[chosen].sum())

    def finishing(self) -> dict[str, float]:
        """Seconds of the stages after training: model.onnx, predictions, metrics, attention weights, the audit."""
        config, splits = self.data.config, self.data.corpus.splits()
        started = time.perf_counter()
        self.run.write_tokenizer(self.data.tokenizer.to_files())
        self.run.write_model_config(self.setup.model_config)
        self.run.write_weights(self.setup.weights_file())
        with suppress(CheckFailed):
            export_onnx(self.run.path)
        classifier = Classifier.load(self.run.path)
        measuring = time.perf_counter() - started
        for name in SPLITS:
            if name in splits and (name != "train" or name in config.output.prediction_splits):
                measuring += self._measuring(classifier, name)
        explaining = 0.0
        for name in config.output.attention_splits if config.output.attention_examples else []:
            if name in splits:
                explaining += self._writing_attention(classifier, name)
        if config.output.audit_examples:
            explaining += self._auditing(classifier)
        return {"measuring": measuring, "explaining": explaining}

    def _writing_attention(self, classifier: Classifier, name: str) -> float:
        config, split = self.data.config, self.data.corpus.splits()[name]

        def write(number: int) -> None:
            some = split.take(_spread(number, len(split)))
            write_attention(self.run.attention(name), classifier, some, number, config.seed)

        return _extrapolated(write, WRITTEN, min(config.output.attention_examples, len(split)))

    def _auditing(self, classifier: Classifier) -> float:
        split, seed = audited_split(self.data), self.data.config.seed
        whole = min(self.data.config.output.audit_examples, len(split))

        def audit_some(number: int) -> None:
            some = split.take(_spread(number, len(split)))
            tokens = round(TOKENS_OF_SHORT_AUDIT * number / whole)
            audit(
                classifier, some, examples=number, methods=AUDITED_WITH, seed=seed, slow_tokens=tokens, thorough=False
            )

        return _extrapolated(audit_some, AUDITED, whole)

    def _measuring(self, classifier: Classifier, name: str) -> float:
        """Seconds for the predictions and the metrics of a split."""
        tokens, split, task = self.data.tokens[name], self.data.corpus.splits()[name], self.data.task
        batches = sorted_batches(tokens.lengths, classifier.session.max_tokens)
        chosen = [batches[i] for i in _spread(BATCHES_PER_WORKER * classifier.session.workers, len(batches))]
        size, size_of_chosen = (
            sum(len(batch) * int(tokens.lengths[batch].max()) for batch in some) for some in (batches, chosen)
        )
        some = tokens.take(np.concatenate(chosen))
        classifier.probabilities(tokens.take(chosen[0][:1]))
        started = time.perf_counter()
        classifier.probabilities(some)
        seconds = (time.perf_counter() - started) * size / size_of_chosen
        if name == "train":
            return seconds
        probs = np.random.default_rng(0).dirichlet(np.ones(len(task.labels)), len(split))

        def compute(number: int) -> None:
            rows = _spread(number, len(split))
            task.measure(split.labels[rows], probs[rows], headline=self.data.metric, thresholds=task.neutral_thresholds)

        return seconds + _extrapolated(compute, MEASURED, len(split))


def _passes(loop: TrainingLoop, budget: float) -> tuple[float, float]:
    """Seconds of the loop's first pass over its texts, and the median of later passes; stops when `budget` is spent."""
    ends = [0.0]
    for event in loop:
        if isinstance(event, Evaluation):
            ends.append(event.seconds)
            if len(ends) > 2 and event.seconds >= budget:
                break
    first, *others = np.diff(ends)
    return float(first), float(np.median(others))


def _extrapolated(call: Callable[[int], None], sizes: tuple[int, int], whole: int) -> float:
    """Estimate the seconds of a first `call(whole)` from calls with two smaller sizes."""
    few, more = min(sizes[0], whole), min(sizes[1], whole)
    first, again, longer = (_timed(call, number) for number in (few, few, more))
    each = max(0.0, longer - again) / (more - few) if more > few else 0.0
    return first + each * (whole - few)


def _timed(call: Callable[[int], None], number: int) -> float:
    started = time.perf_counter()
    call(number)
    return time.perf_counter() - started
