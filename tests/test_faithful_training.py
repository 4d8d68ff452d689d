"""Training for faithfulness: each loss against a slow second version, what marks go where, and what it all achieves."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from inprocess import run as cli
from reference import Array, classify, inside, parameters_of
from torch import Tensor

import textattn
from textattn import prepare
from textattn.config import config_from_mapping
from textattn.config.schema import TrainingConfig
from textattn.data.batches import collate
from textattn.data.tokenizer import TextTokenizer, TokenArrays
from textattn.model.classifier import Architecture, Output, TextClassifier
from textattn.report import Report
from textattn.training.faithfulness import (
    FaithfulnessLoss,
    alignment_loss,
    conicity,
    supervision_loss,
    tying_loss,
)
from textattn.training.loop import spread
from textattn.training.loss import LossKind

MECHANISMS = ("additive", "dot", "scaled_dot", "general", "mlp", "multi_head", "self_attention")
every_mechanism = pytest.mark.parametrize("attention", MECHANISMS)
every_anchor = pytest.mark.parametrize("anchor", ["none", "states", "values"])
VOCABULARY, PAD, UNK = 50, 0, 1
TEXTS = [[2, 3, 4], [5], [6, 7, 8, 9, 10, 11, 12], [13, 2, 14, 2, 5], [15, 16]]
LABELS: dict[str, Any] = {
    "softmax": [0, 2, 1, 0, 2],
    "binary": [0, 1, 1, 0, 1],
    "multi_label": [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]],
}


def build(attention: str = "additive", anchor: str = "none", num_outputs: int = 3, **settings: Any) -> TextClassifier:
    """With word vectors of size 1 and large weights, as after training, so that errors would show; no dropout."""
    torch.manual_seed(3)
    sizes = {"embedding_dim": 6, "hidden_size": 6, "attention_size": 16, "num_heads": 2} | settings
    model = TextClassifier(Architecture(VOCABULARY, num_outputs, anchor=anchor, attention=attention, **sizes), PAD, UNK)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=1.0 if name.startswith("embedding") else 0.5)
    return model


def padded(texts: list[list[int]], seq: int | None = None) -> tuple[Tensor, Tensor]:
    seq = seq or max(map(len, texts))
    input_ids = torch.tensor([text + [PAD] * (seq - len(text)) for text in texts])
    attention_mask = torch.tensor([[1] * len(text) + [0] * (seq - len(text)) for text in texts])
    return input_ids, attention_mask


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


def align(model: TextClassifier, texts: list[list[int]], labels: Any, kind: LossKind, seq: int | None = None) -> Tensor:
    input_ids, mask = padded(texts, seq)
    return alignment_loss(model, model(input_ids, mask), mask.bool(), torch.tensor(labels), kind)


@every_mechanism
@every_anchor
@pytest.mark.parametrize(("kind", "num_outputs"), [("softmax", 3), ("binary", 1), ("multi_label", 3)])
def test_alignment_is_cross_entropy_with_what_the_values_say(
    attention: str, anchor: str, kind: LossKind, num_outputs: int
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
        loss = loss + alignment * alignment_loss(model, output, mask.bool(), labels, "softmax")
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


# Supervision, diversity, tying.


def test_supervision_is_cross_entropy_with_equal_shares_of_the_marked() -> None:
    model = build()
    weights = model(*padded(TEXTS)).attention_weights
    each = []
    for row, text in enumerate(TEXTS):
        marked = [i for i, token in enumerate(text) if token % 2 == 0]
        if marked:
            each.append(-sum(math.log(weights[row, i].item()) / len(marked) for i in marked))
    assert len(each) == 4
    loss = supervision_loss(weights, flags(TEXTS))
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.attention.parameters())
    assert model.classifier.weight.grad is None


def test_without_evidence_in_the_batch_supervision_is_nothing() -> None:
    model = build()
    loss = supervision_loss(model(*padded(TEXTS)).attention_weights, torch.zeros(5, 7, dtype=torch.bool))
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_supervision_is_least_where_the_marked_share_the_attention() -> None:
    marked = torch.tensor([[True, True, False]])
    best = supervision_loss(torch.tensor([[0.5, 0.5, 0.0]]), marked)
    assert best.item() == pytest.approx(math.log(2))
    for weights in ([0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.4, 0.4, 0.2]):
        assert supervision_loss(torch.tensor([weights]), marked) > best


@every_anchor
def test_conicity_is_the_mean_cosine_with_the_mean(anchor: str) -> None:
    model = build(anchor=anchor)
    input_ids, mask = padded(TEXTS)
    found = conicity(model(input_ids, mask).hidden_states, mask.bool())
    for row, text in enumerate(TEXTS):
        states = classify(model, text)["hidden_states"]
        mean = states.mean(axis=0)
        cosines = [state @ mean / np.linalg.norm(state) / np.linalg.norm(mean) for state in states]
        assert found[row].item() == pytest.approx(np.mean(cosines), abs=1e-5)
    assert found[1].item() == pytest.approx(1)
    assert len(found.detach().round(decimals=2).unique()) > 3


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
    loss = tying_loss(output.encoder_states, output.embeddings, mask.bool())
    assert loss.item() == pytest.approx(np.mean(distances), rel=1e-5)
    loss.backward()
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight.grad[PAD].any()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.startswith("encoder"))


# All of them.


def losses(model: TextClassifier, texts: list[list[int]], labels: Sequence[int], seq: int) -> dict[str, Tensor]:
    """Each loss on its own, with garbage for states on padding."""
    input_ids, mask = padded(texts, seq)
    output: Output = model(input_ids, mask)
    garbage = (mask == 0)[..., None] * 100.0
    output = output._replace(
        hidden_states=output.hidden_states + garbage, encoder_states=output.encoder_states - garbage
    )
    each = {
        name: FaithfulnessLoss(**{**NOTHING, name: 1.0}, kind="softmax")
        for name in ("alignment", "supervision", "diversity", "tying")
    }
    target = torch.tensor(labels)
    return {name: loss(model, output, mask, target, flags(texts, seq)) for name, loss in each.items()}


NOTHING = {"alignment": 0.0, "supervision": 0.0, "diversity": 0.0, "tying": 0.0}


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
        "supervision": supervision_loss(output.attention_weights, flags(TEXTS)).item(),
        # Of what is pooled, and of what the encoder gave.
        "diversity": conicity(output.hidden_states, mask.bool()).mean().item(),
        "tying": tying_loss(output.encoder_states, output.embeddings, mask.bool()).item(),
    }
    assert len({round(part, 3) for part in parts.values()}) == 4
    for name, part in parts.items():
        loss = FaithfulnessLoss(**{**NOTHING, name: 1.0}, kind="softmax")
        assert loss(model, output, mask, labels, flags(TEXTS)).item() == pytest.approx(part, rel=1e-4)
    weights = {"alignment": 0.5, "supervision": 2.0, "diversity": 0.3, "tying": 0.01}
    total = FaithfulnessLoss(**weights, kind="softmax")
    expected = sum(weight * parts[name] for name, weight in weights.items())
    assert total(model, output, mask, labels, flags(TEXTS)).item() == pytest.approx(expected, rel=1e-4)
    without = expected - 2.0 * parts["supervision"]
    assert total(model, output, mask, labels, None).item() == pytest.approx(without, rel=1e-4)


def test_the_config_names_the_weights() -> None:
    assert FaithfulnessLoss.from_config(TrainingConfig(), "softmax") is None
    keys = {"attention_alignment": 1.0, "attention_supervision": 2.0, "state_diversity": 3.0, "state_tying": 4.0}
    loss = FaithfulnessLoss.from_config(TrainingConfig(**keys), "binary")  # type: ignore[arg-type]
    assert loss == FaithfulnessLoss(alignment=1.0, supervision=2.0, diversity=3.0, tying=4.0, kind="binary")
    for key, value in keys.items():
        only = FaithfulnessLoss.from_config(TrainingConfig(**{key: value}), "softmax")  # type: ignore[arg-type]
        assert only is not None
        assert sum((only.alignment, only.supervision, only.diversity, only.tying)) == value


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
        loss = FaithfulnessLoss(**{**NOTHING, name: 1.0}, kind="softmax")
        value = loss(model, output, mask, labels, flags(TEXTS, 9))
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert 0 <= value < 1000
        if scale == 1:
            expected = loss(model, full, mask, labels, flags(TEXTS, 9)).item()
            assert value.item() == pytest.approx(expected, rel=0.1, abs=0.03)
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True, materialize_grads=True)
        assert all(gradient.isfinite().all() for gradient in gradients), name
        with torch.autocast("cpu", torch.bfloat16):  # wherever it is computed, in fp32
            assert loss(model, output, mask, labels, flags(TEXTS, 9)).item() == pytest.approx(value.item(), rel=1e-6)
        # The attention has a way back only where a weight is not yet 0.
        assert any(gradient.any() for gradient in gradients) or scale > 1


def test_states_of_zeros_have_finite_gradients() -> None:
    """As dropout of all channels makes them."""
    model = build(encoder="none")
    embeddings = torch.zeros(2, 4, 6, requires_grad=True)
    embeddings.data[1, 0] = 1.0
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    output = model.forward_from_embeddings(embeddings, mask)
    loss = FaithfulnessLoss(1.0, 0.0, 1.0, 0.0, "softmax")(model, output, mask, torch.tensor([0, 1]), None)
    assert loss.isfinite()
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


# Masked tokens.


def replaced(model: TextClassifier, input_ids: Tensor) -> Tensor:
    """(batch, seq) which tokens became the unknown one; nothing else may have happened to a token."""
    plain, found = model.embedding(input_ids), model.embed(input_ids)
    unknown = (found == model.embedding.weight[UNK]).all(dim=-1)
    assert torch.equal(found[~unknown], plain[~unknown])
    return unknown


def long_texts(rows: int = 400, seq: int = 2000) -> Tensor:
    return torch.randint(2, VOCABULARY, (rows, seq), generator=torch.Generator().manual_seed(5))


def with_dropout(**dropout: float) -> TextClassifier:
    return build(encoder="none", embedding_dim=4, dropout=dropout).train()


@pytest.mark.parametrize("masking", [0.3, 0.6, 1.0])
def test_another_share_of_each_text_is_masked_between_nothing_and_the_setting(masking: float) -> None:
    masked = replaced(with_dropout(masking=masking), long_texts()).float()
    shares = masked.mean(dim=1).sort().values / masking  # even between 0 and 1
    assert shares[-1] * masking <= min(1.0, masking + 0.06)  # five standard deviations of 2000 draws
    even = (torch.arange(400) + 0.5) / 400
    assert (shares - even).abs().max() < 0.135  # Kolmogorov and Smirnov: once in a million
    # Any place of a text, independently of the one before it.
    assert masked.mean(dim=0).sub(masking / 2).abs().max() < 0.15
    one = masked[masked.mean(dim=1).sub(masking / 2).abs().argmin()]
    share = one.mean().item()
    assert (one[1:] * one[:-1]).mean().item() == pytest.approx(share**2, abs=0.06)


def test_masking_is_off_in_eval_mode_and_repeats_itself_with_the_seed() -> None:
    model, input_ids = with_dropout(masking=0.5), long_texts(20, 50)

    def masked(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return replaced(model, input_ids)

    assert torch.equal(masked(1), masked(1))
    assert not torch.equal(masked(1), masked(2))
    assert masked(1).any()
    assert not replaced(model.eval(), input_ids).any()


def test_without_masking_no_random_numbers_are_used_up() -> None:
    input_ids = long_texts(20, 50)
    for dropout, used in (({}, False), ({"masking": 0.0, "words": 0.0}, False), ({"masking": 0.1}, True)):
        model = with_dropout(**dropout)
        before = torch.get_rng_state()
        model.embed(input_ids)
        assert torch.equal(before, torch.get_rng_state()) != used


def test_masking_comes_on_top_of_word_dropout() -> None:
    masked = replaced(with_dropout(masking=0.5, words=0.3), long_texts()).float()
    shares = masked.mean(dim=1).sort().values
    even = 1 - 0.7 * (1 - 0.5 * (torch.arange(400) + 0.5) / 400)  # kept by one, then by the other
    assert (shares - even).abs().max() < 0.135 * 0.35 + 0.03
    assert shares[0] > 0.25
    assert shares[-1] < 0.65 + 0.06


# Which tokens are marked.


def test_flags_are_spread_over_a_batch_as_its_tokens_are() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 12, 40)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = TokenArrays(np.arange(1, starts[-1] + 1, dtype=np.int32), starts, 0, 0)  # the id says which token it is
    marked = generator.random(starts[-1]) < 0.4
    for count in (1, 2, 7, 40):
        indices = generator.permutation(40)[:count]
        input_ids, attention_mask = collate(tokens, indices, pad_id=0)
        found = spread(marked, tokens, indices, torch.from_numpy(attention_mask))
        assert found.dtype == torch.bool
        expected = [[bool(token and marked[token - 1]) for token in row] for row in input_ids.tolist()]
        assert found.tolist() == expected
    assert 0 < marked.sum() < len(marked)


FILLERS = [f"w{i}" for i in range(40)]


def prepared(
    folder: Path, rows: list[dict[str, Any]], **tokenizer: Any
) -> tuple[Any, TextTokenizer, dict[str, TokenArrays]]:
    write(folder / "rows.jsonl", rows)
    config = config_from_mapping(
        {
            "data": {"path": str(folder / "rows.jsonl"), "evidence": "why", "validation_fraction": 0.3},
            "tokenizer": {"min_frequency": 1, **tokenizer},
        }
    )
    return prepare.prepare_data(config, Report())


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("rows_at_once", [1000, 3])
def test_the_marked_tokens_of_a_split_are_those_of_its_texts(
    rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text i has a word of its own, which is marked but in every fourth text; a part is set aside for validation."""
    monkeypatch.setattr(prepare, "ROWS_AT_ONCE", rows_at_once)
    generator = random.Random(0)
    rows = []
    for i in range(20):
        words = generator.choices(FILLERS, k=generator.randint(1, 9))
        words.insert(generator.randint(0, len(words)), f"own{i}")
        rows.append({"text": " ".join(words), "label": i % 2, "why": [f"own{i}"] if i % 4 else []})
    corpus, tokenizer, tokens = prepared(tmp_path, rows)
    marked = prepare.evidence_of(corpus.train, tokenizer, tokens["train"])
    assert marked is not None
    assert marked.dtype == np.bool_
    assert len(corpus.train) == 14
    names = [tokenizer.backend.id_to_token(i) for i in tokens["train"].ids]
    expected = [name.startswith("own") and int(name[3:]) % 4 > 0 for name in names]
    assert marked.tolist() == expected
    assert sum(expected) > 8
    aside = prepare.evidence_of(corpus.validation, tokenizer, tokens["validation"])
    assert aside is not None
    assert aside.shape == tokens["validation"].ids.shape


