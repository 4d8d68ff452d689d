"""The whole state of training, saved as one safetensors file with a checksum and restored from it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from textattn.report import Evaluation

MODEL, OPTIMIZER, RANDOM = "model/", "optimizer/", "random/"
STATE, DIGEST = "state", "sha256"


@dataclass
class Progress:
    """The progress of a training loop."""

    shuffle: dict[str, Any]
    """State of the random generator before it drew the order of this epoch."""
    epoch: int = 0
    batches: int = 0
    """Number of batches of this epoch that have been trained on."""
    global_step: int = 0
    evaluated: int = 0
    """The step of the last evaluation."""
    num_tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    without_improvement: int = 0
    losses: list[float] = field(default_factory=list)
    """The loss of each step since the last evaluation."""


@dataclass(frozen=True)
class BestWeights:
    """The best weights so far, which are stored in a separate file beside the state."""

    evaluation: Evaluation
    file: str
    sha256: str


@dataclass(frozen=True)
class TrainState:
    """The state from which training resumes."""

    tensors: dict[str, Tensor]
    """The weights, the moments of the optimisers and the states of the random generators. The loop keeps using the same
    weights and moments; they are not copied."""
    progress: Progress
    scaler: dict[str, Any]
    """State of the gradient scaler."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """The lines of log.jsonl."""
    best: BestWeights | None = None

    def to_bytes(self) -> bytes:
        """The state as a safetensors file that contains a checksum of its whole content."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.tensors.items())}
        best = self.best and {
            "evaluation": asdict(self.best.evaluation), "weights": self.best.file, "sha256": self.best.sha256
        }  # fmt: skip
        run = {"log": self.log, "best": best}
        state = json.dumps({"progress": asdict(self.progress), "scaler": self.scaler, "run": run})
        return safetensors.torch.save(tensors, {STATE: state, DIGEST: _digest(tensors, state)})

    @classmethod
    def from_bytes(cls, content: bytes) -> TrainState:
        """Read the result of `to_bytes`.

        Raises:
            ValueError: the content is damaged or of an unknown version.
        """
        try:
            size = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + size])["__metadata__"]
            tensors = safetensors.torch.load(content)
            if _digest(tensors, metadata[STATE]) != metadata[DIGEST]:
                raise ValueError("its checksum is wrong")
            state = json.loads(metadata[STATE])
            run = state["run"]
            best = run["best"] and BestWeights(
                Evaluation(**run["best"]["evaluation"]), str(run["best"]["weights"]), str(run["best"]["sha256"])
            )
            return cls(tensors, Progress(**state["progress"]), state["scaler"], list(run["log"]), best)
        except (SafetensorError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # A tensor without dimensions cannot be viewed as bytes, so it is reshaped first.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def take_state(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    device: torch.device,
    progress: Progress,
) -> TrainState:
    """Collect everything that determines the next steps."""
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
    return TrainState(tensors, copy.deepcopy(progress), scaler.state_dict())


def restore_state(
    state: TrainState,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> Progress:
    """Restore the model, the optimisers, the gradient scaler and torch's random generators.

    Returns:
        The progress of the loop.

    Raises:
        ValueError: the weights belong to a different model.
    """
    tensors = state.tensors
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
            # Fused AdamW keeps its step count on the device of the parameter.
            owner[parameter].state[parameter] = {key: value.to(parameter.device) for key, value in kept.items()}
    scaler.load_state_dict(state.scaler)
    torch.set_rng_state(tensors[RANDOM + "cpu"])
    if device.type == "cuda" and RANDOM + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"], device)
    elif device.type == "mps" and RANDOM + "mps" in tensors:
        torch.mps.set_rng_state(tensors[RANDOM + "mps"])
    return copy.deepcopy(state.progress)
