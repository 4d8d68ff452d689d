"""Writes model.onnx and model.int8.onnx of a run from model.safetensors, and checks them before they are kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textattn.errors import CheckFailed, Option
from textattn.export.graph import build_graph
from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import load_split, measure
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.session import Session
from textattn.inference.torch_session import TorchSession
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.model.classifier import TextClassifier
from textattn.report import Report
from textattn.storage.checksums import replace_file_of_model
from textattn.storage.model_files import ModelFiles, model_metadata, read_model_config
from textattn.storage.run_dir import ONNX, ONNX_INT8, TOKENIZER

# The largest allowed difference between the logits and attention weights of ONNX and those of torch. A model whose
# fp32 results are further than this from its float64 results is allowed a multiple of that distance, within a limit.
TOLERANCE = 1e-5
ROUNDINGS = 4
LARGEST_TOLERANCE = 1e-3
BATCH_SIZES = (1, 2, 5, 16)
LENGTHS = (1, 2, 3, 17, 130)
HINT = (Option("runtime", "torch"), " works for prediction")


@dataclass(frozen=True)
class Quantised:
    """What int8 costs in quality and saves in size."""

    split: str
    num_examples: int
    metric: str
    before: float
    """The metric of model.onnx."""
    after: float
    """The metric of model.int8.onnx."""
    bytes_before: int
    bytes_after: int
    unit: float = 1.0
    """What 100 percentage points are: of errors of numbers, the standard deviation of the numbers."""

    @property
    def drop(self) -> float:
        """By how many percentage points the metric has become worse; negative if it has become better."""
        sign = 1 if GREATER_IS_BETTER[self.metric] else -1
        return 100 * sign * (self.before - self.after) / self.unit

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"drop": self.drop}


def export_onnx(run: Path) -> float:
    """Write model.onnx and return its largest difference from torch.

    Raises:
        InputError: the run has no weights, or they are damaged.
        CheckFailed: the model has no ONNX form, or the graph cannot be run or differs from torch by more than
            `TOLERANCE` and more than rounding explains. Nothing is written.
    """
    files = ModelFiles(run)
    config = read_model_config(files)
    metadata = model_metadata(config, files.read(TOKENIZER))
    torch = TorchSession.load(files, config)
    with _export_of(files.where(ONNX)):
        content = _content(torch.model, metadata, int8=False)
        onnx = OnnxSession.checked(content, files.where(ONNX), config)
        vocab_size = config.architecture["vocab_size"]
        difference, where = largest_difference(torch, onnx, vocab_size)
        allowed = TOLERANCE
        # The comparisons are negated so that nan fails too.
        if not difference <= TOLERANCE:
            # Large logits and sensitive recurrent networks amplify the rounding of fp32, in torch as in ONNX.
            exact = TorchSession(copy.deepcopy(torch.model).double())
            rounding, _ = largest_difference(torch, exact, vocab_size)
            allowed = min(max(TOLERANCE, ROUNDINGS * rounding), LARGEST_TOLERANCE)
    if not difference <= allowed:
        raise CheckFailed(
            f"differs from torch by {difference:.1e} ({where}), but at most {allowed:.0e} is allowed; "
            "it was not written",
            HINT,
            place=files.where(ONNX),
        )
    replace_file_of_model(run, ONNX, content)
    return difference


def largest_difference(torch: Session, onnx: Session, vocab_size: int) -> tuple[float, str]:
    """Compare logits, attention weights and contributions over a grid of batch sizes and lengths.

    Returns:
        The largest difference, and a description of where it occurred.
    """
    generator = np.random.default_rng(0)
    worst, where = 0.0, "nowhere"
    for batch in BATCH_SIZES:
        for seq in LENGTHS:
            lengths = generator.integers(1, seq + 1, batch)
            lengths[0] = seq
            mask = (np.arange(seq) < lengths[:, None]).astype(np.int64)  # (batch, seq)
            ids = generator.integers(0, vocab_size, (batch, seq)) * mask
            both = torch.gives_contributions
            expected, found = (session.run(ids, mask, with_contributions=both) for session in (torch, onnx))
            for name in ("logits", "attention_weights", "contributions", "ngram_contributions"):
                a, b = getattr(expected, name), getattr(found, name)
                if a is None and b is None:
                    continue
                same_shape = a is not None and b is not None and a.shape == b.shape
                difference = float(np.abs(a - b).max()) if same_shape else np.inf
                # The comparison is negated so that nan counts as the largest difference.
                if not difference <= worst and not np.isnan(worst):
                    worst, where = difference, f"{name} at batch size {batch}, length {seq}"
    return worst, where


def export_int8(run: Path, split: str, max_drop: float, report: Report) -> Quantised:
    """Write model.int8.onnx if it is nearly as good as model.onnx on a split of the data of the run.

    Args:
        run: the run directory.
        split: name of the split to measure on.
        max_drop: how many percentage points the metric may fall.
        report: shows progress.

    Raises:
        InputError: the data of the run no longer exist, or have no such split.
        CheckFailed: the metric falls by more than `max_drop`, or the model has no ONNX form. Nothing is written.
    """
    files = ModelFiles(run)
    config = read_model_config(files)
    classifier = Classifier.load(run, runtime="onnx")
    rows = load_split(classifier, None, split, {}, report.note)
    metadata = model_metadata(config, files.read(TOKENIZER))
    torch = TorchSession.load(files, config)
    with _export_of(files.where(ONNX_INT8)):
        content = _content(torch.model, metadata, int8=True)

    def result(name: str) -> dict[str, Any]:
        with report.progress(f"Measuring {name}", len(rows), "texts") as advance:
            return measure(classifier, rows, split, advance)

    before = result(ONNX)
    classifier.session = OnnxSession.checked(content, files.where(ONNX_INT8), config)
    after = result(ONNX_INT8)
    metric = before["headline"]
    unit = config.target.std if config.target is not None and metric in ("mae", "rmse") else 1.0
    sizes = files.size(ONNX), len(content)
    quantised = Quantised(split, len(rows), metric, before[metric], after[metric], *sizes, unit)
    if quantised.drop > max_drop:
        raise CheckFailed(
            f"{metric} goes from {quantised.before:.4f} to {quantised.after:.4f} on {split}, "
            f"worse by {quantised.drop:.2f} points, but at most {max_drop:g} is allowed; it was not written",
            Option("max_drop", float(np.ceil(quantised.drop * 10) / 10)),
            place=files.where(ONNX_INT8),
        )
    replace_file_of_model(run, ONNX_INT8, content)
    return quantised


def _content(model: TextClassifier, metadata: Mapping[str, str], *, int8: bool) -> bytes:
    content: bytes = build_graph(model, metadata, int8=int8).SerializeToString(deterministic=True)
    return content


@contextmanager
def _export_of(file: str) -> Iterator[None]:
    """Convert every exception to CheckFailed.

    The graph is built and run here for the first time, after a training that may have taken hours. If a part of the
    model has a fault in its ONNX form, only the graph may be lost, because the model still works in torch.
    """
    try:
        yield
    except NotImplementedError as error:
        raise CheckFailed(f"{error}; it was not written", HINT, place=file) from error
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        problem = f"the graph cannot be built or run ({reason}); it was not written"
        raise CheckFailed(problem, HINT, place=file) from error
