"""The quick way of `predict TEXT` and `explain TEXT`: it says and does what Typer would, loads next to nothing, and
ends the process as the slow way does."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Runner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inprocess import Result
from inprocess import run as cli

import textattn as package
from textattn import cli as command_line
from textattn.cli.quick import run_quickly

COMMANDS = ("predict", "explain")
# RUN stands for the model of the tests.
RUN = "{run}"
QUICK = [
    ["good"],
    ["Delicious food, friendly staff.", "The soup was cold."],
    ["  a ", "a\nb\r\nc"],
    ["é 😀 日本語 \u202e\u0301", "\x1b[31mred\x07"],
    ["""it's "quoted" `so` $HOME ~ *.txt @file 100%"""],
    ["=", "a=b", "model=x", "+x", "/x", "—dash", "\u2212x"],
    ["a"] * 40,
    ["good " * 3000],
    ["--json", "good"],
    ["good", "--json"],
    ["good", "--json", "bad", "--json"],
    ["-m", RUN, "good"],
    ["good", "-m", RUN],
    ["--model", RUN, "good", "--json"],
    [f"--model={RUN}", "good"],
    ["-m", "nowhere", "-m", RUN, "good"],
    # As if it were not there.
    ["--model=", "good"],
    ["-m", "", "good"],
]
QUICK_ERRORS = [
    ["\udcff\udcfe"],
    [""],
    ["good", "  "],
    ["good", "bad\udc80"],
    ["-m", "nowhere", "good"],
    ["--model=/no/where", "good"],
    ["--model=--json", "good"],
    ["-m", RUN, "-m", "nowhere", "good"],
    # An option takes whatever comes next.
    ["-m", "-h", "good"],
    ["-m", "--", "good"],
    ["-m", "--json", "good"],
    ["--model", "-", "good"],
]
SLOW = [
    [], ["-"], ["-", "-"], ["good", "-"], ["-", "good"], ["--json"], ["--json", "-"],
    ["--"], ["--", "good"], ["--", "--json"], ["--", "-m", "good"], ["good", "--"], ["good", "--", "-x"], ["--", "-"],
    ["-h"], ["--help"], ["good", "-h"], ["-m", RUN, "--help"],
    ["-m"], ["--model"], ["good", "-m"], ["good", "--model"], ["-m", RUN],
    [f"-m{RUN}", "good"], [f"-m={RUN}", "good"], ["--mode", RUN, "good"], [f"--model{RUN}", "good"],
    ["--models", "good"], ["-x"], ["-1"], ["--1"], ["---"], ["--unknown", "good"], ["-", "--unknown"],
    ["--no-json", "good"], ["--json=1", "good"], ["--json=", "good"], ["--jso", "good"], ["-j", "good"],
    ["--runtime", "onnx", "good"], ["--runtime", "x", "good"], ["--device", "x", "good"], ["-q", "good"],
    ["--words", "2", "good"], ["-k", "2", "good"], ["-k", "x", "good"], ["-k"], ["--target", "pos", "good"],
    ["--input", "/no/where", "good"], ["--output", "/no/where/x.csv", "good"],
]  # fmt: skip
NO_COMMAND = [
    [], ["-h"], ["--version"], ["pred", "good"], ["Predict", "good"], ["predict,", "good"],
    ["--quiet", "predict", "good"], ["--debug", "predict", "good"], ["--no-color", "explain", "good"],
    ["--json", "predict", "good"], ["--", "predict", "good"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTATTN_MODEL", str(trained_run))
        patched.chdir(tmp_path_factory.getbasetemp())
        # Where nothing is held back, nothing can be lost.
        patched.delenv("PYTHONUNBUFFERED", raising=False)
        yield


def both(arguments: Sequence[str], **environment: str) -> tuple[Result, Result, list[bool]]:
    """What the command line does with the quick way and without it, and whether the quick way took it."""
    stdin, taken = "bad\ngöod\n".encode(), []

    def watched(words: Sequence[str]) -> bool:
        # Where it ends with an error it took it, too.
        taken.append(True)
        taken[-1] = run_quickly(words)
        return taken[-1]

    with patch.object(command_line, "run_quickly", watched):
        quick = cli(*arguments, stdin=stdin, **environment)
    with patch.object(command_line, "run_quickly", lambda _: False):
        slow = cli(*arguments, stdin=stdin, **environment)
    return quick, slow, taken


@pytest.mark.parametrize(
    ("command", "share"), [("predict", 4), ("explain", 4), pytest.param("predict", 1, marks=pytest.mark.slow)]
)
def test_the_quick_way_says_what_typer_says(command: str, share: int, trained_run: Path) -> None:
    # Both commands read their words in the same way: of the longest table a sample will do.
    for kind, table in (("answers", QUICK), ("errors", QUICK_ERRORS), ("left", SLOW[::share])):
        for words in table:
            arguments = [command, *(word.replace(RUN, str(trained_run)) for word in words)]
            quick, slow, taken = both(arguments)
            assert quick == slow, arguments
            assert taken == [kind != "left"], arguments
            if kind != "left":
                assert (quick.code == 0) == (quick.out != "") == (kind == "answers"), arguments
                assert quick.code == 0 or (quick.code == 3 and quick.err.startswith("Error: ")), arguments


def test_without_one_of_the_two_commands_all_is_left_to_typer() -> None:
    for arguments in NO_COMMAND:
        quick, slow, taken = both(arguments)
        assert quick == slow
        assert taken == [False]


@pytest.mark.parametrize("environment", [{"FORCE_COLOR": "1"}, {"NO_COLOR": "1"}, {"TEXTATTN_MODEL": "nowhere"}])
def test_variables_count_for_both_ways(environment: dict[str, str]) -> None:
    plain = {command: cli(command, "good food") for command in COMMANDS}
    for command in COMMANDS:
        quick, slow, taken = both([command, "good food"], **environment)
        assert quick == slow
        assert taken == [True]
        changes = "TEXTATTN_MODEL" in environment or (command == "explain" and "FORCE_COLOR" in environment)
        assert (quick != plain[command]) == changes


pieces = st.sampled_from([
    "--json", "-m", "--model", f"--model={RUN}", "--model=nowhere", RUN, "nowhere", f"-m{RUN}", "--", "-", "-h", "-q",
    "-k", "2", "-k2", "--top-k=2", "--words", "--target", "pos", "--runtime", "onnx", "good", "", "-1", "--j",
])  # fmt: skip
texts = st.text(st.characters(exclude_characters="\0"), max_size=12)


@given(st.sampled_from(COMMANDS), st.lists(pieces | pieces | texts, max_size=6))
@example("predict", ["-m", "--model", "-m"])
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_two_ways_are_one_for_any_words(trained_run: Path, command: str, words: list[str]) -> None:
    quick, slow, _ = both([command, *(word.replace(RUN, str(trained_run)) for word in words)])
    assert quick == slow


# What is loaded

ALWAYS_TOO_MUCH = {"torch", "datasets", "pandas", "sklearn", "gensim", "onnx", "scipy", "captum"}
TOO_MUCH_FOR_A_TEXT = ALWAYS_TOO_MUCH | {
    "typer", "click", "pydantic", "rich", "pyarrow", "yaml", "huggingface_hub", "safetensors", "httpx", "requests",
}  # fmt: skip
WATCH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from inprocess import run
for arguments in json.loads(sys.argv[2]):
    if arguments[0] == "python":
        exec(arguments[1])
    else:
        done = run(*arguments, stdin=b"good\\nbad\\n")
        assert done.code == 0, done
    names = {name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}
    print(json.dumps([sorted(names), len(sys.modules)]))
"""


def test_what_is_loaded_for_which_command(trained_run: Path, tmp_path: Path) -> None:
    """In one process, from the lightest to the heaviest: what is not there at the end was never loaded."""
    rows = [
        {"id": 1, "text": "good", "nested": {"a": [1, 2.5], "b": None}, "tags": ["x", "é"]},
        {"id": 2, "text": "bad food", "nested": {"a": [], "b": "y"}, "tags": []},
    ]
    (tmp_path / "a.csv").write_text('id,text\n1,good\n2,"bad, food"\n')
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    times = [datetime(2024, 1, 1), None]
    table = pa.Table.from_pylist(rows).append_column("time", pa.array(times, pa.timestamp("ns", "UTC")))
    pq.write_table(table, tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as bundle:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx"):
            bundle.write(trained_run / name, name)
    lightest = [
        ["predict", "good"],
        ["predict", "--json", "--model", str(tmp_path / "model.zip"), "good"],
        ["python", "import textattn; m = textattn.load(); m.predict(['good', 'bad']); m.explain('x'); m.embed('x')"],
    ]
    light = [["explain", "good"], ["explain", "--json", "good"]]
    heavier = [
        ["predict"],
        ["predict", "--json", "-"],
        ["explain", "--words", "2", "good"],
        *(
            ["predict", "--input", str(tmp_path / f"a.{old}"), "--output", str(tmp_path / f"{old}.{new}"), *more]
            for old, new in [("csv", "csv"), ("csv", "jsonl"), ("csv", "parquet"), ("jsonl", "parquet"),
                             ("parquet", "parquet")]
            for more in (["--quiet"], ["--quiet", "--overwrite", "--attention"])
        ),
    ]  # fmt: skip
    steps = [*lightest, *light, *heavier]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(Path(__file__).parent), json.dumps(steps)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = [json.loads(line) for line in done.stdout.splitlines()]
    for arguments, (names, number) in zip(steps, loaded, strict=True):
        # To explain, the width of characters is looked up with rich.
        too_much = TOO_MUCH_FOR_A_TEXT - ({"rich"} if arguments in light else set())
        assert (ALWAYS_TOO_MUCH if arguments in heavier else too_much) & set(names) == set(), arguments
        assert "onnxruntime" in names
        # Half of them are numpy's; `import torch` alone takes more than a thousand.
        assert number < 500 or arguments in heavier
    assert "pyarrow" in loaded[-1][0]
    assert pq.read_table(tmp_path / "jsonl.parquet").column("text").to_pylist() == ["good", "bad food"]
    assert pq.read_schema(tmp_path / "parquet.parquet").field("time").type == pa.timestamp("ns", "UTC")


@pytest.mark.slow
def test_a_prediction_takes_a_fraction_of_the_time_torch_takes_to_load(trained_run: Path) -> None:
    """Of processors, not of the clock: that depends on who else uses them."""

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    predict = sorted(seconds("-m", "textattn", "predict", "good") for _ in range(3))[1]
    assert predict < 0.6 * seconds("-c", "import torch")


# How the process ends


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["explain", "--json"],
        pytest.param(["predict", "--json"], marks=pytest.mark.slow),
        pytest.param(["explain"], marks=pytest.mark.slow),
    ],
)
def test_all_of_a_long_answer_arrives(textattn: Runner, arguments: list[str]) -> None:
    """The process ends without taking anything apart; what it printed must not be lost with it."""
    words = [*arguments, *(f"good food {i}" for i in range(600))]
    done = textattn(*words)
    assert len(done.stdout) > 600 * 8
    assert (done.returncode, done.stdout, done.stderr) == tuple(cli(*words))


def test_a_missing_model_is_told_on_stderr_with_exit_code_3(textattn: Runner) -> None:
    done = textattn("predict", "--model", "nowhere", "good")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: --model: no such folder: nowhere\nHint: ")


@pytest.mark.parametrize(
    "arguments",
    [["predict", "good"], ["explain", "good"], pytest.param(["predict", "-q", "good"], marks=pytest.mark.slow)],
)
def test_a_reader_that_is_gone_ends_it_quietly(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "textattn", *arguments], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m textattn "$@" {redirection}', sys.executable, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_answer_cut_short_by_head() -> None:
    done = shell("--json | head -n 1", "explain", *["good food"] * 300)
    assert done.stderr == ""
    assert json.loads(done.stdout)["text"] == "good food"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_no_bug() -> None:
    done = shell("> /dev/full", "predict", "good")
    assert done.stderr.startswith("Error: the disk is full\nHint: ")
    assert len(done.stderr.splitlines()) == 2
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [["predict", "good"], ["explain", "good"], pytest.param(["predict", "--json", "good"], marks=pytest.mark.slow)],
)
def test_without_a_stdout_nothing_is_called_a_bug(arguments: list[str]) -> None:
    done = shell(">&-", *arguments)
    assert done.stdout == ""
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_without_a_stderr_the_answer_and_the_exit_code_are_the_same() -> None:
    done = shell("2>&-", "predict", "good")
    assert (done.returncode, done.stdout) == (0, cli("predict", "good").out)
    assert shell("2>&-", "predict", "-m", "nowhere", "good").returncode == 3


def test_without_a_stdin_texts_of_the_command_line_are_answered() -> None:
    done = shell("<&-", "predict", "good")
    assert (done.returncode, done.stdout, done.stderr) == tuple(cli("predict", "good"))


def test_the_answers_are_those_of_the_python_api(trained_run: Path) -> None:
    words = ["good food", "?", "awful 😀"]
    predictions = package.load(trained_run).predict(words)
    found = [json.loads(line) for line in cli("predict", "--json", *words).out.splitlines()]
    expected = zip(predictions, words, strict=True)
    assert found == [{"label": p.label, "score": p.score, "unknown": p.unknown, "text": t} for p, t in expected]
