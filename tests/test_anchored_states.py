"""`model.anchor`: equal to its equations in torch and ONNX, and refused where it does not fit."""

from __future__ import annotations

import functools
import itertools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
import torch
from damaged_models import RUNTIMES, complaint, copy, train
from export_runs import close
from inprocess import run as cli
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from reference import classify
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from small_models import TEXTS, VOCABULARY, WEIGHTED, every_parameter_gets_a_gradient_and_padding_none, padded
from torch import Tensor

from textattn.export import graph
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.torch_session import TorchSession
from textattn.model.classifier import Architecture, TextClassifier

ANCHORED = [("states", name) for name in (*WEIGHTED, "mean", "max", "last")] + [("values", name) for name in WEIGHTED]
every_anchor = pytest.mark.parametrize(("anchor", "attention"), ANCHORED)
every_encoder = pytest.mark.parametrize(
    ("encoder", "num_layers", "bidirectional"), list(itertools.product(("lstm", "gru"), (1, 2), (False, True)))
)
BATCHES = [(1, 1), (3, 1), (1, 2), (2, 7), (7, 3), (9, 40), (1, 130)]  # texts, tokens


# Torch.


@every_anchor
@every_encoder
def test_torch_equals_the_equations_for_each_text_alone(
    anchor: str, attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model = build(anchor, attention, encoder, num_layers, bidirectional).double()
    with torch.no_grad():
        output = model(*padded(TEXTS))._asdict()
    for row, text in enumerate(TEXTS):
        for name, expected in classify(model, text).items():
            found = output[name][row].numpy()
            found = found if name in ("logits", "context") else found[: len(text)]
            np.testing.assert_allclose(found, expected, atol=1e-7 if name == "attention_weights" else 1e-10)


@every_anchor
@pytest.mark.parametrize(
    ("encoder", "num_layers", "bidirectional"), [("lstm", 1, True), ("lstm", 2, False), ("gru", 2, True)]
)
def test_padding_and_batch_companions_change_nothing(
    anchor: str, attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model = build(anchor, attention, encoder, num_layers, bidirectional)
    with torch.no_grad():
        together = model(*padded(TEXTS, seq=9))
        among_others = model(*padded([list(range(2, 45)), [49], *reversed(TEXTS)]))
        for row, text in enumerate(TEXTS):
            alone = model(*padded([text]))
            for output, place in ((together, row), (among_others, -1 - row)):
                for name in ("logits", "context"):
                    torch.testing.assert_close(
                        getattr(output, name)[place], getattr(alone, name)[0], atol=3e-6, rtol=1e-6
                    )
                weights = output.attention_weights[place]
                torch.testing.assert_close(weights[: len(text)], alone.attention_weights[0], atol=1e-6, rtol=0)
                assert torch.count_nonzero(weights[len(text) :]) == 0


@every_anchor
def test_gradients_are_those_of_small_differences(anchor: str, attention: str) -> None:
    model = build(anchor, attention, embedding_dim=3, hidden_size=2).double()
    input_ids, attention_mask = padded([[2, 3, 4], [5]])

    def function(embeddings: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        output = model.forward_from_embeddings(embeddings, attention_mask)
        return (output.logits,) if attention == "max" else (output.logits, output.attention_weights)

    own = [parameter for name, parameter in model.named_parameters() if name.startswith(("anchor", "values"))]
    assert len(own) == (3 if anchor == "values" else 1)
    assert torch.autograd.gradcheck(function, (model.embedding(input_ids).detach().requires_grad_(), *own))


@every_anchor
@every_encoder
def test_every_parameter_gets_a_gradient_and_padding_none(
    anchor: str, attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model = build(anchor, attention, encoder, num_layers, bidirectional).double().train()
    every_parameter_gets_a_gradient_and_padding_none(model)


@pytest.mark.parametrize("attention", WEIGHTED)
def test_with_values_the_words_vote_and_the_context_decides_whose_vote_counts(attention: str) -> None:
    model = build("values", attention)
    first, second = model(*padded([[2, 3, 4, 5]])), model(*padded([[9, 3, 5, 5]]))
    assert torch.equal(first.hidden_states[0, 1], second.hidden_states[0, 1])  # the same word in another text
    assert torch.equal(second.hidden_states[0, 2], second.hidden_states[0, 3])  # in another place
    assert not torch.allclose(first.encoder_states[0, 1], second.encoder_states[0, 1], atol=1e-3)
    twice = second.attention_weights[0, 2:]
    assert (twice[0] - twice[1]).abs() > 1e-4
    assert first.hidden_states.abs().max() <= 1


def test_states_are_the_sum_of_what_the_encoder_says_and_of_the_word() -> None:
    model = build("states")
    assert model.anchor is not None
    output = model(*padded([TEXTS[2]]))
    word = model.anchor(output.embeddings)
    torch.testing.assert_close(output.hidden_states, output.encoder_states + word)
    assert word.abs().max() > 0.1
    with torch.no_grad():
        model.anchor.weight.zero_()
    plain = build("none")
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name != "anchor.weight"})
    assert torch.equal(model(*padded(TEXTS)).logits, plain(*padded(TEXTS)).logits)


@pytest.mark.parametrize("anchor", ["states", "values"])
def test_bf16_autocast_is_close_to_fp32(anchor: str) -> None:
    for attention in WEIGHTED:
        model = build(anchor, attention)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(*padded(TEXTS))
        full = model(*padded(TEXTS))
        half.logits.float().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        torch.testing.assert_close(half.attention_weights.float(), full.attention_weights, atol=0.05, rtol=0)
        torch.testing.assert_close(half.logits.float(), full.logits, atol=0.05 * full.logits.abs().max().item(), rtol=0)


# The graph.


def build(anchor: str, *architecture: Any, **settings: Any) -> TextClassifier:
    return small_models.build(*architecture, anchor=anchor, seed=2, **settings)


def exported(model: TextClassifier, *, int8: bool = False) -> ModelProto:
    return graph.build_graph(model, {"textattn": "{}"}, int8=int8)


@functools.cache
def pair(
    anchor: str, attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> tuple[TextClassifier, OnnxSession]:
    model = build(anchor, attention, encoder, num_layers, bidirectional)
    return model, OnnxSession(exported(model).SerializeToString(), "model.onnx")


def ragged(batch: int, seq: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """ids and mask, with texts of 1 to `seq` tokens, the longest of them somewhere; ids on padding are no zeros."""
    generator = np.random.default_rng([batch, seq])
    lengths = generator.integers(1, seq + 1, batch)
    lengths[generator.integers(batch)] = seq
    return generator.integers(0, VOCABULARY, (batch, seq)), (np.arange(seq) < lengths[:, None]).astype(np.int64)


@every_anchor
@every_encoder
def test_the_graph_computes_what_torch_computes(
    anchor: str, attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model, session = pair(anchor, attention, encoder, num_layers, bidirectional)
    torch_session = TorchSession(model)
    for batch, seq in BATCHES:
        ids, mask = ragged(batch, seq)
        for a, b in zip(session.run(ids, mask)[:3], torch_session.run(ids, mask)[:3], strict=True):
            assert a.dtype == np.float32
            close(a, b, 1e-5)


@every_anchor
@pytest.mark.parametrize(("encoder", "num_layers", "bidirectional"), [("lstm", 2, True), ("gru", 1, False)])
def test_the_graph_equals_the_equations_for_each_text_of_a_batch(
    anchor: str, attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model, session = pair(anchor, attention, encoder, num_layers, bidirectional)
    ids, mask = ragged(5, 9)
    found = session.run(ids, mask)
    for row, length in enumerate(mask.sum(axis=1)):
        expected = classify(model, ids[row, :length].tolist())
        close(found.context[row], expected["context"], 1e-5)
        close(found.attention_weights[row, :length], expected["attention_weights"], 1e-5)
        close(found.logits[row], expected["logits"], 1e-5)


@every_anchor
@pytest.mark.parametrize("encoder", ["lstm", "gru"])
def test_int8_is_close_to_fp32(anchor: str, attention: str, encoder: str) -> None:
    model = build(anchor, attention, encoder, embedding_dim=32, hidden_size=24, spread=0.2)
    full, small = TorchSession(model), OnnxSession(exported(model, int8=True).SerializeToString(), "model.int8.onnx")
    for batch, seq in ((1, 1), (17, 40)):
        ids, mask = ragged(batch, seq)
        expected, found = full.run(ids, mask), small.run(ids, mask)
        close(found.logits, expected.logits, 0.05 * np.abs(expected.logits).max())
        close(found.attention_weights, expected.attention_weights, 0.1 if attention == "max" else 0.02)
        assert np.count_nonzero(found.attention_weights[mask == 0]) == 0


@pytest.mark.parametrize("anchor", ["states", "values"])
@pytest.mark.parametrize("encoder", ["lstm", "gru"])
@pytest.mark.parametrize("int8", [False, True])
def test_the_embedding_stands_in_the_file_once(anchor: str, encoder: str, int8: bool) -> None:
    vocabulary, dim, states = 5000, 16, 12
    sizes = {"vocab_size": vocabulary, "embedding_dim": dim}
    plain, own = (exported(build(kind, "additive", encoder, **sizes), int8=int8) for kind in ("none", anchor))
    onnx.checker.check_model(own, full_check=True)
    tables = [
        tensor.name for tensor in own.graph.initializer if numpy_helper.to_array(tensor).shape == (vocabulary, dim)
    ]
    assert tables == ["embedding.weight_int8" if int8 else "embedding.weight"]
    more = len(own.SerializeToString()) - len(plain.SerializeToString())
    weights = 4 * (dim * states + (anchor == "values") * (dim + 1) * states)  # bytes
    assert weights <= more < weights + 1000


# What does not fit.


SMALL = ["data.path=bundled:four_sentences", "tokenizer.min_frequency=1", "training.attention_alignment=0.0"]


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            (["model.anchor=values", f"model.attention={attention}"],
             f"model.anchor: values needs an attention mechanism that learns weights, but {attention} does not")
            for attention in ("mean", "max", "last")
        ),
        *(
            ([f"model.anchor={anchor}", "model.encoder=none"],
             f"model.anchor: {anchor} needs an encoder; without one the states are the embeddings")
            for anchor in ("states", "values")
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(command: str, settings: list[str], message: str, tmp_path: Path) -> None:
    done = cli(command, "quickstart", *SMALL, *settings, f"output.dir={tmp_path / 'run'}")
    assert (done.code, done.out) == (2, "")
    assert f"Error: {message}\n" in done.err
    assert not (tmp_path / "run").exists()


def test_an_anchor_that_there_is_not(tmp_path: Path) -> None:
    done = cli("train", "quickstart", *SMALL, "model.anchor=state", f"output.dir={tmp_path / 'run'}")
    assert (done.code, done.out) == (2, "")
    assert "must be one of 'none', 'states', 'values', got 'state'; did you mean 'states'?" in done.err


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind for all runtimes; tests must not change them."""
    folder = tmp_path_factory.mktemp("anchored")
    settings = ["training.attention_alignment=0.0", "output.audit_examples=0"]
    found = {
        anchor: train(folder / anchor, f"model.anchor={anchor}", *settings) for anchor in ("none", "states", "values")
    }
    for path in found.values():
        done = cli("export", "--model", path, "--int8", "--split", "train", "--max-drop", "100")
        assert (done.code, done.out) == (0, f"{path / 'model.int8.onnx'}\n")
    return found


def set_architecture(model: Path, **changes: Any) -> None:
    """In config.json and in all weights, so that they agree; a value of ... takes the key away."""

    def changed(architecture: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in (architecture | changes).items() if value is not ...}

    config = json.loads((model / "config.json").read_text())
    config["architecture"] = changed(config["architecture"])
    (model / "config.json").write_text(json.dumps(config))
    for name in ("model.onnx", "model.int8.onnx"):
        proto = onnx.load(model / name)
        entry = next(entry for entry in proto.metadata_props if entry.key == "textattn")
        facts = json.loads(entry.value)
        facts["architecture"] = changed(facts["architecture"])
        entry.value = json.dumps(facts)
        onnx.save(proto, model / name)
    tensors = load_tensors((model / "model.safetensors").read_bytes())
    (model / "model.safetensors").write_bytes(save_tensors(tensors, {"textattn": entry.value}))


def set_weights(model: Path, **changes: Any) -> None:
    """With dots for double underscores in the names; a value of None takes the tensor away."""
    config = json.loads((model / "config.json").read_text())
    tensors = load_tensors((model / "model.safetensors").read_bytes())
    for name, value in changes.items():
        tensors[name.replace("__", ".")] = value
    facts = {
        "architecture": config["architecture"],
        "labels": [config["id2label"][str(i)] for i in range(len(config["id2label"]))],
        "tokenizer_crc32": zlib.crc32((model / "tokenizer.json").read_bytes()),
    }
    (model / "model.safetensors").write_bytes(
        save_tensors({k: v for k, v in tensors.items() if v is not None}, {"textattn": json.dumps(facts)})
    )


def test_the_models_to_be_damaged_answer(runs: dict[str, Path], tmp_path: Path) -> None:
    for anchor, run in runs.items():
        model = copy(run, tmp_path / anchor)
        set_weights(model)
        set_architecture(model)
        for runtime in RUNTIMES:
            assert complaint(model, runtime) is None


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("anchor.weight", (16, 7), (16, 8)),
        ("anchor.weight", (8, 16), (16, 8)),
        ("anchor.weight", (15, 8), (16, 8)),
        ("anchor.weight", (128,), (16, 8)),
        ("anchor.weight", None, (16, 8)),
        ("values.weight", (16, 7), (16, 8)),
        ("values.weight", None, (16, 8)),
        ("values.bias", (1,), (16,)),
        ("values.bias", None, (16,)),
    ],
)
def test_weights_of_another_size_are_refused(
    runs: dict[str, Path], tmp_path: Path, name: str, shape: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    model = copy(runs["values"], tmp_path / "model")
    set_weights(model, **{name.replace(".", "__"): None if shape is None else np.zeros(shape, np.float32)})
    assert complaint(model, "torch") == (
        f"{model / 'model.safetensors'}: does not fit config.json "
        f"({name}: {'nothing' if shape is None else shape}, expected {expected})"
    )


def test_weights_that_config_json_does_not_ask_for_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    for kind, name in (("none", "anchor.weight"), ("states", "values.weight")):
        model = copy(runs[kind], tmp_path / kind)
        set_weights(model, **{name.replace(".", "__"): np.zeros((16, 8), np.float32)})
        assert f"({name}: (16, 8), expected nothing)" in str(complaint(model, "torch"))


@pytest.mark.parametrize(("of", "claimed"), list(itertools.permutations(("none", "states", "values"), 2)))
def test_another_kind_in_config_json_is_refused(runs: dict[str, Path], tmp_path: Path, of: str, claimed: str) -> None:
    model = copy(runs[of], tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    assert config["architecture"]["anchor"] == of
    config["architecture"]["anchor"] = claimed
    (model / "config.json").write_text(json.dumps(config))
    for runtime in RUNTIMES:
        assert complaint(model, runtime) is not None
    # Who makes harmful files makes them agree; the shapes still tell.
    set_architecture(model, anchor=claimed)
    assert "does not fit config.json" in str(complaint(model, "torch"))


@pytest.mark.parametrize("wrong", [None, -1, 1.5, True, "x", [], [None], {}, ...])
def test_an_anchor_of_another_type_is_refused(runs: dict[str, Path], tmp_path: Path, wrong: Any) -> None:
    model = copy(runs["states"], tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    if wrong is ...:
        del config["architecture"]["anchor"]
    else:
        config["architecture"]["anchor"] = wrong
    (model / "config.json").write_text(json.dumps(config))
    for runtime in RUNTIMES:
        assert complaint(model, runtime) is not None


def test_an_unknown_anchor_is_refused_even_where_the_weights_agree(runs: dict[str, Path], tmp_path: Path) -> None:
    model = copy(runs["states"], tmp_path / "model")
    set_architecture(model, anchor="sums")
    assert complaint(model, "torch") is not None


def test_an_anchor_without_an_encoder_in_config_json_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    model = copy(runs["states"], tmp_path / "model")
    set_architecture(model, encoder="none")
    assert complaint(model, "torch") is not None


def test_a_model_of_a_time_without_anchors_answers_as_before(runs: dict[str, Path], tmp_path: Path) -> None:
    model = copy(runs["none"], tmp_path / "model")
    set_architecture(model, anchor=...)
    assert "anchor" not in (model / "config.json").read_text()
    answers = [
        [cli("predict", "good food", "--model", path, "--runtime", runtime, "--json").out for runtime in RUNTIMES]
        for path in (model, runs["none"])
    ]
    assert answers[0] == answers[1]
    assert all(answers[0])
    assert [complaint(model, runtime) for runtime in RUNTIMES] == [None] * 3
    plain = build("none")
    architecture = {name: value for name, value in plain.architecture.to_dict().items() if name != "anchor"}
    assert Architecture(**architecture) == plain.architecture
