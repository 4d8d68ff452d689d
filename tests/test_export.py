"""`train` and `export` write a graph that was checked against torch, and none that is wrong."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import export_runs
import numpy as np
import pytest
import torch
from conftest import Runner, unsealed
from export_runs import close, small_settings, snapshot
from inprocess import run as cli
from onnx import ModelProto
from safetensors.numpy import load_file, save_file

import textattn as package
from textattn.data.sources import CORPUS
from textattn.export import graph, onnx_model
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.torch_session import TorchSession
from textattn.model.classifier import TextClassifier

# pytest looks for fixtures among the names of a file.
exports, small_run = export_runs.exports, export_runs.small_run


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

    def build_wrongly(model: TextClassifier, *rest: Any, **options: Any) -> ModelProto:
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.get_parameter(weight).add_(0.001)
        return graph.build_graph(changed, *rest, **options)

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
        r"but at most 1e-05 is allowed; it was not written\nHint: --runtime torch works for prediction$",
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
    save_file(weights, unsealed(run) / "model.safetensors")
    (run / "model.onnx").unlink()
    before = snapshot(run)
    done = cli("export", "--model", run)
    assert (done.code, done.out) == (4, "")
    assert re.search(r"model\.safetensors: damaged \(its .* are not finite numbers\)\); it was not written", done.err)
    assert snapshot(run) == before


def scaled(run: Path, target: Path, part: str, factor: float) -> Path:
    shutil.copytree(run, target)
    weights = load_file(target / "model.safetensors")
    for name in weights:
        if part in name:
            weights[name] *= factor
    save_file(weights, unsealed(target) / "model.safetensors")
    (target / "model.onnx").unlink()
    return target


def test_a_model_that_amplifies_rounding_is_exported(small_run: Path, tmp_path: Path) -> None:
    """Its fp32 logits are further from float64 than the tolerance, in torch as in ONNX."""
    run = scaled(small_run, tmp_path / "run", "classifier", 1000)
    done = cli("export", "--model", run, "--json")
    assert done.code == 0, done.err
    assert 1e-5 < json.loads(done.out)["max_difference"] < 1e-3
    assert (run / "model.onnx").is_file()


def test_a_model_whose_answers_are_rounding_is_not_exported(small_run: Path, tmp_path: Path) -> None:
    """With recurrent weights this large, every rounding grows to the size of the states."""
    run = scaled(small_run, tmp_path / "run", "weight_hh", 12)
    done = cli("export", "--model", run)
    assert done.code == 4
    assert "but at most 1e-03 is allowed" in done.err
    assert not (run / "model.onnx").exists()


def test_a_wrong_graph_of_a_model_that_amplifies_rounding_is_refused(small_run: Path, tmp_path: Path) -> None:
    run = scaled(small_run, tmp_path / "run", "classifier", 1000)
    with wrong("embedding.weight"):
        done = cli("export", "--model", run)
    assert done.code == 4
    assert not (run / "model.onnx").exists()


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