def test_without_evidence_in_the_data_there_are_no_marks(tmp_path: Path) -> None:
    rows = [{"text": f"w{i} w{i}", "label": i % 2, "why": [[0, 1]]} for i in range(10)]
    corpus, tokenizer, tokens = prepared(tmp_path, rows)
    split = type(corpus.train)("train", corpus.train.texts, corpus.train.labels)
    assert prepare.evidence_of(split, tokenizer, tokens["train"]) is None


HARD = [
    {"text": "The ABOMINABLE,  ﬁne<br />splendid plot", "label": 0, "why": ["ABOMINABLE", "splendid"]},
    {"text": "half of a wonderful word", "label": 1, "why": [[12, 15]]},
    {"text": "<br />", "label": 0, "why": [[0, 6]]},
    {"text": "w1 w2 w3", "label": 1, "why": []},
    {"text": "dull " + "w1 " * 6 + "dull " + "w2 " * 6 + "dull", "label": 0, "why": [[0, 4], [23, 27], [46, 50]]},
    {
        "text": "dull " + "w1 " * 300 + "dull " + "w2 " * 300 + "dull", "label": 1,
        "why": [[0, 4], [905, 909], [1810, 1814]],
    },
    {"text": "w1 " * 300 + "dull " + "w2 " * 300, "label": 0, "why": ["dull"]},
]  # fmt: skip


