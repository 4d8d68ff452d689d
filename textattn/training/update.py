"""One step of the optimisers on a processor, in pieces that threads work on side by side.

The gradients of the slices of a batch are added, clipped and applied. Each piece is some rows of one parameter. The
pieces depend on the model alone, so the sum that gradients are clipped by does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from textattn.training.slices import Threads

# Elements of a piece: a large embedding has some pieces for every thread.
ELEMENTS = 2**19
Gradients = Sequence[Tensor | None]


@dataclass(frozen=True)
class Piece:
    """Some rows of a parameter."""

    number: int
    """Which of the parameters."""
    parameter: nn.Parameter
    group: dict[str, Any]
    """The settings of AdamW for it."""
    first: int
    last: int

    def add(self, slices: Sequence[Gradients]) -> Tensor | None:
        """Writes the sum of the slices' gradients to `grad`, in their order.

        Returns:
            The sum of its squares; None where no slice has a gradient.
        """
        gradients = [gradient for of_slice in slices if (gradient := of_slice[self.number]) is not None]
        if not gradients:
            return None
        total = self.of(self.parameter.grad)
        if gradients[0].is_sparse:
            total.zero_()
            for gradient in gradients:
                rows = gradient._indices()[0]
                inside = ((rows >= self.first) & (rows < self.last)).nonzero().squeeze(1)
                total.index_add_(0, rows[inside] - self.first, gradient._values()[inside])
        else:
            total.copy_(self.of(gradients[0]))
            for gradient in gradients[1:]:
                total.add_(self.of(gradient))
        return total.square().sum()

    def of(self, tensor: Tensor | None) -> Tensor:
        """These rows of a tensor that is shaped like the parameter."""
        assert tensor is not None
        return tensor[self.first : self.last]


class Update:
    """Adds gradients, clips them, and lets AdamW and the optimiser of sparse parameters take their step."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], parameters: Sequence[nn.Parameter]) -> None:
        """Cuts the parameters.

        Args:
            optimizers: AdamW, and after it those of sparse parameters.
            parameters: in the order of the gradients.
        """
        self.adamw, *self.others = optimizers
        self.parameters = parameters
        numbers = {parameter: i for i, parameter in enumerate(parameters)}
        self.pieces = [
            Piece(numbers[parameter], parameter, group, first, min(first + step, len(parameter)))
            for group in self.adamw.param_groups
            for parameter in group["params"]
            for step in [max(1, ELEMENTS * len(parameter) // parameter.numel())]
            for first in range(0, len(parameter), step)
        ]
        for piece in self.pieces:
            piece.parameter.grad = torch.zeros_like(piece.parameter)
        self.sparse = [
            numbers[p] for optimizer in self.others for group in optimizer.param_groups for p in group["params"]
        ]

    def __call__(self, slices: Sequence[Gradients], max_norm: float | None, threads: Threads) -> None:
        """Takes the step; the learning rates are those of the groups."""
        for number in self.sparse:
            found = [gradient for of_slice in slices if (gradient := of_slice[number]) is not None]
            self.parameters[number].grad = _concatenated(found) if found else None
        squares = threads.map(lambda i: self.pieces[i].add(slices), len(self.pieces))
        scale = None
        if max_norm is not None:
            known = [square for square in squares if square is not None]
            # As torch.nn.utils.clip_grad_norm_, of the parameters of AdamW.
            scale = (max_norm / (torch.stack(known).sum().sqrt() + 1e-6)).clamp(max=1.0)
        for number in dict.fromkeys(
            piece.number for piece, square in zip(self.pieces, squares, strict=True) if square is not None
        ):
            self._count_step(self.parameters[number])

        def apply(i: int) -> None:
            if i >= len(self.pieces):
                self.others[i - len(self.pieces)].step()
            elif squares[i] is not None:
                self._adamw(self.pieces[i], scale)

        threads.map(apply, len(self.pieces) + len(self.others))

    def _count_step(self, parameter: nn.Parameter) -> None:
        state = self.adamw.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1

    def _adamw(self, piece: Piece, scale: Tensor | None) -> None:
        """The kernel that torch's AdamW calls with `fused=True`, on some rows."""
        state, group = self.adamw.state[piece.parameter], piece.group
        beta1, beta2 = group["betas"]
        with torch.no_grad():
            torch._fused_adamw_(
                [piece.of(piece.parameter)],
                [piece.of(piece.parameter.grad)],
                [piece.of(state["exp_avg"])],
                [piece.of(state["exp_avg_sq"])],
                [],
                [state["step"]],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=None if scale is None else 1 / scale,
                found_inf=None,
            )


def _concatenated(gradients: Sequence[Tensor]) -> Tensor:
    """The sum of sparse gradients, not yet added up; or of dense ones, where another process has some too."""
    if not gradients[0].is_sparse:
        return torch.stack(list(gradients)).sum(dim=0)
    rows = torch.cat([gradient._indices() for gradient in gradients], dim=1)
    values = torch.cat([gradient._values() for gradient in gradients])
    return torch.sparse_coo_tensor(rows, values, gradients[0].shape, check_invariants=False)
