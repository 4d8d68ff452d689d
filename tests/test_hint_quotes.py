"""Hints are meant to be pasted: a shell takes whatever name they hold as one argument, and runs none of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MakeOnce
from damaged_models import train
from inprocess import run as cli

import textattn
from textattn.errors import Option, Setting, TextattnError, shell_command

# Harmless in a file name, a column and a label; each runs `touch PWNED` or splits where it is not quoted.
NAMES = [
    "$(touch PWNED)",
    "`touch PWNED`",
    "a b",
    "a;touch PWNED",
    "'; touch PWNED; '",
    '"$(touch PWNED)"',
    "x>PWNED",
    "*",
]
# Prints its arguments; stands in for textattn, and for what a hint begins with where it names only options.
FAKE = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"


@pytest.fixture(scope="module")
def run(make_once: MakeOnce) -> Path:
    return make_once("hint-run", lambda folder: train(folder / "x", labels=("$(touch PWNED)", "a b"))) / "x" / "run"


@pytest.fixture
def paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Pastes a hint into a shell and gives the arguments that textattn gets; nothing else may have happened."""
    programs, folder = tmp_path / "programs", tmp_path / "here"
    programs.mkdir()
    folder.mkdir()
    (programs / "textattn").write_text(FAKE)
    (programs / "textattn").chmod(0o755)
    monkeypatch.chdir(folder)

    def arguments(hint: str) -> list[str]:
        before = sorted(Path().iterdir())
        line = hint if hint.startswith("textattn ") else f"textattn {hint}"
        environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, ""), hint
        assert sorted(Path().iterdir()) == before, hint
        found: list[str] = json.loads(done.stdout)
        return found

    return arguments


def hint_of(*arguments: str | Path) -> str:
    done = cli(*arguments)
    assert done.code in (2, 3), done.err
    return done.err[done.err.index("\nHint: ") + len("\nHint: ") :].removesuffix("\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_one_argument_and_nothing_runs(
    name: str, run: Path, paste: Callable[[str], list[str]], tmp_path: Path
) -> None:
    def table(*columns: str) -> Path:
        path = tmp_path / "data.csv"
        cells = ['"' + column.replace('"', '""') + '"' for column in columns]
        path.write_text(",".join(cells) + "\n" + ",".join("x" for _ in columns) + "\n")
        return path

    folder = Path(name)  # in the folder where hints are pasted
    link = tmp_path / "models" / name
    link.parent.mkdir()
    link.symlink_to(run)
    # A column of a table, as an option and as a setting.
    assert paste(hint_of("predict", "-m", run, "-i", table(name), "-o", "a.csv", "--text-column", "y")) == [
        "--text-column", name,
    ]  # fmt: skip
    found = hint_of("train", "quickstart", f"data.path={table(name, 'label')}", "output.dir=x")
    assert paste(found) == [f"data.text={name}"]
    # A model's path.
    assert paste(hint_of("predict", "-m", link, "--runtime", "int8", "x")) == ["export", "--model", str(link), "--int8"]
    assert paste(hint_of("info", link, "-m", link)) == ["info", str(link)]
    # Names of files and folders that were given.
    folder.mkdir()
    data = tmp_path / "in.txt"
    data.write_text("x\n")
    assert paste(hint_of("predict", "-m", run, "-i", data, "-o", folder, "--output-format", "csv")) == [
        "--output", f"{name}/predictions.csv",
    ]  # fmt: skip
    assert paste(hint_of("export", "-m", run, "--bundle", folder)) == ["--bundle", f"{name}/model.zip"]
    (folder / "mine.yaml").write_text("")
    assert paste(hint_of("configs", "cp", "trec", folder / "mine.yaml")) == [
        "configs", "cp", "trec", f"{name}/mine.yaml", "--overwrite",
    ]  # fmt: skip
    (folder / "wrong.yaml").write_text("data: {path: x.csv}\nseed: nonsense\n")
    assert paste(hint_of("train", folder / "wrong.yaml")) == ["check", f"{name}/wrong.yaml"]
    # Labels, and words of the command itself.
    assert paste(hint_of("explain", "-m", run, "--contrast", name, "b", "--target", "c", "x")) == [
        "--contrast",
        name,
        "b",
    ]
    assert paste(hint_of("explain", "-m", run, "--split", name, "x")) == ["explain", "--split", name]


def test_labels_of_a_model_in_a_hint(run: Path, paste: Callable[[str], list[str]]) -> None:
    model = textattn.load(run)
    label = model.predict("good food")[0].label
    other = next(name for name in model.labels if name != label)
    with pytest.raises(TextattnError) as caught:
        model.explain("good food", method="occlusion", against=label)
    assert caught.value.hint is not None
    assert paste(caught.value.hint) == ["--contrast", other, label]


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_hints_are_quoted_for_a_shell_and_not_for_python(name: str, paste: Callable[[str], list[str]]) -> None:
    error = TextattnError("wrong", [Option("model", name), " ", Setting("data.path", name)])
    _, hint = error.render(command_line=True)
    assert hint is not None
    assert paste(hint) == ["--model", name, f"data.path={name}"]
    assert error.hint == f"model={name!r} data.path={name}"
    assert paste(shell_command("textattn export --model {} --int8", name)) == ["export", "--model", name, "--int8"]
