"""What a shell completes, by the protocol that Typer's scripts for shells speak; and what a library call logs."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from conftest import TINY

import textattn
from textattn.config import flat_settings, json_schema, load_config, shipped_configs
from textattn.config.yaml12 import parse_yaml
from textattn.explain.methods import method_names, ngram_method_names

Complete = Callable[..., list[str]]
HEAVY = {"torch", "numpy", "scipy", "pyarrow", "tokenizers", "onnxruntime", "rich", "datasets", "huggingface_hub"}
SCRIPT = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sys.modules, file=sys.stderr))
sys.argv = ["textattn"]
from textattn.cli import main; main()
"""


@pytest.fixture
def complete(trained_run: Path, tmp_path: Path) -> Complete:
    """What is offered for the last of some words, in a folder with a run."""
    shutil.copytree(trained_run, tmp_path / "runs/reviews/first")
    (tmp_path / "mine.yaml").write_text("data: {path: x.csv}\n")

    def complete(*words: str, shell: str = "bash") -> list[str]:
        line = ["textattn", *words]
        environment = {**os.environ, "_TEXTATTN_COMPLETE": f"complete_{shell}"}
        if shell == "bash":
            environment |= {"COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(words))}
        else:
            environment |= {"_TYPER_COMPLETE_ARGS": " ".join(line), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        loaded = {name.split(".")[0] for name in done.stderr.split("LOADED")[1].split()}
        # For these shells, Typer itself loads rich.
        assert loaded & HEAVY <= (set() if shell == "bash" else {"rich"})
        return [line for line in done.stdout.splitlines() if line]

    return complete


def test_configs_are_completed(complete: Complete) -> None:
    assert complete("train", "quick") == ["quickstart"]
    assert set(complete("train", "")) == {*shipped_configs(), "mine.yaml"}
    assert complete("tune", "mi") == ["mine.yaml"]
    assert set(complete("configs", "show", "imdb_")) == {name for name in shipped_configs() if name.startswith("imdb_")}


def test_every_setting_is_completed(complete: Complete) -> None:
    offered = complete("train", "imdb", "")
    known = set(flat_settings(load_config("imdb")))
    assert {f"{name}=" for name in known} <= set(offered)
    # And whatever is offered is a setting.
    for name in offered:
        assert any(
            key == name[:-1] or key.startswith(name[:-1] + ".") or name.startswith(key + ".") for key in known
        ), name
    assert complete("train", "imdb", "model.bidirectional=") == [
        "model.bidirectional=true",
        "model.bidirectional=false",
    ]
    assert "model.attention=sigmoid" in complete("train", "imdb", "model.attention=s")
    assert complete("train", "imdb", "training.epochs=") == []
    assert {"text=", "test_split="} <= set(complete("evaluate", "new.csv", "te"))


def test_runs_and_aliases_are_completed(complete: Complete, textattn: Callable[..., object], tmp_path: Path) -> None:
    run = "runs/reviews/first"
    textattn("runs", "name", run, "good", cwd=tmp_path)
    for command in (("predict", "--model"), ("explain", "-m"), ("info",), ("report",), ("compare",), ("push",)):
        assert complete(*command, "") == ["good", run], command
    assert complete("predict", "--model", "runs/r") == [run]
    (tmp_path / run / "metrics.json").unlink()
    assert complete("predict", "--model", "runs/") == []
    assert complete("runs", "rm", "runs/") == [run]
    # A damaged file must not break a prompt.
    (tmp_path / "runs/aliases.json").write_text("{")
    assert complete("predict", "--model", "g") == []


def test_methods_are_completed(complete: Complete) -> None:
    assert complete("explain", "--method", "contr") == ["contributions"]
    assert set(complete("explain", "--method", "")) == {*method_names(), *ngram_method_names(), "all"}
    assert complete("audit", "--methods", "attention,contr") == ["attention,contributions"]
    assert complete("audit", "--methods", "contributions,contr") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_meaning_too(shell: str, complete: Complete) -> None:
    offered = complete("train", "imdb", "training.ep", shell=shell)
    assert any("training.epochs=" in line for line in offered), offered


# Editors


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_the_schema_accepts_every_shipped_config(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    value = parse_yaml(shipped_configs()[name].read_text(), name).value
    jsonschema.Draft202012Validator(json_schema()).validate(value)


@pytest.mark.parametrize(
    "wrong", [{"modle": {}}, {"model": {"hiden_size": 3}}, {"model": {"attention": "adaptive"}}, {"seed": "x"}]
)
def test_the_schema_refuses_what_training_refuses(wrong: dict[str, object]) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid({"data": {"path": "x.csv"}} | wrong)


# Programs


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="textattn"):
        yield caplog


def test_a_library_call_logs_its_notes_and_prints_nothing(
    log: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"fine food {i},pos\nstale food {i},neg\n" for i in range(30)) + ",pos\n")
    run = textattn.train(
        {"data": {"path": str(data), "on_bad_row": "skip"}},
        [*TINY[1:], "training.epochs=1", "output.report=false", f"output.dir={tmp_path / 'run'}"],
    )
    said = [(record.levelname, record.getMessage()) for record in log.records if record.name == "textattn"]
    assert any(level == "WARNING" and "data.csv" in text for level, text in said), said
    assert ("INFO", f"finished: {run}") in said
    log.clear()
    model = textattn.load(run)
    data.write_text(data.read_text().replace("fine", "good"))
    model.evaluate(split="validation")
    assert any("has changed since training" in record.getMessage() for record in log.records)
    assert capfd.readouterr() == ("", "")


def test_a_program_without_logging_hears_nothing(tmp_path: Path) -> None:
    script = "from textattn.report import LoggedReport; LoggedReport().note('hello'); import logging; print('ok')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("ok\n", "")
