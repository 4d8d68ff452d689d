"""The whole state of a training loop: taken, given back, and as one safetensors file that tells whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

MODEL, OPTIMIZER, RANDOM = "model/", "optimizer/", "random/"
STATE, DIGEST = "state", "sha256"


@dataclass
class Progress:
    """Where a loop is."""

    shuffle: dict[str, Any]
    """State of the generator before it drew the order of this epoch."""
    epoch: int = 0
    batches: int = 0
    """Of this epoch, trained on."""
    global_step: int = 0
    evaluated: int = 0
    """The step of the last evaluation."""
    num_tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    without_improvement: int = 0
    losses: list[float] = field(default_factory=list)
    """Of each step since the last evaluation."""


@dataclass(frozen=True)
class Checkpoint:
    """What training goes on from."""

    tensors: dict[str, Tensor]
    """Weights, AdamW's moments and the states of random generators. The first two are the loop's own, no copies."""
    state: dict[str, Any]
    """The rest, as JSON has it. Others may add to it."""

    def to_bytes(self) -> bytes:
        """A safetensors file, with the digest of all that is in it."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.tensors.items())}
        state = json.dumps(self.state)
        return safetensors.torch.save(tensors, {STATE: state, DIGEST: _digest(tensors, state)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """What `to_bytes` gave.

        Raises:
            ValueError: it is damaged.
        """
        try:
            size = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + size])["__metadata__"]
            tensors = safetensors.torch.load(content)
            if _digest(tensors, metadata[STATE]) != metadata[DIGEST]:
                raise ValueError("its checksum is wrong")
            return cls(tensors, json.loads(metadata[STATE]))
        except (SafetensorError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # A tensor without dimensions has no view as bytes.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def take_checkpoint(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    device: torch.device,
    progress: Progress,
) -> Checkpoint:
    """Everything that decides what the next steps do."""
    tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{OPTIMIZER}{name}/{key}"] = value
    tensors[RANDOM + "cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors[RANDOM + "mps"] = torch.mps.get_rng_state()
    return Checkpoint(tensors, {"progress": asdict(progress), "scaler": scaler.state_dict()})


def restore_checkpoint(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> Progress:
    """Gives everything back, torch's own generators included.

    Raises:
        ValueError: the weights are of another model.
    """
    tensors = checkpoint.tensors
    weights = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    owner = {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        prefix = f"{OPTIMIZER}{name}/"
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if kept:
            # The count of steps stays where fused AdamW has it: on the device of the parameter.
            owner[parameter].state[parameter] = {key: value.to(parameter.device) for key, value in kept.items()}
    scaler.load_state_dict(checkpoint.state["scaler"])
    torch.set_rng_state(tensors[RANDOM + "cpu"])
    if device.type == "cuda" and RANDOM + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"], device)
    elif device.type == "mps" and RANDOM + "mps" in tensors:
        torch.mps.set_rng_state(tensors[RANDOM + "mps"])
    return Progress(**checkpoint.state["progress"])
