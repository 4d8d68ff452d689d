"""The embedding's own gradient is torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from textattn.model.embedding import Embedding


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradient_of_rows_taken_several_times_and_never(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours, theirs = Embedding(11, 3, dtype=dtype), nn.Embedding(11, 3, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[1, 2, 2], [10, 1, 1]])
    factor = torch.randn(2, 3, 3, dtype=dtype)
    assert torch.equal(ours(ids), theirs(ids))
    for module in (ours, theirs):
        (module(ids) * factor).sum().backward()
    assert ours.weight.grad is not None and theirs.weight.grad is not None
    assert torch.count_nonzero(ours.weight.grad[[0, 3, 9]]) == 0
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_finite_differences_and_no_rows_at_all() -> None:
    embedding = Embedding(5, 2, dtype=torch.float64)
    ids = torch.tensor([[0, 4], [4, 4]])

    def run(weight: torch.Tensor) -> torch.Tensor:
        found = torch.func.functional_call(embedding, {"weight": weight}, (ids,))
        assert isinstance(found, torch.Tensor)
        return found.tanh()

    assert torch.autograd.gradcheck(run, (embedding.weight,))
    embedding(ids[:0]).sum().backward()
    assert embedding.weight.grad is not None and torch.count_nonzero(embedding.weight.grad) == 0