@pytest.mark.parametrize("truncation", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece", "char"])
def test_marks_are_on_the_tokens_that_share_a_character_with_the_evidence(
    kind: str, truncation: str, tmp_path: Path
) -> None:
    """The library's tokenizer reads the whole text, and truncation is written a second time."""
    settings = {"type": kind, "truncation": truncation, "max_length": 9, "vocab_size": 300 if kind == "word" else 60}
    corpus, tokenizer, tokens = prepared(tmp_path, [*HARD, *HARD], **settings)
    marked = prepare.evidence_of(corpus.train, tokenizer, tokens["train"])
    assert marked is not None
    head = {"head": 9, "tail": 0, "head_tail": 5}[truncation]
    seen = set()
    for i, text in enumerate(corpus.train):
        row = next(row for row in HARD if row["text"] == text)
        places: set[int] = set()
        for why in row["why"]:
            first, last = (text.index(why), text.index(why) + len(why)) if isinstance(why, str) else why
            places |= set(range(first, last))
        encoding = tokenizer.backend.encode(text, add_special_tokens=False)
        expected = [bool(places & set(range(*offset))) for offset in encoding.offsets] or [True]
        if len(expected) > 9:
            expected = expected[:head] + expected[len(expected) - (9 - head) :]
            seen.add("truncated")
        assert marked[tokens["train"].starts[i] : tokens["train"].starts[i + 1]].tolist() == expected, text
        seen.add(text)
    assert len(seen) > 4
    assert "truncated" in seen


def test_the_marked_tokens_of_texts_that_are_truncated(tmp_path: Path) -> None:
    corpus, tokenizer, tokens = prepared(tmp_path, [*HARD, *HARD, *HARD], truncation="head_tail", max_length=6)
    marked = prepare.evidence_of(corpus.train, tokenizer, tokens["train"])
    assert marked is not None
    found = {}
    for i, text in enumerate(corpus.train):
        part = slice(tokens["train"].starts[i], tokens["train"].starts[i + 1])
        names = [tokenizer.backend.id_to_token(token) for token in tokens["train"].ids[part]]
        found[text] = " ".join(f"*{n}*" if flag else n for n, flag in zip(names, marked[part], strict=True))
    assert [found[row["text"]] for row in HARD] == [
        "the *abominable* , fine *splendid* plot",
        "half of a *wonderful* word",
        "*[UNK]*",
        "w1 w2 w3",
        "*dull* w1 w1 w2 w2 *dull*",
        "*dull* w1 w1 w2 w2 *dull*",
        "w1 w1 w1 w2 w2 w2",
    ]


# What it achieves.


CUES = {"bad": ["vile", "drab", "grim", "foul"], "good": ["keen", "lush", "glad", "fine"], "none": []}


def planted(number: int, seed: str, marks: Callable[[list[str], int | None], list[str]]) -> list[dict[str, Any]]:
    """Texts of fillers, of which one is a cue word that is all there is to say why the text has its label.

    A third have no cue and a label of their own: with two labels only, one of them can be what there is without the
    other's cue, and then all words speak for it.
    """
    generator, rows = random.Random(seed), []
    for i in range(number):
        label = list(CUES)[i % 3]
        words = generator.choices(FILLERS, k=generator.randint(8, 16))
        place = generator.randrange(len(words)) if CUES[label] else None
        if place is not None:
            words[place] = generator.choice(CUES[label])
        rows.append({"text": " ".join(words), "label": label, "why": marks(words, place)})
    return rows


def mark_the_cue(words: list[str], place: int | None) -> list[str]:
    return [] if place is None else [words[place]]


def fit(folder: Path, marks: Callable[[list[str], int | None], list[str]], *settings: str) -> list[dict[str, Any]]:
    """The attention on 150 test texts after training on 300: words, weights, evidence."""
    test = planted(150, "test", marks)
    for split, rows in {"train": planted(300, "train", marks), "validation": test[:30], "test": test}.items():
        write(folder / f"{split}.jsonl", rows)
    run = textattn.train(
        {
            "data": {
                "files": {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")},
                "evidence": "why",
            },
            "tokenizer": {"min_frequency": 1},
            "model": {"embedding_dim": 16, "hidden_size": 16, "attention_size": 16, "dropout": {"embedding": 0.1}},
            "training": {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "precision": "fp32"},
            "output": {"dir": str(folder / "run"), "audit_examples": 0, "prediction_splits": []},
        },
        ["model.dropout.words=0.0", "model.dropout.recurrent=0.0", "model.dropout.classifier=0.0", "seed=1", *settings],
    )
    dumped = pq.read_table(run / "attention" / "test.parquet").to_pylist()
    return [row | {"why": marked["why"]} for row, marked in zip(dumped, test, strict=True)]


def top_is_a_cue(attention: list[dict[str, Any]]) -> float:
    """Share of the texts with a cue whose top word it is."""
    with_cue = [row for row in attention if CUES[row["label"]]]
    assert len(with_cue) == 100
    tops = [row["tokens"][int(np.argmax(row["weights"]))] in CUES[row["label"]] for row in with_cue]
    return float(np.mean(tops))


def right(attention: list[dict[str, Any]]) -> float:
    return float(np.mean([row["prediction"] == row["label"] for row in attention]))


def test_aligned_attention_is_on_the_words_that_decide_and_plain_attention_is_not(tmp_path: Path) -> None:
    plain = fit(tmp_path, mark_the_cue)
    assert right(plain) > 0.9  # it knows the answer all the same
    assert top_is_a_cue(plain) < 0.6
    aligned = fit(
        tmp_path,
        mark_the_cue,
        "training.attention_alignment=1.0",
        "model.anchor=states",
        f"output.dir={tmp_path / 'b'}",
    )
    assert right(aligned) > 0.9
    assert top_is_a_cue(aligned) >= 0.95


def test_supervised_attention_is_where_people_marked(tmp_path: Path) -> None:
    """They marked the last two words of every other text, which decide nothing: no other loss would look there."""

    def marks(words: list[str], place: int | None) -> list[str]:
        return [" ".join(words[-2:])] if len(words) % 2 else []

    attention = fit(tmp_path, marks, "training.attention_supervision=1.0")
    on_marked = [sum(row["weights"][-2:]) for row in attention]
    assert np.mean(on_marked) > 0.9
    assert np.min(on_marked) > 0.5


ALL = [
    "training.attention_alignment=1.0", "training.attention_supervision=0.5", "training.state_diversity=0.1",
    "training.state_tying=0.01", "model.dropout.masking=0.3",
]  # fmt: skip


def weights_of(folder: Path, *settings: str, evidence: bool = False) -> bytes:
    """model.safetensors of a run on a few texts, with words dropped at random."""
    folder.mkdir()
    write(folder / "rows.jsonl", planted(36, "few", mark_the_cue))
    run = textattn.train(
        {
            "data": {"path": str(folder / "rows.jsonl"), **({"evidence": "why"} if evidence else {})},
            "tokenizer": {"min_frequency": 1},
            "model": {"embedding_dim": 6, "hidden_size": 6, "attention_size": 6},
            "training": {"epochs": 2, "batch_size": 8},
            "output": {
                "dir": str(folder / "run"),
                "audit_examples": 0,
                "prediction_splits": [],
                "attention_splits": [],
            },
        },
        settings,
    )
    return (run / "model.safetensors").read_bytes()


def test_the_same_config_gives_the_same_bytes_and_every_key_other_ones(tmp_path: Path) -> None:
    names = map(str, itertools.count())
    plain = weights_of(tmp_path / next(names))
    off = [f"{setting.split('=')[0]}=0.0" for setting in ALL]
    assert weights_of(tmp_path / next(names), *off, "model.anchor=none", evidence=True) == plain
    found = [weights_of(tmp_path / next(names), setting, evidence=True) for setting in ALL]
    assert len({plain, *found}) == len(ALL) + 1
    for anchor in ("none", "states", "values"):
        first, second = (
            weights_of(tmp_path / next(names), *ALL, f"model.anchor={anchor}", evidence=True) for _ in range(2)
        )
        assert first == second
        assert first != plain


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ([], lambda i: ["a", "b", "c"][i % 3]),
        (["model.output=sigmoid"], lambda i: "ab"[i % 2]),
        ([], lambda i: [["a"], ["a", "b"], [], ["c"]][i % 4]),
        (["model.attention=multi_head", "model.num_heads=3", "training.precision=bf16"], lambda i: "ab"[i % 2]),
        (["model.attention=self_attention", "model.encoder=gru", "model.num_layers=2"], lambda i: "ab"[i % 2]),
        (["model.attention=mlp", "model.bidirectional=false", "model.anchor=values"], lambda i: "ab"[i % 2]),
    ],
)
def test_all_losses_together_train_every_kind_of_model(
    settings: list[str], labels: Callable[[int], Any], tmp_path: Path
) -> None:
    rows = planted(36, "few", mark_the_cue)
    write(tmp_path / "rows.jsonl", [row | {"label": labels(i)} for i, row in enumerate(rows)])
    run = textattn.train(
        "quickstart",
        [
            f"data.path={tmp_path / 'rows.jsonl'}", "data.evidence=why", "model.embedding_dim=6", "model.hidden_size=6",
            "training.epochs=1", f"output.dir={tmp_path / 'run'}", "output.audit_examples=0", *ALL, *settings,
        ],
    )  # fmt: skip
    entry = json.loads((run / "log.jsonl").read_text())
    assert math.isfinite(entry["loss"])
    assert (run / "metrics.json").is_file()


