"""A finished run: which files there are, what each holds, and what happens when they are damaged or in the way."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import unsealed
from inprocess import run as cli
from safetensors import safe_open
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

import textattn
from textattn.data.sources import CORPUS
from textattn.errors import ConfigError, InputError
from textattn.storage import files
from textattn.storage.find_model import find_model
from textattn.storage.run_dir import RunDir
from textattn.storage.run_folder import begin

FILES = {
    "RUNDIR.TAG", "checksums.json", "reference.json",
    "config.json", "model.safetensors", "model.onnx", "tokenizer.json", "tokenizer_config.json", "training_config.yaml",
    "environment.json", "log.jsonl", "trainer_state.json", "metrics.json", "README.md", "report.html",
    "predictions/test.parquet", "attention/test.parquet",
    "plots/training.png", "plots/confusion_matrix.png", "plots/reliability.png",
}  # fmt: skip


def read(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{path} holds {name}, which is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def corpus(split: str) -> list[dict[str, Any]]:
    lines = (CORPUS / "reviews" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_finished_run_holds_exactly_these_files(trained_run: Path) -> None:
    assert {str(p.relative_to(trained_run)) for p in trained_run.rglob("*") if p.is_file()} == FILES


def test_files_are_as_readable_as_others_of_their_owner(trained_run: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    expected = stat.S_IMODE(plain.stat().st_mode)
    assert {stat.S_IMODE((trained_run / name).stat().st_mode) for name in FILES} == {expected}


def test_config_json_uses_the_names_of_hugging_face(trained_run: Path) -> None:
    config = read(trained_run / "config.json")
    assert config["model_type"] == "textattn"
    assert config["architectures"] == ["TextClassifier"]
    assert config["problem_type"] == "single_label_classification"
    assert config["id2label"] == {"0": "neg", "1": "pos"}
    assert config["label2id"] == {"neg": 0, "pos": 1}
    assert config["format_version"] == 1
    with safe_open(trained_run / "model.safetensors", "np") as file:
        # More than one entry would come in an order of its own in each process: other bytes for the same model.
        assert list(file.metadata()) == ["textattn"]
        trained_with = json.loads(file.metadata()["textattn"])
        assert trained_with["labels"] == ["neg", "pos"]
        assert trained_with["architecture"] == config["architecture"]
        assert file.get_slice("embedding.weight").get_shape() == [config["architecture"]["vocab_size"], 32]
    tokenizer = read(trained_run / "tokenizer_config.json")
    assert tokenizer["model_max_length"] == 60


def test_metrics_are_those_of_the_predictions_file(trained_run: Path) -> None:
    metrics = read(trained_run / "metrics.json")
    table = pq.read_table(trained_run / "predictions" / "test.parquet").to_pydict()
    assert table["text"] == [row["text"] for row in corpus("test")]
    assert table["label"] == [row["label"] for row in corpus("test")]
    assert table["row"] == list(range(len(table["text"])))
    scores = np.stack([table["score:neg"], table["score:pos"]], axis=1)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert table["prediction"] == [("neg", "pos")[i] for i in scores.argmax(axis=1)]
    np.testing.assert_array_equal(table["score"], scores.max(axis=1))

    test = metrics["test"]
    assert test["accuracy"] == pytest.approx(accuracy_score(table["label"], table["prediction"]))
    assert test["macro_f1"] == pytest.approx(f1_score(table["label"], table["prediction"], average="macro"))
    expected = confusion_matrix(table["label"], table["prediction"], labels=["neg", "pos"]).tolist()
    assert test["confusion_matrix"] == expected
    assert test["num_examples"] == len(table["text"]) == sum(map(sum, expected))
    interval = test["interval_95"]
    assert interval["metric"] == "accuracy"
    # The normal approximation of a binomial share, for 216 rows good to a hundredth or two.
    half = 1.96 * math.sqrt(test["accuracy"] * (1 - test["accuracy"]) / test["num_examples"])
    assert interval["low"] == pytest.approx(test["accuracy"] - half, abs=0.02)
    assert interval["high"] == pytest.approx(test["accuracy"] + half, abs=0.02)
    majority = max(("neg", "pos"), key=table["label"].count)
    assert test["majority_class"] == {
        "label": majority,
        "accuracy": pytest.approx(table["label"].count(majority) / len(table["label"])),
    }
    assert test["accuracy"] > test["majority_class"]["accuracy"]


def test_the_history_names_the_best_evaluation(trained_run: Path) -> None:
    state, metrics = read(trained_run / "trainer_state.json"), read(trained_run / "metrics.json")
    log = [json.loads(line) for line in (trained_run / "log.jsonl").read_text().splitlines()]
    assert state["log_history"] == log
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert state["global_step"] == state["max_steps"] == log[-1]["step"] == 3 * math.ceil(len(corpus("train")) / 32)
    values = [entry["eval_accuracy"] for entry in log]
    # A tie is no improvement, so the first of the highest.
    assert state["best_global_step"] == log[values.index(max(values))]["step"]
    assert state["best_metric"] == max(values) == metrics["validation"]["accuracy"]
    assert metrics["best"]["best_metric"] == max(values)


def test_the_environment_says_how_the_run_came_about(trained_run: Path) -> None:
    environment = read(trained_run / "environment.json")
    assert environment["seed"] == 42
    assert {"torch", "tokenizers", "numpy", "safetensors"} <= set(environment["packages"])
    splits = environment["dataset"]["splits"]
    assert {name: split["num_examples"] for name, split in splits.items()} == {
        name: len(corpus(name)) for name in ("train", "validation", "test")
    }
    assert len({split["sha256"] for split in splits.values()}) == 3


def test_attention_offsets_reproduce_the_tokens_and_weights_sum_to_one(trained_run: Path) -> None:
    rows = pq.read_table(trained_run / "attention" / "test.parquet").to_pylist()
    predictions = pq.read_table(trained_run / "predictions" / "test.parquet").to_pylist()
    assert len(rows) == len(predictions)
    for row, predicted in zip(rows, predictions, strict=True):
        assert (row["row"], row["text"], row["label"]) == (predicted["row"], predicted["text"], predicted["label"])
        assert (row["prediction"], row["score"]) == (predicted["prediction"], pytest.approx(predicted["score"]))
        assert sum(row["weights"]) == pytest.approx(1, abs=1e-5)
        assert min(row["weights"]) >= 0
        assert len(row["tokens"]) == len(row["weights"]) <= 60
        for token, start, end in zip(row["tokens"], row["starts"], row["ends"], strict=True):
            assert token in (row["text"][start:end].lower(), "[UNK]")


def test_the_model_card_holds_what_was_measured(trained_run: Path) -> None:
    card = (trained_run / "README.md").read_text(encoding="utf-8")
    metrics = read(trained_run / "metrics.json")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "textattn"
    assert metadata["pipeline_tag"] == "text-classification"
    results = {r["dataset"]["split"]: r["metrics"] for r in metadata["model-index"][0]["results"]}
    for split in ("validation", "test"):
        assert {"type": "accuracy", "value": metrics[split]["accuracy"]} in results[split]
    assert f"| accuracy | {metrics['validation']['accuracy']:.4f} | {metrics['test']['accuracy']:.4f} |" in card
    assert "embedding 32, LSTM 32 (bidirectional, 1 layer), additive attention, softmax" in card


# Writing


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a" / "metrics.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"x": float("nan")})
    with pytest.raises(ZeroDivisionError), files.atomic_path(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("mode", "left"), [(0o640, 0o600), (0o664, 0o644), (0o666, 0o666)])
def test_a_file_that_cannot_keep_its_group_is_not_opened_to_another(mode: int, left: int) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o777)
        path = folder / "shared.txt"
        path.write_text("old")
        os.chown(path, 12345, 12345)
        path.chmod(mode)
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(23456)
                os.setuid(23456)
                files.write_text(path, "new")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        found = path.stat()
        assert (path.read_text(), found.st_gid, stat.S_IMODE(found.st_mode)) == ("new", 23456, left)


def test_a_finished_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    begin(RunDir(tmp_path), False)
    for name in ("metrics.json", "training_config.yaml", "model.safetensors", "mine.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "predictions").mkdir()
    with pytest.raises(ConfigError) as caught:
        begin(RunDir(tmp_path), False)
    assert caught.value.message == f"output.dir: {tmp_path} already contains a finished run; nothing was changed"
    assert len(list(tmp_path.iterdir())) == 6
    begin(RunDir(tmp_path), True)
    assert {p.name for p in tmp_path.iterdir()} == {"RUNDIR.TAG", "mine.txt"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_emptied(tmp_path: Path, overwrite: bool) -> None:
    """`--overwrite output.dir=.` in a project must not cost it its README."""
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(ConfigError, match="already contains files that are not a run; nothing was changed"):
        begin(RunDir(tmp_path), overwrite)
    assert (tmp_path / "README.md").read_text() == "my project"


def test_the_run_directory_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"output\.dir: .*/file is a file"):
        begin(RunDir(tmp_path / "file"), True)


# Finding


def fake_run(path: Path, finished_at: int | None) -> Path:
    path.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (path / name).write_text("{}")
    if finished_at is not None:
        (path / "metrics.json").write_text("{}")
        os.utime(path / "metrics.json", (finished_at, finished_at))
    return path


def test_the_newest_finished_run_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        find_model(None)
    assert caught.value.message == "no model is given, and there is no finished run under runs/"
    assert caught.value.hint == "textattn train quickstart"
    fake_run(tmp_path / "runs" / "a" / "2026-01-01", 300)
    fake_run(tmp_path / "runs" / "a" / "2026-01-02", 100)
    fake_run(tmp_path / "runs" / "b", 200)
    fake_run(tmp_path / "runs" / "c" / "interrupted", None)
    assert find_model(None) == Path("runs/a/2026-01-01")
    assert find_model("runs/c/interrupted") == Path("runs/c/interrupted")
    for folder in ("runs", "runs/a"):
        with pytest.raises(InputError, match=f"^model: {folder} is not a run, but a folder of runs$") as caught:
            find_model(folder)
        assert caught.value.hint == "model='runs/a/2026-01-01'"
    monkeypatch.setenv("TEXTATTN_MODEL", "runs/b")
    assert find_model(None) == Path("runs/b")
    assert find_model("runs/a/2026-01-02") == Path("runs/a/2026-01-02")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "model: no such folder: nothing"),
        ("empty", "empty: this folder contains no model (config.json and model.safetensors missing)"),
        ("file", "model: file is a file, but not a textattn bundle"),
        ("no/where", "model: no such folder: no/where; a model on the Hub is named hf://no/where"),
        ("no/where@main", "model: no/where@main could not be read from the Hub: HF_HUB_OFFLINE is set"),
        ("hf://no/where", "model: no/where could not be read from the Hub: HF_HUB_OFFLINE is set"),
        ("hf://where", "model: a model on the Hub is named hf://user/name or hf://user/name@revision, got hf://where"),
        ("runs/where", "model: no such folder: runs/where"),
        ("runs/where@main", "model: no such folder: runs/where@main"),
        ("empty/where@main", "model: no such folder: empty/where@main"),
        ("a/b/c", "model: no such folder: a/b/c"),
        ("./where", "model: no such folder: ./where"),
        ("no/model.zip", "model: no such folder: no/model.zip"),
        ("a\0b", "model: a path must not contain the character NUL (\\0)"),
    ],
)
def test_a_model_that_is_not_there_is_named(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        find_model(name)
    assert caught.value.message.startswith(message)


# Damage


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        value = json.loads((run / name).read_text())
        change(value)
        (run / name).write_text(json.dumps(value))

    return damage


def truncate(run: Path) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


class Explode:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (77,))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a graph cut short": (
        lambda run: (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:-100]),
        "model.onnx: damaged, or not written by textattn (",
    ),
    "weights cut short": (truncate, "model.safetensors: damaged ("),
    "a pickle for weights": (
        lambda run: (run / "model.safetensors").write_bytes(pickle.dumps(Explode())),
        "model.safetensors: damaged (",
    ),
    "config.json is no JSON": (lambda run: (run / "config.json").write_text("{"), "config.json: damaged ("),
    "config.json is a list": (lambda run: (run / "config.json").write_text("[]"), "config.json: not a textattn model"),
    "another model type": (edit("config.json", lambda c: c.update(model_type="bert")), "not a textattn model"),
    "a newer format": (
        edit("config.json", lambda c: c.update(format_version=2)),
        "config.json: has format version 2, but this version of textattn reads formats up to 1",
    ),
    "no labels": (edit("config.json", lambda c: c.pop("id2label")), "config.json: damaged ("),
    "one label too many": (
        edit("config.json", lambda c: c["id2label"].update({"2": "x"})),
        "config.json: damaged (3 labels, 2 outputs)",
    ),
    "labels swapped": (
        edit("config.json", lambda c: c.update(id2label={"0": "pos", "1": "neg"})),
        "config.json: the labels are pos, neg, but model.onnx was trained with neg, pos",
    ),
    "another size": (
        edit("config.json", lambda c: c["architecture"].update(hidden_size=33)),
        "config.json: not the architecture that model.onnx was trained with",
    ),
    "an unknown part": (
        edit("config.json", lambda c: c["architecture"].update(attention="none")),
        "config.json: not the architecture that model.onnx was trained with",
    ),
    "no tokenizer": (lambda run: (run / "tokenizer.json").unlink(), "tokenizer.json: no such file"),
    "a damaged tokenizer": (lambda run: (run / "tokenizer.json").write_text("{}"), "tokenizer.json: not a tokenizer ("),
    "a tokenizer of another model": (
        edit("tokenizer.json", lambda t: t["model"]["vocab"].update({"zzz": len(t["model"]["vocab"])})),
        "tokens, but the model has",
    ),
    "no tokenizer settings": (
        lambda run: (run / "tokenizer_config.json").unlink(),
        "tokenizer_config.json: no such file",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_model_is_refused_and_the_file_named(what: str, trained_run: Path, tmp_path: Path) -> None:
    run = unsealed(Path(shutil.copytree(trained_run, tmp_path / "run")))
    damage, message = DAMAGE[what]
    if "model.safetensors" in message:
        (run / "model.onnx").unlink()
    damage(run)
    done = cli("predict", "--model", run, "good")
    assert (done.code, done.out) == (3, "")
    assert message in done.err
    assert done.err.startswith("Error: ")


@pytest.mark.parametrize("how", [{}, {"resume": True}])
def test_a_run_killed_while_it_wrote_its_first_file_does_not_stand_in_the_way(tmp_path: Path, how: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".training_config.yaml.x1y2.tmp").write_text("half")
    config = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=1", "output.audit_examples=0"]
    textattn.train("quickstart", [*config, f"output.dir={run}"], **how)
    assert not list(run.glob(".*"))
