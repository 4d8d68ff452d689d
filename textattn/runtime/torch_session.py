"""The model in PyTorch: for training, for gradients, for a GPU."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError, InputError
from textattn.model_files import ModelConfig, ModelFiles
from textattn.run import CONFIG, WEIGHTS
from textattn.runtime.session import BatchOutput


class TorchSession:
    """The model in PyTorch, in fp32, without dropout."""

    workers = 1
    max_tokens = 32_768

    def __init__(self, model: object, device: str = "cpu") -> None:
        import torch
        from torch import nn

        assert isinstance(model, nn.Module)
        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self.metadata: Mapping[str, str] = {}

    @classmethod
    def load(cls, files: ModelFiles, config: ModelConfig, device: str = "cpu") -> TorchSession:
        """The weights of a model.

        Raises:
            InputError: they are damaged or do not fit config.json.
            ConfigError: there is no such device.
        """
        content = files.read(WEIGHTS)  # or say at once that there are none

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
            # Without memory first: the sizes are to be believed only when the weights have them.
            with torch.device("meta"):
                sizes = {name: tensor.shape for name, tensor in TextClassifier(architecture).state_dict().items()}
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(f"{files.where(CONFIG)}: damaged architecture ({error})") from None
        found = {name: tensor.shape for name, tensor in tensors.items()}
        if sizes != found:
            name = next(name for name in {**sizes, **found} if sizes.get(name) != found.get(name))
            wanted, there = (tuple(shapes[name]) if name in shapes else "nothing" for shapes in (sizes, found))
            raise InputError(f"{files.where(WEIGHTS)}: does not fit {CONFIG} ({name}: {there}, expected {wanted})")
        # The random numbers of the caller are not used up by first weights that are overwritten anyway.
        with torch.random.fork_rng(devices=[]):
            model = TextClassifier(architecture)
        model.load_state_dict(tensors)
        session = cls(model, place)
        session.metadata = _metadata(content)
        return session

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> BatchOutput:
        """input_ids, attention_mask: (batch, seq)."""
        import torch

        with torch.inference_mode():
            output = self.model(
                torch.from_numpy(input_ids).to(self.device), torch.from_numpy(attention_mask).to(self.device)
            )
        return BatchOutput(*(tensor.float().cpu().numpy() for tensor in output[:3]))


def _metadata(content: bytes) -> dict[str, str]:
    """What stands beside the tensors in the header of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return metadata


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
