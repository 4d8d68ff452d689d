"""Choose the device and the precision of training."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from textattn.config.schema import TrainingConfig
from textattn.errors import ConfigError
from textattn.training.processes import Processes, local_rank_of_process, number_of_processes


@dataclass(frozen=True)
class Placement:
    """The device and the precision of training, and the processes that take part."""

    device: torch.device
    dtype: torch.dtype
    processes: Processes = field(default_factory=Processes)
    """The processes that train together; each computes its share of every batch."""

    @property
    def autocast(self) -> torch.autocast:
        """Context for the forward pass; does nothing in fp32."""
        enabled = self.dtype != torch.float32
        # The cache of cast weights is one for all threads: what a thread finds there depends on when the others end.
        return torch.autocast(self.device.type, self.dtype, enabled, cache_enabled=self.device.type != "cpu")

    def __str__(self) -> str:
        names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
        return f"{self.device}, {names[self.dtype]}"


def choose_placement(config: TrainingConfig) -> Placement:
    """Choose the device and the precision of a config.

    `auto` chooses the fastest that is available. If there are several processes on GPUs, each uses a different GPU.

    Raises:
        ConfigError: the device is not available or does not support the precision.
    """
    device = choose_device(config.device)
    if device.type == "cuda" and number_of_processes() > 1:
        device = choose_device(f"cuda:{local_rank_of_process()}")
        torch.cuda.set_device(device)
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"fp16 needs CUDA, but the device is {device}", "training.precision=auto", setting="training.precision"
        )
    if config.precision != "auto":
        return Placement(
            device, {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
        )
    # On a GPU the step is bound by the number of kernels, and the casts add some: fp32 is faster there.
    computes_bf16 = device.type == "cpu" and _cpu_computes_bf16()
    return Placement(device, torch.bfloat16 if computes_bf16 else torch.float32)


def choose_device(name: str) -> torch.device:
    """Find a device by its name, or the fastest one for `auto`.

    Raises:
        ConfigError: the device is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    is_available = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not is_available[device.type]:
        raise ConfigError(f"device {name!r} is not available here", "training.device=auto")
    return device


def _cpu_computes_bf16() -> bool:
    """Whether the CPU has bf16 instructions; emulating them would be slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
