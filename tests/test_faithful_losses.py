"""The losses of training for faithfulness: each against a slow second version, gradients, padding, precision."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import small_models
import torch
from reference import Array, classify, inside, parameters_of
from small_models import PAD, TEXTS, VOCABULARY, WEIGHTED, padded
from tasks_of_kinds import task
from torch import Tensor

from textattn.config.schema import TrainingConfig
from textattn.model.classifier import Output, TextClassifier
from textattn.training.attention_losses import (
    AttentionLosses,
    alignment_loss,
    supervision_loss,
    tying_loss,
)
from textattn.training.mean import Mean

every_mechanism = pytest.mark.parametrize("attention", WEIGHTED)
every_anchor = pytest.mark.parametrize("anchor", ["none", "states", "values"])
LABELS: dict[str, Any] = {
    "softmax": [0, 2, 1, 0, 2],
    "binary": [0, 1, 1, 0, 1],
    "multi_label": [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]],
}


def build(attention: str = "additive", anchor: str = "none", num_outputs: int = 3, **settings: Any) -> TextClassifier:
    sizes = {"embedding_dim": 6, "hidden_size": 6} | settings  # equal, so that states can be tied
    return small_models.build(attention, anchor=anchor, num_outputs=num_outputs, seed=3, **sizes)


def flags(texts: list[list[int]], seq: int | None = None) -> Tensor:
    """Of each text the tokens with an even id are marked: of [5] none, of all others one or more."""
    input_ids, mask = padded(texts, seq)
    return (input_ids % 2 == 0) & mask.bool()


# Alignment.


def alignment_by_hand(model: TextClassifier, texts: list[list[int]], labels: Any, kind: str) -> tuple[float, list[Any]]:
    """The loss, and the target of each text; None for a text that does not count."""
    each, targets = [], []
    for text, label in zip(texts, labels, strict=True):
        found = classify(model, text)
        votes = np.array(votes_of(model, found["hidden_states"], found["attention_weights"], label, kind))
        target = np.maximum(votes, 0) ** 1.5
        if target.sum() == 0:
            targets.append(None)
            continue
        targets.append(target / target.sum())
        weights = np.maximum(found["attention_weights"], 1e-9)  # so that the loss is finite
        each.append(-sum(t * math.log(a) for t, a in zip(targets[-1], weights, strict=True)))
    return float(np.mean(each)) if each else 0.0, targets


def votes_of(model: TextClassifier, values: Array, weights: Array, label: Any, kind: str) -> list[float]:
    """For each token, how much faster the true label's lead grows with its weight: what its value says of the label."""
    p = parameters_of(model)
    rows = p["classifier.weight"]
    if kind == "binary":
        direction = rows[0] if label == 1 else -rows[0]
    elif kind == "multi_label":
        direction = sum((row for row, given in zip(rows, label, strict=True) if given), np.zeros(rows.shape[1]))
    else:
        others = [row for i, row in enumerate(rows) if i != label]
        direction = rows[label] - np.mean(others, axis=0)
    own = inside(p, "attention.")
    if model.architecture.attention == "multi_head":
        return [float(sum(part @ value for part in np.split(direction, 2))) for value in values]
    if model.architecture.attention == "self_attention":
        return [float(direction @ (own["value.weight"] @ value + own["value.bias"])) for value in values]
    if model.architecture.attention == "mlp":

        def lead(weights: Array) -> float:
            pooled = np.concatenate([weights @ values, values.mean(axis=0)])
            return float(direction @ np.tanh(own["combine.weight"] @ pooled + own["combine.bias"]))

        steps = 1e-6 * np.eye(len(values))
        return [(lead(weights + step) - lead(weights - step)) / 2e-6 for step in steps]
    return [float(direction @ value) for value in values]


def align(model: TextClassifier, texts: list[list[int]], labels: Any, kind: str, seq: int | None = None) -> Tensor:
    input_ids, mask = padded(texts, seq)
    return alignment_loss(model, model(input_ids, mask), mask.bool(), torch.tensor(labels), task(kind)).value()


