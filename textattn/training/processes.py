"""Several processes that train one model together, as torchrun starts them: their ranks and their communication."""

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
# The other processes wait this long while the first one reads data, trains word vectors or measures. If a process dies,
# the others notice at once, without waiting for this timeout.
TIMEOUT = timedelta(days=2)


def number_of_processes() -> int:
    """The number of processes that torchrun has started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def rank_of_process() -> int:
    """The rank of this process among all processes, from 0."""
    return int(os.environ.get("RANK", "0")) if number_of_processes() > 1 else 0


def local_rank_of_process() -> int:
    """The rank of this process among those on the same machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if number_of_processes() > 1 else 0


class Processes:
    """All processes of a training, by default a single one. All must make the same calls in the same order."""

    def __init__(self, size: int = 1, rank: int = 0, local_rank: int = 0) -> None:
        self.size, self.rank, self.local_rank = size, rank, local_rank

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up the tensors of all processes, in place and in every process."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """The largest of the numbers of all processes."""
        if self.size == 1:
            return number
        import torch
        import torch.distributed as dist

        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def first(self, work: Callable[[], T]) -> T:
        """Do some work in the first process only; all processes get its result, which must be a JSON value.

        Raises:
            TextattnError: the first process raised it; the others raise `Elsewhere`.
        """
        result = self._together(work, self.is_first)
        if self.size == 1:
            return result  # type: ignore[return-value]
        value: T = json.loads(self.bytes_of_first(json.dumps(result).encode()))
        return value

    def first_bytes(self, work: Callable[[], bytes]) -> bytes:
        """Do some work in the first process only, and give its result to all.

        Raises:
            TextattnError: the first process raised it; `Elsewhere` in the others.
        """
        return self.bytes_of_first(self._together(work, self.is_first) or b"")

    def bytes_of_first(self, content: bytes) -> bytes:
        """Send `content` from the first process to all processes; the `content` of the others is ignored."""
        if self.size == 1:
            return content
        import torch
        import torch.distributed as dist

        size = torch.tensor(len(content))
        dist.broadcast(size, 0)
        # torch needs a writable buffer in every process.
        data = torch.frombuffer(bytearray(content if self.is_first else int(size)), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return data.numpy().tobytes()

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do some work in every process.

        The first process of each machine works before the others, so that they can use what it has cached.

        Raises:
            TextattnError: a process raised it; the others raise `Elsewhere`.
        """
        result = self._together(work, self.local_rank == 0)
        if self.size > 1:
            others = self._together(work, self.local_rank != 0)
            result = result if self.local_rank == 0 else others
        return result  # type: ignore[return-value]

    def _together(self, work: Callable[[], T], takes_part: bool) -> T | None:
        """Do some work in the processes where `takes_part` is true; then all continue, or all raise an error."""
        result, error = None, None
        if takes_part:
            try:
                result = work()
            except TextattnError as raised:
                error = raised
        if self.size > 1:
            # Of the processes with an error, the one with the lowest rank reports it.
            reporter = self.size - self.largest(0 if error is None else self.size - self.rank)
            code = self.largest(0 if error is None else error.exit_code)
            if reporter < self.size and reporter != self.rank:
                raise Elsewhere(code)
        if error is not None:
            raise error
        return result


@contextlib.contextmanager
def join_processes(device_type: str) -> Iterator[Processes]:
    """Connect to the other processes, if torchrun has started any.

    Args:
        device_type: the type of the device that holds the gradients; GPUs are connected by nccl, other devices by gloo.

    Raises:
        TrainingError: another process has ended unexpectedly.
    """
    processes = Processes(number_of_processes(), rank_of_process(), local_rank_of_process())
    if processes.size == 1:
        yield processes
        return
    import torch.distributed as dist

    initialises = not dist.is_initialized()
    if initialises:
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
        # torchrun's store outlives its processes. After a restart, the addresses of ended processes must not be used.
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
                "see the error of that process above; the same command with ",
                Option("resume", flag=True),
                " continues from the newest checkpoint",
            ),
        ) from None
    if initialises:
        dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    import torch.distributed as dist

    # gloo raises a plain RuntimeError for a lost connection.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
