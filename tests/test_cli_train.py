"""`textattn train`: what it prints and leaves, that it repeats itself, and how it stops."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY, Runner
from inprocess import run as cli

import textattn

SMALL = [
    "data.path=bundled:four_sentences", "tokenizer.min_frequency=1", "model.embedding_dim=8", "model.hidden_size=8",
    "training.epochs=2",
]  # fmt: skip
# Would take minutes.
LONG = [*(s for s in TINY if "epochs" not in s), "training.epochs=1000", "data.max_train_examples=200"]


def sha256(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_config_of_a_run_trained_again_gives_the_same_bytes(
    textattn: Runner, trained_run: Path, tmp_path: Path
) -> None:
    """In a process of its own, from the resolved config: the first was trained in this one, with overrides."""
    run = tmp_path / "again"
    done = textattn("train", trained_run / "training_config.yaml", f"output.dir={run}", cwd=tmp_path)
    assert done.returncode == 0
    assert sha256(run) == sha256(trained_run)
    # Data on stdout, the rest on stderr: no bars or colours in a pipe.
    assert done.stdout == f"{run}\n"
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    evaluations = re.findall(r"^epoch (\d)  loss \d\.\d{4}  validation accuracy (\d\.\d{4})", done.stderr, re.M)
    assert [epoch for epoch, _ in evaluations] == ["1", "2", "3"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"] == json.loads((trained_run / "metrics.json").read_text())["test"]
    assert f"Training {metrics['num_parameters']:,} parameters on 888 texts (cpu, " in done.stderr
    assert f"test: accuracy {metrics['test']['accuracy']:.4f} (95 % interval " in done.stderr
    command = json.loads((run / "environment.json").read_text())["command"]
    assert command == f"textattn train {trained_run}/training_config.yaml output.dir={run}"


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    runs = [
        Path(cli("train", "quickstart", *SMALL, f"seed={i}", f"output.dir={tmp_path / str(i)}").out.strip())
        for i in (1, 2)
    ]
    assert sha256(runs[0]) != sha256(runs[1])


def test_json_prints_the_metrics_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sentences, no validation and no test split: there is nothing to measure, and it still works."""
    monkeypatch.chdir(tmp_path)
    done = cli("train", "quickstart", *SMALL, "--json", "-q")
    assert (done.code, done.err) == (0, "")
    value = json.loads(done.out)
    run = Path(value.pop("run"))
    assert run.parent == Path("runs/quickstart")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", run.name)
    assert value == json.loads((run / "metrics.json").read_text())
    assert value["best"]["best_metric"] is None
    assert not {"test", "validation"} & set(value)
    assert {path.name for path in run.iterdir()} == {
        "RUNDIR.TAG", "config.json", "model.safetensors", "model.onnx", "tokenizer.json", "tokenizer_config.json",
        "training_config.yaml", "environment.json", "log.jsonl", "trainer_state.json", "metrics.json", "README.md",
         "checksums.json", "plots", "report.html",
    }  # fmt: skip
    assert "Nothing was measured" in (run / "README.md").read_text()
    assert cli("predict", "This is a great movie").code == 0


def test_a_finished_run_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    arguments = ["train", "quickstart", *SMALL, f"output.dir={tmp_path / 'run'}"]
    assert cli(*arguments).code == 0
    before = contents(tmp_path / "run")
    done = cli(*arguments, "seed=7")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        f"Error: output.dir: {tmp_path / 'run'} already contains a finished run; nothing was changed\n"
        "Hint: --overwrite, or another output.dir=…\n"
    )
    assert "Reading" not in done.err
    assert contents(tmp_path / "run") == before
    assert cli(*arguments, "seed=7", "--overwrite").code == 0
    after = contents(tmp_path / "run")
    assert set(after) == set(before)
    assert after["model.safetensors"] != before["model.safetensors"]


