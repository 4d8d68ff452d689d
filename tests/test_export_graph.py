"""The exported graph equals torch and the equations, whatever the batch, and in int8 it is small and close."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
import torch
from export_runs import close
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from reference import attend, encode, inside, parameters_of
from small_models import ENCODERS as RECURRENT
from small_models import MECHANISMS, VOCABULARY

from textattn.export import graph
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.session import BatchOutput, Session
from textattn.inference.torch_session import TorchSession
from textattn.model.attention import WeightedPooling
from textattn.model.classifier import TextClassifier
from textattn.model.encoders import RecurrentEncoder

ENCODERS = [("none", 1, True), *itertools.product(RECURRENT, (1, 2), (False, True))]
every_mechanism = pytest.mark.parametrize("attention", MECHANISMS)
every_encoder = pytest.mark.parametrize(("encoder", "num_layers", "bidirectional"), ENCODERS)
BATCHES = [(1, 1), (3, 1), (1, 2), (2, 2), (1, 7), (2, 7), (7, 3), (9, 40), (1, 64)]  # texts, tokens


build = functools.partial(small_models.build, seed=1)  # what int8 loses depends on the weights


def exported(model: TextClassifier, *, int8: bool = False) -> ModelProto:
    return graph.build_graph(model, {"textattn": "{}"}, int8=int8)


def open_graph(proto: ModelProto) -> OnnxSession:
    return OnnxSession(proto.SerializeToString(), "model.onnx")


@functools.cache
def pair(attention: str, encoder: str, num_layers: int, bidirectional: bool) -> tuple[TextClassifier, OnnxSession]:
    """The same weights twice. Every batch of these tests goes through one session, whatever its shape."""
    model = build(attention, encoder, num_layers, bidirectional)
    return model, open_graph(exported(model))


def ragged(batch: int, seq: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """ids and mask, with texts of 1 to `seq` tokens, the longest of them somewhere; ids on padding are no zeros."""
    generator = np.random.default_rng([seed, batch, seq])
    lengths = generator.integers(1, seq + 1, batch)
    lengths[generator.integers(batch)] = seq
    mask = (np.arange(seq) < lengths[:, None]).astype(np.int64)
    return generator.integers(0, VOCABULARY, (batch, seq)), mask


def check_weights(output: BatchOutput, mask: NDArray[np.int64]) -> None:
    """Exactly 0 on padding, nowhere negative, 1 in all."""
    assert np.count_nonzero(output.attention_weights[mask == 0]) == 0
    assert output.attention_weights.min() >= 0
    np.testing.assert_allclose(output.attention_weights.sum(axis=1), 1, atol=1e-5)


# The graph


@every_mechanism
@every_encoder
def test_the_graph_computes_what_torch_computes(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    model, session = pair(attention, encoder, num_layers, bidirectional)
    reference: Session = TorchSession(model)
    for batch, seq in BATCHES:
        ids, mask = ragged(batch, seq)
        expected, found = reference.run(ids, mask), session.run(ids, mask)
        for a, b in zip(found[:3], expected[:3], strict=True):
            assert a.dtype == np.float32
            close(a, b)
        check_weights(found, mask)


@every_mechanism
@pytest.mark.parametrize(
    ("encoder", "num_layers", "bidirectional"),
    [("none", 1, True), ("lstm", 2, True), ("lstm", 1, False), ("gru", 2, True), ("gru", 1, False)],
)
def test_the_graph_equals_the_equations_for_each_text_of_a_batch(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    """The reference is numpy in float64, one text at a time: it shares no code with torch or with the graph."""
    model, session = pair(attention, encoder, num_layers, bidirectional)
    p, both = parameters_of(model), bidirectional and encoder != "none"
    ids, mask = ragged(5, 9)
    found = session.run(ids, mask)
    for row, length in enumerate(mask.sum(axis=1)):
        states = p["embedding.weight"][ids[row, :length]]
        if encoder != "none":
            states = encode(encoder, inside(p, "encoder."), states, num_layers, both)
        context, weights = attend(attention, inside(p, "attention."), states, model.architecture.num_heads, both)
        close(found.context[row], context)
        close(found.attention_weights[row, :length], weights)
        close(found.logits[row], p["classifier.weight"] @ context + p["classifier.bias"])


@every_mechanism
@every_encoder
def test_padding_and_batch_companions_change_nothing(
    attention: str, encoder: str, num_layers: int, bidirectional: bool
) -> None:
    _, session = pair(attention, encoder, num_layers, bidirectional)
    ids, mask = ragged(5, 9)
    together = session.run(ids, mask)
    others, others_mask = ragged(6, 30, seed=1)
    for row, length in enumerate(mask.sum(axis=1)):
        alone = session.run(ids[row : row + 1, :length], mask[row : row + 1, :length])
        others[3, :length] = ids[row, :length]
        others_mask[3] = np.arange(30) < length
        elsewhere = session.run(others, others_mask)
        for output, place in ((together, row), (elsewhere, 3)):
            close(output.logits[place], alone.logits[0], 2e-6)
            close(output.context[place], alone.context[0], 2e-6)
            close(output.attention_weights[place, :length], alone.attention_weights[0], 2e-6)


@pytest.mark.parametrize("encoder", ["lstm", "gru", "none"])
@pytest.mark.parametrize("int8", [False, True])
def test_the_file_is_valid_onnx_with_batch_and_length_left_open(encoder: str, int8: bool) -> None:
    for attention in MECHANISMS:
        proto = exported(build(attention, encoder), int8=int8)
        onnx.checker.check_model(proto, full_check=True)
        values = [*proto.graph.input, *proto.graph.output]
        shapes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }
        assert shapes.pop("context")[0] == "batch"
        assert shapes == {
            "input_ids": ["batch", "seq"],
            "attention_mask": ["batch", "seq"],
            "logits": ["batch", 3],
            "attention_weights": ["batch", "seq"],
        } | ({} if attention == "mlp" else {"contributions": ["batch", "seq", 3]})


def test_a_part_without_an_onnx_form_is_named() -> None:
    class Own(WeightedPooling):
        __module__ = "somewhere.own"

    model = build()
    model.attention = Own(model.architecture.attention_sizes)
    with pytest.raises(NotImplementedError, match=r"^the attention 'own' has no ONNX form$"):
        exported(model)

    class Recurrent(RecurrentEncoder):
        __module__ = "somewhere.recurrent"
        layer_class, num_gates, padding_gate, padding_input = torch.nn.GRU, 3, 1, 1e4

    model = build()
    model.encoder = Recurrent(model.architecture.encoder_sizes, 0.0)
    with pytest.raises(NotImplementedError, match=r"^the encoder 'recurrent' has no ONNX form$"):
        exported(model)


def test_a_model_for_training_does_not_load_onnx() -> None:
    script = "import sys, textattn.model.classifier; print('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


# int8


def tensors(proto: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@every_mechanism
@pytest.mark.parametrize(("encoder", "num_layers"), [("lstm", 1), ("lstm", 2), ("gru", 1), ("none", 1)])
def test_int8_is_close_to_fp32(attention: str, encoder: str, num_layers: int) -> None:
    model = build(attention, encoder, num_layers, embedding_dim=32, hidden_size=24, spread=0.2)
    full, small = TorchSession(model), open_graph(exported(model, int8=True))
    for batch, seq in ((1, 1), (17, 40)):
        ids, mask = ragged(batch, seq)
        expected, found = full.run(ids, mask), small.run(ids, mask)
        close(found.logits, expected.logits, 0.06 * np.abs(expected.logits).max())
        # Where a token wins a feature of `max` by little, it may lose it.
        close(found.attention_weights, expected.attention_weights, 0.1 if attention == "max" else 0.005)
        check_weights(found, mask)


@pytest.mark.filterwarnings("error")  # a row of zeros is divided by its largest value
@pytest.mark.parametrize("encoder", ["lstm", "gru"])
def test_in_int8_the_embedding_and_the_lstm_are_int8_in_the_file(encoder: str) -> None:
    """With values that come as near to the weights as a step of the scale allows, over the whole range there is."""
    model = build("additive", encoder, 2, vocab_size=2000, embedding_dim=64, hidden_size=48)
    with torch.no_grad():
        model.embedding.weight[7] = 0  # a row without any scale
    full, small = (exported(model, int8=int8) for int8 in (False, True))
    before, after = tensors(full), tensors(small)
    rows, scale = after["embedding.weight_int8"], after["embedding.scale"]
    assert rows.dtype == np.int8
    assert (np.abs(rows.astype(int)).max(axis=1) == 127).sum() == 1999
    assert (np.abs(rows * scale - before["embedding.weight"]) <= scale / 2 * 1.001).all()
    assert not rows[7].any()
    names = [f"encoder.layers.{layer}.weight_{side}" for layer in (0, 1) for side in ("ih", "hh")]
    for name in names:
        if encoder == "gru":
            np.testing.assert_array_equal(after[name], before[name])
            continue
        assert name not in after
        values, scale = after[f"{name}_int8"], after[f"{name}_scale"][:, :, None]
        assert values.dtype == np.int8
        # Two products with the largest input are added up in 16 bits where there is AVX2 without VNNI.
        assert np.abs(values.astype(int)).max() == 64
        assert 2 * 255 * 64 < 2**15
        assert (np.abs(values.transpose(0, 2, 1) * scale - before[name]) <= scale / 2 * 1.001).all()
    kinds = {node.op_type for node in small.graph.node}
    assert kinds & {"LSTM", "GRU", "DynamicQuantizeLSTM"} == {"DynamicQuantizeLSTM" if encoder == "lstm" else "GRU"}
    # No large matrix was left behind in fp32.
    floats = {t.name for t in small.graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 5000}
    assert floats == (set(names) if encoder == "gru" else set())
    times = len(full.SerializeToString()) / len(small.SerializeToString())
    assert times > (3.5 if encoder == "lstm" else 1.8)
