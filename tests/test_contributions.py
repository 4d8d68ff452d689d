"""Contributions add up to the logits, in torch, ONNX and int8, for every mechanism that adds tokens up."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import unsealed
from explain_models import OUTPUTS, TEXTS, model_of, odds, same
from explain_models import build as build_explained
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from numpy.typing import NDArray
from small_models import MECHANISMS, UNK, VOCABULARY, build, padded

import textattn
from textattn.errors import ConfigError
from textattn.explain.explanations import AnsweredTexts, Question
from textattn.explain.methods import default_method
from textattn.explain.targets import Targets
from textattn.export.bundle import write_bundle
from textattn.export.graph import build_graph
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.session import BatchOutput
from textattn.inference.torch_session import TorchSession
from textattn.model.attention import WeightedPooling, attention_class
from textattn.model.classifier import TextClassifier

ADDITIVE = tuple(name for name in MECHANISMS if attention_class(name).additive)
WEIGHTED = tuple(name for name in ADDITIVE if issubclass(attention_class(name), WeightedPooling))
every_mechanism = pytest.mark.parametrize("attention", ADDITIVE)
texts_of_ids = st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=12), min_size=1, max_size=4)


@st.composite
def models(draw: Any) -> TextClassifier:
    """Every combination of the parts that decide what is added up."""
    attention = draw(st.sampled_from(ADDITIVE))
    encoder = draw(st.sampled_from(["lstm", "gru", "none"]))
    learns = attention_class(attention).learns_weights
    anchors = ["none"] if encoder == "none" else ["none", "states", *(["values"] if learns else [])]
    weighted = attention in WEIGHTED
    return build(
        attention,
        encoder,
        draw(st.sampled_from([1, 2])),
        draw(st.booleans()),
        seed=draw(st.integers(0, 9)),
        num_outputs=draw(st.sampled_from([1, 2, 5])),
        num_heads=draw(st.sampled_from([1, 2])),
        anchor=draw(st.sampled_from(anchors)),
        attention_window=draw(st.sampled_from([1, 3])) if weighted else 1,
        attention_position=draw(st.booleans()) if weighted and attention_class(attention).normalized else False,
        ngrams=draw(st.sampled_from([0, 1, 3])),
        ngram_buckets=40,
        unk_id=UNK,
    )


def bias_of(model: TextClassifier) -> NDArray[np.float64]:
    return model.classifier.bias.detach().double().numpy()


def check_sum(output: BatchOutput, mask: NDArray[np.int64], bias: NDArray[np.float64], atol: float) -> None:
    assert output.contributions is not None
    parts = output.contributions.astype(np.float64)
    assert not parts[mask == 0].any()
    scale = np.abs(parts).sum(axis=1).max() + np.abs(bias).max()
    np.testing.assert_allclose(parts.sum(axis=1) + bias, output.logits, atol=atol * max(1, scale))


# What is added up


@settings(max_examples=150, deadline=None)
@given(models(), texts_of_ids)
def test_contributions_and_the_bias_are_the_logits(model: TextClassifier, texts: list[list[int]]) -> None:
    ids, mask = padded(texts)
    with torch.inference_mode():
        model.double()
        output = model(ids, mask)
        parts = model.contributions(output, ids, mask)
    assert parts.total.shape == (*ids.shape, model.architecture.num_outputs)
    assert not parts.total[mask == 0].any()
    torch.testing.assert_close(parts.total.sum(1) + model.classifier.bias, output.logits, rtol=0, atol=1e-12)
    assert (parts.ngrams is None) == (model.ngrams is None)


@settings(max_examples=60, deadline=None)
@given(models(), texts_of_ids)
def test_the_graph_gives_the_same_in_fp32_and_adds_up_in_int8(model: TextClassifier, texts: list[list[int]]) -> None:
    ids, mask = (tensor.numpy() for tensor in padded(texts))
    expected = TorchSession(model).run(ids, mask, with_contributions=True)
    check_sum(expected, mask, bias_of(model), 1e-6)
    for int8 in (False, True):
        session = OnnxSession(build_graph(model, {"textattn": "{}"}, int8=int8).SerializeToString(), "model.onnx")
        assert session.gives_contributions
        found = session.run(ids, mask, with_contributions=True)
        check_sum(found, mask, bias_of(model), 1e-6)
        if not int8:
            for a, b in ((found.contributions, expected.contributions), (found.ngram_contributions, None)):
                if b is not None:
                    np.testing.assert_allclose(a, b, atol=2e-5)
            assert (found.ngram_contributions is None) == (expected.ngram_contributions is None)
            if found.ngram_contributions is not None:
                np.testing.assert_allclose(found.ngram_contributions, expected.ngram_contributions, atol=1e-6)
        # What nobody asks for is not computed, and changes nothing.
        alone = session.run(ids, mask)
        assert alone.contributions is None
        np.testing.assert_array_equal(alone.logits, found.logits)


@every_mechanism
def test_they_are_gradient_times_input_of_what_is_pooled(attention: str) -> None:
    """With the weights held fixed, a sum of products is linear in the states. Values with a bias are not."""
    model = build(attention, encoder="gru", anchor="states").double()
    if attention == "self_attention":
        torch.nn.init.zeros_(model.attention.value.bias)  # type: ignore[union-attr, arg-type]
    ids, mask = padded([[3, 4, 5, 6], [7, 8]])
    with torch.no_grad():
        output = model(ids, mask)
        expected = model.contributions(output, ids, mask).network
    states = output.hidden_states.clone().requires_grad_()
    if output.head_weights is None:
        context, _ = model.attention(states, mask.bool())
    else:
        context = model.attention.pool(states, output.head_weights, mask.bool())  # type: ignore[operator]
    logits = model.classifier(context)
    for label in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), states, retain_graph=True)
        torch.testing.assert_close((gradient * states).sum(-1).detach(), expected[:, :, label], rtol=0, atol=1e-12)


def test_with_values_a_contribution_is_the_words_own() -> None:
    """`anchor: values` pools words, so another text changes a word's contribution by its weight alone."""
    model = build("additive", anchor="values", num_outputs=2).double()
    ratios = []
    for text in ([5, 9, 7], [2, 9, 11, 12, 4]):
        ids, mask = padded([text])
        with torch.inference_mode():
            output = model(ids, mask)
            part = model.contributions(output, ids, mask).network[0, 1]
        ratios.append(part / output.attention_weights[0, 1])
    torch.testing.assert_close(ratios[0], ratios[1], rtol=0, atol=1e-12)