# What is refused.


REVIEWS = ["data.max_train_examples=40"]


def check(*settings: str) -> Any:
    return cli("check", "quickstart", *REVIEWS, *settings)


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (
            ["training.attention_supervision=1.0"],
            "training.attention_supervision: needs data.evidence", "data.evidence=COLUMN",
        ),
        (
            ["training.state_tying=0.1", "model.hidden_size=64"],
            "training.state_tying: model.hidden_size is 64, model.embedding_dim 128; they must be equal",
            "model.hidden_size=128",
        ),
        (
            ["training.state_tying=0.1", "model.encoder=none", "model.anchor=none"],
            "training.state_tying: model.encoder=none has no states to tie", "training.state_tying=0.0",
        ),
        *(
            (
                [f"training.{key}=1.0", f"model.attention={attention}", "model.anchor=none", "data.evidence=evidence"],
                f"training.{key}: model.attention={attention} has no weights to learn", f"training.{key}=0.0",
            )
            for key in ("attention_alignment", "attention_supervision") for attention in ("mean", "max", "last")
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(settings: list[str], message: str, hint: str, tmp_path: Path) -> None:
    if "attention_supervision" in message:
        settings = ["training.attention_alignment=0.0", *settings]
    done = check(*settings)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"Error: {message}\nHint: {hint}\n")
    done = cli("train", "quickstart", *REVIEWS, *settings, f"output.dir={tmp_path / 'run'}")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"Error: {message}\nHint: {hint}\n")
    assert not (tmp_path / "run").exists()
    # The hint can be pasted.
    assert check(*settings, hint.replace("COLUMN", "evidence")).code == 0


