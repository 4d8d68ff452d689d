"""The data of a finished run are found from any directory, and never taken from elsewhere without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import MakeOnce
from inprocess import Result
from inprocess import run as cli

FEW = ["recipe=plain", "training.epochs=1", "model.embedding_dim=8", "model.hidden_size=8", "tokenizer.min_frequency=1",
       "output.audit_examples=0", "output.plots=false"]  # fmt: skip
ROWS = "text,label\n" + "".join(f"good lovely soup {i},pos\nbad awful soup {i},neg\n" for i in range(30))
COMMANDS = [
    ("evaluate", "--split", "validation"),
    ("words", "--split", "validation"),
    ("audit", "--split", "validation", "--examples", "4", "--methods", "attention"),
    ("explain", "--split", "validation", "--examples", "2"),
]
NOTE = "the training data are read from the directory of the training"


def make(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("data").mkdir()
        Path("data/train.csv").write_text(ROWS)
        Path("more.csv").write_text(ROWS)
        for name, data in (
            ("run", ["data.path=data/train.csv"]),
            ("files", ["data.files={train: 'd*/train.csv', validation: [more.csv]}"]),
            ("folder", ["data.path=data"]),
        ):
            assert cli("train", "quickstart", *data, *FEW, f"output.dir={name}", "-q").code == 0
        Path("sub").mkdir()


@pytest.fixture
def home(make_once: MakeOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a folder with data and three runs, whose records name the copy; the directory is `sub` in it."""
    original = make_once("original-data", make)
    folder = tmp_path / "my home"
    shutil.copytree(original, folder)
    for environment in folder.glob("*/environment.json"):
        value = json.loads(environment.read_text())
        assert value["directory"] == str(original)
        environment.write_text(json.dumps(value | {"directory": str(folder)}))
    monkeypatch.chdir(folder / "sub")
    return folder


def ask(command: tuple[str, ...], run: str) -> Result:
    return cli(command[0], "-m", run, *command[1:])


@pytest.mark.parametrize("run", ["run", "files", "folder"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_from_elsewhere_it_is_the_same(
    command: tuple[str, ...], run: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ask(command, f"../{run}")
    assert there.code == 0, there.err
    assert NOTE in there.err
    monkeypatch.chdir(home)
    here = ask(command, run)
    assert (here.code, here.out) == (0, there.out.replace("../", ""))
    assert NOTE not in here.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_data_that_are_gone_are_named_with_the_model_and_its_directory(command: tuple[str, ...], home: Path) -> None:
    shutil.rmtree(home / "data")
    for run, path in (("run", "data/train.csv"), ("files", "d*/train.csv"), ("folder", "data")):
        done = ask(command, f"../{run}")
        assert done.code == 3
        said = f"Error: {path}, where the training data of ../{run} were: no such file here; it was trained in {home}\n"
        assert said in done.err


def test_a_run_of_an_earlier_version_has_no_directory(home: Path) -> None:
    environment = home / "run/environment.json"
    value = json.loads(environment.read_text())
    del value["directory"]
    environment.write_text(json.dumps(value))
    done = ask(COMMANDS[0], "../run")
    assert done.err.endswith("Error: data/train.csv, where the training data of ../run were: no such file here\n")


def test_another_file_of_that_name_is_used_with_a_warning(home: Path) -> None:
    Path("data").mkdir()
    Path("data/train.csv").write_text(ROWS.replace("soup", "cake"))
    done = ask(COMMANDS[0], "../run")
    assert done.code == 0
    assert "Warning: the validation split has changed since training" in done.err


def test_a_folder_without_a_name_is_that_of_the_training(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` is everywhere, but here are other data."""
    monkeypatch.chdir(home / "data")
    assert cli("train", ".", *FEW, "data.validation_split=null", "output.dir=../dot", "-q").code == 0
    Path("../sub/train.csv").write_text(ROWS.replace("soup", "cake"))
    there = ask(COMMANDS[0], "../dot")
    monkeypatch.chdir("../sub")
    here = ask(COMMANDS[0], "../dot")
    assert (here.code, here.out) == (0, there.out)
    assert NOTE in here.err


def test_data_that_are_given_are_those_of_the_current_directory(home: Path) -> None:
    done = cli("evaluate", "data/train.csv", "-m", "../run")
    assert (done.code, done.err.splitlines()[-1].split(":")[0]) == (3, "Error")
    assert "data/train.csv: no such file" in done.err


def test_to_resume_elsewhere_is_refused_with_the_directory(home: Path) -> None:
    for file in ("metrics.json", "README.md"):
        (home / "run" / file).unlink()
    words = ["train", "quickstart", "data.path=data/train.csv", *FEW, "output.dir=../run", "--resume", "-q"]
    done = cli(*words)
    assert done.code == 3
    assert done.err == f"Error: the data of ../run are not here; it was started in {home}\nHint: cd '{home}'\n"
    shutil.rmtree(home / "data")
    done = cli(*words)
    assert done.err == (
        f"Error: data/train.csv, where the training data of ../run were: no such file here; it was trained in {home}\n"
    )


def test_the_shared_case(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(shared / "cases/22-data-of-a-model-from-elsewhere/train.csv", tmp_path)
    assert cli("train", "train.csv", *FEW, "output.dir=run", "-q").code == 0
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    evaluated = cli("evaluate", "-m", "../run", "--split", "validation", "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["num_examples"] == 4 and "data_changed" not in json.loads(evaluated.out)
    assert cli("words", "-m", "../run", "--split", "validation").code == 0
