"""A model with values of another type, values that contradict others, or files of another run is refused."""

from __future__ import annotations

import functools
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import damaged_models
import pytest
from damaged_models import RUNTIMES, complaint, copy, train
from inprocess import run as cli

# pytest looks for fixtures among the names of a file.
run, model = damaged_models.run, damaged_models.model


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
    assert done.err.startswith(
        f"Error: {model / 'config.json'}: has format version 2, but this version of textattn reads formats up to 1\n"
    )
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
