"""Every method against its definition: finite differences, Captum run directly, and the model asked text by text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from explain_models import MODELS, OUTPUTS, TEXTS, attribute, build, ids_of, logits, model_of, odds, same, targets_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from textattn.api import Model
from textattn.explain import gradients
from textattn.explain.methods import integrated_gradients
from textattn.explain.targets import Targets
from textattn.model.attention import WeightedPooling
from textattn.storage.model_files import SavedConfig
from textattn.tasks import task_of

# The target.


@pytest.mark.parametrize("output", OUTPUTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_log_odds_are_those_of_the_probabilities(output: tuple[int, str, bool], data: st.DataObject) -> None:
    num_labels, activation, multi_label = output
    columns = 1 if activation == "sigmoid" and not multi_label else num_labels
    rows = data.draw(st.lists(st.lists(st.floats(-12, 12), min_size=columns, max_size=columns), min_size=1, max_size=5))
    x = np.array(rows)
    labels = data.draw(st.lists(st.integers(0, num_labels - 1), min_size=len(rows), max_size=len(rows)))
    task = task_of(list("abcdefgh"[:num_labels]), multi_label, activation)
    targets = Targets(np.array(labels), task)
    before = x.copy()
    found = targets.log_odds(x)  # type: ignore[arg-type]
    config = SavedConfig({}, [""] * num_labels, multi_label, activation, [])
    assert found.dtype == np.float64
    same(found, [odds(config, row, label) for row, label in zip(rows, labels, strict=True)], 1e-6)
    twin = gradients.log_odds(torch.from_numpy(x), torch.tensor(labels), targets)
    same(twin, found, 1e-4)
    chosen = [0, len(rows) - 1, 0]
    same(targets.take(chosen).log_odds(x[chosen]), found[chosen], 0)  # type: ignore[arg-type]
    probs = task.probabilities(x)
    own = probs[np.arange(len(rows)), labels]
    same(1 / (1 + np.exp(-found)), own, 1e-9)
    assert (x == before).all()


@pytest.mark.parametrize("output", OUTPUTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_label_rather_than_another(output: tuple[int, str, bool], data: st.DataObject) -> None:
    num_labels, activation, multi_label = output
    columns = 1 if activation == "sigmoid" and not multi_label else num_labels
    row = data.draw(st.lists(st.floats(-12, 12), min_size=columns, max_size=columns))
    a, b = data.draw(st.permutations(range(num_labels)))[:2]
    config = SavedConfig({}, [""] * num_labels, multi_label, activation, [])
    x = np.array([row])

    def of(label: int, against: int | None) -> float:
        targets = Targets(np.array([label]), task_of(list("abcdefgh"[:num_labels]), multi_label, activation), against)
        (found,) = targets.log_odds(x)  # type: ignore[arg-type]
        twin = gradients.log_odds(torch.from_numpy(x), torch.tensor([label]), targets)
        same(twin, [found], 1e-4)
        return float(found)

    same(of(a, b), odds(config, row, a, b), 1e-6)
    same(of(a, b), -of(b, a), 1e-12)
    if num_labels == 2:
        same(of(a, b), of(a, None), 1e-12)


def test_log_odds_stay_numbers_where_probabilities_are_0_or_1() -> None:
    x = np.array([[1000.0, -1000, 0], [-1000, 1000, 0]], np.float32)
    targets = Targets(np.array([0, 0]), task_of(["a", "b", "c"], False, "softmax"))
    assert targets.log_odds(x).tolist() == [1000, -2000]
    same(targets.log_odds(x + 500), targets.log_odds(x), 0)
    assert gradients.log_odds(torch.from_numpy(x), torch.tensor([0, 0]), targets).tolist() == [1000, -2000]


# Gradients.


def slopes(function: Callable[[Tensor], Tensor], length: int) -> list[float]:
    """How the function of (length,) factors changes as one of them grows from 1, by central differences."""
    step = 1e-5
    each = step * torch.eye(length, dtype=torch.float64)
    with torch.no_grad():
        return [float(function(1 + row) - function(1 - row)) / (2 * step) for row in each]


def explained(classifier: Model, method: str, against: int | None = None) -> list[tuple[list[int], int, Any]]:
    """Token ids, label and scores of each text, all labels taking turns."""
    labels = [row % len(classifier.labels) for row in range(len(TEXTS))]
    if against is not None:
        labels = [label if label != against else (label + 1) % len(classifier.labels) for label in labels]
    tokens = classifier.tokenizer.encode(TEXTS)
    given = attribute(classifier, tokens, targets_of(classifier, labels, against), method)
    assert (given.completeness_error is None) == (method != "integrated_gradients")
    return [(ids_of(classifier, text), *rest) for text, *rest in zip(TEXTS, labels, given.scores, strict=True)]


@pytest.mark.parametrize(
    ("attention", "encoder", "anchor"), [*MODELS, ("max", "lstm", "none"), ("last", "gru", "none")]
)
def test_gradient_x_input_is_the_slope_as_each_embedding_grows(attention: str, encoder: str, anchor: str) -> None:
    classifier = build(attention, encoder, anchor, double=True)
    for ids, label, scores in explained(classifier, "gradient_x_input"):
        same(scores, slopes_of_embeddings(classifier, ids, label))


def slopes_of_embeddings(classifier: Model, ids: list[int], label: int) -> list[float]:
    model = model_of(classifier)
    embeddings = model.embedding(torch.tensor([ids])).detach()

    def grown(factors: Tensor) -> Tensor:
        x = model.forward_from_embeddings(embeddings * factors[None, :, None], torch.ones(1, len(ids))).logits[0]
        return odds(classifier.config, list(x), label)  # type: ignore[no-any-return]

    return slopes(grown, len(ids))


@pytest.mark.parametrize(("attention", "encoder", "anchor"), MODELS)
def test_attention_x_gradient_is_the_slope_as_each_weight_grows(attention: str, encoder: str, anchor: str) -> None:
    classifier = build(attention, encoder, anchor, double=True)
    for ids, label, scores in explained(classifier, "attention_x_gradient"):
        same(scores, slopes_of_weights(classifier, ids, label))


def slopes_of_weights(classifier: Model, ids: list[int], label: int) -> list[float]:
    """With the states as they are."""
    model = model_of(classifier)
    mask = torch.ones(1, len(ids), dtype=torch.bool)
    with torch.no_grad():
        output = model(torch.tensor([ids]), mask)
    assert isinstance(model.attention, WeightedPooling)
    pool = model.attention.pool

    def grown(factors: Tensor) -> Tensor:
        x = model.classifier(pool(output.hidden_states, output.head_weights * factors, mask))[0]
        return odds(classifier.config, list(x), label)  # type: ignore[no-any-return]

    return slopes(grown, len(ids))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("method", ["gradient_x_input", "attention_x_gradient"])
def test_gradients_are_of_the_label_that_is_asked_for(
    output: tuple[int, str, bool], contrast: bool, method: str
) -> None:
    classifier = build("additive", "lstm", "states", output, double=True)
    model = model_of(classifier)
    against = 1 if contrast else None
    for ids, label, scores in explained(classifier, method, against):
        embeddings = model.embedding(torch.tensor([ids])).detach().requires_grad_()
        given = model.forward_from_embeddings(embeddings, torch.ones(1, len(ids)))
        assert given.head_weights is not None
        wanted = odds(classifier.config, list(given.logits[0]), label, against)
        if method == "gradient_x_input":
            (gradient,) = torch.autograd.grad(wanted, embeddings)
            same(scores, (gradient * embeddings).sum(-1)[0].detach())
        else:
            (gradient,) = torch.autograd.grad(wanted, given.head_weights)
            same(scores, (gradient * given.head_weights).sum(1)[0].detach())


def test_integrated_gradients_are_captums_with_steps_doubled_until_they_add_up() -> None:
    needed: set[int] = set()
    for model, spread in ((MODELS[0], 0.5), (MODELS[0], 2.0), (MODELS[2], 1.0), (("max", "lstm", "none"), 0.5)):
        needed |= integrated_gradients_of(build(*model, spread=spread))
    assert len(needed) > 3
    assert min(needed) == 16


def integrated_gradients_of(classifier: Model) -> set[int]:
    """Compares with Captum, text by text; gives the numbers of steps that were needed."""
    model, unk_id = model_of(classifier), classifier.tokenizer.unk_id
    tokens = classifier.tokenizer.encode(TEXTS)
    labels = [row % 3 for row in range(len(TEXTS))]
    given = attribute(classifier, tokens, targets_of(classifier, labels), "integrated_gradients")
    assert given.completeness_error is not None
    needed = set()
    for text, label, scores, error in zip(TEXTS, labels, given.scores, given.completeness_error, strict=True):
        ids = torch.tensor([ids_of(classifier, text)])

        def forward(embeddings: Tensor, label: int = label) -> Tensor:
            x = model.forward_from_embeddings(embeddings, torch.ones(embeddings.shape[:2])).logits
            others = [column for column in range(3) if column != label]
            return x[:, label] - x[:, others].logsumexp(1)

        whole, baseline = model.embedding(ids).detach(), model.embedding(torch.full_like(ids, unk_id)).detach()
        change = float((forward(whole) - forward(baseline)).detach())
        for steps in (16, 32, 64, 128, 256, 512):
            found = IntegratedGradients(forward).attribute(whole, baseline, n_steps=steps).sum(-1)[0]
            missing = abs(float(found.sum()) - change) / max(abs(change), 0.05)
            if missing <= 0.01:
                break
        needed.add(steps)
        same(scores, found.detach(), 1e-4)
        same(error, missing, 2e-4)
    return needed


def test_a_sum_that_stays_off_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = build(spread=3.0)
    monkeypatch.setattr(integrated_gradients, "FIRST_STEPS", 1)
    monkeypatch.setattr(integrated_gradients, "MOST_STEPS", 1)
    found = classifier.explain(TEXTS, method="integrated_gradients")
    errors = [explanation.completeness_error for explanation in found]
    assert max(error for error in errors if error is not None) > 0.05
    model = model_of(classifier)
    for text, explanation, error in zip(TEXTS, found, errors, strict=True):
        ids = ids_of(classifier, text)
        label = classifier.labels.index(explanation.target)
        unknown = [classifier.tokenizer.unk_id] * len(ids)
        change = odds(classifier.config, logits(classifier, ids), label) - odds(
            classifier.config, logits(classifier, unknown), label
        )
        assert error == pytest.approx(abs(sum(explanation.weights) - change) / max(abs(change), 0.05), abs=1e-3)
    assert not model.training


# Erasing and surrogates.


@pytest.mark.parametrize("output", OUTPUTS)
def test_occlusion_is_the_fall_without_each_word(output: tuple[int, str, bool]) -> None:
    classifier = build("additive", "lstm", "none", output)
    for against in (None, 0):
        target = 1
        given = classifier.explain(
            TEXTS, classifier.labels[target], "occlusion", None if against is None else classifier.labels[against]
        )
        for text, explanation in zip(TEXTS, given, strict=True):
            ids = ids_of(classifier, text)
            whole = odds(classifier.config, logits(classifier, ids), target, against)
            for place, weight in enumerate(explanation.weights):
                left = ids[:place] + ids[place + 1 :] or [classifier.tokenizer.unk_id]
                same(weight, whole - odds(classifier.config, logits(classifier, left), target, against))


def test_occlusion_is_what_predict_says_of_the_text_without_the_word() -> None:
    classifier = build()
    for text, explanation in zip(TEXTS, classifier.explain(TEXTS, method="occlusion"), strict=True):
        label = classifier.labels.index(explanation.target)
        words = text.split()
        assert [word.text for word in explanation.words] == words
        if len(words) < 2:
            continue  # without its only word it is no text
        texts = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        p = classifier.predict_proba([text, *texts])[:, label]
        same([w.weight for w in explanation.words], np.log(p[0] / (1 - p[0])) - np.log(p[1:] / (1 - p[1:])), 1e-4)


def value_of(classifier: Model, ids: list[int], label: int) -> Callable[[Sequence[int]], float]:
    """Log-odds of a text in which only some of the tokens are left and the others are unknown."""

    def value(present: Sequence[int]) -> float:
        row = [token if place in present else classifier.tokenizer.unk_id for place, token in enumerate(ids)]
        return float(odds(classifier.config, logits(classifier, row), label))

    return value


@pytest.mark.parametrize("text", ["not good food", "kind staff bad", "good bad", "bad"])
def test_kernel_shap_is_close_to_the_shapley_values(text: str) -> None:
    classifier = build()
    (explanation,) = classifier.explain(text, method="kernel_shap")
    ids = ids_of(classifier, text)
    value = value_of(classifier, ids, classifier.labels.index(explanation.target))
    exact = np.zeros(len(ids))
    orders = list(itertools.permutations(range(len(ids))))
    for order in orders:
        for position, place in enumerate(order):
            exact[place] += (value(order[: position + 1]) - value(order[:position])) / len(orders)
    same(sum(explanation.weights), value(range(len(ids))) - value([]), 1e-2)
    same(explanation.weights, exact, 0.05 * np.abs(exact).max())


def test_surrogates_find_the_parts_of_a_sum() -> None:
    """Where the log-odds are a sum over the words, each word's part is known."""
    classifier = build("mean", "none", output=(2, "softmax", False))
    texts = [TEXTS[0], TEXTS[4]]
    for method, tolerance in (("kernel_shap", 0.01), ("lime", 0.1)):
        for text, explanation in zip(texts, classifier.explain(texts, method=method), strict=True):
            ids = ids_of(classifier, text)
            value = value_of(classifier, ids, classifier.labels.index(explanation.target))
            exact = np.array([value([place]) - value([]) for place in range(len(ids))])
            same(explanation.weights, exact, tolerance * np.abs(exact).max())