@every_mechanism
@every_anchor
@pytest.mark.parametrize(("kind", "num_outputs"), [("softmax", 3), ("binary", 1), ("multi_label", 3)])
def test_alignment_is_cross_entropy_with_what_the_values_say(
    attention: str, anchor: str, kind: str, num_outputs: int
) -> None:
    model = build(attention, anchor, num_outputs)
    generator = random.Random(0)
    texts = [generator.choices(range(2, VOCABULARY), k=generator.randint(1, 9)) for _ in range(20)]
    labels = [generator.choice(LABELS[kind]) for _ in texts]
    expected, targets = alignment_by_hand(model, texts, labels, kind)
    assert sum(target is not None for target in targets) >= 6
    # Where no label is given, nothing speaks for it.
    assert all(target is None for target, label in zip(targets, labels, strict=True) if label == [0, 0, 0])
    assert align(model, texts, labels, kind).item() == pytest.approx(expected, rel=2e-4)


def test_alignment_with_two_labels_asks_how_far_one_is_above_the_other() -> None:
    model = build(num_outputs=2)
    labels = [0, 1, 1, 0, 1]
    assert align(model, TEXTS, labels, "softmax").item() == pytest.approx(
        alignment_by_hand(model, TEXTS, labels, "softmax")[0], rel=1e-4
    )
    one = build(num_outputs=1)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if not name.startswith("classifier"):
                parameter.copy_(model.get_parameter(name))
        one.classifier.weight.copy_(model.classifier.weight[1:] - model.classifier.weight[:1])
    same = align(one, TEXTS, labels, "binary")
    torch.testing.assert_close(same, align(model, TEXTS, labels, "softmax"), rtol=1e-4, atol=0)


@every_mechanism
@every_anchor
def test_alignment_moves_the_attention_and_not_its_target(attention: str, anchor: str) -> None:
    """The gradients are those of a cross-entropy with constants."""
    model = build(attention, anchor)
    align(model, TEXTS, LABELS["softmax"], "softmax").backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    _, targets = alignment_by_hand(model, TEXTS, LABELS["softmax"], "softmax")
    weights = model(*padded(TEXTS)).attention_weights
    counted = [(row, target) for row, target in enumerate(targets) if target is not None]
    sum(
        -(torch.tensor(target, dtype=torch.float32) * weights[row, : len(target)].log()).sum()
        for row, target in counted
    ).div(len(counted)).backward()  # type: ignore[union-attr]
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, gradient in found.items():
        if expected[name] is None:
            assert gradient is None or not gradient.any(), name
        else:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
    still = {name for name, gradient in found.items() if gradient is None or not gradient.any()}
    # What pools and what classifies is not moved; what scores is, down to the words.
    assert {"classifier.weight", "classifier.bias"} <= still
    assert ("values.weight" in still) == (anchor == "values")
    assert not {name for name in still if name.startswith(("embedding", "encoder", "anchor"))}
    assert {name for name in found if name.startswith("attention.")} - still


def test_alignment_beside_the_loss_of_the_labels_adds_its_gradient_and_nothing_else() -> None:
    model, labels = build("mlp", "states"), torch.tensor(LABELS["softmax"])
    input_ids, mask = padded(TEXTS)

    def gradients(label: float, alignment: float) -> list[Tensor]:
        output = model(input_ids, mask)
        loss = label * torch.nn.functional.cross_entropy(output.logits, labels)
        loss = loss + alignment * alignment_loss(model, output, mask.bool(), labels, task("softmax")).value()
        return [g.clone() for g in torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)]

    for both, one, other in zip(gradients(1, 0.5), gradients(1, 0), gradients(0, 0.5), strict=True):
        torch.testing.assert_close(both, one + other, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_texts_in_which_no_word_speaks_for_the_label_do_not_count() -> None:
    model = build(num_outputs=1, anchor="values")
    with torch.no_grad():
        model.values.weight.zero_()  # type: ignore[union-attr]
        model.values.bias.copy_(model.classifier.weight[0])  # type: ignore[union-attr]
    assert all(vote > 0 for vote in votes_of(model, classify(model, [2, 3])["hidden_states"], np.ones(2), 1, "binary"))
    alone = align(model, [TEXTS[0]], [1], "binary")
    torch.testing.assert_close(align(model, TEXTS[:3], [1, 0, 0], "binary"), alone)
    nothing = align(model, TEXTS, [0] * len(TEXTS), "binary")
    assert nothing.item() == 0
    nothing.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# Supervision, tying.


def test_supervision_is_cross_entropy_with_equal_shares_of_the_marked() -> None:
    model = build()
    weights = model(*padded(TEXTS)).attention_weights
    each = []
    for row, text in enumerate(TEXTS):
        marked = [i for i, token in enumerate(text) if token % 2 == 0]
        if marked:
            each.append(-sum(math.log(weights[row, i].item()) / len(marked) for i in marked))
    assert len(each) == 4
    loss = supervision_loss(weights, flags(TEXTS)).value()
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.attention.parameters())
    assert model.classifier.weight.grad is None


