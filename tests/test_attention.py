"""Every attention mechanism against its equations, its contract (weights, padding) and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference import attend, parameters_of
from torch import Tensor
from torch.nn import functional

from textattn.model.attention import (
    NAMES,
    Attention,
    AttentionSizes,
    WeightedPooling,
    attention_class,
    masked_softmax,
    scaled_dot_product,
)

DIM = 8
LENGTHS = [1, 2, 5, 7]
MECHANISMS = [
    *((name, 1, True) for name in NAMES),
    *((name, 4, True) for name in NAMES if attention_class(name).uses_heads),
    ("last", 1, False),
]
every_mechanism = pytest.mark.parametrize(("name", "num_heads", "bidirectional"), MECHANISMS)


def sizes(dim: int = DIM, num_heads: int = 1, bidirectional: bool = True) -> AttentionSizes:
    return AttentionSizes(dim, attention_size=6, num_heads=num_heads, bidirectional=bidirectional)


def build(name: str, num_heads: int = 1, bidirectional: bool = True, dtype: torch.dtype = torch.float64) -> Attention:
    """With weights large enough that no two tokens count the same."""
    torch.manual_seed(0)
    attention = attention_class(name)(sizes(DIM, num_heads, bidirectional))
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    return attention.to(dtype)


def ragged(dtype: torch.dtype = torch.float64, extra: int = 2, garbage: float = 50.0) -> tuple[Tensor, Tensor]:
    """States and mask of four texts; large numbers on the padding."""
    generator = torch.Generator().manual_seed(1)
    seq = max(LENGTHS) + extra
    states = torch.randn(len(LENGTHS), seq, DIM, generator=generator, dtype=torch.float64)
    mask = torch.arange(seq)[None, :] < torch.tensor(LENGTHS)[:, None]
    noise = garbage * torch.randn(states.shape, generator=generator, dtype=torch.float64)
    return torch.where(mask[:, :, None], states, noise).to(dtype), mask


@every_mechanism
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_agrees_with_the_equations(
    name: str, num_heads: int, bidirectional: bool, dtype: torch.dtype, tolerance: float
) -> None:
    attention = build(name, num_heads, bidirectional, dtype)
    states, mask = ragged(dtype)
    context, weights = attention(states, mask)
    assert context.shape == (len(LENGTHS), attention.context_dim)
    for row, length in enumerate(LENGTHS):
        alone = states[row, :length].double().numpy()
        expected_context, expected_weights = attend(name, parameters_of(attention), alone, num_heads, bidirectional)
        np.testing.assert_allclose(context[row].detach().numpy(), expected_context, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(weights[row, :length].detach().numpy(), expected_weights, atol=tolerance)


def test_worked_example_of_the_article() -> None:
    """softmax(X H^T / sqrt(1)) H, X = [1, 2, 3], H = [0.1, 0.2, 0.3]: by hand with e^0.1 = 1.105171 and so on."""
    x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    h = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    outputs, weights = scaled_dot_product(x, h, h, torch.ones(1, 3, dtype=torch.bool))
    expected_weights = [
        [0.300610, 0.332225, 0.367165],  # 1.105171, 1.221403, 1.349859 over 3.676433
        [0.269308, 0.328933, 0.401760],  # 1.221403, 1.491825, 1.822119 over 4.535347
        [0.239694, 0.323553, 0.436752],  # 1.349859, 1.822119, 2.459603 over 5.631581
    ]
    np.testing.assert_allclose(weights.numpy(), expected_weights, atol=1.5e-6)
    # 0.1 a + 0.2 b + 0.3 c for each row; the article ends at 0.7, outside of what a mean of H can be.
    np.testing.assert_allclose(outputs[:, 0].numpy(), [0.206656, 0.213245, 0.219706], atol=1.5e-6)


@pytest.mark.parametrize(("name", "score"), [("dot", 1.4), ("scaled_dot", 1.4 / math.sqrt(3))])
def test_dot_product_of_the_article_is_1_4(name: str, score: float) -> None:
    """1*0.1 + 2*0.2 + 3*0.3, where the article has 2.4; read off as the log-ratio to a state of score 0."""
    attention = attention_class(name)(sizes(3)).double()
    with torch.no_grad():
        attention.get_parameter("query").copy_(torch.tensor([1.0, 2.0, 3.0]))
    states = torch.tensor([[[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    _, weights = attention(states, torch.ones(1, 2, dtype=torch.bool))
    assert math.log(weights[0, 0].item() / weights[0, 1].item()) == pytest.approx(score, abs=1e-12)


def test_scaled_dot_product_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, n, d) for n, d in ((4, 5), (6, 5), (6, 7)))
    mask = torch.rand(2, 1, 4, 6) < 0.6
    mask[..., 0] = True
    outputs, weights = scaled_dot_product(queries, keys, values, mask)
    expected = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(weights == 0, ~mask.expand_as(weights))


def test_one_head_of_multi_head_is_additive_without_bias() -> None:
    multi_head, additive = (attention_class(name)(sizes()) for name in ("multi_head", "additive"))
    additive.load_state_dict({**multi_head.state_dict(), "projection.bias": torch.zeros(6)})
    for one, other in zip(multi_head(*ragged(torch.float32)), additive(*ragged(torch.float32)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@every_mechanism
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_weights_sum_to_1_and_are_exactly_0_on_padding(
    name: str, num_heads: int, bidirectional: bool, scale: float
) -> None:
    states, mask = ragged(torch.float32, extra=300)
    _, weights = build(name, num_heads, bidirectional, torch.float32)(states * scale, mask)
    assert weights.shape == mask.shape
    assert (weights >= 0).all()
    assert torch.equal(weights[~mask], torch.zeros_like(weights[~mask]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(LENGTHS)), atol=1e-5, rtol=0)


@every_mechanism
def test_padded_states_do_not_matter(name: str, num_heads: int, bidirectional: bool) -> None:
    attention = build(name, num_heads, bidirectional)
    for quiet, loud in zip(attention(*ragged(garbage=0)), attention(*ragged(garbage=1e3)), strict=True):
        torch.testing.assert_close(quiet, loud, atol=1e-12, rtol=0)


@every_mechanism
def test_one_token_gets_all_the_weight(name: str, num_heads: int, bidirectional: bool) -> None:
    states, mask = ragged()
    _, weights = build(name, num_heads, bidirectional)(states, mask)
    assert LENGTHS[0] == 1
    assert weights[0].tolist() == [1.0] + [0.0] * (mask.shape[1] - 1)


@pytest.mark.parametrize("name", ["additive", "dot", "scaled_dot", "general", "mean", "max", "last"])
def test_context_of_one_token_is_its_state(name: str) -> None:
    states, mask = ragged()
    context, _ = build(name)(states, mask)
    torch.testing.assert_close(context[0], states[0, 0])


def test_sigmoid_weighs_each_token_for_itself() -> None:
    states, mask = ragged()
    attention = build("sigmoid")
    context, weights = attention(states, mask)
    other = states.clone()
    other[3, 2] = -states[3, 2]
    changed_context, changed_weights = attention(other, mask)
    length = LENGTHS[3]
    alone = attention.weigh(states, mask)[3, 0, 2] * states[3, 2]
    alone_now = attention.weigh(other, mask)[3, 0, 2] * other[3, 2]
    torch.testing.assert_close(context[3] - alone, changed_context[3] - alone_now)
    ratios = (changed_weights[3] / weights[3])[:length][torch.arange(length) != 2]  # what is shown are shares
    torch.testing.assert_close(ratios, ratios[:1].expand(length - 1))


@every_mechanism
def test_weights_follow_their_tokens_in_any_order(name: str, num_heads: int, bidirectional: bool) -> None:
    states = ragged()[0][3:, : LENGTHS[3]]
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    attention = build(name, num_heads, bidirectional)
    context, weights = attention(states, mask)
    other_context, other_weights = attention(states[:, order], mask)
    same = torch.allclose(context, other_context) and torch.allclose(weights[:, order], other_weights)
    assert same == (name != "last")


@every_mechanism
def test_gradients_are_those_of_finite_differences(name: str, num_heads: int, bidirectional: bool) -> None:
    attention = build(name, num_heads, bidirectional)
    states, mask = ragged(extra=1)
    names = [key for key, _ in attention.named_parameters()]

    def run(states: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        outputs = torch.func.functional_call(attention, dict(zip(names, values, strict=True)), (states, mask))
        return tuple(output for output in outputs if output.requires_grad)

    assert torch.autograd.gradcheck(run, (states.requires_grad_(), *attention.parameters()))


@every_mechanism
def test_padded_states_get_no_gradient(name: str, num_heads: int, bidirectional: bool) -> None:
    states, mask = ragged()
    states.requires_grad_()
    context, _ = build(name, num_heads, bidirectional)(states, mask)
    context.square().sum().backward()
    assert states.grad is not None
    assert torch.count_nonzero(states.grad[~mask]) == 0
    assert torch.count_nonzero(states.grad[mask]) > 0


def test_softmax_over_many_tokens_keeps_fp32_for_bf16_scores() -> None:
    scores = torch.randn(3, 1000).bfloat16()
    weights = masked_softmax(scores, torch.ones(3, 1000, dtype=torch.bool))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.softmax(scores.double(), -1).float(), atol=1e-8, rtol=1e-5)


def test_softmax_survives_huge_scores() -> None:
    scores = torch.tensor([[3e38, -3e38, 3e38, 0.0]])
    weights = masked_softmax(scores, torch.tensor([[True, True, False, True]]))
    assert weights.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_heads_that_do_not_divide_the_states_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_heads must divide the state size 8, got 3$"):
        attention_class("self_attention")(sizes(num_heads=3))


# What a class says about itself


@every_mechanism
def test_the_attributes_of_a_class_say_what_it_does(name: str, num_heads: int, bidirectional: bool) -> None:
    """Settings and losses that do not fit a mechanism are refused by these."""
    attention = build(name, num_heads, bidirectional)
    states, mask = ragged()
    assert attention.has_weights == isinstance(attention, WeightedPooling)
    if not isinstance(attention, WeightedPooling):
        assert not attention.learns_weights
        assert attention.normalized
        return
    weights = attention.weigh(states, mask)
    assert weights.shape == (len(LENGTHS), num_heads, mask.shape[1])
    assert attention.learns_weights == weights.requires_grad
    sums = weights.sum(dim=2)
    assert attention.normalized == torch.allclose(sums, torch.ones_like(sums))


@pytest.mark.parametrize("name", NAMES)
def test_telling_shapes_show_every_size_that_parameters_depend_on(name: str) -> None:
    """With a wrong size in config.json they must differ from the weights before anything is built."""
    kind, right = attention_class(name), AttentionSizes(DIM, 6, 2, bidirectional=True)

    def shapes(sizes: AttentionSizes) -> dict[str, tuple[int, ...]]:
        return {key: tuple(parameter.shape) for key, parameter in kind(sizes).named_parameters()}

    assert kind.telling_shapes(right).items() <= shapes(right).items()
    for wrong in (AttentionSizes(DIM, 7, 2, bidirectional=True), AttentionSizes(DIM, 6, 4, bidirectional=True)):
        if shapes(wrong) != shapes(right):
            assert kind.telling_shapes(wrong) != kind.telling_shapes(right)
