"""The slices of a batch, each computed by one thread from its forward to its backward pass.

A recurrent network is a chain of small steps. Threads that share each of them wait for one another at every step, and
one thread that the system has set aside holds up all the others. Here each thread has some rows of the batch to itself,
and the threads wait for one another twice a batch: before the backward pass, for the number of rows and tokens that the
losses are divided by, and after it, when the gradients are added. How a batch is cut and the order in which gradients
are added depend on the config alone, so the trained weights do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textattn.training.mean import Mean

# Rows of a slice: as fast as a whole batch on one thread (an LSTM of 128 units: 74,000 tokens a second with 16 rows,
# 67,000 with 64), and few enough that a batch has work for several threads.
ROWS = 16
T = TypeVar("T")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on the calling thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cut(rows: NDArray[np.int64], processes: int = 1, size: int = ROWS) -> list[NDArray[np.int64]]:
    """The slices of a batch. Every slice has short texts and long ones, for a batch is sorted by length.

    Args:
        processes: that train together; each gets the same number of slices, as far as there are rows.
        size: the most rows of a slice.
    """
    number = processes * max(1, -(-len(rows) // (size * processes)))
    return [rows[i::number] for i in range(min(number, len(rows)))]


@contextlib.contextmanager
def lone_threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes alone. Afterwards, new threads have as many of torch's as before."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


class Threads:
    """Threads that each compute alone, one operation after the other."""

    def __init__(self, number: int) -> None:
        """Starts them.

        Args:
            number: 0: whatever is computed is computed by the caller, as on a GPU.
        """
        self._opened = contextlib.ExitStack()
        self._pool = self._opened.enter_context(lone_threads(number)) if number else None

    def map(self, work: Callable[[int], T], count: int) -> list[T]:
        """The results of `work(0)`, `work(1)`, … in their order."""
        return list(map(work, range(count)) if self._pool is None else self._pool.map(work, range(count)))

    def close(self) -> None:
        """Ends the threads, and lets those that are started later have as many threads of torch as before."""
        self._opened.close()


def add_gradients(parameters: Sequence[nn.Parameter], slices: Sequence[Sequence[Tensor | None]]) -> None:
    """Sets `grad` of each parameter to the sum over the slices, added in their order.

    Dense gradients get the strides of their parameter: the fused AdamW of CUDA refuses others, and autograd makes them,
    for example where the gradient is a part of that of a concatenation.
    """
    for parameter, gradients in zip(parameters, zip(*slices, strict=True), strict=True):
        found = [gradient for gradient in gradients if gradient is not None]
        total = None
        for gradient in found:
            total = gradient if total is None else total + gradient
        if total is not None and not total.is_sparse and total.stride() != parameter.stride():
            total = torch.empty_like(parameter).copy_(total)
        parameter.grad = total


def share_of_loss(parts: Sequence[Mean], divisors: Tensor) -> Tensor:
    """Compute what a slice contributes to the loss of the batch.

    Args:
        parts: the parts of the loss of this slice.
        divisors: (parts,) the number of rows or tokens of the whole batch by which each part is divided.
    """
    totals = torch.stack([part.total for part in parts])
    return (totals / divisors.clamp(min=1e-12)).sum()
