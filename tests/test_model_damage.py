"""A model with damaged bytes says so and names the file, without a traceback, a crash or gigabytes of memory."""

from __future__ import annotations

import json
import math
import pickle
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import damaged_models
import numpy as np
import onnx
import pytest
from damaged_models import READERS, RUNTIMES, complaint, flips
from inprocess import run as cli
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

# pytest looks for fixtures among the names of a file.
run, model = damaged_models.run, damaged_models.model


def test_the_models_of_these_tests_answer(run: Path, model: Path) -> None:
    """Or everything below would prove nothing."""
    for runtime in RUNTIMES:
        assert complaint(run, runtime) is complaint(model, runtime) is None


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


if __name__ == "__main__":
    fuzz_graphs(Path(sys.argv[1]))
