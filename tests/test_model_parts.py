"""A part of the model is one file: it is known by its name everywhere, and whatever it lacks costs no training."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import export_runs
import pytest
from conftest import Runner, unsealed
from export_runs import snapshot
from inprocess import run as cli

import textattn as package
from textattn.config.model_section import ModelConfig
from textattn.data.sources import CORPUS
from textattn.errors import InputError
from textattn.model import attention, encoders
from textattn.model.attention import attention_class
from textattn.model.encoders import encoder_class

small_run = export_runs.small_run
ROOT = Path(package.__file__).parents[1]


# Names


def test_configs_know_exactly_the_parts_that_have_a_file() -> None:
    assert sorted(get_args(ModelConfig.model_fields["attention"].annotation)) == sorted(attention.NAMES)
    assert sorted(get_args(ModelConfig.model_fields["encoder"].annotation)) == sorted((*encoders.NAMES, "none"))


@pytest.mark.parametrize("name", attention.NAMES)
def test_a_mechanism_is_named_as_its_file_is(name: str) -> None:
    assert attention_class(name).name() == name


@pytest.mark.parametrize(
    "name",
    ["", "bilinear", "Dot", "dot.py", "_base", "__init__", "os", ".dot", "..registry", "dot.DotAttention", None, [], 1],
)
def test_nothing_but_a_file_of_the_folder_can_be_named(name: Any) -> None:
    with pytest.raises(ValueError, match=rf"^unknown attention {re.escape(repr(name))}$"):
        attention_class(name)
    with pytest.raises(ValueError, match=rf"^unknown encoder {re.escape(repr(name))}$"):
        encoder_class(name)


@pytest.mark.parametrize("part", ["attention", "encoder"])
def test_a_model_with_an_unknown_part_is_not_loaded(part: str, small_run: Path, tmp_path: Path) -> None:
    """Not even as another part: an encoder other than lstm was once a GRU."""
    run = unsealed(Path(shutil.copytree(small_run, tmp_path / "run")))
    config = json.loads((run / "config.json").read_text())
    config["architecture"][part] = "rnn"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"config\.json: damaged architecture \(unknown {part} 'rnn'\)"):
        package.load(run, runtime="torch")


# Without an ONNX form, or with a wrong one


def no_form(*_: Any) -> str:
    raise NotImplementedError("the attention 'additive' has no ONNX form")


def failing(*_: Any) -> str:
    raise IndexError("list index out of range")


def invalid(_: Any, graph: Any, states: str) -> str:
    return str(graph.op("NoSuchOperator", states))


def of_the_wrong_shape(_: Any, graph: Any, states: str) -> str:
    return str(graph.op("Transpose", states, perm=[0, 2, 1]))


def different(_: Any, graph: Any, states: str) -> str:
    return str(graph.unsqueeze(graph.uniform_weights(), 1))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (no_form, r"the attention 'additive' has no ONNX form; it was not written"),
        (failing, r"the graph cannot be built or run \(list index out of range\); it was not written"),
        (invalid, r"the graph cannot be built or run \(.*NoSuchOperator.*\); it was not written"),
        (of_the_wrong_shape, r"the graph cannot be built or run \(.*\); it was not written"),
        (different, r"differs from torch by .*; it was not written"),
    ],
)
def test_an_export_that_fails_ends_as_a_check_that_failed(
    form: Any, reason: str, small_run: Path, tmp_path: Path
) -> None:
    """So it costs a run nothing but the graph, see `test_training_is_finished_with_torch_where_the_export_fails`."""
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    with patch.object(attention_class("additive"), "weigh_onnx", form):
        done = cli("export", "--model", run)
    assert (done.code, done.out) == (4, "")
    assert re.search(
        rf"^Error: {re.escape(str(run))}/model\.onnx: {reason}\nHint: --runtime torch works for prediction$",
        done.err,
        re.MULTILINE,
    )
    assert snapshot(run) == snapshot(small_run)


MECHANISM = '''
"""A mechanism of a test: score_i = q . |h_i|."""

import torch

from textattn.model.attention._base import WeightedPooling, masked_softmax


class Own(WeightedPooling):
    def __init__(self, sizes):
        super().__init__(sizes)
        self.query = torch.nn.Parameter(torch.ones(sizes.dim))

    def weigh(self, states, mask):
        return masked_softmax(states.abs() @ self.query.to(states.dtype), mask).unsqueeze(1)
'''
FORGETS_ABS = """
    def weigh_onnx(self, graph, states):
        scores = graph.squeeze(graph.op("MatMul", states, graph.constant(graph.array(self.query)[:, None])), 2)
        return graph.unsqueeze(graph.masked_softmax(scores, graph.mask), 1)
"""
RIGHT = FORGETS_ABS.replace('"MatMul", states', '"MatMul", graph.op("Abs", states)')


@pytest.mark.parametrize(
    ("onnx_form", "reason"),
    [("", "the attention 'own' has no ONNX form"), (FORGETS_ABS, "differs from torch by"), (RIGHT, None)],
)
def test_a_mechanism_is_one_file_and_without_an_onnx_form_it_predicts_with_torch(
    onnx_form: str, reason: str | None, textattn: Runner, tmp_path: Path
) -> None:
    for folder in ("textattn", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "textattn" / "model" / "attention" / "own.py").write_text(MECHANISM + onnx_form)
    run = tmp_path / "run"
    settings = export_runs.small_settings(CORPUS / "four_sentences" / "train.jsonl", run)
    plain = ["output.plots=false", "output.audit_examples=0"]

    def of_the_copy(*arguments: str | Path) -> Any:
        return textattn(*arguments, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)

    done = of_the_copy("train", "quickstart", *settings, *plain, "model.attention=own")
    assert (done.returncode, done.stdout) == (0, f"{run}\n"), done.stderr
    export = json.loads((run / "metrics.json").read_text())["export"]
    if reason is None:
        assert export["max_difference"] <= 1e-5
        assert (run / "model.onnx").is_file()
        return
    assert list(export) == ["failed"]
    assert reason in export["failed"]
    assert done.stderr.count("Prediction will use torch") == 1
    assert f"Note: {export['failed']}. Prediction will use torch, which starts more slowly.\n" in done.stderr
    assert not list(run.rglob("*.onnx"))
    done = of_the_copy("predict", "--model", run, "This is a great movie")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(positive|negative)\t0\.\d{4}\n", done.stdout)
