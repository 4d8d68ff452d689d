"""`textattn runs`: what is listed, removed and named, and which run is the best."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from terminals import OnTerminal

from textattn.errors import ConfigError
from textattn.storage import locks
from textattn.storage.aliases import check_name, give_alias, read_aliases
from textattn.storage.run_dir import RunDir

FIRST, SECOND = Path("runs/reviews/2026-01-01T10-00-00"), Path("runs/small")


@pytest.fixture
def work(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two finished runs; the second one is older, and better on validation."""
    monkeypatch.chdir(tmp_path)
    for path, when in ((FIRST, 2_000_000_000), (SECOND, 1_700_000_000)):
        shutil.copytree(trained_run, path)
        os.utime(path / "metrics.json", (when, when))
    edit(SECOND, "metrics.json", lambda value: value["validation"].update(accuracy=0.999, log_loss=9.0))
    os.utime(SECOND / "metrics.json", (1_700_000_000, 1_700_000_000))
    return tmp_path


def edit(run: Path, name: str, change: Any) -> None:
    value = json.loads((run / name).read_text())
    change(value)
    (run / name).write_text(json.dumps(value))


def listed(*arguments: str) -> dict[str, Any]:
    done = cli("runs", "ls", "--json", *arguments)
    assert (done.code, done.err) == (0, "")
    return {entry["path"]: entry for entry in json.loads(done.out)}


def test_runs_are_listed_and_nothing_else(work: Path) -> None:
    Path("runs/notes").mkdir()
    Path("runs/notes/training_config.yaml").write_text("data: {}")
    Path("runs/notes/metrics.json").write_text("{}")
    found = listed()
    assert list(found) == [str(FIRST), str(SECOND)]
    metrics = json.loads((FIRST / "metrics.json").read_text())
    entry = found[str(FIRST)]
    assert entry["headline"] == {"metric": "accuracy", "value": metrics["test"]["accuracy"], "split": "test"}
    assert (entry["state"], entry["data"], entry["aliases"]) == ("finished", "bundled:reviews", [])
    assert entry["size_bytes"] == sum(path.stat().st_size for path in FIRST.rglob("*") if path.is_file())
    lines = cli("runs", "ls").out.splitlines()
    assert lines[0].split() == ["run", "alias", "data", "figure", "size", "age"]
    assert f"accuracy {metrics['test']['accuracy']:.4f} (test)" in lines[1]
    # Another folder, a run itself, a folder without runs, and none.
    assert list(listed("runs/reviews")) == [str(FIRST)]
    assert list(listed(str(SECOND))) == [str(SECOND)]
    assert listed("runs/notes") == {}
    assert cli("runs", "ls", "nowhere").code == 3


@pytest.mark.parametrize("arguments", [("runs", "ls"), ("compare", FIRST, SECOND)])
def test_on_a_narrow_terminal_no_line_is_too_long(arguments: tuple[str | Path, ...], work: Path) -> None:
    wide = cli(*arguments).out
    with OnTerminal(*arguments, cwd=work, env={"COLUMNS": "60"}) as terminal:
        assert terminal.end() == 0
    assert max(map(len, wide.splitlines())) > 60
    assert max(map(len, terminal.shown.splitlines())) <= 60
    # Nothing but the ends of examples is left out.
    figures = re.findall(r"\d\.\d{4}", wide)
    assert figures
    assert set(figures) <= set(re.findall(r"\d\.\d{4}", terminal.shown))


def test_unfinished_and_locked_runs_are_marked(work: Path) -> None:
    (FIRST / "metrics.json").unlink()
    with locks.owned(SECOND, "trained", None):
        states = {path: entry["state"] for path, entry in listed().items()}
        assert states == {str(FIRST): "unfinished", str(SECOND): "being trained"}
        assert "being trained" in cli("runs", "ls").out
        done = cli("runs", "rm", SECOND, "--yes")
        assert done.code == 2
        assert f"{SECOND} is being trained by process {os.getpid()} on " in done.err
    # The file of an owner that was killed locks nothing, and looking changes nothing.
    (SECOND / locks.LOCK).touch()
    (SECOND / locks.OWNER).write_text(
        json.dumps({"doing": "trained", "process": 1, "host": "x", "since": "2026-01-01T00:00:00+00:00"})
    )
    assert listed()[str(SECOND)]["state"] == "finished"
    assert (SECOND / locks.LOCK).exists()
    assert cli("runs", "rm", SECOND, "--yes").code == 0
    assert not SECOND.exists()


