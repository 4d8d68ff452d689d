"""A model made to do harm runs no code, and reads and writes nothing outside its folder."""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import damaged_models
import numpy as np
import onnx
import pytest
from conftest import Runner
from damaged_models import RUNTIMES, complaint, pack
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

# pytest looks for fixtures among the names of a file.
run, model = damaged_models.run, damaged_models.model


def set_facts(model: Path, **facts: Any) -> None:
    """Changes what the weights say they were trained with: who makes harmful files makes them fit together."""
    for name in ("model.onnx", "model.int8.onnx"):
        proto = onnx.load(model / name)
        entry = next(entry for entry in proto.metadata_props if entry.key == "textattn")
        entry.value = json.dumps(json.loads(entry.value) | facts)
        onnx.save(proto, model / name)
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(save_tensors(load_tensors(content), {"textattn": entry.value}))


def set_tokenizer(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads((model / "tokenizer.json").read_text())
    change(value)
    content = json.dumps(value).encode()
    (model / "tokenizer.json").write_bytes(content)
    set_facts(model, tokenizer_crc32=zlib.crc32(content))


def rename(value: dict[str, Any], old: str, new: str) -> None:
    vocabulary = value["model"]["vocab"]
    vocabulary[new] = vocabulary.pop(old)
    value["added_tokens"] = [token for token in value["added_tokens"] if token["content"] != old]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda value: value["model"].update(unk_token="nothing"), id="no unknown token",
        ),
        pytest.param(
            lambda value: rename(value, "[PAD]", "[QAD]"), id="no padding",
        ),
        pytest.param(
            lambda value: value.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            id="panic when it is read",
        ),
        pytest.param(
            lambda value: value.update(pre_tokenizer={"type": "FixedLength", "length": 0}), id="panic when it is used",
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tokenizer_that_cannot_work(model: Path, change: Callable[[dict[str, Any]], None], runtime: str) -> None:
    set_tokenizer(model, change)
    assert str(model / "tokenizer.json") in str(complaint(model, runtime))


@pytest.mark.parametrize(
    "runtime",
    ["onnx", "int8", pytest.param("torch")],
)
def test_a_token_that_the_weights_do_not_have(model: Path, runtime: str) -> None:
    set_tokenizer(model, lambda value: value["model"]["vocab"].update(food=5000))
    assert complaint(model, runtime) is not None


@pytest.mark.parametrize(
    "facts",
    [
        {"labels": "x"},
        {"labels": []},
        {"labels": {"0": "neg"}},
        pytest.param({"labels": None}),
        pytest.param({"labels": 5}),
        {"architecture": None},
        {"tokenizer_crc32": "x"},
    ],
)
def test_facts_in_the_weights_of_another_type(model: Path, facts: dict[str, Any]) -> None:
    set_facts(model, **facts)
    for runtime in RUNTIMES:
        assert complaint(model, runtime) is not None


def graph(
    outputs: Mapping[str, tuple[tuple[int, ...], list[Any] | None]],
    metadata: Mapping[str, str],
    *,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    kind: int = TensorProto.INT64,
    shape: tuple[Any, ...] = ("batch", "seq"),
) -> bytes:
    """A graph that always says 0: outputs have a shape, and the one that is declared."""
    names = list(outputs)
    made = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_0"], [name]) for name in names],
        "other",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, outputs[name][1]) for name in names],
        [numpy_helper.from_array(np.zeros(outputs[name][0], np.float32), f"{name}_0") for name in names],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(proto, dict(metadata))
    content: bytes = proto.SerializeToString()
    return content


