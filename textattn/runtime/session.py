"""A session computes logits and attention weights for a padded batch. numpy in, numpy out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from textattn import run as run_dir
from textattn.data.batches import collate, sorted_batches
from textattn.data.tokenizer import TokenArrays
from textattn.errors import ConfigError, InputError

Floats = NDArray[np.float32]


class BatchOutput(NamedTuple):
    """One batch."""

    logits: Floats
    """(batch, num_outputs)"""
    attention_weights: Floats
    """(batch, seq)"""
    context: Floats
    """(batch, context_dim)"""


class Session(Protocol):
    """Anything that can run the model."""

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> BatchOutput:
        """input_ids, attention_mask: (batch, seq)."""
        ...


class TorchSession:
    """The model in PyTorch, in fp32, without dropout."""

    def __init__(self, model: object, device: str = "cpu") -> None:
        import torch
        from torch import nn

        assert isinstance(model, nn.Module)
        self.model = model.to(device).eval()
        self.device = torch.device(device)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> TorchSession:
        """The model of a run directory.

        Raises:
            InputError: the weights are damaged or do not fit config.json.
            ConfigError: there is no such device.
        """
        import torch
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file

        from textattn.model.classifier import Architecture, TextClassifier

        place = _device(device)
        config = run_dir.read_model_config(path)
        weights = path / run_dir.WEIGHTS
        try:
            # The random numbers of the caller are not used up by first weights that are overwritten anyway.
            with torch.random.fork_rng(devices=[]):
                model = TextClassifier(Architecture(**config.architecture))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path / run_dir.CONFIG}: damaged architecture ({error})") from None
        try:
            with safe_open(weights, "pt") as file:
                run_dir.check_labels(path, config.labels, file.metadata())
            model.load_state_dict(load_file(weights))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{weights}: damaged ({error})") from None
        except RuntimeError as error:
            raise InputError(
                f"{weights}: does not fit {run_dir.CONFIG} ({str(error).splitlines()[-1].strip()})"
            ) from None
        return cls(model, place)

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> BatchOutput:
        """input_ids, attention_mask: (batch, seq)."""
        import torch

        with torch.inference_mode():
            output = self.model(
                torch.from_numpy(input_ids).to(self.device), torch.from_numpy(attention_mask).to(self.device)
            )
        return BatchOutput(*(tensor.float().cpu().numpy() for tensor in output[:3]))


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"device: must be cpu, cuda, cuda:N, mps or auto, got {name!r}", "--device cpu")
    if name == "cpu":
        return name
    from textattn.training.optimizer import choose_device

    try:
        return str(choose_device(name))
    except ConfigError as error:
        raise ConfigError(error.message, "--device cpu") from None


class Outputs(NamedTuple):
    """Many texts."""

    logits: Floats
    """(rows, num_outputs)"""
    attention_weights: list[Floats]
    """(seq,) for each row; empty unless asked for"""
    context: Floats | None
    """(rows, context_dim); None unless asked for"""


def run_in_batches(
    session: Session,
    tokens: TokenArrays,
    pad_id: int,
    *,
    with_attention: bool = False,
    with_context: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> Outputs:
    """All rows through the session, in batches of similar length; the results are in the order of the rows.

    Args:
        on_batch: called with the number of rows done.
    """
    logits: list[Floats] = []
    contexts: list[Floats] = []
    weights: dict[int, Floats] = {}
    order = []
    done = 0
    for indices in sorted_batches(tokens.lengths):
        output = session.run(*collate(tokens, indices, pad_id))
        order.append(indices)
        logits.append(output.logits)
        if with_context:
            contexts.append(output.context)
        if with_attention:
            lengths = tokens.lengths[indices]
            weights |= {int(i): row[:n] for i, n, row in zip(indices, lengths, output.attention_weights, strict=True)}
        done += len(indices)
        if on_batch is not None:
            on_batch(done)
    if not order:
        # One text that nobody asked for, for the sizes of the model.
        output = session.run(np.full((1, 1), pad_id, np.int64), np.ones((1, 1), np.int64))
        return Outputs(output.logits[:0], [], output.context[:0] if with_context else None)
    back = np.argsort(np.concatenate(order))
    return Outputs(
        np.concatenate(logits)[back],
        [weights[i] for i in range(len(weights))],
        np.concatenate(contexts)[back] if with_context else None,
    )


def to_probabilities(logits: Floats, output: str, num_labels: int) -> NDArray[np.float64]:
    """(rows, num_outputs) -> (rows, num_labels): softmax, or sigmoid (one output: the second of two labels)."""
    x = logits.astype(np.float64)
    if output == "softmax":
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    # The stable form on both sides of zero.
    p = np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))
    if x.shape[1] == 1 and num_labels == 2:
        return np.concatenate([1 - p, p], axis=1)
    return p