def test_a_removed_run_is_gone_with_its_alias_and_other_files_stay(work: Path) -> None:
    (SECOND / "notes.txt").write_text("mine")
    (SECOND / "plots/mine.png").write_text("mine")
    assert cli("runs", "name", FIRST, "old").code == 0
    done = cli("runs", "rm", "old", SECOND, "--yes")
    assert done.code == 0
    assert f"{FIRST}: accuracy " in done.err
    assert "trained on bundled:reviews" in done.err
    assert f"deleted {FIRST} and its alias old\n" in done.err
    assert f"{SECOND} stays, because it also contains files that are not of the run: notes.txt, plots\n" in done.err
    assert not FIRST.exists()
    assert not FIRST.parent.exists()
    left = sorted(path.relative_to(SECOND).as_posix() for path in SECOND.rglob("*"))
    assert left == ["notes.txt", "plots", "plots/mine.png"]
    assert read_aliases() == {}
    assert listed() == {}


def test_nothing_is_removed_without_a_yes_or_if_one_run_is_refused(work: Path) -> None:
    done = cli("runs", "rm", FIRST)
    assert done.code == 2
    assert done.err.endswith(
        "Error: nobody can be asked whether this run may be deleted; nothing was changed\n"
        f"Hint: textattn runs rm {FIRST} --yes\n"
    )
    for wrong in ("runs", "nowhere", "."):
        assert cli("runs", "rm", FIRST, wrong, "--yes").code == 3, wrong
    copied = Path("mine")
    copied.mkdir()
    shutil.copy(FIRST / "training_config.yaml", copied)
    done = cli("runs", "rm", copied, "--yes")
    assert done.code == 3
    assert "not the directory of a run; nothing was changed" in done.err
    assert len(listed()) == 2
    assert (copied / "training_config.yaml").exists()


def test_links_are_not_followed(work: Path) -> None:
    outside = Path("outside.json")
    outside.write_text("{}")
    (SECOND / "log.jsonl").unlink()
    (SECOND / "log.jsonl").symlink_to(outside.absolute())
    assert cli("runs", "rm", SECOND, "--yes").code == 2
    assert (SECOND / "metrics.json").exists()
    Path("runs/again").symlink_to(FIRST.absolute())
    assert list(listed()) == [str(FIRST), str(SECOND)]


def test_an_alias_is_a_model_everywhere(work: Path) -> None:
    assert cli("runs", "name", SECOND, "best").err == f"best is {SECOND} now\n"
    expected = cli("predict", "--model", SECOND, "good food")
    assert expected.code == 0
    assert cli("predict", "--model", "best", "good food") == expected
    assert cli("predict", "good food", TEXTATTN_MODEL="best").out == expected.out
    assert cli("info", "best").code == 0
    assert cli("compare", "best", FIRST).code == 0
    assert listed()[str(SECOND)]["aliases"] == ["best"]
    # It can be given to another run, and taken away.
    assert cli("runs", "name", FIRST, "best").err == f"best is {FIRST} now; before, it was {SECOND}\n"
    assert cli("runs", "name", "--remove", "best").code == 0
    done = cli("predict", "--model", "best", "good food")
    assert done.code == 3
    assert "no such folder: best" in done.err
    assert cli("runs", "name", "--remove", "best").code == 2


def test_an_alias_and_a_folder_are_never_taken_for_each_other(work: Path) -> None:
    cli("runs", "name", SECOND, "best")
    shutil.copytree(FIRST, "best")
    for command in (("predict", "--model", "best", "good"), ("runs", "rm", "best", "--yes"), ("info", "best")):
        done = cli(*command)
        assert (done.code, done.out) == (3, "")
        assert f"best is both an alias of {SECOND} and a file or folder here" in done.err
        assert f"write {SECOND} or ./best" in done.err
    assert cli("predict", "--model", "./best", "good").code == 0
    done = cli("runs", "name", FIRST, "best")
    assert done.code == 2
    assert "a file or folder here has this name" in done.err


