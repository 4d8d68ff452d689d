"""The whole model: exact under padding and batching, equal to the equations, with gradients everywhere."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from reference import Array, attend, encode, inside, parameters_of
from small_models import ENCODERS as RECURRENT
from small_models import (
    MECHANISMS,
    TEXTS,
    VOCABULARY,
    build,
    every_parameter_gets_a_gradient_and_padding_none,
    padded,
)
from torch import Tensor

from textattn.model.classifier import Architecture, TextClassifier

ENCODERS = [("none", 1, True), *itertools.product(RECURRENT, (1, 2), (False, True))]
every_mechanism = pytest.mark.parametrize("attention", MECHANISMS)
every_encoder = pytest.mark.parametrize(("encoder", "num_layers", "bidirectional"), ENCODERS)


@every_mechanism
@every_encoder
def test_padding_and_batch_companions_change_nothing(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model = build(attention, encoder, num_layers, bidirectional)
    companions = [list(range(2, 45)), [49]]
    with torch.no_grad():
        together = model(*padded(TEXTS))
        elsewhere = model(*padded([*companions, *reversed(TEXTS)]))
        for row, text in enumerate(TEXTS):
            alone = model(*padded([text]))
            more_padding = model(*padded([text], seq=64))
            for other, place in ((together, row), (elsewhere, -1 - row), (more_padding, 0)):
                same(other.logits[place], alone.logits[0])
                same(other.attention_weights[place, : len(text)], alone.attention_weights[0])
                same(other.context[place], alone.context[0])
                assert torch.count_nonzero(other.attention_weights[place, len(text) :]) == 0


def same(one: Tensor, other: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


@every_mechanism
@every_encoder
def test_equals_the_equations_for_each_text_alone(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model = build(attention, encoder, num_layers, bidirectional).double()
    output = model(*padded(TEXTS))
    for row, text in enumerate(TEXTS):
        logits, weights = compute(model, text)
        np.testing.assert_allclose(output.logits[row].detach().numpy(), logits, atol=1e-10)
        np.testing.assert_allclose(output.attention_weights[row, : len(text)].detach().numpy(), weights, atol=1e-7)


def compute(model: TextClassifier, text: list[int]) -> tuple[Array, Array]:
    """(logits, attention weights) by the code of `reference`."""
    a, p = model.architecture, parameters_of(model)
    states = p["embedding.weight"][text]
    both = a.bidirectional and a.encoder != "none"
    if a.encoder != "none":
        states = encode(a.encoder, inside(p, "encoder."), states, a.num_layers, both)
    context, weights = attend(a.attention, inside(p, "attention."), states, a.num_heads, both)
    return p["classifier.weight"] @ context + p["classifier.bias"], weights


@every_mechanism
@every_encoder
def test_every_parameter_gets_a_gradient_and_padding_none(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model = build(attention, encoder, num_layers, bidirectional).double().train()
    every_parameter_gets_a_gradient_and_padding_none(model)


@every_mechanism
@pytest.mark.parametrize("encoder", ["lstm", "none"])
def test_without_encoder_the_order_of_words_does_not_matter(attention: str, encoder: str) -> None:
    model = build(attention, encoder)
    text = TEXTS[2]
    order = [3, 0, 6, 1, 5, 2, 4]
    straight, shuffled = model(*padded([text])), model(*padded([[text[i] for i in order]]))
    equal = torch.allclose(straight.logits, shuffled.logits, atol=1e-5) and torch.allclose(
        straight.attention_weights[:, order], shuffled.attention_weights, atol=1e-6
    )
    assert equal == (encoder == "none" and attention != "last")


@every_mechanism
@every_encoder
def test_one_token_texts_put_all_weight_on_it(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    output = build(attention, encoder, num_layers, bidirectional)(*padded([[7], [8]]))
    assert output.attention_weights.tolist() == [[1.0], [1.0]]
    assert torch.isfinite(output.logits).all()
    assert not torch.equal(output.logits[0], output.logits[1])


def test_output_has_the_documented_shapes() -> None:
    output = build(encoder="gru", attention="multi_head", num_layers=2)(*padded(TEXTS))
    shapes = {name: tuple(tensor.shape) for name, tensor in output._asdict().items()}
    assert shapes == {
        "logits": (5, 3),
        "attention_weights": (5, 7),
        "context": (5, 24),
        "hidden_states": (5, 7, 12),
        "head_weights": (5, 2, 7),
        "encoder_states": (5, 7, 12),
        "embeddings": (5, 7, 8),
    }


@pytest.mark.parametrize("unk_id", [1, 4])
def test_word_dropout_replaces_tokens_in_training_only(unk_id: int) -> None:
    model = TextClassifier(Architecture(VOCABULARY, 2, embedding_dim=8, dropout={"words": 0.3}, unk_id=unk_id))
    input_ids = torch.randint(5, VOCABULARY, (100, 40))
    plain = model.embedding(input_ids)
    assert torch.equal(model.eval().embed(input_ids), plain)
    embeddings = model.train().embed(input_ids)
    replaced = (embeddings != plain).any(dim=-1)
    assert replaced.float().mean().item() == pytest.approx(0.3, abs=0.04)  # 4000 draws: five standard deviations
    assert torch.equal(embeddings[replaced], model.embedding.weight[unk_id].expand(int(replaced.sum()), -1))


def test_embedding_dropout_takes_the_same_channels_of_a_whole_text_in_training_only() -> None:
    model = build("mean", "none", dropout={"embedding": 0.25})
    embeddings, mask = torch.ones(500, 6, 8), torch.ones(500, 6, dtype=torch.int64)
    assert torch.equal(model.forward_from_embeddings(embeddings, mask).hidden_states, embeddings)
    states = model.train().forward_from_embeddings(embeddings, mask).hidden_states
    assert torch.equal(states, states[:, :1].expand_as(states))
    assert states.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (states == 0).float().mean().item() == pytest.approx(0.25, abs=0.035)  # 4000 draws
    assert len(states[:, 0].unique(dim=0)) > 20  # texts differ


@pytest.mark.parametrize("where", ["words", "embedding", "recurrent", "classifier"])
def test_dropout_is_off_in_eval_mode(where: str) -> None:
    model, without = build(dropout={where: 0.5}), build()
    assert torch.equal(model(*padded(TEXTS)).logits, without(*padded(TEXTS)).logits)
    model.train()
    assert not torch.equal(model(*padded(TEXTS)).logits, model(*padded(TEXTS)).logits)


@every_mechanism
@pytest.mark.parametrize("encoder", ["lstm", "gru", "none"])
def test_integrated_gradients_are_complete(attention: str, encoder: str) -> None:
    """captum's attributions sum to f(x) - f(baseline), none of it on padding (Sundararajan et al. 2017, prop. 1)."""
    model = build(attention, encoder)
    input_ids, attention_mask = padded(TEXTS, seq=9)
    embeddings = model.embed(input_ids).detach()
    baselines = torch.zeros_like(embeddings)

    def logits(embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return model.forward_from_embeddings(embeddings, attention_mask).logits

    target = logits(embeddings, attention_mask).argmax(dim=1)
    attributions = IntegratedGradients(logits).attribute(
        embeddings, baselines, target=target, additional_forward_args=(attention_mask,), n_steps=200
    )
    rows = torch.arange(len(TEXTS))
    difference = logits(embeddings, attention_mask) - logits(baselines, attention_mask)
    expected = difference[rows, target].detach()
    total = attributions.sum(dim=(1, 2)).float()
    assert (total - expected).abs().max() <= 0.01 * expected.abs().max()
    assert torch.count_nonzero(attributions[attention_mask == 0]) == 0


def test_bidirectional_means_nothing_without_an_encoder() -> None:
    one, two = (build("last", "none", bidirectional=both)(*padded(TEXTS)) for both in (True, False))
    assert torch.equal(one.logits, two.logits)
    assert torch.equal(one.attention_weights, two.attention_weights)


@every_encoder
def test_bf16_autocast_is_close_to_fp32(encoder: str, num_layers: int, bidirectional: bool) -> None:
    for attention in MECHANISMS:
        model = build(attention, encoder, num_layers, bidirectional)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(*padded(TEXTS))
        full = model(*padded(TEXTS))
        half.logits.float().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        if attention != "max":  # a tie in bf16 may go to another token
            same(half.attention_weights.float(), full.attention_weights, 0.05)
        same(half.logits.float(), full.logits, 0.05 * full.logits.abs().max().item())


def test_architecture_survives_json() -> None:
    architecture = Architecture(10, 2, attention="mlp", dropout={"words": 0.1})
    assert Architecture(**json.loads(json.dumps(architecture.to_dict()))) == architecture
    names = {field.name for field in dataclasses.fields(Architecture)}
    # Models of earlier versions have no fitted linear part and no windows, and those without are written as before.
    linear, windows = {"linear", "ngram_features"}, {"window_size", "window_context"}
    assert set(architecture.to_dict()) == names - linear - windows
    fitted = dataclasses.replace(architecture, ngrams=2, ngram_features=5)
    assert set(fitted.to_dict()) == names - windows
    assert Architecture(**json.loads(json.dumps(fitted.to_dict()))) == fitted
    read_in_windows = dataclasses.replace(architecture, window_size=64, window_context=8)
    assert set(read_in_windows.to_dict()) == names - linear
    assert Architecture(**json.loads(json.dumps(read_in_windows.to_dict()))) == read_in_windows