@every_mechanism
def test_companions_and_padding_change_nothing(attention: str) -> None:
    model = build(attention, ngrams=2, ngram_buckets=40).double()
    texts = [[3, 4, 5, 6, 7, 8], [9, 4], [11]]
    ids, mask = padded(texts, seq=9)
    with torch.inference_mode():
        together = model.contributions(model(ids, mask), ids, mask).total
        for row, text in enumerate(texts):
            one, ones = padded([text])
            alone = model.contributions(model(one, ones), one, ones).total
            torch.testing.assert_close(together[row, : len(text)], alone[0], rtol=0, atol=1e-12)


# What is explained


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("ngrams", [0, 2])
def test_the_numbers_of_an_explanation_lead_to_the_answer(output: tuple[int, str, bool], ngrams: int) -> None:
    classifier = build_explained(output=output, ngrams=ngrams, ngram_buckets=50)
    labels, config = classifier.labels, classifier.config
    cases = [(target, other) for target, other in itertools.product(labels, [None, *labels]) if target != other]
    answered = AnsweredTexts.of(classifier, TEXTS)
    for target, against in cases:
        for row, explained in enumerate(answered.explain(Question("contributions", target, against))):
            total = explained.total
            assert total is not None
            assert (total.ngrams is not None) == bool(ngrams)
            same(sum(explained.weights) + total.bias, total.answer)
            same(total.bias + total.words + (total.ngrams or 0), total.answer)
            own, other = labels.index(target), None if against is None else labels.index(against)
            x = answered.forward.logits[row].tolist()
            if len(x) > 2 and config.output == "softmax" and other is None:
                rest = [value for i, value in enumerate(x) if i != own]
                same(total.answer, x[own] - sum(rest) / len(rest))
            else:
                same(total.answer, odds(config, x, own, other))
            # The bias of the model, and not what was missing.
            bias = np.array([model_of(classifier).classifier.bias.tolist()])
            (direction,) = Targets(np.array([own]), classifier.task, other).directions()
            same(total.bias, float(bias[0] @ direction))


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_label_has_its_contributions(output: tuple[int, str, bool]) -> None:
    classifier = build_explained(output=output)
    for explained in classifier.explain(TEXTS):
        assert explained.contributions is not None
        assert list(explained.contributions) == classifier.labels
        assert {len(values) for values in explained.contributions.values()} == {len(explained.tokens)}
        values = np.array(list(explained.contributions.values()))
        if output[1] == "sigmoid" and not output[2]:
            same(values[0], -values[1])
        assert sum(explained.attention_weights) == pytest.approx(1, abs=1e-5)
        assert sum(explained.word_attention) == pytest.approx(1, abs=1e-5)


