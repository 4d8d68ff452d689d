"""The exported model: the graph equals torch and the equations, int8 is small and close, what is wrong is not written,
and a bundle answers as the run it was made from."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
import torch
from conftest import Runner
from inprocess import Result
from inprocess import run as cli
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from reference import attend, encode, inside, parameters_of
from safetensors.numpy import load_file, save_file

import textattn as package
from textattn.data.read import CORPUS
from textattn.errors import InputError
from textattn.export import graph, onnx_model
from textattn.model.classifier import Architecture, TextClassifier
from textattn.runtime.onnx_session import OnnxSession
from textattn.runtime.session import BatchOutput, Session
from textattn.runtime.torch_session import TorchSession

MECHANISMS = ("additive", "dot", "scaled_dot", "general", "mlp", "multi_head", "self_attention", "mean", "max", "last")
ENCODERS = [("none", 1, True), *itertools.product(("lstm", "gru"), (1, 2), (False, True))]
every_mechanism = pytest.mark.parametrize("attention", MECHANISMS)
every_encoder = pytest.mark.parametrize(("encoder", "num_layers", "bidirectional"), ENCODERS)
BATCHES = [(1, 1), (3, 1), (1, 2), (2, 2), (1, 7), (2, 7), (7, 3), (9, 40), (1, 64)]  # texts, tokens
VOCABULARY = 50
# In fp32 the two differ by 1.5e-6 at most; anything that is wrong differs by more than this.
TOLERANCE = 5e-6
TEXTS = ["The film was a joy,  but (oh)\tthe ending felt rushed.", "Dull.", "Best café in town, 10/10 would go again!"]


def build(
    attention: str = "additive",
    encoder: str = "lstm",
    num_layers: int = 1,
    bidirectional: bool = True,
    *,
    vocab_size: int = VOCABULARY,
    embedding_dim: int = 8,
    hidden_size: int = 6,
    spread: float = 0.5,
) -> TextClassifier:
    """With word vectors of size 1 and large weights, as after training, so that errors would show."""
    torch.manual_seed(1)
    model = TextClassifier(
        Architecture(
            vocab_size,
            num_outputs=3,
            embedding_dim=embedding_dim,
            encoder=encoder,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            attention=attention,
            attention_size=16,
            num_heads=2,
        )
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=1.0 if name.startswith("embedding") else spread)
    return model.eval()


def exported(model: TextClassifier, *, int8: bool = False) -> ModelProto:
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return graph.build_graph(model.architecture.to_dict(), weights, {"textattn": "{}"}, int8=int8)


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


def close(found: NDArray[Any], expected: NDArray[Any], tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


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
        for a, b in zip(found, expected, strict=True):
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
        }


def test_an_unknown_mechanism_and_a_missing_weight_are_errors() -> None:
    model = build()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="unknown attention 'sum'"):
        graph.build_graph({**model.architecture.to_dict(), "attention": "sum"}, weights, {})
    del weights["attention.score.weight"]
    with pytest.raises(KeyError, match=r"score\.weight"):
        graph.build_graph(model.architecture.to_dict(), weights, {})


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
        close(found.logits, expected.logits, 0.04 * np.abs(expected.logits).max())
        # Where a token wins a feature of `max` by little, it may lose it.
        close(found.attention_weights, expected.attention_weights, 0.1 if attention == "max" else 0.005)
        check_weights(found, mask)


@pytest.mark.filterwarnings("error")  # a row of zeros is divided by its largest value
@pytest.mark.parametrize("encoder", ["lstm", "gru"])
def test_in_int8_the_embedding_and_the_lstm_are_int8_in_the_file(encoder: str) -> None:
    """With values that come as near to the weights as a step of the scale allows, over the whole range of int8."""
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
        assert (np.abs(values.transpose(0, 2, 1) * scale - before[name]) <= scale / 2 * 1.001).all()
    kinds = {node.op_type for node in small.graph.node}
    assert kinds & {"LSTM", "GRU", "DynamicQuantizeLSTM"} == {"DynamicQuantizeLSTM" if encoder == "lstm" else "GRU"}
    # No large matrix was left behind in fp32.
    floats = {t.name for t in small.graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 5000}
    assert floats == (set(names) if encoder == "gru" else set())
    times = len(full.SerializeToString()) / len(small.SerializeToString())
    assert times > (3.5 if encoder == "lstm" else 1.8)


# The files of a run


@pytest.fixture(scope="module")
def exports(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, dict[str, Any]]:
    """A run with model.int8.onnx, a bundle of each kind, and what `export --int8 --json` said."""
    folder = tmp_path_factory.mktemp("exports")
    run = Path(shutil.copytree(trained_run, folder / "run"))
    done = cli("export", "--model", run, "--bundle", folder / "model.zip")
    assert (done.code, done.out) == (0, f"{folder / 'model.zip'}\n")
    done = cli("export", "--model", run, "--int8", "--bundle", folder / "new" / "small.zip", "--json", "-q")
    assert (done.code, done.err) == (0, "")
    return run, folder / "model.zip", folder / "new" / "small.zip", json.loads(done.out)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on four sentences of a file beside it, without validation data; tests must not change it."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copy(CORPUS / "four_sentences" / "train.jsonl", folder / "data.jsonl")
    return package.train("quickstart", small_settings(folder / "data.jsonl", folder / "run"))


def small_settings(data: Path, run: Path) -> list[str]:
    return [
        f"data.path={data}", "tokenizer.min_frequency=1", "model.embedding_dim=8",
        "model.hidden_size=8", "training.epochs=2", f"output.dir={run}",
    ]  # fmt: skip


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_train_leaves_a_checked_graph_which_is_what_answers(trained_run: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert 0 < metrics["export"]["max_difference"] <= 1e-5
    default, torch_based = package.load(trained_run), package.load(trained_run, runtime="torch")
    assert (default.runtime, torch_based.runtime) == ("onnx", "torch")
    assert isinstance(default.session, OnnxSession)
    assert isinstance(torch_based.session, TorchSession)
    rows = [json.loads(line)["text"] for line in (CORPUS / "reviews" / "test.jsonl").read_text("utf-8").splitlines()]
    close(default.predict_proba(rows), torch_based.predict_proba(rows), 1e-5)
    close(default.embed(rows[:50]), torch_based.embed(rows[:50]), 1e-5)
    for one, other in zip(default.explain(rows[:50]), torch_based.explain(rows[:50]), strict=True):
        assert (one.tokens, one.offsets, one.prediction.label) == (other.tokens, other.offsets, other.prediction.label)
        close(np.array(one.weights), np.array(other.weights), 1e-5)
        assert [word.text for word in one.words] == [word.text for word in other.words]


def test_an_older_run_is_exported_to_the_same_bytes_in_every_process(
    textattn: Runner, trained_run: Path, exports: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    """model.onnx as training wrote it in this process, model.int8.onnx and the bundle as `export` did."""
    run = Path(shutil.copytree(trained_run, tmp_path / "older"))
    (run / "model.onnx").unlink()
    done = textattn(
        "export", "--model", run, "--int8", "--bundle", tmp_path / "b.zip", "--json", env={"PYTHONHASHSEED": "7"}
    )
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["run"] == str(run)
    assert facts["max_difference"] == json.loads((run / "metrics.json").read_text())["export"]["max_difference"]
    first, _, bundle, _ = exports
    assert snapshot(run) == snapshot(first)
    assert (run / "model.onnx").read_bytes() == (trained_run / "model.onnx").read_bytes()
    assert (tmp_path / "b.zip").read_bytes() == bundle.read_bytes()
    assert facts["bundle"] == {"file": str(tmp_path / "b.zip"), "bytes": bundle.stat().st_size}


def test_export_alone_writes_the_graph_again_and_says_how_near_it_is(small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    (run / "model.onnx").write_bytes(b"damaged")
    done = cli("export", "--model", run)
    assert (done.code, done.out) == (0, f"{run}/model.onnx\n")
    assert re.fullmatch(
        rf"Loading torch …\n{re.escape(str(run))}/model\.onnx: 0\.0 MB, at most \d\.\de-0\d from torch\n", done.err
    )
    assert snapshot(run) == snapshot(small_run)
    (run / "model.safetensors").unlink()
    before = snapshot(run)
    done = cli("export", "--model", run)
    assert (done.code, done.out) == (3, "")
    assert f"Error: {run}/model.safetensors: no such file\n" in done.err
    assert snapshot(run) == before


# An export that is wrong


def wrong(weight: str) -> Any:
    """While this is in force the graph is written with one weight a thousandth off."""

    def build_wrongly(
        architecture: Mapping[str, Any], weights: graph.Weights, *rest: Any, **options: Any
    ) -> ModelProto:
        changed = {name: value + np.float32(0.001 if name == weight else 0) for name, value in weights.items()}
        assert weight in changed
        return graph.build_graph(architecture, changed, *rest, **options)

    return patch.object(onnx_model, "build_graph", build_wrongly)


WEIGHTS = [
    "embedding.weight", "encoder.layers.0.weight_hh_l0", "encoder.layers.0.bias_ih_l0_reverse",
    "attention.projection.weight", "classifier.bias",
]  # fmt: skip


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_graph_that_differs_from_torch_is_refused_and_not_written(
    weight: str, small_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    with wrong(weight):
        done = cli("export", "--model", run)
        assert (done.code, done.out) == (4, "")
        assert snapshot(run) == snapshot(small_run)  # the good one of before is still there
        (run / "model.onnx").unlink()
        before = snapshot(run)
        done = cli("export", "--model", run, "--bundle", tmp_path / "model.zip")
    assert (done.code, done.out) == (4, "")
    assert snapshot(run) == before
    assert not (tmp_path / "model.zip").exists()
    found = re.search(
        r"^Error: (.*): differs from torch by (\S+) \((logits|attention_weights) at batch size \d+, length \d+\), "
        r"allowed are 1e-05; it was not written\nHint: --runtime torch predicts all the same$",
        done.err,
        re.M,
    )
    assert found
    assert found[1] == str(run / "model.onnx")
    assert 1e-5 < float(found[2]) < 0.1


@pytest.mark.parametrize("weight", WEIGHTS)
def test_weights_that_are_no_numbers_are_refused(weight: str, small_run: Path, tmp_path: Path) -> None:
    """Torch and the graph agree on them: both give NaN."""
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    weights = load_file(run / "model.safetensors")
    weights[weight][...] = np.nan
    save_file(weights, run / "model.safetensors")
    (run / "model.onnx").unlink()
    before = snapshot(run)
    done = cli("export", "--model", run)
    assert (done.code, done.out) == (4, "")
    assert "differs from torch by nan" in done.err
    assert snapshot(run) == before


def test_training_is_finished_with_torch_where_the_export_fails(tmp_path: Path) -> None:
    data = CORPUS / "four_sentences" / "train.jsonl"
    with wrong("classifier.bias"):
        done = cli("train", "quickstart", *small_settings(data, tmp_path / "run"))
    assert (done.code, done.out) == (0, f"{tmp_path}/run\n")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    failed = metrics["export"].pop("failed")
    assert metrics["export"] == {}
    assert re.match(rf"{tmp_path}/run/model\.onnx: differs from torch by 1\.0e-03 \(logits at ", failed)
    assert f"Note: {failed}. Prediction will use torch, which starts more slowly.\n" in done.err
    assert not list(tmp_path.rglob("*.onnx"))
    assert not list(tmp_path.rglob(".*"))  # nor anything half written
    assert package.load(tmp_path / "run").runtime == "torch"
    done = cli("predict", "--model", tmp_path / "run", "This is a great movie")
    assert done.code == 0
    assert re.fullmatch(r"(positive|negative)\t0\.\d{4}\n", done.out)
    # And what failed once can be made up for.
    assert cli("export", "--model", tmp_path / "run").code == 0
    assert package.load(tmp_path / "run").runtime == "onnx"


# int8 of a run


def test_int8_reports_sizes_and_the_metric_before_and_after(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, _, _, facts = exports
    said = facts["int8"]
    for runtime, name, size in (("onnx", "before", "bytes_before"), ("int8", "after", "bytes_after")):
        file = run / ("model.onnx" if runtime == "onnx" else "model.int8.onnx")
        assert said[size] == file.stat().st_size
        done = cli("evaluate", "--model", run, "--split", "validation", "--runtime", runtime, "--json")
        assert said[name] == json.loads(done.out)["accuracy"]
    assert said["bytes_before"] / said["bytes_after"] > 3
    assert (said["split"], said["num_examples"], said["metric"]) == ("validation", 216, "accuracy")
    assert said["drop"] == pytest.approx(100 * (said["before"] - said["after"]))
    done = cli("export", "--model", run, "--int8", "--split", "test")
    assert (done.code, done.out) == (0, f"{run}/model.int8.onnx\n")
    metrics = json.loads((run / "metrics.json").read_text())
    times = said["bytes_before"] / said["bytes_after"]
    sizes = [f"{said[name] / 1e6:.2f} MB" for name in ("bytes_before", "bytes_after")]
    assert f"{run}/model.int8.onnx: {' -> '.join(sizes)} ({times:.2f} times smaller), " in done.err
    assert re.search(
        rf"accuracy {metrics['test']['accuracy']:.4f} -> 0\.\d{{4}} on 216 texts \(test\)\n$", done.err, re.M
    )


def test_int8_answers_only_when_asked_where_there_is_fp32(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, _, small, _ = exports
    full, int8 = package.load(run), package.load(run, runtime="int8")
    assert (full.runtime, int8.runtime, package.load(small).runtime) == ("onnx", "int8", "int8")
    rows = [json.loads(line)["text"] for line in (CORPUS / "reviews" / "test.jsonl").read_text("utf-8").splitlines()]
    difference = np.abs(full.predict_proba(rows) - int8.predict_proba(rows))
    assert 1e-5 < difference.mean() < 0.01  # it is another model, but not much of another
    assert difference.max() < 0.1
    done = cli("predict", "--model", run, "--runtime", "int8", "--json", *TEXTS)
    found = [json.loads(line)["score"] for line in done.out.splitlines()]
    assert found == pytest.approx([prediction.score for prediction in int8.predict(TEXTS)], abs=1e-9)
    assert found != pytest.approx([prediction.score for prediction in full.predict(TEXTS)], abs=1e-6)


def test_a_metric_that_falls_too_far_is_refused_and_nothing_is_written(
    exports: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(exports[0], tmp_path / "run"))

    def to_nothing(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """As coarse as can be: every weight is 0, and every text gets the same answer."""
        return np.zeros(matrix.shape, np.int8), np.ones((*matrix.shape[:-1], 1), np.float32)

    before = snapshot(run)
    with patch.object(graph, "_quantise", to_nothing):
        for limit in ([], ["--max-drop", "0"], ["--bundle", tmp_path / "model.zip"]):
            done = cli("export", "--model", run, "--int8", *limit)
            assert (done.code, done.out) == (4, "")
            assert snapshot(run) == before
        found = re.search(
            r"^Error: int8: accuracy falls from 0\.(\d{4}) to 0\.(\d{4}) on validation, by (\d+\.\d\d) points; "
            r"allowed are 0\.5; nothing was written\nHint: --max-drop (\S+)$",
            done.err,
            re.M,
        )
        assert found
        assert float(found[3]) == pytest.approx((int(found[1]) - int(found[2])) / 100, abs=0.02)
        assert not (tmp_path / "model.zip").exists()
        # What the hint allows is enough, a tenth of a point less is not.
        assert cli("export", "--model", run, "--int8", "--max-drop", str(float(found[4]) - 0.1)).code == 4
        assert cli("export", "--model", run, "--int8", "--max-drop", found[4]).code == 0
    assert snapshot(run).keys() == before.keys()
    assert (run / "model.int8.onnx").read_bytes() != before["model.int8.onnx"]
    done = cli("export", "--model", run, "--int8", "--max-drop", "-1")
    assert (done.code, done.out) == (2, "")


def test_int8_needs_the_data_of_the_run(small_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_run.parent, tmp_path / "moved"))
    run = folder / "run"
    config = run / "training_config.yaml"
    config.write_text(config.read_text().replace(str(small_run.parent), str(folder)))
    before = snapshot(run)
    done = cli("export", "--model", run, "--int8")
    assert (done.code, done.out) == (3, "")
    assert "Error: the data have no validation split; splits are: train\nHint: --split train\n" in done.err
    assert snapshot(run) == before
    assert cli("export", "--model", run, "--int8", "--split", "train", "--max-drop", "100").code == 0
    (run / "model.int8.onnx").unlink()
    (folder / "data.jsonl").rename(folder / "elsewhere.jsonl")
    done = cli("export", "--model", run, "--int8", "--split", "train")
    assert (done.code, done.out) == (3, "")
    assert str(folder / "data.jsonl") in done.err
    assert snapshot(run) == before


def test_a_runtime_without_its_file_is_named_with_the_command_that_makes_it(
    small_run: Path, exports: tuple[Path, Path, Path, dict[str, Any]]
) -> None:
    done = cli("predict", "--model", small_run, "--runtime", "int8", "x")
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        f"Error: {small_run}/model.int8.onnx: no such file, so this model has no runtime int8\n"
        f"Hint: textattn export --model {small_run} --int8\n"
    )
    bundle = exports[1]
    done = cli("predict", "--model", bundle, "--runtime", "torch", "x")
    assert (done.code, done.out) == (3, "")
    assert done.err == f"Error: {bundle}/model.safetensors: no such file, so this model has no runtime torch\n"


# Bundles


COMMANDS: dict[str, list[str]] = {
    "predict": ["predict", *TEXTS],
    "predict from a pipe": ["predict", "--top-k", "2", "--json"],
    "explain": ["explain", *TEXTS],
    "explain as JSON": ["explain", "--json", *TEXTS],
    "evaluate": ["evaluate"],
    "evaluate as JSON": ["evaluate", "--split", "validation", "--json"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bundle_answers_as_its_run(name: str, exports: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    run, bundle, small, _ = exports

    def answer(model: Path, *options: str) -> Result:
        return cli(*COMMANDS[name], "--model", model, *options, stdin="\n".join(TEXTS).encode())

    expected, found = answer(run), answer(bundle)
    assert (expected.code, found.code) == (0, 0)
    assert found.out == expected.out != ""
    # The small bundle has only the one runtime, so nobody needs to ask for it.
    assert answer(small).out == answer(run, "--runtime", "int8").out != expected.out


def test_info_says_of_a_bundle_what_it_says_of_its_run(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, bundle, small, _ = exports
    of_run = json.loads(cli("info", "--model", run, "--json").out)
    for file, graph_file in ((bundle, "model.onnx"), (small, "model.int8.onnx")):
        facts = json.loads(cli("info", "--json", TEXTATTN_MODEL=str(file)).out)
        assert facts.pop("path") == str(file)
        assert facts.pop("size_bytes") == {graph_file: (run / graph_file).stat().st_size}
        assert facts == {name: of_run[name] for name in facts}
        assert {"labels", "architecture", "metrics", "finished"} <= facts.keys()
        text = cli("info", "--model", file)
        assert text.code == 0
        assert "neg, pos" in text.out


def test_a_bundle_is_a_plain_zip_of_what_prediction_needs(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, bundle, small, _ = exports
    common = {
        "config.json", "tokenizer.json", "tokenizer_config.json", "training_config.yaml", "metrics.json", "README.md",
    }  # fmt: skip
    for file, graph_file in ((bundle, "model.onnx"), (small, "model.int8.onnx")):
        with zipfile.ZipFile(file) as members:
            assert members.testzip() is None
            assert set(members.namelist()) == common | {graph_file}
            for name in members.namelist():
                assert members.read(name) == (run / name).read_bytes()
    assert small.stat().st_size < bundle.stat().st_size / 2


def test_the_same_run_gives_the_same_bundle_whenever_it_is_made(small_run: Path, tmp_path: Path) -> None:
    """Also from a copy with other file times, at another place, in another folder's order."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(small_run.iterdir(), reverse=True):
        if path.is_file():
            shutil.copyfile(path, copy / path.name)
    for run, name in ((small_run, "a.zip"), (copy, "b.zip")):
        assert cli("export", "--model", run, "--bundle", tmp_path / name).code == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_file_in_the_way_of_a_bundle_is_replaced_only_when_asked(small_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_text("mine")
    done = cli("export", "--model", small_run, "--bundle", file)
    assert (done.code, done.out) == (2, "")
    assert f"Error: --bundle: {file} exists; nothing was changed\nHint: --overwrite\n" in done.err
    assert snapshot(tmp_path) == {"model.zip": b"mine"}
    done = cli("export", "--model", small_run, "--bundle", file, "--overwrite")
    assert (done.code, done.out) == (0, f"{file}\n")
    assert cli("predict", "--model", file, "This is a great movie").code == 0
    assert list(snapshot(tmp_path)) == ["model.zip"]
    done = cli("export", "--model", small_run, "--bundle", tmp_path, "--overwrite")
    assert (done.code, done.out) == (2, "")
    assert f"Error: --bundle: {tmp_path} is a folder\nHint: --bundle {file}\n" in done.err


def test_where_a_bundle_cannot_go_nothing_at_all_is_written(
    exports: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(exports[0], tmp_path / "run"))
    (run / "model.int8.onnx").unlink()
    before = snapshot(run)
    done = cli("export", "--model", run, "--int8", "--bundle", exports[1])
    assert (done.code, done.out) == (2, "")
    assert "exists; nothing was changed" in done.err
    assert snapshot(run) == before


def test_a_bundle_that_cannot_be_written_is_the_users_to_mend(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("export", "--model", small_run, "--bundle", tmp_path / "file" / "model.zip")
    assert (done.code, done.out) == (2, "")
    assert f"Error: --bundle: {tmp_path}/file/model.zip cannot be written" in done.err


def test_a_bundle_of_a_model_with_many_labels_can_be_read(small_run: Path, tmp_path: Path) -> None:
    """A confusion matrix is mostly zeros, which compress better than anything else."""
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"] = {"headline": "accuracy", "accuracy": 1.0, "interval_95": {"low": 1.0, "high": 1.0}}
    metrics["test"]["confusion_matrix"] = np.diag([30] * 250).tolist()
    (run / "metrics.json").write_text(json.dumps(metrics, indent=2))
    assert cli("export", "--model", run, "--bundle", tmp_path / "model.zip").code == 0
    done = cli("info", "--model", tmp_path / "model.zip", "--json")
    assert done.code == 0
    assert json.loads(done.out)["metrics"] == metrics


def test_a_bundle_cannot_be_exported_again(exports: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    bundle = exports[1]
    before = bundle.read_bytes()
    done = cli("export", "--model", bundle, "--int8")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: --model: {bundle} is a bundle; export needs the run directory it was made from\n"
    assert bundle.read_bytes() == before


def test_a_bundle_works_from_the_api_after_its_run_is_gone(small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    expected = package.load(run).predict_proba(TEXTS)
    assert cli("export", "--model", run, "--bundle", run / "inside.zip").code == 0
    file = (run / "inside.zip").rename(tmp_path / "any name.model")
    shutil.rmtree(run)
    classifier = package.load(file)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), expected)
    assert classifier.path == file
    with pytest.raises(InputError, match="no such file, so this model has no runtime int8"):
        package.load(file, runtime="int8")
