"""The model in PyTorch: for training, for gradients, for a GPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from mmap import mmap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError, InputError, Option
from textattn.inference.session import BatchOutput, check_finite
from textattn.storage.model_files import ModelFiles, SavedConfig
from textattn.storage.reading import parse_json
from textattn.storage.run_dir import CONFIG, WEIGHTS
from textattn.training.processors import available_processors

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from textattn.model.classifier import TextClassifier


# Padding counted; of a batch that one thread computes.
MAX_TOKENS_OF_A_THREAD = 8192
# Bytes; a header has about a hundred for each tensor.
LARGEST_HEADER = 2**20


class TorchSession:
    """The model in PyTorch, in fp32, without dropout."""

    max_tokens = 32_768

    def __init__(self, model: TextClassifier, device: str = "cpu", where: str | None = None) -> None:
        """Take a model.

        Args:
            model: the model; it is moved to the device.
            device: where it computes.
            where: the file of its weights, which is called damaged if an answer is not a finite number. By default
                answers are not checked.
        """
        import torch

        from textattn.training.slices import lone_threads

        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self.workers = 1
        self.threads: Callable[[int], AbstractContextManager[Executor]] | None = None
        if self.device.type == "cpu":
            # As in ONNX Runtime: a batch for each thread is faster than several threads for a batch.
            self.workers, self.max_tokens = available_processors(), MAX_TOKENS_OF_A_THREAD
            self.threads = lone_threads
        self.where = where
        self.metadata: Mapping[str, str] = {}
        self.gives_contributions = self.model.attention.additive

    @classmethod
    def load(cls, files: ModelFiles, config: SavedConfig, device: str = "cpu") -> TorchSession:
        """The weights of a model.

        Raises:
            InputError: they are damaged or do not fit config.json.
            ConfigError: there is no such device.
        """
        with files.view(WEIGHTS) as view:  # or say at once that there are none
            metadata = _check_header(view, files.where(WEIGHTS))
            content = bytes(view)

        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        from textattn.model.classifier import Architecture, TextClassifier

        place = _device(device)
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise InputError(f"{files.where(WEIGHTS)}: damaged ({error})") from None
        try:
            architecture = Architecture(**config.architecture)
            if architecture.num_layers > len(tensors):
                raise ValueError(f"{architecture.num_layers} layers")
            found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            # Before anything large is built: sizes in config.json are trusted only where the weights have them too.
            telling = TextClassifier.telling_shapes(architecture)
            _compare(files, telling, {name: found[name] for name in telling if name in found})
            # The initial weights, which are overwritten below, must not advance the caller's random numbers.
            with torch.random.fork_rng(devices=[]):
                model = TextClassifier(architecture)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(f"{files.where(CONFIG)}: damaged architecture ({error})") from None
        _compare(files, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, found)
        model.load_state_dict(tensors)
        session = cls(model, place, files.where(WEIGHTS))
        session.metadata = metadata
        return session

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], *, with_contributions: bool = False
    ) -> BatchOutput:
        """See `Session.run`."""
        import torch

        with torch.inference_mode():
            ids, mask = torch.from_numpy(input_ids).to(self.device), torch.from_numpy(attention_mask).to(self.device)
            output = self.model(ids, mask)
            found = [*output[:3]]
            if with_contributions:
                parts = self.model.contributions(output, ids, mask)
                found += [parts.total] if parts.ngrams is None else [parts.total, parts.ngrams]
        answer = BatchOutput(*(tensor.float().cpu().numpy() for tensor in found))
        if self.where is not None:
            check_finite(answer, self.where)
        return answer


def _compare(files: ModelFiles, wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Raises where the shapes of the weights are not those of config.json."""
    if wanted != found:
        name = next(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
        raise InputError(
            f"{files.where(WEIGHTS)}: does not fit {CONFIG} "
            f"({name}: {found.get(name, 'nothing')}, expected {wanted.get(name, 'nothing')})"
        )


def _check_header(content: bytes | mmap, where: str) -> dict[str, str]:
    """Check that a safetensors file is as large as its header says, before all of it is read into memory.

    Returns:
        The metadata, which stand beside the tensors in the header.

    Raises:
        InputError: it is not.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        if not 8 < start <= min(len(content), LARGEST_HEADER):
            raise ValueError(f"a header of {start - 8:,} bytes")
        tensors = parse_json(content[8:start])
        metadata: dict[str, str] = tensors.pop("__metadata__", {})
        end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
        if start + end != len(content):
            raise ValueError(f"{len(content):,} bytes, but its header says {start + end:,}")
        if not isinstance(metadata, dict):
            raise ValueError("metadata")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{where}: damaged ({error})") from None
    return metadata


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"device: must be cpu, cuda, cuda:N, mps or auto, got {name!r}", Option("device", "cpu"))
    if name == "cpu":
        return name
    from textattn.training.placement import choose_device

    try:
        return str(choose_device(name))
    except ConfigError as error:
        raise ConfigError(error.problems, Option("device", "cpu")) from None
