"""Our quick dropout against what dropout is: the share, the scale, the gradient, the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare

from textattn.model.dropout import Dropout

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    ("p", "rounded"), [(0.001, 66 / 2**16), (0.1, 6554 / 2**16), (0.2, 51 / 2**8), (0.5, 0.5), (0.95, 243 / 2**8)]
)
def test_share_that_is_dropped_is_binomial(p: float, rounded: float) -> None:
    torch.manual_seed(0)
    n = 1_000_003  # no multiple of what one random number serves
    dropped = int((Dropout(p)(torch.ones(n)) == 0).sum())
    low, high = binom.ppf([1e-4, 1 - 1e-4], n, rounded)
    assert low <= dropped <= high


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_kept_is_scaled_and_gradient_takes_the_same_way(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((7, 11, 13), 3.0, dtype=dtype, requires_grad=True)
    y = Dropout(0.25)(x)
    kept = y != 0
    assert y.dtype == dtype and y.shape == x.shape
    assert 0.6 < kept.double().mean() < 0.9
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 4.0))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.where(kept, 4 / 3, 0.0).to(dtype))


def test_neighbours_are_dropped_independently() -> None:
    """Eight elements share a random number: all patterns of theirs must come as often as chance has it."""
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(800_000)) == 0).view(-1, 8)
    patterns = np.bincount((dropped * 2 ** torch.arange(8)).sum(1), minlength=256)
    assert chisquare(patterns).pvalue > 1e-4


def test_each_call_is_another_and_the_seed_decides() -> None:
    dropout, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    again = dropout(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_nothing_changes_in_evaluation_or_with_p_0(p: float) -> None:
    x = torch.randn(5, 6)
    assert torch.equal(Dropout(p).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_everything_is_dropped_with_p_1() -> None:
    x = torch.randn(5, 6, requires_grad=True)
    y = Dropout(1.0)(x)
    assert not y.any()
    assert not torch.autograd.grad(y.sum(), x)[0].any()


def test_no_elements() -> None:
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)


def test_what_is_not_contiguous_keeps_its_shape() -> None:
    torch.manual_seed(0)
    x = torch.arange(1.0, 25.0).view(4, 6).t()
    y = Dropout(0.5)(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], 2 * x[kept])
