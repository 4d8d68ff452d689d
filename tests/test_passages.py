"""`model.attention_window` and `model.attention_position`: equal to their equations in torch and ONNX."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import unsealed
from export_runs import close
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from reference import classify, on_passages
from small_models import TEXTS, WEIGHTED, build, padded
from tasks_of_kinds import task

import textattn
from textattn.export import graph
from textattn.inference.onnx_session import OnnxSession
from textattn.model.attention import attention_class
from textattn.model.passages import NUM_PLACES, Passages
from textattn.training.attention_losses import alignment_loss

KINDS = [(1, True), (3, False), (5, True), (21, True)]
every_mechanism = pytest.mark.parametrize("attention", [*WEIGHTED, "mean"])
every_kind = pytest.mark.parametrize(("window", "position"), KINDS)


def model_of(attention: str, window: int, position: bool, **more: object) -> torch.nn.Module:
    # A mechanism without shares has none that could move.
    position = position and attention_class(attention).normalized
    return build(attention, attention_window=window, attention_position=position, **more)


@every_mechanism
@every_kind
def test_torch_equals_the_equations_whatever_the_padding(attention: str, window: int, position: bool) -> None:
    model = model_of(attention, window, position).double()
    with torch.no_grad():
        output = model(*padded(TEXTS, 12))
    for row, text in enumerate(TEXTS):
        expected = classify(model, text)
        np.testing.assert_allclose(output.logits[row].numpy(), expected["logits"], atol=1e-10)
        weights = output.attention_weights[row].numpy()
        np.testing.assert_allclose(weights[: len(text)], expected["attention_weights"], atol=1e-10)
        assert not weights[len(text) :].any()


@every_mechanism
@every_kind
@pytest.mark.parametrize("int8", [False, True])
def test_the_graph_computes_what_torch_computes(attention: str, window: int, position: bool, int8: bool) -> None:
    model = model_of(attention, window, position)
    proto = graph.build_graph(model, {"textattn": "{}"}, int8=int8)
    session = OnnxSession(proto.SerializeToString(), "model.onnx")
    for texts in (TEXTS, [[7]], [[3, 4, 5, 6] * 20, [9, 9]]):
        ids, mask = padded(texts)
        with torch.no_grad():
            expected = model(ids, mask)
        found = session.run(ids.numpy(), mask.numpy())
        close(found.attention_weights, expected.attention_weights.numpy(), 0.02 if int8 else 1e-5)
        close(found.logits, expected.logits.numpy(), 0.05 * float(expected.logits.abs().max()) if int8 else 1e-5)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 9), st.integers(0, 2**31))
def test_weights_stay_weights(seq: int, half: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    passages = Passages(2 * half + 1, position=True)
    torch.nn.init.normal_(passages.place, generator=generator)
    mask = torch.arange(seq)[None] < torch.randint(1, seq + 1, (3, 1), generator=generator)
    weights = torch.softmax(torch.randn(3, 2, seq, generator=generator).masked_fill(~mask[:, None], -math.inf), dim=-1)
    found = passages(weights, mask)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(3, 2))
    assert (found >= 0).all()
    assert not found.masked_select(~mask[:, None].expand_as(found)).any()


def test_a_window_wider_than_the_text_leaves_all_words_alike() -> None:
    weights = model_of("additive", 21, False)(*padded(TEXTS)).attention_weights
    for row, text in enumerate(TEXTS):
        assert weights[row, : len(text)].tolist() == pytest.approx([1 / len(text)] * len(text))


def test_position_is_nothing_before_it_has_learned() -> None:
    plain, placed = build("additive"), model_of("additive", 1, True)
    placed.load_state_dict(plain.state_dict() | {"passages.place": torch.zeros(NUM_PLACES)})
    torch.testing.assert_close(plain(*padded(TEXTS)).logits, placed(*padded(TEXTS)).logits)


def test_everything_gets_a_gradient() -> None:
    model = model_of("multi_head", 3, True)
    torch.nn.functional.cross_entropy(model(*padded(TEXTS)).logits, torch.tensor([0, 1, 2, 0, 1])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@every_kind
def test_alignment_pulls_to_the_passages_of_the_words_that_speak_for_the_label(window: int, position: bool) -> None:
    model = model_of("additive", window, position, anchor="values")
    input_ids, mask = padded(TEXTS)
    labels = [0, 2, 1, 0, 2]
    shape = on_passages(window, model.state_dict()["passages.place"].double().numpy() if position else None)
    each = []
    rows = model.classifier.weight.detach().double().numpy()
    for text, label in zip(TEXTS, labels, strict=True):
        found = classify(model, text)
        direction = rows[label] - np.mean(np.delete(rows, label, axis=0), axis=0)
        votes = np.maximum(found["hidden_states"] @ direction, 0) ** 1.5
        if votes.any():
            target = shape(list(votes / votes.sum()))
            each.append(-float(np.dot(target, np.log(found["attention_weights"]))))
    found_loss = alignment_loss(
        model, model(input_ids, mask), mask.bool(), torch.tensor(labels), task("softmax")
    ).value()
    assert len(each) > 2
    assert found_loss.item() == pytest.approx(np.mean(each), rel=1e-4)


def test_attention_learns_that_only_the_end_counts(tmp_path: Path) -> None:
    """The same words all over; the label is the last one, which attention on embeddings alone cannot tell."""
    generator = np.random.default_rng(0)
    rows = [[str(w) for w in generator.choice(["up", "down"], 15)] for _ in range(600)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": " ".join(row), "label": row[-1]}) + "\n" for row in rows))

    def accuracy(*settings: str) -> float:
        run = textattn.train(
            {
                "recipe": "plain",
                "data": {"path": str(file), "validation_fraction": 0.3},
                "model": {"encoder": "none", "embedding_dim": 8, "dropout": {"words": 0.0, "embedding": 0.0}},
                "training": {"epochs": 15, "batch_size": 16, "learning_rate": 2e-2},
                "output": {"dir": str(tmp_path / f"run{len(settings)}"), "audit_examples": 0, "plots": False},
            },
            settings,
        )
        if settings:
            prediction = textattn.load(run).explain(["up " * 14 + "down"])[0]
            assert np.argmax(prediction.weights) == 14
        return float(json.loads((run / "metrics.json").read_text())["validation"]["accuracy"])

    assert accuracy("model.attention_position=true") > 0.95
    assert accuracy() < 0.8


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (["model.attention_window=4"], "model.attention_window: must be an odd number of tokens up to 999, got 4",
         "model.attention_window=5"),
        (["model.attention_window=1001"], "model.attention_window: must be an odd number of tokens up to 999, got 1001",
         "model.attention_window=999"),
        (["model.attention_window=3", "model.attention=max"],
         "model.attention_window: model.attention=max has no weights that depend on positions",
         "model.attention_window=1"),
        (["model.attention_position=true", "model.attention=sigmoid"],
         "model.attention_position: model.attention=sigmoid has no weights "
         "that sum to 1 and could be shifted between positions",
         "model.attention=additive"),
        (["model.attention_position=true", "model.attention=last"],
         "model.attention_position: model.attention=last has no weights that depend on positions",
         "model.attention_position=false"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(settings: list[str], message: str, hint: str) -> None:
    done = cli("check", "quickstart", "model.anchor=none", "training.attention_alignment=0.0", *settings)
    assert done.code == 2
    assert message in done.err
    assert hint in done.err


def test_a_model_with_both_is_loaded_as_it_was_trained(tmp_path: Path) -> None:
    run = textattn.train(
        "quickstart",
        [
            "model.attention_window=5", "model.attention_position=true", "training.epochs=1", "model.embedding_dim=8",
            "model.hidden_size=8", f"output.dir={tmp_path / 'run'}",
        ],
    )  # fmt: skip
    sentence = ["A fine film, but far too long."]
    by_onnx, by_torch = (textattn.load(run, runtime=name).explain(sentence)[0] for name in ("onnx", "torch"))
    assert by_onnx.weights == pytest.approx(by_torch.weights, abs=1e-5)
    config = json.loads((run / "config.json").read_text())
    damaged = {**config, "architecture": {**config.get("architecture", {}), "attention_window": 2}}
    (unsealed(run) / "config.json").write_text(json.dumps(damaged))
    done = cli("predict", "x", "--model", str(run), "--runtime", "torch")
    assert done.code == 3
    assert "attention_window must be an odd number" in done.err
