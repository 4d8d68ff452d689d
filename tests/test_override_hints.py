"""A hint that names a column or a path works when it is pasted into a shell, whatever the name is."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bad_input
import pytest
from bad_input import MINE
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inprocess import run as cli

ARGUMENTS = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
PIECES = [
    "Review #1",
    "1",
    "a: b",
    "[x]",
    "[a, b]",
    "{a: 1}",
    "null",
    "true",
    "~",
    "'",
    '"',
    "$HOME",
    "`ls`",
    "\\",
    "a=b",
]
PIECES += ["*", "!", "- a", "&a", "|", "%", "@", "é", "\U0001f600", "x;y", "(", ">", " a", "#", "[", "]", ",", "[]"]
NAMES = st.one_of(
    st.sampled_from(PIECES),
    st.lists(st.sampled_from(PIECES), min_size=2, max_size=3).map("".join),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8),
).filter(lambda name: name.strip() and name not in ("text", "label"))
world = bad_input.world


def pasted(hint: str) -> list[str]:
    """The words that a program gets if the hint is pasted behind its name."""
    line = " ".join(["exec", *(f"'{word}'" for word in ARGUMENTS), hint])
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    words: list[str] = json.loads(done.stdout)
    return words


def hint_of(stderr: str) -> str:
    return stderr[stderr.index("\nHint: ") + len("\nHint: ") :].removesuffix("\n")


def write_table(path: Path, column: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column, "label"])
        writer.writerows([f"fine food {i}", "ab"[i % 2]] for i in range(20))


@given(NAMES)
@example("[x]")
@example("[a, 'b']")
@example("Review #1")
@settings(deadline=None, max_examples=10)
def test_the_hint_for_a_column_names_that_column(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("mine.yaml").write_text(MINE)
        write_table(Path("reviews.csv"), name)
        words = ["train", "mine.yaml", "--dry-run", "-q"]
        first = cli(*words)
        assert first.code == 3, first
        again = cli(*words, *pasted(hint_of(first.err)))
        assert (again.code, again.err) == (0, ""), (name, hint_of(first.err))


@given(NAMES.filter(lambda name: "/" not in name and not name.startswith(("-", "~"))))
@settings(deadline=None, max_examples=5)
def test_data_and_run_directories_of_any_name(name: str) -> None:
    """The texts of data.path and output.dir reach the files unchanged, with `evaluate` as well."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("mine.yaml").write_text(MINE)
        write_table(Path(f"{name}.csv"), name)
        column = f"data.text={json.dumps([name], ensure_ascii=False)}"
        done = cli("train", "mine.yaml", f"data.path={name}.csv", column, "--dry-run", "-q")
        assert (done.code, done.err) == (0, "")


def test_the_shared_case(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (shared / "cases/07-override-hash").glob("*.csv"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    few = ["recipe=plain", "training.epochs=1", "model.embedding_dim=8", "model.hidden_size=8",
           "output.audit_examples=0", "output.plots=false", "-q"]  # fmt: skip
    assert cli("train", "train.csv", *few, "seed=1", "output.dir=runs/exp").code == 0
    assert cli("train", "train.csv", *few, "seed=2", "output.dir=runs/exp #2", "--overwrite").out == "runs/exp #2\n"
    assert sorted(path.name for path in Path("runs").iterdir()) == ["exp", "exp #2"]
    assert "seed: 1\n" in Path("runs/exp/training_config.yaml").read_text()
    for name, column in (("cols", "Review #1"), ("colon", "Review: body"), ("one", "1")):
        hint = hint_of(cli("check", f"{name}.csv", "--no-forecast").err)
        assert pasted(hint) == [f"data.text={column}"]
        done = cli("check", f"{name}.csv", *pasted(hint), "--no-forecast")
        assert done.code == 0, done.err
    Path("set #2.csv").write_text(Path("cols.csv").read_text())
    done = cli("evaluate", "set #2.csv", "text=Review #1", "-m", "runs/exp")
    assert done.code == 0, done.err


def test_the_newest_of_several_runs_says_that_it_answers(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for command in ("predict", "explain"):
        assert cli(command, "fine food").err == ""
    shutil.copytree("runs/earlier", "runs/later")
    (tmp_path / "runs/later/metrics.json").touch()
    for command in ("predict", "explain"):
        assert cli(command, "fine food").err == "Note: The model is runs/later, the newest of 2 finished runs\n"
        assert cli("-q", command, "fine food").err == ""
        assert cli(command, "-m", "runs/earlier", "fine food").err == ""
        assert cli(command, "fine food", TEXTATTN_MODEL="runs/earlier").err == ""