def test_the_other_losses_go_with_every_attention() -> None:
    off = ["training.attention_alignment=0.0", "model.anchor=none", "training.state_diversity=0.1"]
    for attention in ("mean", "max", "last"):
        assert check(*off, f"model.attention={attention}", "training.state_tying=0.1").code == 0


@pytest.mark.parametrize("key", ["attention_alignment", "attention_supervision", "state_diversity", "state_tying"])
def test_negative_weights_are_refused(key: str) -> None:
    for value, said in (
        ("-1", "at least 0, got -1"),
        ("-1e-9", "at least 0, got -1e-09"),
        (".inf", "finite, got .inf"),
    ):
        done = check(f"training.{key}={value}")
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            f"Error: override 'training.{key}={value}': training.{key}: must be {said}\n"
            "Hint: textattn configs show quickstart\n"
        )


def test_a_negative_share_of_masked_tokens_is_refused() -> None:
    done = check("model.dropout.masking=-0.1")
    assert (done.code, done.out) == (2, "")
    assert "model.dropout.masking: must be at least 0, got -0.1\n" in done.err
    assert check("model.dropout.masking=1").code == 0


def test_a_share_above_one_is_refused_in_the_words_of_the_other_messages() -> None:
    done = check("model.dropout.masking=1.5")
    assert done.code == 2
    assert "model.dropout.masking: must be at most 1, got 1.5\n" in done.err