def test_calibration_turns_the_sum_into_the_score() -> None:
    classifier = build_explained(output=(2, "softmax", False))
    object.__setattr__(classifier.config, "temperature", 1.7)
    for explained in classifier.explain(TEXTS):
        assert explained.total is not None
        log_odds = explained.total.answer / explained.total.temperature
        assert explained.prediction.score == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-6)


def test_a_model_that_does_not_add_up_says_so_and_shows_attention() -> None:
    classifier = build_explained("mlp")
    assert default_method(classifier) == "attention"
    (explained,) = classifier.explain(TEXTS[:1])
    assert (explained.method, explained.total, explained.contributions) == ("attention", None, None)
    with pytest.raises(ConfigError, match="a model with attention mlp cannot be divided among words") as caught:
        classifier.explain(TEXTS, method="contributions")
    assert "occlusion" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["attention", "contributions"])
def test_a_label_is_not_ignored(method: str) -> None:
    classifier = build_explained()
    for question in (Question(method, target="label 1"), Question(method, "label 1", "label 0")):
        if method == "attention":
            with pytest.raises(ConfigError, match=r"attention is the same for every label, so it cannot explain one"):
                AnsweredTexts.of(classifier, TEXTS).explain(question)
        else:
            assert {e.target for e in AnsweredTexts.of(classifier, TEXTS).explain(question)} == {"label 1"}


@pytest.mark.parametrize("settings", [{"attention_window": 3}, {"attention_position": True}])
def test_attention_x_gradient_explains_the_weights_that_the_model_pools_with(settings: dict[str, Any]) -> None:
    """With one head and two labels it is the contribution; it ignored windows and positions."""
    classifier = build_explained(output=(2, "softmax", False), **settings)
    given = [classifier.explain(TEXTS, method=name) for name in ("contributions", "attention_x_gradient")]
    for ours, theirs in zip(*given, strict=True):
        same(ours.weights, theirs.weights)
    plain = build_explained(output=(2, "softmax", False)).explain(TEXTS[0])[0]
    assert not np.allclose(plain.weights, given[0][0].weights, atol=1e-3)


# Files


def strip(run: Path) -> None:
    """Makes the graph that of an earlier version, which had three outputs."""
    proto = onnx.load(run / "model.onnx")
    del proto.graph.output[3:]
    onnx.save(proto, unsealed(run) / "model.onnx")


def test_a_graph_of_an_earlier_version_is_read_and_its_weights_are_divided(trained_run: Path, tmp_path: Path) -> None:
    expected = textattn.load(trained_run).explain("a fine film")[0]
    old = tmp_path / "old"
    shutil.copytree(trained_run, old)
    strip(old)
    model = textattn.load(old)
    assert not model.session.gives_contributions
    (found,) = model.explain("a fine film")
    assert found.method == "contributions"
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)
    write_bundle(old, tmp_path / "old.zip", int8=False, overwrite=False)
    bundle = textattn.load(tmp_path / "old.zip")
    assert bundle.explain("a fine film")[0].method == "attention"
    with pytest.raises(
        ConfigError, match=r"old\.zip comes from an earlier version and has no model\.safetensors"
    ) as caught:
        bundle.explain("a fine film", method="contributions")
    assert "occlusion" in str(caught.value.hint)


def test_a_bundle_explains_without_torch(trained_run: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    write_bundle(trained_run, tmp_path / "model.zip", int8=False, overwrite=False)
    script = (
        "import sys, textattn; e = textattn.load(sys.argv[1]).explain('a fine film')[0]; "
        "print(e.method, e.total.answer, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "model.zip"], capture_output=True, text=True)
    (expected,) = textattn.load(trained_run).explain("a fine film")
    assert expected.total is not None
    method, answer, torch_loaded = done.stdout.split()
    assert (method, torch_loaded) == ("contributions", "False")
    assert float(answer) == pytest.approx(expected.total.answer, abs=1e-6)


@pytest.mark.parametrize("option", [["--target", "neg"], ["--contrast", "neg", "pos"]])
def test_the_command_refuses_a_label_that_the_method_ignores(trained_run: Path, option: list[str]) -> None:
    done = cli("explain", "--model", trained_run, "--method", "attention", *option, "x")
    assert done.code == 2
    assert done.err.startswith(f"Error: {option[0]}: attention is the same for every label, so it cannot explain one\n")
    assert "--method contributions" in done.err
    every = cli("explain", "--model", trained_run, "--method", "all", *option, "a film", "--json")
    assert every.code == 0
    assert '"method": "contributions"' in every.out
    assert '"method": "attention"' not in every.out
