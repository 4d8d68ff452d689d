"""What all methods keep to: words are sums of tokens, companions and dice change nothing, errors say what to do."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from explain_models import MODELS, OUTPUTS, TEXTS, build, ids_of, logits, model_of, odds, same

import textattn as package
from textattn.api import Model
from textattn.errors import ConfigError, InputError
from textattn.explain.explanations import Explanation
from textattn.explain.methods import audited_names, find_method, method_names
from textattn.explain.methods._base import Need
from textattn.export.bundle import write_bundle

METHODS = method_names()
GRADIENTS = tuple(name for name in METHODS if Need.TORCH in find_method(name).needs)
SAMPLED = tuple(name for name in METHODS if name not in audited_names())
UNSIGNED = tuple(name for name in METHODS if not find_method(name).signed)
every_method = pytest.mark.parametrize("method", METHODS)
every_signed_method = pytest.mark.parametrize("method", [name for name in METHODS if name not in UNSIGNED])
every_gradient = pytest.mark.parametrize("method", GRADIENTS)


@pytest.fixture(scope="module")
def classifier() -> Model:
    return build()


@pytest.fixture(scope="module")
def sub_words() -> Model:
    return build(kind="bpe")


def weights(explanations: list[Explanation]) -> list[float]:
    return [weight for explanation in explanations for weight in explanation.weights]


@every_method
def test_a_word_has_the_sum_of_its_tokens(method: str, sub_words: Model) -> None:
    pieces = 0
    for text, explanation in zip(TEXTS, sub_words.explain(TEXTS, method=method), strict=True):
        assert [word.text for word in explanation.words] == text.split()
        assert [text[start:end].strip() for start, end in explanation.offsets if end > start]
        for word in explanation.words:
            own = [
                weight
                for weight, (start, end) in zip(explanation.weights, explanation.offsets, strict=True)
                if start < word.end and end > word.start
            ]
            pieces = max(pieces, len(own))
            same(word.weight, sum(own), 1e-9)
            if method in ("occlusion", "lime", "kernel_shap"):
                same(own, [word.weight / len(own)] * len(own), 1e-9)
        same(sum(explanation.weights), sum(word.weight for word in explanation.words), 1e-9)
        assert explanation.signed == (method not in UNSIGNED)
        if method in UNSIGNED:
            same(sum(explanation.weights), 1)
    assert pieces > 2


def test_occlusion_takes_out_all_pieces_of_a_word(sub_words: Model) -> None:
    for text, explanation in zip(TEXTS, sub_words.explain(TEXTS, method="occlusion"), strict=True):
        label = sub_words.labels.index(explanation.target)
        ids = ids_of(sub_words, text)
        whole = odds(sub_words.config, logits(sub_words, ids), label)
        for word in explanation.words:
            left = [
                token
                for token, (start, end) in zip(ids, explanation.offsets, strict=True)
                if end <= word.start or start >= word.end
            ]
            without = logits(sub_words, left or [sub_words.tokenizer.unk_id])
            same(word.weight, whole - odds(sub_words.config, without, label))


@every_method
@pytest.mark.parametrize(("attention", "encoder", "anchor"), [MODELS[1], MODELS[6], MODELS[7], MODELS[8]])
def test_companions_change_nothing(method: str, attention: str, encoder: str, anchor: str) -> None:
    if (method, attention) == ("contributions", "mlp"):
        pytest.skip("mlp does not add up tokens")
    classifier = build(attention, encoder, anchor)
    texts = TEXTS if method not in SAMPLED else TEXTS[1:4]
    together = classifier.explain(texts, method=method)
    backwards = classifier.explain(texts[::-1], method=method)[::-1]
    for text, one, other in zip(texts, together, backwards, strict=True):
        (alone,) = classifier.explain(text, method=method)
        same(one.weights, alone.weights)
        same(other.weights, alone.weights)
        assert (one.text, one.tokens, one.target) == (text, alone.tokens, alone.target)
        assert one.prediction.label == alone.prediction.label


def test_many_texts_in_several_batches_keep_their_scores(classifier: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from textattn.explain import erasure, gradients

    expected = {method: weights(classifier.explain(TEXTS, method=method)) for method in (*GRADIENTS, "occlusion")}
    monkeypatch.setattr(gradients, "MAX_TOKENS", 24)
    monkeypatch.setattr(erasure, "TOKENS_AT_ONCE", 20)
    for method, scores in expected.items():
        same(weights(classifier.explain(TEXTS, method=method)), scores)


@every_method
def test_twice_is_the_same_and_leaves_no_trace(method: str, classifier: Model) -> None:
    model = model_of(classifier)
    frozen = [model.embedding.weight, model.classifier.bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    needed = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    values = {name: value.clone() for name, value in model.state_dict().items()}
    texts = TEXTS if method not in SAMPLED else TEXTS[1:4]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    first = classifier.explain(texts, method=method)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]  # type: ignore[index]  # noqa: NPY002
    torch.manual_seed(2)
    assert weights(classifier.explain(texts, method=method)) == weights(first)
    assert needed == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name for name, grad in needed.items() if not grad} == {"embedding.weight", "classifier.bias"}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    for parameter in frozen:
        parameter.requires_grad_()


def test_an_error_midway_leaves_the_parameters_as_they_were(classifier: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from textattn.explain import gradients

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gradients, "log_odds", fail)
    for method in GRADIENTS:
        with pytest.raises(KeyboardInterrupt):
            classifier.explain(TEXTS, method=method)
        assert all(parameter.requires_grad for parameter in model_of(classifier).parameters())
        assert torch.backends.cudnn.enabled


@every_signed_method
@pytest.mark.parametrize("output", [OUTPUTS[0], OUTPUTS[2]])
def test_of_two_labels_what_is_for_one_is_against_the_other(method: str, output: tuple[int, str, bool]) -> None:
    classifier = build(output=output)
    texts = TEXTS[2:4]
    one, other, contrast = (
        classifier.explain(texts, target, method, against)
        for target, against in (("label 0", None), ("label 1", None), ("label 0", "label 1"))
    )
    assert [(e.target, e.against, e.method) for e in contrast] == [("label 0", "label 1", method)] * 2
    same(weights(one), -np.array(weights(other)), 1e-4)
    same(weights(one), weights(contrast), 1e-4)
    assert max(map(abs, weights(one))) > 0.01


@every_method
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_predicted_label_is_explained_unless_another_is_asked_for(
    method: str, output: tuple[int, str, bool]
) -> None:
    classifier = build(output=output)
    texts = TEXTS[:3]
    found = classifier.explain(texts, method=method)
    for text, explanation in zip(texts, found, strict=True):
        prediction = classifier.predict(text)[0]
        assert explanation.target == explanation.prediction.label == prediction.label
        same(list(explanation.prediction.scores.values()), list(prediction.scores.values()))
        if method not in UNSIGNED:
            (asked,) = classifier.explain(text, prediction.label, method)
            same(asked.weights, explanation.weights)


@every_method
@pytest.mark.parametrize("text", ["?", "zzz", "good", "\u200b"])
def test_texts_of_nothing_and_of_one_token(method: str, text: str, classifier: Model) -> None:
    (explanation,) = classifier.explain(text, method=method)
    assert len(explanation.weights) == len(explanation.tokens) == 1
    assert np.isfinite(explanation.weights).all()
    if text != "good" and method in ("integrated_gradients", "occlusion", "lime", "kernel_shap"):
        # It is what it is compared with.
        same(explanation.weights, [0])


@pytest.mark.parametrize("method", METHODS)
def test_no_texts_have_no_explanations(method: str, classifier: Model) -> None:
    assert classifier.explain([], method=method) == []


# Errors.


def refused(classifier: Model, *arguments: str | None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        classifier.explain(TEXTS, *arguments)  # type: ignore[arg-type]
    return caught.value


def test_an_unknown_method_is_named_with_those_there_are(classifier: Model) -> None:
    error = refused(classifier, None, "integrated_gradient")
    assert error.message == f"unknown method 'integrated_gradient'; methods are: {', '.join(METHODS)}"
    assert error.hint == "method='integrated_gradients'"
    assert refused(classifier, None, "?").hint == "method='occlusion'"
    for method in METHODS:
        assert find_method(method).name == method


@pytest.mark.parametrize("arguments", [("good", "occlusion"), ("label 1", "occlusion", "good")])
def test_an_unknown_label_is_named_with_those_there_are(classifier: Model, arguments: tuple[str, ...]) -> None:
    assert refused(classifier, *arguments).message == "unknown label 'good'; labels are: label 0, label 1, label 2"


def test_a_label_is_not_explained_against_itself(classifier: Model) -> None:
    assert "itself" in refused(classifier, "label 1", "occlusion", "label 1").message


def test_nor_is_the_predicted_label(classifier: Model) -> None:
    (prediction,) = classifier.predict(TEXTS[0])
    try:
        (explanation,) = classifier.explain(TEXTS[0], None, "occlusion", prediction.label)
    except ConfigError as error:
        assert "itself" in error.message
    else:
        assert explanation.target != explanation.against


@pytest.mark.parametrize("attention", ["max", "last"])
def test_attention_x_gradient_needs_weights_that_count(attention: str) -> None:
    classifier = build(attention)
    error = refused(classifier, None, "attention_x_gradient")
    assert error.message == (f"attention_x_gradient: this model has no attention weights, it pools with {attention}")
    assert error.hint == "method='occlusion'"
    for method in METHODS:
        if method not in ("attention_x_gradient", *SAMPLED):
            assert all(np.isfinite(weights(classifier.explain(TEXTS, method=method))))


@pytest.fixture(scope="module")
def bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    file = tmp_path_factory.mktemp("bundle") / "model.zip"
    write_bundle(trained_run, file, int8=False, overwrite=False)
    return package.load(file)


@every_gradient
def test_a_bundle_has_no_gradients(method: str, bundle: Model) -> None:
    with pytest.raises(InputError) as caught:
        bundle.explain(TEXTS[0], method=method)
    assert str(bundle.path) in caught.value.message
    assert "model.safetensors" in caught.value.message


def test_a_bundle_says_what_explains_it_instead(bundle: Model) -> None:
    with pytest.raises(InputError) as caught:
        bundle.explain(TEXTS[0], method="integrated_gradients")
    assert "occlusion" in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("method", [method for method in METHODS if method not in GRADIENTS])
def test_a_bundle_is_explained_as_its_run(method: str, bundle: Model, trained_run: Path) -> None:
    found = bundle.explain(TEXTS[:2], method=method)
    same(weights(found), weights(package.load(trained_run, runtime="torch").explain(TEXTS[:2], method=method)), 1e-3)


@every_gradient
def test_gradients_of_a_run_are_those_of_its_torch_model(method: str, trained_run: Path) -> None:
    given = [package.load(trained_run, runtime=runtime).explain(TEXTS, method=method) for runtime in ("onnx", "torch")]
    same(weights(given[0]), weights(given[1]))
