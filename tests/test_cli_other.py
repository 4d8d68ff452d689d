"""`evaluate`, `info`, `check`, `configs`, `schema`, and what holds for every command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inprocess import Result
from inprocess import run as cli

import textattn
from textattn.cli.console import display_width, table
from textattn.cli.evaluate import METRICS
from textattn.config import load_config, shipped_configs
from textattn.errors import CheckFailed, ConfigError, Elsewhere, InputError, TrainingError

COMMANDS = {
    "train": ["textattn train quickstart", "textattn train my.yaml data.path=reviews.csv training.epochs=2"],
    "tune": [
        "textattn tune my.yaml --trials 30",
        "textattn tune my.yaml --space space.yaml training.epochs=3",
    ],
    "predict": [
        'textattn predict "Delicious food, friendly staff." "The soup was cold."',
        "textattn predict < reviews.txt",
    ],
    "export": ["textattn export --int8 --bundle model.zip    # one small file"],
    "explain": ['textattn explain "Delicious food, friendly staff."', "textattn explain --json < reviews.txt"],
    "evaluate": ["textattn evaluate", "textattn evaluate more.csv text=review label=stars"],
    "audit": ["textattn audit", "textattn audit --model runs/seed1 --model runs/seed2"],
    "baseline": ["textattn baseline imdb", "textattn baseline my.yaml data.path=reviews.csv"],
    "compare": ["textattn compare runs/plain runs/faithful", "textattn compare runs/imdb/* --split validation --json"],
    "words": ["textattn words", "textattn words --model runs/imdb --top 30"],
    "label": ["textattn label pool.csv", "textattn label pool.csv --labels negative,positive"],
    "drift": ["textattn drift --input new.csv"],
    "serve": ["textattn serve"],
    "push": ["textattn push runs/imdb user/imdb --dry-run", "textattn push runs/imdb user/imdb --private"],
    "pull": ["textattn pull user/imdb", "textattn pull user/imdb@v1 models/imdb"],
    "runs": [],
    "runs ls": ["textattn runs ls", "textattn runs ls experiments --json"],
    "runs rm": ["textattn runs rm runs/imdb/2026-03-01T10-20-30", "textattn runs rm old --yes"],
    "runs name": ["textattn runs name runs/imdb/2026-03-01T10-20-30 best", "textattn runs name --remove best"],
    "runs best": ["textattn runs best --metric macro_f1"],
    "report": ["textattn report", "textattn report runs/tickets --by product --by language", "textattn report --json"],
    "cache": ["textattn cache", "textattn cache --clear"],
    "info": ["textattn info", "textattn info runs/imdb", "textattn info --model runs/imdb --json"],
    "check": ["textattn check quickstart", "textattn check my.yaml data.path=reviews.csv"],
    "configs": [],
    "configs ls": [],
    "configs show": ["textattn configs show imdb", "textattn configs show imdb > mine.yaml"],
    "configs cp": ["textattn configs cp imdb", "textattn configs cp imdb mine.yaml"],
    "schema": ["textattn schema > textattn.schema.json"],
}


# Every command


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_begins_with_examples(command: str, option: str) -> None:
    done = cli(*command.split(), option, COLUMNS="80", TERMINAL_WIDTH="80")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: textattn {command} [OPTIONS]")
    head = done.out.split("\nOptions:")[0]
    for example in COMMANDS[command]:
        assert f"  {example}\n" in head


def test_the_overview_names_every_command_in_full() -> None:
    done = cli("--help", COLUMNS="80", TERMINAL_WIDTH="80")
    assert done.code == 0
    listed = re.findall(r"^  ([a-z]+)  +(\S.*)$", done.out.split("Commands:\n")[1], re.M)
    assert [name for name, _ in listed] == [name for name in dict(listed) if name in COMMANDS]
    assert {name for name, _ in listed} == {command for command in COMMANDS if " " not in command}
    for _, text in listed:
        assert text.endswith(".")
        assert not text.endswith("...")
    assert "  textattn train quickstart\n" in done.out


def test_nothing_at_all_shows_the_usage() -> None:
    done = cli()
    assert done.code == 2
    assert "Usage: textattn [OPTIONS] COMMAND" in done.out + done.err


def test_the_version_and_nothing_else() -> None:
    assert cli("--version") == Result(0, f"textattn {textattn.__version__}\n", "")


def test_a_misspelt_command_is_recognised() -> None:
    done = cli("trian")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("Error: No such command 'trian'. Did you mean 'train'?\n")


FAILURES = {
    "a bug": (KeyError("oops"), 1, "Error: KeyError: 'oops'\nHint: this is a bug: "),
    "a full disk": (OSError(28, "No space left on device"), 1, "Error: the disk is full\n"),
    "no permission": (PermissionError(13, "Permission denied", "x"), 3, "Error: x: Permission denied\n"),
    "a wrong setting": (ConfigError("wrong"), 2, "Error: wrong\n"),
    "a missing file": (InputError("missing", "look"), 3, "Error: missing\nHint: look\n"),
    "a failed check": (CheckFailed("worse"), 4, "Error: worse\n"),
    "a failed training": (TrainingError("diverged"), 1, "Error: diverged\n"),
    "another process": (Elsewhere(3), 3, ""),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_debug_shows_where_an_error_comes_from_and_changes_no_exit_code(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, code, message = FAILURES[failure]

    def fail() -> None:
        raise error

    monkeypatch.setattr("textattn.config.json_schema", fail)
    monkeypatch.setattr("textattn.cli.SECONDS_TO_SPEAK", 0)
    plain = cli("schema")
    assert (plain.code, plain.out) == (code, "")
    assert plain.err.startswith(message)
    for done in (cli("--debug", "schema"), cli("schema", TEXTATTN_DEBUG="1")):
        assert (done.code, done.out) == (code, "")
        if message:
            assert done.err.startswith("Traceback (most recent call last):\n") and ", in fail\n" in done.err
            assert f"\n{message}" in done.err


def test_debug_keeps_the_exit_code_of_a_process(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "textattn", "--debug", "info", str(tmp_path / "none")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert (
        done.stderr.startswith("Traceback") and f"\nError: --model: no such folder: {tmp_path / 'none'}" in done.stderr
    )


def test_a_bug_says_how_to_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("oops")

    monkeypatch.setattr("textattn.config.json_schema", fail)
    hint = "Hint: this is a bug: {} at https://github.com/textattn/textattn/issues\n"
    ask = "run it again as `textattn --debug …` and report what it prints"
    assert cli("schema").err.endswith(hint.format(ask))
    assert cli("--debug", "schema").err.endswith(hint.format("report what is printed above"))


def test_errors_are_colored_where_asked_for() -> None:
    assert cli("configs", "show", "x", FORCE_COLOR="1").err.startswith("\x1b[1;31mError:\x1b[0m no shipped config 'x'")
    assert cli("configs", "show", "x", FORCE_COLOR="1", NO_COLOR="1").err.startswith("Error: no shipped config 'x'")


def test_columns_of_numbers_stand_to_the_right_and_others_to_the_left() -> None:
    lines = table([("電影", "3", "1 MB"), ("é", "12", "x")], ("label", "n", "what"))
    assert lines == ["label   n  what", "電影    3  1 MB", "é      12  x"]
    assert display_width("電影  é") == display_width("labe  e") == 7
    assert table([]) == []


# evaluate


def test_the_own_test_split_equals_the_metrics_of_the_run(trained_run: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())["test"]
    done = cli("evaluate", "--model", trained_run, "--json")
    assert json.loads(done.out) == metrics | {"split": "test"}
    assert done.err == (f"Measuring {trained_run} on the test split of its own data\n")
    plain = cli("evaluate", "--model", trained_run, "-q")
    assert plain.err == ""
    lines = plain.out.splitlines()
    interval = metrics["interval_95"]
    assert lines[0] == (
        f"accuracy {metrics['accuracy']:.4f} (95 % interval {interval['low']:.4f} to {interval['high']:.4f}), "
        f"always {metrics['majority_class']['label']!r}: {metrics['majority_class']['accuracy']:.4f}, "
        f"macro F1 {metrics['macro_f1']:.4f}, 216 texts"
    )
    shown = dict(re.findall(r"^(\w+) +(\d\.\d{4})$", plain.out, re.M))
    assert shown == {name: f"{metrics[name]:.4f}" for name in METRICS if name in metrics}
    for label, row in zip(("neg", "pos"), metrics["confusion_matrix"], strict=True):
        assert re.search(rf"^{label} +{row[0]} +{row[1]}$", plain.out, re.M)


def test_data_of_ones_own_by_column_and_label_names(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("review,verdict\nI loved it,pos\nI hated it,neg\nawful and boring,pos\n")
    arguments = ["evaluate", tmp_path / "own.csv", "--model", trained_run, "text=review", "label=verdict", "--json"]
    metrics = json.loads(cli(*arguments).out)
    assert metrics["num_examples"] == 3
    predicted = [p.label for p in textattn.load(trained_run).predict(["I loved it", "I hated it", "awful and boring"])]
    hits = sum(a == b for a, b in zip(predicted, ["pos", "neg", "pos"], strict=True))
    assert metrics["accuracy"] == pytest.approx(hits / 3)
    assert metrics["per_class"]["pos"]["support"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--fail-under", "accuracy=0.999"], 4, "Error: accuracy is 0."),
        (["--fail-under", "log_loss=0.001"], 4, "Error: log_loss is 0."),
        (["--fail-under", "accuracy=0.1", "--fail-under", "log_loss=9"], 0, ""),
        (["--fail-under", "acuracy=1"], 2, "Error: --fail-under: unknown metric 'acuracy'; did you mean 'accuracy'?"),
        (["--fail-under", "accuracy"], 2, "Error: --fail-under: expected metric=number, got 'accuracy'"),
        (["--split", "nope"], 3, "Error: no split 'nope'; splits are: test, train, validation"),
        (["none.csv"], 3, "Error: none.csv: no such file"),
        (["{tmp}/bad.csv"], 3, "Error: {tmp}/bad.csv:2: column 'label': "),
        (["txt=a"], 2, "Error: config: data.txt: unknown key; did you mean 'text'?"),
    ],
)
def test_checks_and_mistakes(trained_run: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "bad.csv").write_text("text,label\ngood,neutral\n")
    words = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    done = cli("evaluate", "--model", trained_run, "-q", *words)
    assert done.code == code
    assert done.err.startswith(message.replace("{tmp}", str(tmp_path)))
    # What was measured is shown even where a check of it fails.
    assert bool(done.out) == (code in (0, 4))


# info, check


def test_info_says_what_a_model_is(trained_run: Path) -> None:
    done = cli("info", "--model", trained_run)
    assert (done.code, done.err) == (0, "")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in done.out.splitlines())
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert facts["path"] == str(trained_run)
    assert facts["finished"] == "yes"
    assert facts["labels"] == "neg, pos"
    assert facts["model"] == "embedding 32, LSTM 32 (bidirectional, 1 layer), additive attention, softmax"
    assert facts["data"] == "bundled:reviews, 888 train, 216 validation, 216 test"
    assert facts["test"].startswith(f"accuracy {metrics['test']['accuracy']:.4f} (")
    # All values begin in one column.
    assert len({re.match(r"\w+ +", line).end() for line in done.out.splitlines()}) == 1  # type: ignore[union-attr]
    value = json.loads(cli("info", "--model", trained_run, "--json").out)
    assert value["metrics"] == metrics
    assert value["labels"] == ["neg", "pos"]


def test_info_takes_the_model_by_place_and_by_name(trained_run: Path) -> None:
    by_name = cli("info", "--model", trained_run)
    assert cli("info", trained_run) == cli("info", trained_run, "-q") == cli("-q", "info", trained_run) == by_name
    done = cli("info", trained_run, "--model", trained_run)
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: give either MODEL or --model, not both")


def test_check_trains_nothing_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("check", "quickstart", "--no-forecast")
    assert done.code == 0
    assert list(tmp_path.iterdir()) == []
    lines = done.out.splitlines()
    assert re.fullmatch(r"train +888 +\d+ +\d+ +\d+\.\d% +\d+\.\d%", lines[1])
    assert re.fullmatch(r"pos +\d+ +109 +109", lines[7])
    assert lines[-1] == "The config is valid, the data look clean; nothing was trained."
    facts = json.loads(cli("check", "quickstart", "--no-forecast", "--json", "-q").out)
    config = load_config("quickstart")
    assert facts["splits"]["train"]["num_examples"] == 888
    assert facts["splits"]["train"]["labels"]["neg"] + facts["splits"]["train"]["labels"]["pos"] == 888
    assert facts["steps"] == -(-888 // config.training.batch_size) * config.training.epochs
    assert facts["shapes"]["logits"] == [config.training.batch_size, 2]
    assert cli("check", "quickstart", "training.epochs=0").code == 2
    # No larger batch than a run would have: a batch of whole documents would not fit into memory.
    done = cli("check", "quickstart", "--no-forecast", "--json", "-q", "training.max_tokens_per_batch=100")
    rows, tokens = json.loads(done.out)["shapes"]["input_ids"]
    assert rows == max(1, 100 // tokens) < config.training.batch_size


# configs, schema


def test_shipped_configs_are_listed_shown_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = json.loads(cli("configs", "ls", "--json").out)
    assert set(listed) == set(shipped_configs())
    assert all(listed.values())
    lines = cli("configs", "ls").out.splitlines()
    assert [re.split(r"  +", line)[0] for line in lines] == sorted(listed)
    assert len({line.index(listed[name]) for name, line in zip(sorted(listed), lines, strict=True)}) == 1
    text = shipped_configs()["quickstart"].read_text(encoding="utf-8")
    assert cli("configs", "show", "quickstart").out == text
    assert cli("configs", "cp", "quickstart").out == "quickstart.yaml\n"
    assert (tmp_path / "quickstart.yaml").read_text(encoding="utf-8") == text
    (tmp_path / "quickstart.yaml").write_text("mine")
    done = cli("configs", "cp", "quickstart")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: quickstart.yaml exists; nothing was changed\n")
    assert (tmp_path / "quickstart.yaml").read_text() == "mine"
    assert cli("configs", "cp", "quickstart", "-f").code == 0
    assert cli("configs", "cp", "quickstart", "other.yaml").out == "other.yaml\n"
    done = cli("configs", "show", "quickstrat")
    assert (done.code, done.err) == (
        2,
        "Error: no shipped config 'quickstrat'; did you mean 'quickstart'?\nHint: textattn configs ls\n",
    )


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is of the types and has only the keys that a JSON Schema allows."""
    if "$ref" in schema:
        return conforms(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in schema:
        return any(conforms(value, part, root) for part in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return type(value) is int or (kind == "number" and type(value) is float)
    if kind is not None and not isinstance(value, kinds[kind]):
        return False
    if isinstance(value, list):
        return all(conforms(item, schema.get("items", {}), root) for item in value)
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
        return set(schema.get("required", [])) <= set(value) and all(
            conforms(item, properties[key], root)
            if key in properties
            else isinstance(rest, dict) and conforms(item, rest, root)
            for key, item in value.items()
        )
    return True


def test_the_schema_describes_the_shipped_configs_and_refuses_mistakes() -> None:
    from textattn.config.yaml12 import parse_yaml

    done = cli("schema")
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name, path in shipped_configs().items():
        value = parse_yaml(path.read_text(encoding="utf-8"), name).value
        assert conforms(value, schema, schema), name
        assert conforms(load_config(name).model_dump(), schema, schema), name
    good = {"data": {"path": "x"}}
    assert conforms(good, schema, schema)
    for wrong in ({}, {**good, "sed": 1}, {**good, "seed": "1"}, {**good, "tokenizer": {"type": "words"}}):
        assert not conforms(wrong, schema, schema), wrong
    assert all(
        "description" in setting for part in schema["$defs"].values() for setting in part.get("properties", {}).values()
    )