def test_an_alias_of_a_run_that_is_gone_says_so(work: Path) -> None:
    cli("runs", "name", SECOND, "best")
    shutil.rmtree(SECOND)
    done = cli("predict", "--model", "best", "good")
    assert done.code == 3
    assert f"best is an alias of {SECOND}, which contains no model any more" in done.err
    assert "textattn runs name --remove best" in done.err
    assert "Hint: --model best" in cli("predict", "--model", "bset", "good").err


NOT_ALIASES = [
    "",
    "a/b",
    "user/name",
    ".",
    "..",
    "~",
    "-x",
    "runs",
    "model.zip",
    "a b",
    "a\nb",
    "x" * 65,
    "hf://a/b",
    "ä",
]


@pytest.mark.parametrize("name", NOT_ALIASES)
def test_what_could_be_something_else_is_no_alias(name: str, work: Path) -> None:
    done = cli("runs", "name", FIRST, "--", name)
    assert done.code == 2
    assert not Path("runs/aliases.json").exists()


@given(st.text(st.characters(codec="utf-8"), max_size=12))
@settings(max_examples=200, deadline=None)
def test_an_alias_is_plain(name: str) -> None:
    try:
        check_name(name)
    except ConfigError as error:
        assert "cannot be an alias" in error.message
    else:
        assert name.isascii()
        assert name.replace(".", "").replace("-", "").replace("_", "").isalnum()


def test_aliases_move_with_the_folder_of_runs(work: Path) -> None:
    give_alias("best", SECOND)
    elsewhere = Path(shutil.copytree(FIRST, "elsewhere/run"))
    give_alias("other", elsewhere)
    Path("new").mkdir()
    Path("runs").rename("new/runs")
    os.chdir("new")
    assert read_aliases()["best"] == SECOND
    assert read_aliases()["other"].resolve() == (work / "elsewhere/run").resolve()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format_version": 1}', '{"format_version": 1, "aliases": []}', '{"format_version": 9}'],
)
def test_damaged_aliases_are_named_and_kept(content: str, work: Path) -> None:
    Path("runs/aliases.json").write_text(content)
    for command in (("predict", "--model", "best", "good"), ("runs", "ls"), ("runs", "name", str(FIRST), "best")):
        done = cli(*command)
        assert (done.code, done.out) == (3, ""), command
        assert "runs/aliases.json: " in done.err
    assert Path("runs/aliases.json").read_text() == content
    assert cli("predict", "--model", FIRST, "good").code == 0


def test_the_best_run_by_a_metric_and_a_split(work: Path) -> None:
    assert cli("runs", "best").out == f"{SECOND}\n"
    assert cli("runs", "best").err == "accuracy 0.9990 on validation, of 2 runs\n"
    assert cli("runs", "best", "--metric", "log_loss").out == f"{FIRST}\n"
    # Of equal ones the newest.
    assert cli("runs", "best", "--split", "test").out == f"{FIRST}\n"
    found = json.loads(cli("runs", "best", "--json").out)
    assert (found["path"], found["value"], found["num_runs"]) == (str(SECOND), 0.999, 2)
    done = cli("runs", "best", "--metric", "acuracy")
    assert (done.code, done.out) == (2, "")
    assert "Hint: --metric accuracy" in done.err
    assert cli("runs", "best", "--split", "cross_validation").code == 2
    assert cli("runs", "best", "--split", "dev").code == 2
    (SECOND / "metrics.json").unlink()
    assert cli("runs", "best").out == f"{FIRST}\n"
    assert cli("runs", "best", "nowhere").code == 3


def test_runs_on_different_data_are_compared_with_a_warning(work: Path) -> None:
    edit(FIRST, "environment.json", lambda value: value["dataset"]["splits"]["validation"].update(sha256="other"))
    done = cli("runs", "best")
    assert done.out == f"{SECOND}\n"
    assert f"Warning: 1 of 2 runs were measured on other data than {SECOND}" in done.err
    assert "Warning" not in cli("runs", "best", "--split", "test").err


def test_damaged_runs_are_listed_and_can_be_removed(work: Path) -> None:
    (FIRST / "metrics.json").write_text("[1]")
    (FIRST / "environment.json").write_text("{")
    assert listed()[str(FIRST)]["headline"] is None
    assert listed()[str(FIRST)]["data"] is None
    assert cli("runs", "best").out == f"{SECOND}\n"
    assert cli("runs", "rm", FIRST, "--yes").code == 0
    assert not RunDir(FIRST).is_run()
