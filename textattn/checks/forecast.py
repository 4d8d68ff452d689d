"""How long a run will take on this machine, and how much memory: pieces of it are run for real, on its own data.

Nothing of them is kept, and the random generators of the caller stay as they were.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from textattn.config import Config
from textattn.data.read import Split
from textattn.errors import CheckFailed
from textattn.explain.audit import audit
from textattn.export.onnx_model import export_onnx
from textattn.inference.classifier import Classifier
from textattn.inference.torch_session import TorchSession
from textattn.measure.metrics import compute_metrics
from textattn.model.classifier import TextClassifier
from textattn.report import Evaluation, Report, Step
from textattn.runs.checkpoints import save_checkpoint
from textattn.runs.dumps import write_attention
from textattn.runs.prepare import build_model, evidence_of, kept_vectors, without_vectors
from textattn.runs.train import TOKENS_OF_SHORT_AUDIT
from textattn.runs.training_data import Prepared
from textattn.storage import run_dir
from textattn.storage.model_files import ModelConfig, model_metadata
from textattn.tokens.batches import collate, shuffled_batches, sorted_batches
from textattn.tokens.vectors import time_skipgram
from textattn.training.attention_losses import FaithfulnessLoss
from textattn.training.loop import TrainingLoop, bytes_of_primitive, primitives_kept
from textattn.training.loss import LossKind, build_loss, label_weights
from textattn.training.memory import forget_peak_memory, peak_memory
from textattn.training.optimizer import Placement

# Seconds of training steps, a first pass over some batches and at least two more included.
STEP_SECONDS = 1.5
MOST_BATCHES, FEWEST_BATCHES, PASSES = 12, 3, 5
# On a processor: batches of how many shapes are tried, and how many pieces oneDNN prepares for each.
SHAPES_TRIED, PRIMITIVES_PER_SHAPE = 12, 7
# Tokens of the texts that word vectors are trained on for a moment.
VECTOR_TOKENS = 60_000
# Batches that the trained model would be measured on, on each worker.
BATCHES_PER_WORKER = 5
# Texts whose metrics are computed, whose attention is written, and which are audited: few and more of them.
MEASURED, WRITTEN, AUDITED = (100, 1000), (8, 40), (2, 6)
AUDITED_WITH = ("attention", "gradient_x_input")
Int64s = NDArray[np.int64]


def forecast(config: Config, data: Prepared, placement: Placement, seconds: dict[str, float]) -> dict[str, Any]:
    """What `textattn train` with this config would take.

    Args:
        seconds: what is known already: `reading`, and `word_vectors` where they were read from a file.

    Returns:
        For JSON. `seconds_by_stage` and their sum, `seconds`; what a run prints at its end. `peak_memory_bytes` of the
        process, and on a GPU `peak_gpu_memory_bytes`.

    Raises:
        OSError: the system's folder for temporary files cannot be written.
    """
    stages = {"reading": 0.0, "word_vectors": 0.0} | seconds
    on_gpu = placement.device.type == "cuda"
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        forget_peak_memory()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(placement.device)
        before = peak_memory()
        extra = 0
        if config.model.vectors.source == "skipgram" and not kept_vectors(config, data.corpus, data.tokenizer):
            stages["word_vectors"], extra = _skipgram(config, data)
        model, model_config, _ = build_model(without_vectors(config), data.corpus, data.tokenizer, Report())
        with tempfile.TemporaryDirectory(prefix="textattn-") as folder:
            run = Path(folder)
            trained, kept = _training(config, data, run, model.to(placement.device), model_config, placement)
            stages |= trained | _finishing(config, data, run, model, model_config)
        found: dict[str, Any] = {
            "seconds": float(sum(stages.values())),
            "seconds_by_stage": {stage: float(value) for stage, value in stages.items()},
            # Word vectors are trained before the rest, and what they took is free by then.
            "peak_memory_bytes": max(peak_memory() + kept, before + extra),
        }
        if on_gpu:
            found["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(placement.device)
    return found


def _spread(number: int, of: int) -> Int64s:
    """So many of `of` things in their order, evenly: the middle of each part."""
    number = min(number, of)
    return np.asarray((np.arange(number) + 0.5) * of / max(number, 1), dtype=np.int64)


def _learnable(data: Prepared, number: int) -> tuple[list[str], int]:
    """About so many of the texts that words are learnt from, and how many there are."""
    parts = [data.corpus.train.texts, *data.corpus.unlabelled]
    total = sum(map(len, parts))
    number = min(total, number)
    # Of each part its share.
    texts = [
        text for part in parts for text in part.take(_spread(max(1, round(number * len(part) / total)), len(part)))
    ]
    return texts, total


def _skipgram(config: Config, data: Prepared) -> tuple[float, int]:
    """Seconds, and bytes that are needed meanwhile."""
    _, tokenizer, tokens = data
    counts = np.bincount(tokens["train"].ids[:], minlength=tokenizer.vocab_size)
    per_text = max(1.0, float(tokens["train"].lengths.mean()))
    texts, total = _learnable(data, max(1, round(VECTOR_TOKENS / per_text)))
    timed = time_skipgram(config.model.vectors, texts, tokenizer, config.model.embedding_dim, config.seed, counts)
    epochs = config.model.vectors.epochs
    seconds = timed.start + (timed.preparing + epochs * timed.epoch) * total / len(texts)
    matrices = 4 * 4 * tokenizer.vocab_size * config.model.embedding_dim
    return seconds, round(timed.bytes * total / len(texts)) + matrices


def _training(
    config: Config, data: Prepared, run: Path, model: TextClassifier, model_config: ModelConfig, placement: Placement
) -> tuple[dict[str, float], int]:
    """Steps on batches of spread lengths, measuring on part of the validation split, a checkpoint.

    Returns:
        Seconds, and bytes that a whole training takes beside.
    """
    corpus, tokenizer, tokens = data
    train, settings = tokens["train"], config.training
    kind: LossKind = (
        "multi_label" if corpus.multi_label else "binary" if model_config.output == "sigmoid" else "softmax"
    )
    weights = label_weights(settings.class_weights, corpus.train.labels, corpus.labels)
    weights = None if weights is None else weights.to(placement.device)
    loss = build_loss(kind, settings.label_smoothing, weights)

    def loop_over(batches: list[Int64s], epochs: int, batch_size: int = settings.batch_size) -> TrainingLoop:
        rows = np.concatenate(batches)
        part, split = train.take(rows), corpus.train.take(rows)
        # A rate at which the weights stay as they are, and nothing can diverge.
        short: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "max_steps": None}
        short |= {"evaluations_per_epoch": 1, "learning_rate": 1e-12}
        return TrainingLoop(
            model, part, split.labels, loss, settings.model_copy(update=short), placement, pad_id=tokenizer.pad_id,
            seed=config.seed, evaluate=None, faithfulness=FaithfulnessLoss.from_config(settings, kind),
            evidence=evidence_of(split, tokenizer, part) if settings.attention_supervision else None,
        )  # fmt: skip

    lengths = train.lengths
    balance = corpus.train.labels if settings.sampling == "balanced" else None
    generator = np.random.default_rng(config.seed)
    epoch = shuffled_batches(lengths, settings.batch_size, generator, settings.max_tokens_per_batch, balance)
    sizes = np.array([len(batch) * lengths[batch].max() for batch in epoch])
    epoch = [epoch[i] for i in np.argsort(sizes, kind="stable")]
    started = time.perf_counter()
    # The real one, for the number of its steps; the first optimiser of a process has much to load.
    plan = TrainingLoop(
        model, train, corpus.train.labels, loss, settings, placement, pad_id=tokenizer.pad_id, seed=config.seed,
        evaluate=None,
    )  # fmt: skip
    building = time.perf_counter() - started
    shapes, kept = len({(len(batch), int(lengths[batch].max())) for batch in epoch}), 0
    first, each = 0.0, 0.0
    if placement.device.type == "cpu":
        first, each = _new_shapes(loop_over, lengths)
        prepared = min(PRIMITIVES_PER_SHAPE * shapes, primitives_kept(model, lengths, settings))
        kept = prepared * bytes_of_primitive(model, lengths, settings)
    # The largest: what it takes in memory is the most.
    loop = loop_over(epoch[-1:], PASSES)
    cold, typical = _passes(loop, STEP_SECONDS / 3)
    first += max(0.0, cold - typical)
    typical *= sizes.mean() / sizes.max()
    number = min(MOST_BATCHES, len(epoch), int(STEP_SECONDS / typical / 3))
    if number >= min(FEWEST_BATCHES, len(epoch)):
        loop = loop_over([epoch[i] for i in _spread(number, len(epoch))], PASSES)
        typical = _passes(loop, STEP_SECONDS)[1] / loop.steps[0]
    first += each * shapes
    seconds = {"training": building + first + typical * plan.total_steps}
    evaluations = len([step for step in plan.evaluation_steps if step <= plan.total_steps])
    if "validation" in tokens:
        session = TorchSession(model, str(placement.device))
        measured = sorted_batches(tokens["validation"].lengths, session.max_tokens)
        sizes = np.array([len(batch) * tokens["validation"].lengths[batch].max() for batch in measured])
        chosen = [*_spread(3, len(measured)), len(measured) - 1]
        took = []
        for i in [chosen[-1], *chosen]:
            started = time.perf_counter()
            session.run(*collate(tokens["validation"], measured[i], tokenizer.pad_id))
            took.append(time.perf_counter() - started)
        seconds["validating"] = evaluations * sum(took[1:]) * float(sizes.sum() / sizes[chosen].sum())
        model.train()
    if settings.cross_validation is not None:
        # As many trainings, each without one fold.
        seconds["cross_validation"] = (settings.cross_validation - 1) * seconds["training"]
    started = time.perf_counter()
    save_checkpoint(run, loop.state(), None, [])
    every = settings.checkpoint_steps
    checkpoints = evaluations + (plan.total_steps // every if every else 0)
    seconds["training"] += checkpoints * (time.perf_counter() - started)
    return seconds, kept


def _new_shapes(loop_over: Callable[..., TrainingLoop], lengths: Int64s) -> tuple[float, float]:
    """What oneDNN takes to prepare for batches of a shape it has not met.

    Returns:
        Seconds for beginning, then seconds for each shape: on pairs of texts, for it is the shape that counts.
    """
    order = np.argsort(lengths, kind="stable")
    some = np.unique(lengths[order[:-1]], return_index=True)[1]
    if not len(some):
        return 0.0, 0.0
    some = some[_spread(SHAPES_TRIED, len(some))]
    loop = loop_over([order[i : i + 2] for i in some], 2, batch_size=2)
    number = loop.steps[0]
    steps = np.diff([0.0, *(event.seconds for event in loop if isinstance(event, Step))])
    cold, warm = steps[1:number], float(np.median(steps[number:]))
    return max(0.0, float(steps[0]) - warm), max(0.0, float(np.median(cold)) - warm) if len(cold) else 0.0


def _passes(loop: TrainingLoop, budget: float) -> tuple[float, float]:
    """Seconds of the first pass over its texts, and the median of the next: at least one, two where it is quick."""
    ends = [0.0]
    for event in loop:
        if isinstance(event, Evaluation):
            ends.append(event.seconds)
            if len(ends) > 2 and event.seconds >= budget:
                break
    first, *others = np.diff(ends)
    return float(first), float(np.median(others))


def _finishing(
    config: Config, data: Prepared, run: Path, model: TextClassifier, model_config: ModelConfig
) -> dict[str, float]:
    """What comes after training: model.onnx, predictions and metrics, attention weights, the audit."""
    corpus, tokenizer = data.corpus, data.tokenizer
    started = time.perf_counter()
    for name, content in tokenizer.to_files().items():
        run_dir.write_text(run / name, content)
    run_dir.write_json(run / run_dir.CONFIG, model_config.to_json())
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = model_metadata(model_config, tokenizer.to_files()[run_dir.TOKENIZER].encode())
    run_dir.write_bytes(run / run_dir.WEIGHTS, save(tensors, metadata))
    with suppress(CheckFailed):
        export_onnx(run)
    classifier = Classifier.load(run)
    measuring = time.perf_counter() - started
    splits = corpus.splits()
    wanted = [n for n in splits if n in ("validation", "test") or n in config.output.prediction_splits]
    for name in wanted:
        measuring += _measuring(classifier, config, data, name)
    explaining = 0.0
    for name in config.output.attention_splits if config.output.attention_examples else []:
        if name in splits:
            split = splits[name]

            def write(number: int, split: Split = split) -> None:
                some = split.take(_spread(number, len(split)))
                write_attention(run / "attention.parquet", classifier, some, number, config.seed)

            explaining += _extrapolated(write, WRITTEN, min(config.output.attention_examples, len(split)))
    if config.output.audit_examples:
        audited = splits[next(name for name in ("test", "validation", "train") if name in splits)]
        whole = min(config.output.audit_examples, len(audited))

        def audit_some(number: int) -> None:
            some = audited.take(_spread(number, len(audited)))
            tokens = round(TOKENS_OF_SHORT_AUDIT * number / whole)
            audit(classifier, some, examples=number, methods=AUDITED_WITH, seed=config.seed, slow_tokens=tokens)

        explaining += _extrapolated(audit_some, AUDITED, whole)
    return {"measuring": measuring, "explaining": explaining}


def _extrapolated(call: Callable[[int], None], sizes: tuple[int, int], whole: int) -> float:
    """Seconds of `call(whole)`, the first of its kind, from calls with two smaller sizes."""
    few, more = min(sizes[0], whole), min(sizes[1], whole)
    first, again, longer = (_timed(call, number) for number in (few, few, more))
    each = max(0.0, longer - again) / (more - few) if more > few else 0.0
    return first + each * (whole - few)


def _timed(call: Callable[[int], None], number: int) -> float:
    started = time.perf_counter()
    call(number)
    return time.perf_counter() - started


def _measuring(classifier: Classifier, config: Config, data: Prepared, name: str) -> float:
    """Seconds for the answers to a split, and for its metrics."""
    corpus, tokens = data.corpus, data.tokens[name]
    batches = sorted_batches(tokens.lengths, classifier.session.max_tokens)
    chosen = [batches[i] for i in _spread(BATCHES_PER_WORKER * classifier.session.workers, len(batches))]
    size = sum(len(batch) * int(tokens.lengths[batch].max()) for batch in batches)
    size_of_chosen = sum(len(batch) * int(tokens.lengths[batch].max()) for batch in chosen)
    some = tokens.take(np.concatenate(chosen))
    classifier.probabilities(tokens.take(chosen[0][:1]))
    started = time.perf_counter()
    classifier.probabilities(some)
    seconds = (time.perf_counter() - started) * size / size_of_chosen
    split = corpus.splits()[name]
    if name == "train":
        return seconds
    probs = np.random.default_rng(0).dirichlet(np.ones(len(corpus.labels)), len(split))
    headline = config.training.metric or ("micro_f1" if corpus.multi_label else "accuracy")
    thresholds = [0.5] * len(corpus.labels) if corpus.multi_label else None

    def compute(number: int) -> None:
        rows = _spread(number, len(split))
        compute_metrics(split.labels[rows], probs[rows], corpus.labels, headline=headline, thresholds=thresholds)

    return seconds + _extrapolated(compute, MEASURED, len(split))