def test_a_dry_run_trains_nothing_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("train", "quickstart", "--dry-run", *SMALL)
    assert done.code == 0
    assert done.out.endswith("The config is valid, the data look clean; nothing was trained.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "messages"),
    [
        (["qickstart"], 2, ["qickstart: no such file or shipped config; did you mean 'quickstart'?"]),
        (["quickstart", "training.epoch=2"], 2, ["override 'training.epoch=2'", "did you mean 'epochs'?"]),
        (["quickstart", "training.epochs=two"], 2, ["training.epochs: must be a whole number, got 'two'"]),
        (["quickstart", "foo"], 2, ["expected key=value, got 'foo'"]),
        (["quickstart", "data.path=none.csv"], 3, ["none.csv: no such file"]),
        (["quickstart", "data.text=review"], 3, ["column 'review' not found", "Hint: data.text="]),
        (
            ["quickstart", *TINY, "training.learning_rate=1e30", "training.max_grad_norm=null"],
            1,
            ["the loss is nan at step ", "Hint: training.learning_rate="],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    arguments: list[str], code: int, messages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("train", *arguments)
    assert (done.code, done.out) == (code, "")
    for message in messages:
        assert message in done.err
    assert "this is a bug" not in done.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_training_keeps_its_best_model_and_says_so(number: int, code: int, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    with subprocess.Popen(
        [sys.executable, "-m", "textattn", "train", "quickstart", *LONG, f"output.dir={run}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUTF8": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1 "):
                break
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == code
        assert process.stdout.read() == ""
    error, hint = rest.splitlines()[-2:]
    kept = r"the best model so far \(accuracy (\d\.\d{4}) at step (\d+)\) is in " + re.escape(str(run))
    found = re.fullmatch(r"Error: interrupted at step (\d+) of 7000; " + kept, error)
    assert found
    log = [json.loads(entry) for entry in (run / "log.jsonl").read_text().splitlines()]
    best = next(entry for entry in reversed(log) if entry["best"])
    assert (f"{best['eval_accuracy']:.4f}", best["step"]) == (found[2], int(found[3]))
    assert hint == f"Hint: the same command with --resume output.dir={run} continues from there"
    assert not (run / "metrics.json").exists()
    # What was kept is the model of that evaluation.
    assert textattn.load(run).evaluate(split="validation")["accuracy"] == pytest.approx(best["eval_accuracy"])
    assert "no (training goes on, or will with train … --resume)" in cli("info", "--model", run).out


# Other kinds of data, from end to end


def test_several_labels_a_text(tmp_path: Path) -> None:
    words = {"sun": "warm", "fire": "warm", "red": "colour", "blue": "colour", "snow": "cold"}
    generator = np.random.default_rng(0)
    for split, rows in (("train", 200), ("validation", 60), ("test", 60)):
        with (tmp_path / f"{split}.jsonl").open("w") as file:
            for _ in range(rows):
                chosen = generator.choice(list(words), generator.integers(1, 3), replace=False)
                labels = sorted({words[word] for word in chosen})
                file.write(json.dumps({"text": f"the {' and the '.join(chosen)}", "label": labels}) + "\n")
    (tmp_path / "config.yaml").write_text(
        f"data: {{files: {{train: {tmp_path}/train.jsonl, validation: {tmp_path}/validation.jsonl, "
        f"test: {tmp_path}/test.jsonl}}}}\n"
        "model: {embedding_dim: 16, hidden_size: 16}\n"
        "training: {epochs: 8, batch_size: 16, learning_rate: 1e-2}\n"
    )
    run = tmp_path / "run"
    done = cli("train", tmp_path / "config.yaml", f"output.dir={run}", "--json")
    assert done.code == 0
    metrics = json.loads(done.out)["test"]
    assert metrics["headline"] == "micro_f1"
    assert metrics["micro_f1"] > 0.95
    config = json.loads((run / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "cold", "1": "colour", "2": "warm"}
    assert len(config["thresholds"]) == 3
    assert all(0 < threshold < 1 for threshold in config["thresholds"])
    assert metrics["thresholds"] == config["thresholds"]

    plain = cli("predict", "--model", run, "the sun and the blue", "the snow")
    scores = [
        json.loads(line)
        for line in cli("predict", "--model", run, "--json", "the sun and the blue", "the snow").out.splitlines()
    ]
    assert [[entry["label"] for entry in row["labels"]] for row in scores] == [["colour", "warm"], ["cold"]]
    assert plain.out.splitlines() == [
        ",".join(entry["label"] for entry in row["labels"])
        + "\t"
        + ",".join(f"{entry['score']:.4f}" for entry in row["labels"])
        for row in scores
    ]
    assert "labels: colour " in cli("explain", "--model", run, "the sun and the blue").out
    table = pq.read_table(run / "predictions" / "test.parquet").to_pylist()
    for row in table:
        given = [
            name
            for name, limit in zip(("cold", "colour", "warm"), config["thresholds"], strict=True)
            if row[f"score:{name}"] >= limit
        ]
        assert row["prediction"] == given
    measured = json.loads(cli("evaluate", "--model", run, "--json").out)
    assert measured == metrics | {"split": "test"}


def test_two_text_columns(tmp_path: Path) -> None:
    """The label needs both columns, in their order, which words that vote for themselves do not know."""
    rows = [f"{a},{b},{a} {b}\n" for a in ("red", "blue") for b in ("red", "blue")] * 40
    (tmp_path / "pairs.csv").write_text("left,right,label\n" + "".join(rows))
    run = tmp_path / "run"
    done = cli(
        "train", "quickstart", f"data.path={tmp_path}/pairs.csv", "data.text=[left, right]", "training.epochs=8",
        "model.embedding_dim=16", "model.hidden_size=16", "training.learning_rate=1e-2", f"output.dir={run}",
        "model.anchor=none", "training.attention_alignment=0.0",
    )  # fmt: skip
    assert done.code == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["validation"]["accuracy"] == 1
    assert json.loads((run / "config.json").read_text())["text_columns"] == ["left", "right"]
    pairs = [("red", "red"), ("red", "blue"), ("blue", "blue")]
    expected = ["red red", "red blue", "blue blue"]
    model = textattn.load(run)
    assert [p.label for p in model.predict(pairs)] == expected
    stdin = "".join(f"{a}\t{b}\n" for a, b in pairs).encode()
    assert [line.split("\t")[0] for line in cli("predict", "--model", run, stdin=stdin).out.splitlines()] == expected
    (tmp_path / "new.csv").write_text("left,right\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    done = cli("predict", "--model", run, "--input", tmp_path / "new.csv")
    assert [line.split("\t")[0] for line in done.out.splitlines()] == expected
    done = cli("predict", "--model", run, "only one")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "Error: expected 2 segments separated by tabs, got 1: 'only one'\nHint: $'first segment\\tsecond segment'\n"
    )
    assert cli("explain", "--model", run, "red\tblue").out.replace("[", "").replace("]", "").startswith("red\tblue\n")