SHAPES = {"logits": ((4, 2), ["batch", 2]), "attention_weights": ((4, 20), None), "context": ((4, 16), None)}


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, {"inputs": ("tokens", "mask")}),
        ({}, {"inputs": ("input_ids",)}),
        ({}, {"kind": TensorProto.FLOAT}),
        ({}, {"shape": (7, 7)}),
        ({}, {"metadata": {}}),
        ({}, {"metadata": {"textattn": "no JSON"}}),
        ({}, {"metadata": {"textattn": "[]"}}),
        ({"last": ((1,), None)}, {}),
        ({"logits": ((4, 3), ["batch", 3])}, {}),
        ({"logits": ((4, 3), ["batch", 2])}, {}),
        pytest.param({"logits": ((2,), [2])}, {}),
        pytest.param({"logits": ((5, 2), None)}, {}),
        pytest.param({"attention_weights": ((4, 1), None)}, {}),
        pytest.param({"attention_weights": ((4,), None)}, {}),
        pytest.param({"context": ((), None)}, {}),
        pytest.param({}, {"metadata": {"textattn": "[" * 100_000}}),
    ],
)
def test_a_graph_of_another_kind(model: Path, changes: dict[str, Any], settings: dict[str, Any]) -> None:
    proto = onnx.load(model / "model.onnx")
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    (model / "model.onnx").write_bytes(graph(SHAPES | changes, **{"metadata": metadata, **settings}))
    assert str(model / "model.onnx") in str(complaint(model, "onnx"))


def external(run: Path, location: str) -> bytes:
    """The graph with its embedding in another file."""
    proto = onnx.load(run / "model.onnx")
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "embedding.weight")
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(size)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    content: bytes = proto.SerializeToString()
    return content


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "location",
    ["{tmp}/secret.bin", "../secret.bin", "link.bin", "sub/../../secret.bin", "secret.bin", "*/_ORT_MEM_ADDR_/*", ""],
)
def test_weights_outside_the_model_are_not_read(
    run: Path, model: Path, tmp_path: Path, location: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph can name files for its weights: with them somebody else's would be told to the world."""
    proto = onnx.load(run / "model.onnx")
    raw = next(tensor.raw_data for tensor in proto.graph.initializer if tensor.name == "embedding.weight")
    (tmp_path / "secret.bin").write_bytes(raw)
    (model / "link.bin").symlink_to(tmp_path / "secret.bin")
    (model / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    (model / "model.onnx").write_bytes(external(run, location.replace("{tmp}", str(tmp_path))))
    target = pack(model, tmp_path / "model.zip") if packed else model
    assert str(target / "model.onnx") in str(complaint(target, "onnx"))


def test_loading_and_predicting_open_nothing_for_writing_and_unpickle_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    bundle = pack(run, tmp_path / "model.zip")
    for runtime in RUNTIMES:
        # Whatever a library does when it is loaded is done.
        assert complaint(run, runtime) is None

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for module, names in ((pickle, ("load", "loads", "Unpickler", "_Unpickler")), (torch, ("load",))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    with audited() as events:
        for runtime in RUNTIMES:
            assert complaint(run, runtime) is None
        assert complaint(bundle, "onnx") is None
    assert ("open", str(run / "tokenizer.json"), "r") in events
    assert [event for event in events if event[0] != "open" or event[2] != "r"] == []


_events: list[tuple[str, str, str]] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is None:
        return
    if event == "open" and isinstance(arguments[0], str):
        mode = str(arguments[1] or "")
        writes = any(letter in mode for letter in "wax+") or (not mode and arguments[2] & 3)
        _events.append((event, arguments[0], "w" if writes else "r"))
    elif event.split(".")[0] in ("pickle", "subprocess", "socket", "exec", "ctypes") or event in (
        "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.rename", "os.remove", "shutil.rmtree",
    ):  # fmt: skip
        _events.append((event, "", ""))


@contextlib.contextmanager
def audited() -> Iterator[list[tuple[str, str, str]]]:
    """What Python's audit hooks tell: files opened, code executed, processes started, connections."""
    global _events
    if not hasattr(sys, "_textattn_hook"):
        sys.addaudithook(_hook)
        sys._textattn_hook = True  # type: ignore[attr-defined]
    _events = events = []
    try:
        yield events
    finally:
        _events = None


def test_predicting_leaves_nothing_at_home(trained_run: Path, textattn: Runner, tmp_path: Path) -> None:
    """ONNX Runtime by itself writes an identifier of the machine and reports to its maker."""
    variables = dict.fromkeys(("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"), None)
    done = textattn("predict", "--model", trained_run, "good food", env={**variables, "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []
