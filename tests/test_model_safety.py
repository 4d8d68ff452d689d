"""A model from a stranger: it runs no code, reads and writes nothing outside its folder, and where it is damaged it
says so and names the file, without a traceback, a crash or gigabytes of memory. One model serves many threads."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from inprocess import run as cli
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import textattn
from textattn.errors import InputError, TextattnError

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx", "model.int8.onnx", "model.safetensors")
RUNTIMES = {"onnx": "model.onnx", "int8": "model.int8.onnx", "torch": "model.safetensors"}
# Each file with every runtime that reads it in a way of its own.
READERS = [
    ("config.json", "onnx"), ("config.json", "torch"), ("tokenizer.json", "onnx"), ("tokenizer_config.json", "onnx"),
    ("model.onnx", "onnx"), ("model.int8.onnx", "int8"), ("model.safetensors", "torch"),
]  # fmt: skip
TEXTS = ["good food", "", "awful " * 40, "Ein schönes 😀"]
GOOD = ["fine", "great", "tasty", "friendly", "fresh", "lovely"]
BAD = ["awful", "cold", "rude", "stale", "dirty", "noisy"]


def train(folder: Path, *overrides: str, labels: tuple[str, str] = ("neg", "pos"), suffix: str = "") -> Path:
    """A run on 48 short texts; `suffix` makes other words of them."""
    folder.mkdir()
    rows = [
        {"text": f"{words[i % 6]}{suffix} {words[(i + i // 6) % 6]}{suffix} food{suffix}", "label": label}
        for i in range(24)
        for label, words in zip(labels, (BAD, GOOD), strict=True)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        f"data.path={folder / 'data.jsonl'}", f"output.dir={folder / 'run'}", "tokenizer.min_frequency=1",
        "tokenizer.max_length=20", "model.embedding_dim=8", "model.hidden_size=8", "model.attention_size=8",
        "training.epochs=1", *overrides,
    ]  # fmt: skip
    return textattn.train("quickstart", settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for all runtimes; tests must not change it."""
    path = train(tmp_path_factory.mktemp("runs") / "base")
    done = cli("export", "--model", path, "--int8", "--split", "train", "--max-drop", "100")
    assert (done.code, done.out) == (0, f"{path / 'model.int8.onnx'}\n")
    return path


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return copy(run, tmp_path / "model")


def copy(run: Path, to: Path) -> Path:
    to.mkdir()
    for name in FILES:
        shutil.copy(run / name, to / name)
    return to


def complaint(model: Path, runtime: str | None = None) -> str | None:
    """What a model says is wrong with it; None where it answers. Whatever else happens is a failure."""
    try:
        classifier = textattn.load(model, runtime=runtime)
        predictions = classifier.predict(TEXTS)
        explanations = classifier.explain(TEXTS)
        vectors = classifier.embed(TEXTS)
    except TextattnError as error:
        assert error.exit_code in (2, 3)
        assert str(model) in error.message, error.message
        return error.message
    assert len(predictions) == len(explanations) == len(vectors) == len(TEXTS)
    for prediction in predictions:
        assert math.isclose(sum(prediction.scores.values()), 1, abs_tol=1e-6)
        assert prediction.score == max(prediction.scores.values())
    return None


def test_the_models_of_these_tests_answer(run: Path, model: Path) -> None:
    """Or everything below would prove nothing."""
    for runtime in RUNTIMES:
        assert complaint(run, runtime) is complaint(model, runtime) is None


# Damaged bytes


def structure(name: str, content: bytes) -> list[int]:
    """Bytes that are no numbers of the weights: there a flip does most."""
    inside = np.ones(len(content), bool)
    if name.endswith(".onnx"):
        for tensor in onnx.load_from_string(content).graph.initializer:
            start = content.index(tensor.raw_data)
            inside[start : start + len(tensor.raw_data)] = len(tensor.raw_data) < 64
    elif name.endswith(".safetensors"):
        inside[8 + int.from_bytes(content[:8], "little") :] = False
    return [int(i) for i in np.flatnonzero(inside)]