def test_without_evidence_in_the_batch_supervision_is_nothing() -> None:
    model = build()
    loss = supervision_loss(model(*padded(TEXTS)).attention_weights, torch.zeros(5, 7, dtype=torch.bool)).value()
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_supervision_is_least_where_the_marked_share_the_attention() -> None:
    marked = torch.tensor([[True, True, False]])
    best = supervision_loss(torch.tensor([[0.5, 0.5, 0.0]]), marked).value()
    assert best.item() == pytest.approx(math.log(2))
    for weights in ([0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.4, 0.4, 0.2]):
        assert supervision_loss(torch.tensor([weights]), marked).value() > best


@every_anchor
@pytest.mark.parametrize(("bidirectional", "directions"), [(True, 2), (False, 1)])
def test_tying_is_the_squared_distance_of_each_direction_from_the_embedding(
    anchor: str, bidirectional: bool, directions: int
) -> None:
    model = build(anchor=anchor, bidirectional=bidirectional)
    distances = []
    for text in TEXTS:
        found = classify(model, text)
        assert found["encoder_states"].shape == (len(text), 6 * directions)
        for state, embedding in zip(found["encoder_states"], found["embeddings"], strict=True):
            distances.append(sum(np.sum((part - embedding) ** 2) for part in np.split(state, directions)))
    input_ids, mask = padded(TEXTS)
    output = model(input_ids, mask)
    loss = tying_loss(output.encoder_states, output.embeddings, mask.bool()).value()
    assert loss.item() == pytest.approx(np.mean(distances), rel=1e-5)
    loss.backward()
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight.grad[PAD].any()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.startswith("encoder"))


# All of them.


def added(parts: list[Mean]) -> Tensor:
    return torch.stack([part.value() for part in parts]).sum()


def losses(model: TextClassifier, texts: list[list[int]], labels: Sequence[int], seq: int) -> dict[str, Tensor]:
    """Each loss on its own, with garbage for states on padding."""
    input_ids, mask = padded(texts, seq)
    output: Output = model(input_ids, mask)
    garbage = (mask == 0)[..., None] * 100.0
    output = output._replace(
        hidden_states=output.hidden_states + garbage, encoder_states=output.encoder_states - garbage
    )
    each = {
        name: AttentionLosses(**{**NOTHING, name: 1.0}, task=task("softmax"))
        for name in ("alignment", "supervision", "tying")
    }
    target = torch.tensor(labels)
    return {name: added(loss(model, output, mask, target, flags(texts, seq))) for name, loss in each.items()}


NOTHING = {"alignment": 0.0, "supervision": 0.0, "tying": 0.0}


@every_mechanism
@every_anchor
def test_padding_changes_no_loss_and_a_batch_is_the_mean_of_its_texts(attention: str, anchor: str) -> None:
    model, labels = build(attention, anchor), LABELS["softmax"]
    together = losses(model, TEXTS, labels, seq=7)
    more_padding = losses(model, TEXTS, labels, seq=20)
    alone = [losses(model, [text], [label], len(text)) for text, label in zip(TEXTS, labels, strict=True)]
    for name, loss in together.items():
        torch.testing.assert_close(more_padding[name], loss, rtol=1e-4, atol=1e-6)
        parts = [part[name].item() for part in alone]
        weights = [float(len(text)) if name == "tying" else 1.0 for text in TEXTS]
        if name == "supervision":
            weights[1] = 0  # [5] is not marked
        if name == "alignment":
            targets = alignment_by_hand(model, TEXTS, labels, "softmax")[1]
            weights = [float(target is not None) for target in targets]
        assert loss.item() == pytest.approx(np.average(parts, weights=weights), rel=1e-3)


@every_anchor
def test_the_losses_are_weighted_and_added(anchor: str) -> None:
    model = build("multi_head", anchor)
    input_ids, mask = padded(TEXTS)
    output, labels = model(input_ids, mask), torch.tensor(LABELS["softmax"])
    parts = {
        "alignment": alignment_by_hand(model, TEXTS, LABELS["softmax"], "softmax")[0],
        "supervision": supervision_loss(output.attention_weights, flags(TEXTS)).value().item(),
        "tying": tying_loss(output.encoder_states, output.embeddings, mask.bool()).value().item(),
    }
    assert len({round(part, 3) for part in parts.values()}) == 3
    for name, part in parts.items():
        loss = AttentionLosses(**{**NOTHING, name: 1.0}, task=task("softmax"))
        assert added(loss(model, output, mask, labels, flags(TEXTS))).item() == pytest.approx(part, rel=1e-4)
    weights = {"alignment": 0.5, "supervision": 2.0, "tying": 0.01}
    total = AttentionLosses(**weights, task=task("softmax"))
    expected = sum(weight * parts[name] for name, weight in weights.items())
    assert added(total(model, output, mask, labels, flags(TEXTS))).item() == pytest.approx(expected, rel=1e-4)
    without = expected - 2.0 * parts["supervision"]
    assert added(total(model, output, mask, labels, None)).item() == pytest.approx(without, rel=1e-4)


def test_the_config_names_the_weights() -> None:
    assert AttentionLosses.from_config(TrainingConfig(), task("softmax")) == AttentionLosses(0, 0, 0, task("softmax"))
    keys = {"attention_alignment": 1.0, "attention_supervision": 2.0, "state_tying": 4.0}
    loss = AttentionLosses.from_config(TrainingConfig(**keys), task("binary"))  # type: ignore[arg-type]
    assert loss == AttentionLosses(alignment=1.0, supervision=2.0, tying=4.0, task=task("binary"))
    for key, value in keys.items():
        only = AttentionLosses.from_config(TrainingConfig(**{key: value}), task("softmax"))  # type: ignore[arg-type]
        assert sum((only.alignment, only.supervision, only.tying)) == value


@every_anchor
@pytest.mark.parametrize("attention", ["additive", "dot", "mlp", "multi_head", "self_attention"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite_with_attention_on_one_word_and_in_bf16(
    anchor: str, attention: str, half: bool, scale: float
) -> None:
    model = build(attention, anchor)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attention.score.weight", "attention.query", "attention.query.weight")):
                parameter.mul_(scale)
    input_ids, mask = padded(TEXTS, seq=9)
    labels = torch.tensor(LABELS["softmax"])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = model(input_ids, mask)
    if scale > 1:
        assert output.attention_weights[mask == 1].eq(0).any()
        assert output.head_weights.max() == 1
    full = model(input_ids, mask)
    for name in NOTHING:
        loss = AttentionLosses(**{**NOTHING, name: 1.0}, task=task("softmax"))
        value = added(loss(model, output, mask, labels, flags(TEXTS, 9)))
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert 0 <= value < 1000
        if scale == 1:
            expected = added(loss(model, full, mask, labels, flags(TEXTS, 9))).item()
            assert value.item() == pytest.approx(expected, rel=0.1, abs=0.03)
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True, materialize_grads=True)
        assert all(gradient.isfinite().all() for gradient in gradients), name
        with torch.autocast("cpu", torch.bfloat16):  # wherever it is computed, in fp32
            assert added(loss(model, output, mask, labels, flags(TEXTS, 9))).item() == pytest.approx(
                value.item(), rel=1e-6
            )
        # The attention has a way back only where a weight is not yet 0.
        assert any(gradient.any() for gradient in gradients) or scale > 1


def test_states_of_zeros_have_finite_gradients() -> None:
    """As dropout of all channels makes them."""
    model = build(encoder="none")
    embeddings = torch.zeros(2, 4, 6, requires_grad=True)
    embeddings.data[1, 0] = 1.0
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    output = model.forward_from_embeddings(embeddings, mask)
    loss = added(AttentionLosses(1.0, 0.0, 0.0, task("softmax"))(model, output, mask, torch.tensor([0, 1]), None))
    assert loss.isfinite()
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
