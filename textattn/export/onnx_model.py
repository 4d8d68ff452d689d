"""model.onnx and model.int8.onnx of a run: written from model.safetensors, and checked before they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textattn.errors import CheckFailed
from textattn.export.graph import build_graph
from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import load_split, measure
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.session import Session
from textattn.inference.torch_session import TorchSession
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.model.classifier import TextClassifier
from textattn.report import Report
from textattn.storage.files import write_bytes
from textattn.storage.model_files import ModelFiles, model_metadata, read_model_config
from textattn.storage.run_dir import ONNX, ONNX_INT8, TOKENIZER

# The most that logits and attention weights may differ from torch's.
TOLERANCE = 1e-5
BATCH_SIZES = (1, 2, 5, 16)
LENGTHS = (1, 2, 3, 17, 130)
HINT = "--runtime torch predicts all the same"


@dataclass(frozen=True)
class Quantised:
    """What int8 cost and saved."""

    split: str
    num_examples: int
    metric: str
    before: float
    """The metric of model.onnx."""
    after: float
    """The metric of model.int8.onnx."""
    bytes_before: int
    bytes_after: int

    @property
    def drop(self) -> float:
        """By how many points of 100 the metric became worse; negative where it became better."""
        sign = 1 if GREATER_IS_BETTER[self.metric] else -1
        return 100 * sign * (self.before - self.after)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"drop": self.drop}


def export_onnx(run: Path) -> float:
    """Writes model.onnx and returns by how much it differs from torch at most.

    Raises:
        InputError: the run has no weights, or they are damaged.
        CheckFailed: the model has no ONNX form, or one that cannot be run or that differs from torch by more than
            `TOLERANCE`; nothing is written.
    """
    files = ModelFiles(run)
    config = read_model_config(files)
    metadata = model_metadata(config, files.read(TOKENIZER))
    torch = TorchSession.load(files, config)
    with _export_of(files.where(ONNX)):
        content = _content(torch.model, metadata, int8=False)
        onnx = OnnxSession(content, files.where(ONNX))
        difference, where = largest_difference(torch, onnx, config.architecture["vocab_size"])
    # The condition is written so that a difference that is not a number fails too.
    if not difference <= TOLERANCE:
        raise CheckFailed(
            f"{files.where(ONNX)}: differs from torch by {difference:.1e} ({where}), allowed are {TOLERANCE:.0e}; "
            "it was not written",
            HINT,
        )
    write_bytes(run / ONNX, content)
    return difference


def largest_difference(torch: Session, onnx: Session, vocab_size: int) -> tuple[float, str]:
    """The largest difference of logits and attention weights over a grid of batch sizes and lengths, and its place."""
    generator = np.random.default_rng(0)
    worst, where = 0.0, "nowhere"
    for batch in BATCH_SIZES:
        for seq in LENGTHS:
            lengths = generator.integers(1, seq + 1, batch)
            lengths[0] = seq
            mask = (np.arange(seq) < lengths[:, None]).astype(np.int64)  # (batch, seq)
            ids = generator.integers(0, vocab_size, (batch, seq)) * mask
            expected, found = torch.run(ids, mask), onnx.run(ids, mask)
            for name in ("logits", "attention_weights"):
                a, b = getattr(expected, name), getattr(found, name)
                difference = float(np.abs(a - b).max()) if a.shape == b.shape else np.inf
                # A difference that is not a number counts as the largest.
                if not difference <= worst and not np.isnan(worst):
                    worst, where = difference, f"{name} at batch size {batch}, length {seq}"
    return worst, where


def export_int8(run: Path, split: str, max_drop: float, report: Report) -> Quantised:
    """Writes model.int8.onnx if it is nearly as good as model.onnx on a split of the run's own data.

    Args:
        max_drop: points of 100 that the metric may fall.

    Raises:
        InputError: the data of the run are not there any more, or have no such split.
        CheckFailed: the metric falls by more, or the model has no ONNX form; nothing is written.
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
    classifier.session = OnnxSession(content, files.where(ONNX_INT8))
    after = result(ONNX_INT8)
    metric = before["headline"]
    quantised = Quantised(split, len(rows), metric, before[metric], after[metric], files.size(ONNX), len(content))
    if quantised.drop > max_drop:
        raise CheckFailed(
            f"int8: {metric} falls from {quantised.before:.4f} to {quantised.after:.4f} on {split}, "
            f"by {quantised.drop:.2f} points; allowed are {max_drop:g}; nothing was written",
            f"--max-drop {np.ceil(quantised.drop * 10) / 10:g}",
        )
    write_bytes(run / ONNX_INT8, content)
    return quantised


def _content(model: TextClassifier, metadata: Mapping[str, str], *, int8: bool) -> bytes:
    content: bytes = build_graph(model, metadata, int8=int8).SerializeToString(deterministic=True)
    return content


@contextmanager
def _export_of(file: str) -> Iterator[None]:
    """Turns every exception into CheckFailed.

    The graph is written and run here for the first time, after a training that may have taken hours. Whatever a part of
    the model gets wrong must cost the graph alone: the model works in torch.
    """
    try:
        yield
    except NotImplementedError as error:
        raise CheckFailed(f"{file}: {error}; it was not written", HINT) from error
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise CheckFailed(f"{file}: the graph cannot be built or run ({reason}); it was not written", HINT) from error