def replacements(content: bytes, payload: bytes, generator: random.Random) -> Iterator[tuple[str, bytes]]:
    """What cannot be a model any more."""
    # A line end may be cut off.
    size = len(content.rstrip())
    for end in {0, 1, 2, 7, 8, 9, size // 3, size // 2, size - 1, *(generator.randrange(size) for _ in range(12))}:
        yield f"cut to {end}", content[:end]
    yield "random bytes", generator.randbytes(size)
    yield "zeros", bytes(size)
    yield "pickle", payload
    for value in (b"null", b"[]", b"{}", b"5", b'"x"', b"\xff\xfe{\0}\0"):
        yield value.decode("latin-1"), value


def flips(content: bytes, places: list[int], count: int, generator: random.Random) -> Iterator[bytes]:
    """Bits and bytes changed, one or several, everywhere and more often in `places`."""
    for i in range(count):
        damaged = bytearray(content)
        for _ in range(generator.choice([1, 1, 2, 9])):
            place = generator.choice(places) if i % 4 else generator.randrange(len(content))
            damaged[place] ^= generator.choice([1 << generator.randrange(8), generator.randrange(1, 256)])
        yield bytes(damaged)


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self.marker),)


def fuzz(model: Path, name: str, runtime: str, count: int) -> Counter[str]:
    """Damages one file in many ways and counts the answers and complaints to changed bytes."""
    content, generator = (model / name).read_bytes(), random.Random(0)
    marker = model.parent / "executed"
    for what, damaged in replacements(content, pickle.dumps(Payload(marker)), generator):
        (model / name).write_bytes(damaged)
        said = complaint(model, runtime)
        assert said is not None, f"{name}, {what}: answered"
        assert str(model / name) in said, f"{name}, {what}: {said}"
        assert not marker.exists(), f"{name}, {what}: ran code"
    seen: Counter[str] = Counter()
    for damaged in flips(content, structure(name, content), count, generator):
        (model / name).write_bytes(damaged)
        seen["answers" if complaint(model, runtime) is None else "complaints"] += 1
    (model / name).write_bytes(content)
    assert complaint(model, runtime) is None
    return seen


@pytest.mark.parametrize(
    ("name", "runtime"),
    [reader for reader in READERS if not reader[0].endswith(".onnx")],
)
def test_damaged_bytes(model: Path, name: str, runtime: str) -> None:
    seen = fuzz(model, name, runtime, 100)
    assert seen["complaints"] >= 30
    if name == "tokenizer.json":
        # Its checksum stands in the weights.
        assert seen["answers"] == 0


