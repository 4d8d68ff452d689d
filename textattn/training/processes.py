"""Several processes on one training, as torchrun starts them: which of them this is, and how they agree."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from textattn.errors import Elsewhere, Option, TextattnError, TrainingError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# The others wait while the first reads, trains word vectors or measures. That one has died they learn at once.
TIMEOUT = timedelta(days=2)


def number_of_processes() -> int:
    """As torchrun says; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def rank_of_process() -> int:
    """The number of this process among all, from 0."""
    return int(os.environ.get("RANK", "0")) if number_of_processes() > 1 else 0


def local_rank_of_process() -> int:
    """Its number among those on the same machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if number_of_processes() > 1 else 0


class Processes:
    """All processes of a training; by default one alone. All must make the same calls in the same order."""

    def __init__(self, size: int = 1, rank: int = 0, local_rank: int = 0) -> None:
        self.size, self.rank, self.local_rank = size, rank, local_rank

    @property
    def is_first(self) -> bool:
        """The one that writes and speaks."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Of everybody's tensor, in place and everywhere."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """Of everybody's number."""
        if self.size == 1:
            return number
        import torch
        import torch.distributed as dist

        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def first(self, work: Callable[[], T]) -> T:
        """What the first process alone does; all get its result, which must be JSON.

        Raises:
            TextattnError: the first raised it; `Elsewhere` in the others.
        """
        result = self._together(work, self.is_first)
        if self.size == 1:
            return result  # type: ignore[return-value]
        value: T = json.loads(self.bytes_of_first(json.dumps(result).encode()))
        return value

    def bytes_of_first(self, content: bytes) -> bytes:
        """What the first process has; the others give anything."""
        if self.size == 1:
            return content
        import torch
        import torch.distributed as dist

        size = torch.tensor(len(content))
        dist.broadcast(size, 0)
        # A buffer that may be written to, whoever it is.
        data = torch.frombuffer(bytearray(content if self.is_first else int(size)), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return data.numpy().tobytes()

    def in_turn(self, work: Callable[[], T]) -> T:
        """What each process does for itself: the first of a machine before the others, which find what it cached.

        Raises:
            TextattnError: one raised it; `Elsewhere` in the others.
        """
        result = self._together(work, self.local_rank == 0)
        if self.size > 1:
            others = self._together(work, self.local_rank != 0)
            result = result if self.local_rank == 0 else others
        return result  # type: ignore[return-value]

    def _together(self, work: Callable[[], T], mine: bool) -> T | None:
        """Where it is this one's turn, the work; then all go on, or all stop."""
        result, error = None, None
        if mine:
            try:
                result = work()
            except TextattnError as raised:
                error = raised
        if self.size > 1:
            # The lowest number speaks for those that have met the same.
            speaker = self.size - self.largest(0 if error is None else self.size - self.rank)
            code = self.largest(0 if error is None else error.exit_code)
            if speaker < self.size and speaker != self.rank:
                raise Elsewhere(code)
        if error is not None:
            raise error
        return result


@contextlib.contextmanager
def join_processes(device_type: str) -> Iterator[Processes]:
    """Meets the other processes, if torchrun has started some.

    Args:
        device_type: where the gradients are: nccl connects GPUs, gloo everything else.

    Raises:
        TrainingError: another process has ended in the middle.
    """
    processes = Processes(number_of_processes(), rank_of_process(), local_rank_of_process())
    if processes.size == 1:
        yield processes
        return
    import torch.distributed as dist

    mine = not dist.is_initialized()
    if mine:
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
        # torchrun's store outlives its processes: after a restart nobody must find the addresses of the dead.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield processes
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise TrainingError(
            f"process {processes.rank} of {processes.size}: another process of this training has ended",
            (
                "its message is above; the same command with ",
                Option("resume", flag=True),
                " continues from the newest checkpoint",
            ),
        ) from None
    if mine:
        dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    import torch.distributed as dist

    # gloo has no class of its own for it.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
