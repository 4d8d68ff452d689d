"""AdamW, its schedule, and where and in which precision to compute."""

from __future__ import annotations

import inspect
import math
import sys
from dataclasses import dataclass

import torch
from torch import nn

from textattn.config.schema import TrainingConfig
from textattn.errors import ConfigError
from textattn.training.processes import local_rank_of_process, number_of_processes


def build_optimizers(model: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019); matrices decay, embeddings, biases and single vectors do not.

    Weights of n-grams have Adagrad (Duchi et al. 2011) of their own, which touches those that occur only.
    """
    _leave_compiler_out()
    sparse: list[nn.Parameter] = []
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.startswith("ngrams."):
            sparse.append(parameter)
        elif parameter.requires_grad:
            (decaying if parameter.ndim > 1 and "embedding" not in name else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)]
    if sparse:
        # Torch asks for a decision: what autograd makes is well formed.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        optimizers.append(Adagrad(sparse, lr=config.ngram_learning_rate))
    return optimizers


class AdamW(torch.optim.AdamW):
    """As torch's, whose step would import torch's compiler first, two seconds, only to tell it to keep out."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Adagrad(torch.optim.Adagrad):
    """See AdamW."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adagrad.step))


def _leave_compiler_out() -> None:
    """The same for the other methods of all optimisers, unless the compiler is there already."""
    if "torch._dynamo" in sys.modules:
        return
    for method in vars(torch.optim.Optimizer).values():
        # Where torch/_compile.py keeps what the compiler made of the method: here the method itself.
        if getattr(method, "__module__", None) == torch.optim.Optimizer.__module__ and hasattr(method, "__wrapped__"):
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)


def learning_rate_at(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Of the step with that number, from 0: a linear warm-up to the highest, then the schedule of the config."""
    warmup = round(config.warmup_ratio * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total_steps - warmup, 1)
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "linear":
        return config.learning_rate * max(1.0 - done, 0.0)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Placement:
    """Where training computes, and in which precision."""

    device: torch.device
    dtype: torch.dtype

    @property
    def autocast(self) -> torch.autocast:
        """Context for the forward pass; does nothing in fp32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def __str__(self) -> str:
        names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
        return f"{self.device}, {names[self.dtype]}"


def choose_placement(config: TrainingConfig) -> Placement:
    """The device and precision the config asks for; `auto` takes the fastest there is, each process a GPU of its own.

    Raises:
        ConfigError: the device is not there, or cannot compute in that precision.
    """
    device = choose_device(config.device)
    if device.type == "cuda" and number_of_processes() > 1:
        device = choose_device(f"cuda:{local_rank_of_process()}")
        torch.cuda.set_device(device)
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"training.precision: fp16 needs CUDA, but the device is {device}", "training.precision=auto")
    if config.precision != "auto":
        return Placement(
            device, {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
        )
    if device.type == "cuda":
        computes_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        computes_bf16 = device.type == "cpu" and _cpu_computes_bf16()
    return Placement(device, torch.bfloat16 if computes_bf16 else torch.float32)


def choose_device(name: str) -> torch.device:
    """`auto`, or a device by name.

    Raises:
        ConfigError: it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not there[device.type]:
        raise ConfigError(f"device {name!r} is not available here", "training.device=auto")
    return device


def _cpu_computes_bf16() -> bool:
    """Whether the processor has bf16 instructions; emulation would be slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