def test_damaged_graphs_do_not_end_the_process(model: Path) -> None:
    """Native code reads them, so a process of its own does: it must come to its end."""
    done = subprocess.run(
        [sys.executable, __file__, str(model)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    for name in ("model.onnx", "model.int8.onnx"):
        assert facts[name]["complaints"] >= 100
        # A number of the weights is as good as any other.
        assert facts[name]["answers"] >= 10
    assert facts["megabytes"] < 200


def fuzz_graphs(model: Path) -> None:
    """The other process of the test above."""
    assert complaint(model, "onnx") is complaint(model, "int8") is None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts: dict[str, Any] = {
        name: dict(fuzz(model, name, runtime, 300)) for name, runtime in READERS if name.endswith(".onnx")
    }
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps(facts | {"megabytes": grown / 1024}))


@pytest.mark.parametrize(("name", "runtime"), READERS)
@pytest.mark.parametrize("folder", [False, True])
def test_a_file_that_is_not_there_or_is_a_folder(model: Path, name: str, runtime: str, folder: bool) -> None:
    (model / name).unlink()
    if folder:
        (model / name).mkdir()
    said = complaint(model, runtime)
    assert said is not None
    assert name in said


@pytest.mark.parametrize(("name", "runtime"), READERS)
def test_the_command_line_says_it_in_a_line_and_ends_with_3(model: Path, name: str, runtime: str) -> None:
    (model / name).write_bytes((model / name).read_bytes()[:99])
    for command in (["predict"], ["predict", "--json"], ["explain"]):
        done = cli(*command, "--model", model, "--runtime", runtime, "good")
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith(f"Error: {model / name}: ")
        assert "bug" not in done.err


def test_what_is_wrong_with_a_graph_is_not_said_on_stdout(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = (model / "model.onnx").read_bytes()
    # An operator whose name is not UTF-8, so that the library cannot even say what it is.
    (model / "model.onnx").write_bytes(content.replace(b"Softmax", b"S\xd2ftmax"))
    done = cli("predict", "--model", model, "--runtime", "onnx", "good")
    assert done.code == 3
    assert (done.out, capfd.readouterr().out) == ("", "")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_weights_that_are_no_numbers(model: Path, runtime: str, value: float) -> None:
    path, name = model / RUNTIMES[runtime], "classifier.bias"
    if runtime == "torch":
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors = load_tensors(content)
        path.write_bytes(save_tensors(tensors | {name: np.full_like(tensors[name], value)}, header["__metadata__"]))
    else:
        proto = onnx.load(path)
        tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
        tensor.raw_data = np.full(tuple(tensor.dims), value, np.float32).tobytes()
        onnx.save(proto, path)
    said = complaint(model, runtime)
    assert said is not None
    assert str(path) in said
    for command in (["predict"], ["predict", "--json"], ["explain"]):
        assert cli(*command, "--model", model, "--runtime", runtime, "good").code == 3


# JSON values of another type

WRONG: dict[str, Any] = {
    "null": None, "minus": -1, "fraction": 1.5, "huge": 10**30, "infinite": math.inf, "string": "x", "list": [],
    "list of null": [None], "object": {}, "object of null": {"0": None}, "gone": ...,
}  # fmt: skip
# Read by nobody here, or free to be anything.
FREE = {"architectures", "label2id", "text_columns", "kind", "pad_token", "unk_token", "tokenizer_class"}
KEYS = [
    ("config.json", key)
    for key in (
        "model_type", "architectures", "format_version", "problem_type", "id2label", "label2id", "output",
        "text_columns", "thresholds", "architecture",
        *(f"architecture.{part}" for part in (
            "vocab_size", "num_outputs", "embedding_dim", "encoder", "hidden_size", "num_layers", "bidirectional",
            "attention", "attention_size", "num_heads", "dropout",
        )),
    )
] + [
    ("tokenizer_config.json", key)
    for key in ("model_max_length", "truncation", "num_segments", "kind", "pad_token", "unk_token", "tokenizer_class")
]  # fmt: skip
# A dictionary of rates may be empty; without thresholds there are none; a length may be any number.
ALLOWED = {
    ("thresholds", "null"), ("thresholds", "gone"), ("format_version", "minus"),
    ("model_max_length", "fraction"), ("model_max_length", "huge"),
    ("num_segments", "fraction"), ("num_segments", "minus"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_json_values_of_another_type(model: Path, name: str, key: str) -> None:
    content = (model / name).read_text()
    for kind, wrong in WRONG.items():
        if key.startswith("architecture.") and kind == "huge":
            # Sizes are looked at below.
            continue
        value = json.loads(content)
        *parents, last = key.split(".")
        inner = functools.reduce(dict.__getitem__, parents, value)
        assert last in inner
        if wrong is ...:
            del inner[last]
        else:
            inner[last] = wrong
        (model / name).write_text(json.dumps(value))
        for runtime in RUNTIMES:
            said = complaint(model, runtime)
            if key not in FREE and (key, kind) not in ALLOWED:
                assert said is not None, f"{key} may be {wrong!r} with {runtime}"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"id2label": {"0": "pos"}}),
        ("config.json", {"id2label": {"0": "pos", "1": "neg"}}),
        ("config.json", {"id2label": {"0": "neg", "1": "pos", "2": "other"}}),
        ("config.json", {"id2label": {"1": "neg", "2": "pos"}}),
        ("config.json", {"id2label": {"0": "neg", "1": "neg"}}),
        ("config.json", {"thresholds": [0.5]}),
        ("config.json", {"output": "sigmoid"}),
        pytest.param("tokenizer_config.json", {"num_segments": 2}),
    ],
)
def test_values_that_contradict_others(model: Path, name: str, change: dict[str, Any]) -> None:
    value = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps(value | change))
    for runtime in RUNTIMES:
        assert complaint(model, runtime) is not None


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        pytest.param("tokenizer_config.json"),
    ],
)
def test_json_too_deep_to_be_read(model: Path, name: str) -> None:
    (model / name).write_bytes(b"[" * 100_000)
    assert str(model / name) in str(complaint(model, "onnx"))


@pytest.mark.parametrize("size", [{"embedding_dim": 2_000_000}, {"num_layers": 2000}, {"hidden_size": 1200}])
def test_sizes_are_not_believed_before_the_weights_confirm_them(model: Path, size: dict[str, int]) -> None:
    """With larger ones yet it would take all memory, and minutes."""
    assert complaint(model, "torch") is None
    value = json.loads((model / "config.json").read_text())
    value["architecture"] |= size
    (model / "config.json").write_text(json.dumps(value))
    started = time.process_time()
    assert complaint(model, "torch") is not None
    assert time.process_time() - started < 0.5


def test_a_newer_format_asks_for_an_upgrade(model: Path) -> None:
    value = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(value | {"format_version": value["format_version"] + 1}))
    done = cli("predict", "--model", model, "good")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"Error: {model / 'config.json'}: format version 2, but this textattn reads up to 1\n")
    assert "pip install --upgrade textattn" in done.err


# Files of another run


@pytest.fixture(scope="module")
def others(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that differ from `run` in one thing, and in no size."""
    folder = tmp_path_factory.mktemp("others")
    return {
        "labels": train(folder / "labels", labels=("no", "yes")),
        "vocabulary": train(folder / "vocabulary", suffix="s"),
        "architecture": train(folder / "architecture", "model.attention=dot"),
    }


@pytest.mark.parametrize(
    ("difference", "names"),
    [
        ("labels", {"config.json", "weights"}),
        ("vocabulary", {"tokenizer.json", "weights"}),
        ("architecture", {"config.json", "weights"}),
    ],
)
@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_file_of_another_run_is_refused(
    run: Path, others: dict[str, Path], tmp_path: Path, difference: str, names: set[str], runtime: str
) -> None:
    weights = RUNTIMES[runtime]
    other = others[difference]
    assert (other / weights).stat().st_size - (run / weights).stat().st_size in range(-3000, 3000)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", weights):
        model = copy(run, tmp_path / name)
        shutil.copy(other / name, model / name)
        said = complaint(model, runtime)
        # What both runs have in common may be taken from either.
        assert (said is not None) == (("weights" if name == weights else name) in names), (name, said)


def test_a_tokenizer_of_the_same_size_is_named(run: Path, others: dict[str, Path], model: Path) -> None:
    sizes = {
        len(json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]) for path in (run, *others.values())
    }
    assert len(sizes) == 1
    shutil.copy(others["vocabulary"] / "tokenizer.json", model)
    for runtime, name in RUNTIMES.items():
        said = complaint(model, runtime)
        assert said == f"{model / 'tokenizer.json'}: not the tokenizer that {name} was trained with"


def test_labels_that_the_weights_do_not_know_are_named(others: dict[str, Path], model: Path) -> None:
    shutil.copy(others["labels"] / "config.json", model)
    for runtime, name in RUNTIMES.items():
        said = complaint(model, runtime)
        assert said == f"{model / 'config.json'}: the labels are no, yes, but {name} was trained with neg, pos"


# Made to do harm


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


# Bundles

BUNDLED = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx")


def pack(
    model: Path,
    bundle: Path,
    *,
    without: tuple[str, ...] = (),
    extra: Mapping[str, bytes] | None = None,
    method: int = zipfile.ZIP_STORED,
    rename: Callable[[str], str] = str,
) -> Path:
    with zipfile.ZipFile(bundle, "w", method) as file:
        for name in BUNDLED:
            if name not in without:
                file.writestr(rename(name), (model / name).read_bytes())
        for name, content in (extra or {}).items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return bundle


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_bundles(run: Path, tmp_path: Path, method: int) -> None:
    bundle, generator = pack(run, tmp_path / "model.zip", method=method), random.Random(0)
    assert complaint(bundle) is None
    content = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as file:
        contents, directory = file.infolist(), file.start_dir
    for end in {1, 2, 3, 4, 30, directory - 1, directory, directory + 9, *range(len(content) - 23, len(content), 7)}:
        bundle.write_bytes(content[:end])
        assert complaint(bundle) is not None, f"cut to {end}"
    damaged_members = 0
    for info in contents:
        # The content of a member, behind its header: zip's checksum tells.
        start = info.header_offset + 30 + len(info.filename)
        for _ in range(10):
            place = start + generator.randrange(info.compress_size)
            bundle.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
            said = complaint(bundle)
            if said is None:
                # The last bits of a packed member may say nothing.
                with zipfile.ZipFile(bundle) as file:
                    assert file.read(info.filename) == (run / info.filename).read_bytes(), f"byte {place}"
            else:
                assert said.startswith(f"{bundle / info.filename}: damaged"), said
            damaged_members += said is not None
    assert damaged_members >= 10 * len(contents) - 2
    headers = [*range(directory, len(content)), *(info.header_offset + i for info in contents for i in range(30))]
    for damaged in flips(content, headers, 150, generator):
        bundle.write_bytes(damaged)
        complaint(bundle)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundle_that_lacks_a_file(run: Path, tmp_path: Path, name: str) -> None:
    bundle = pack(run, tmp_path / "model.zip", without=(name,))
    said = complaint(bundle, "onnx")
    assert said is not None
    assert str(bundle / name) in said


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" * 9, b"no zip", b"\x80\x04."])
def test_a_file_that_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    bundle = tmp_path / "model.zip"
    bundle.write_bytes(content)
    assert complaint(bundle) is not None
    done = cli("predict", "--model", bundle, "good")
    assert (done.code, done.out) == (3, "")


def test_a_bundle_writes_nothing_wherever_its_names_point(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    names = [
        "../evil",
        f"{tmp_path}/evil",
        "..\\evil",
        "C:\\evil",
        "sub/../../evil",
        "sub/",
        "~/evil",
        "model.onnx/evil",
    ]
    bundle = pack(run, tmp_path / "model.zip", extra=dict.fromkeys(names, b"evil"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert complaint(bundle) is None
    assert cli("predict", "--model", bundle, "good").code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("prefix", ["../", "run/", "/", "./"])
def test_files_elsewhere_in_a_bundle_are_not_found(run: Path, tmp_path: Path, prefix: str) -> None:
    bundle = pack(run, tmp_path / "model.zip", rename=lambda name: prefix + name)
    # Those beside it are not taken either.
    copy(run, tmp_path / "run")
    assert complaint(bundle) == f"{bundle / 'config.json'}: no such file"


def test_an_encrypted_bundle(run: Path, tmp_path: Path) -> None:
    bundle = pack(run, tmp_path / "model.zip")
    content = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as file:
        places = [info.header_offset + 6 for info in file.infolist()]
        place = file.start_dir
        for info in file.infolist():
            places.append(place + 8)
            place += 46 + len(info.filename) + len(info.extra) + len(info.comment)
    for place in places:
        content[place] |= 1
    bundle.write_bytes(content)
    assert "encrypted" in str(complaint(bundle))


@pytest.mark.parametrize(
    ("method", "honest"),
    [
        pytest.param(
            zipfile.ZIP_DEFLATED,
            True,
        ),
        pytest.param(zipfile.ZIP_DEFLATED, False),
        pytest.param(zipfile.ZIP_BZIP2, False),
    ],
)
def test_a_bundle_that_would_fill_the_memory(run: Path, tmp_path: Path, method: int, honest: bool) -> None:
    """A hundred bytes can become a hundred thousand; a header may say that they do, or not."""
    size, said_size = 96 << 20, 2000
    bundle = pack(run, tmp_path / "model.zip", without=("tokenizer.json",))
    with zipfile.ZipFile(bundle, "a") as file:
        info = zipfile.ZipInfo("tokenizer.json")
        info.compress_type = method
        file.writestr(info, bytes(size))
    if not honest:
        content = bundle.read_bytes()
        assert content.count(struct.pack("<L", size)) == 2
        bundle.write_bytes(content.replace(struct.pack("<L", size), struct.pack("<L", said_size)))
    assert bundle.stat().st_size < 200_000
    tracemalloc.start()
    try:
        said = complaint(bundle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said is not None
    assert str(bundle / "tokenizer.json") in said
    assert peak < 16 << 20


# Threads


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_many_threads_get_what_one_gets(run: Path, runtime: str) -> None:
    model = textattn.load(run, runtime=runtime)
    generator = random.Random(0)
    vocabulary = [*GOOD, *BAD, "food", "unknown", "😀"]
    lists = [[" ".join(generator.choices(vocabulary, k=generator.randrange(30))) for _ in range(40)] for _ in range(8)]

    def answers(texts: list[str]) -> Any:
        return (model.predict(texts), model.explain(texts), model.embed(texts).tolist(), model.predict(texts[0]))

    expected = [answers(texts) for texts in lists]
    assert len({str(answer) for answer in expected}) == len(lists)
    together = threading.Barrier(len(lists))

    def many(texts: list[str]) -> list[Any]:
        together.wait(30)
        return [answers(texts) for _ in range(4)]

    with ThreadPoolExecutor(len(lists)) as pool:
        found = list(pool.map(many, lists))
    assert found == [[answer] * 4 for answer in expected]


def test_a_damaged_model_is_refused_in_every_thread(model: Path) -> None:
    (model / "tokenizer.json").write_bytes(b"{")

    def load(_: int) -> str:
        with pytest.raises(InputError) as caught:
            textattn.load(model)
        return caught.value.message

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(16)))) == 1


if __name__ == "__main__":
    fuzz_graphs(Path(sys.argv[1]))
