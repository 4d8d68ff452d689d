"""README.md and docs/ are true: commands and code run, settings and files exist, links resolve, tables are complete."""

from __future__ import annotations

import argparse
import csv
import json
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import inprocess
import pytest
import typer.main
from doc_pages import PAGES, ROOT, Block, anchors, blocks, inline_code, links, table_rows
from test_imports import LAYERS

from textattn.cli.app import app
from textattn.config import json_schema, load_config, shipped_configs
from textattn.config.removed import REMOVED
from textattn.config.space import load_space

# Commands that train for minutes, never end or need the Hub. They are parsed, and their configs and settings are
# checked, but they do not run.
PARSED_ONLY = {"train", "tune", "push", "pull", "serve"}
# Appended to a command so that it takes a second or two; the last value of an option counts.
SHORTER = {"audit": ["--examples", "5"], "words": ["--examples", "20"], "check": ["--no-forecast"]}
# The same for code in Python.
SHORTER_PYTHON = {'["training.epochs=5"]': '["training.epochs=1", "model.hidden_size=32", "output.audit_examples=0"]'}
# Names that look like settings and are files.
FILES = (".onnx", ".safetensors", ".zip", ".json")
SETTING = re.compile(r"(?<![\w./-])((?:start|data|tokenizer|model|training|output)(?:\.[a-z_0-9]+)+)")
PAGE_NAMES = [page.name for page in PAGES]
by_page = pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)


def walk_settings() -> dict[str, bool]:
    """Every key of the schema by its dotted name -> whether it is a section."""
    found = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["walk"](json_schema())
    return {setting.key: setting.is_section for setting in found}


# Commands and code


@pytest.fixture
def folder(tmp_path: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory that the pages speak of: reviews in files, and runs of one small model."""
    for run in ("a", "b", "seed1", "seed2", "quickstart/2026-01-01T00-00-00"):
        shutil.copytree(trained_run, tmp_path / "runs" / run)
    lines = (ROOT / "textattn/corpus/reviews/train.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    rows = [json.loads(line) for line in lines]
    # The columns that mine.yaml names, and those that the small model was trained on.
    columns = {"review": "text", "stars": "label", "text": "text", "label": "label"}
    (tmp_path / "reviews").mkdir()
    for name in ("reviews.csv", "more.csv", "reviews/part.csv"):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(columns)
            table.writerows([row[source] for source in columns.values()] for row in rows)
    (tmp_path / "reviews.txt").write_text("".join(f"{row['text']}\n" for row in rows[:20]), encoding="utf-8")
    write_yaml(tmp_path, blocks(PAGES[0]))
    (tmp_path / "runs/mine-tune").mkdir()
    shutil.copy(tmp_path / "mine.yaml", tmp_path / "runs/mine-tune/best.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_yaml(folder: Path, found: Sequence[Block]) -> None:
    for block in found:
        if block.file_name is not None:
            (folder / block.file_name).write_text(block.content, encoding="utf-8")


@by_page
def test_commands_and_code_of_a_page_run(page: Path, folder: Path) -> None:
    """In the order of the page, in one folder."""
    write_yaml(folder, blocks(page))
    for block in blocks(page):
        for line in block.commands:
            run_line(line, folder)
        if block.language == "python":
            source = block.content
            for long, short in SHORTER_PYTHON.items():
                source = source.replace(long, short)
            exec(compile(source, f"{page.name}: Python", "exec"), {})


def run_line(line: str, folder: Path) -> None:
    """Runs one command line, or parses it where it would take minutes."""
    print(line)  # pytest shows it if the line fails
    pipe, _, command = line.rpartition(" | ")
    words = shlex.split(command, comments=True)
    if words[0] == "torchrun":
        words = ["textattn", *words_of_torchrun(words[1:])]
    assert words[0] == "textattn", line
    words, source, target = without_redirections(words[1:])
    name = parse(words)
    if name in PARSED_ONLY or "--engine" in words or any("://" in word for word in words):
        return  # what is elsewhere is not there in a test
    source = source or ("reviews.txt" if pipe else None)
    stdin = b"" if source is None else (folder / source).read_bytes()
    done = inprocess.run(*words, *SHORTER.get(name, []), stdin=stdin)
    assert done.code == 0, f"{line}\n{done.err}"
    if target is not None:
        (folder / target).write_text(done.out, encoding="utf-8")


def words_of_torchrun(words: list[str]) -> list[str]:
    """What torchrun would pass on to textattn; its own options are parsed by torchrun itself."""
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(words)
    assert parsed.module
    assert parsed.training_script == "textattn"
    rest: list[str] = parsed.training_script_args
    return rest


def without_redirections(words: list[str]) -> tuple[list[str], str | None, str | None]:
    """The words before `<` and `>`, the file that is read and the file that is written."""
    files: dict[str, str] = {}
    for sign in ("<", ">"):
        if sign in words:
            place = words.index(sign)
            files[sign] = words[place + 1]
            del words[place : place + 2]
    return words, files.get("<"), files.get(">")


def parse(words: list[str]) -> str:
    """The name of the command, after its options were parsed and its config and settings were checked."""
    command: Any = typer.main.get_command(app)
    options = {option for parameter in command.params for option in parameter.opts}
    rest, name = list(words), ""
    while hasattr(command, "commands"):
        while rest[0].startswith("-"):  # options of the group
            assert rest.pop(0) in options
        name = rest.pop(0)
        command = command.commands[name]
    values = command.make_context(name, rest).params
    if name in ("train", "tune", "check", "baseline"):
        config = load_config(values["config"], values["overrides"] or [])
        if name == "tune":
            load_space(None if values["space"] is None else str(values["space"]), config)
    return name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("textattn trian quickstart", "trian"),
        ("textattn train quickstart --epochs 3", "No such option"),
        ("textattn train quickstart training.epoch=3", "unknown key"),
        ("textattn train no_such_config", "no_such_config"),
        ("textattn tune mine.yaml --space no_such_space.yaml", "no_such_space.yaml"),
        ("textattn predict --model runs/no_such_run text", "no_such_run"),
        ("torchrun --nproc-per-node 2 -m textattn train quickstart model.layers=2", "unknown key"),
    ],
)
def test_a_wrong_command_is_noticed(line: str, message: str, folder: Path) -> None:
    with pytest.raises(Exception, match=message):
        run_line(line, folder)


@by_page
def test_yaml_is_valid(page: Path, folder: Path) -> None:
    for number, block in enumerate(blocks(page)):
        if block.language != "yaml":
            continue
        file = folder / f"block{number}.yaml"
        file.write_text(block.content, encoding="utf-8")
        if block.file_name == "space.yaml":
            assert load_space(str(file), load_config("mine.yaml"))
        else:
            load_config(str(file))


def test_every_command_is_documented() -> None:
    group: Any = typer.main.get_command(app)
    lines = [line for page in PAGES for block in blocks(page) for line in block.commands]
    assert {name for name in group.commands if not any(f"textattn {name}" in line for line in lines)} == set()
    inline = [code for page in PAGES for code in inline_code(page)]
    named = {found[1] for code in inline if (found := re.match(r"textattn (?:--\w+ )?([a-z]+)\b", code))}
    assert named <= set(group.commands)


# Settings


def test_the_page_of_settings_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["settings_page"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page, "run scripts/docs.py"


@by_page
def test_named_settings_exist(page: Path) -> None:
    removed = {".".join(path) for path in REMOVED}
    text = " ".join([*inline_code(page), *(block.content for block in blocks(page) if block.language != "python")])
    named = {key for key in SETTING.findall(text) if not key.endswith(FILES)}
    if page.name not in ("configuration.md", "results.md"):  # these two list what was removed
        removed = set()
    assert named <= set(walk_settings()) | removed


def test_results_have_a_row_for_every_setting_of_model_and_training() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = text.split("## Which settings pay")[1].split("\n## ")[0]
    rows = list(table_rows(section))
    wanted = [key for key, is_section in walk_settings().items() if not is_section]
    assert [row[0].strip("`") for row in rows] == [key for key in wanted if key.startswith(("model.", "training."))]
    assert all(len(row) == 3 and row[1] and row[2].startswith("`") for row in rows)


def scripts_with_settings() -> Iterator[str]:
    for page in PAGES:
        yield from (code for code in inline_code(page) if code.startswith("scripts/") and "--set" in code)


@pytest.mark.parametrize("command", sorted(set(scripts_with_settings())))
def test_settings_of_measuring_commands_are_valid(command: str) -> None:
    script, *words = shlex.split(command)
    assert (ROOT / script).is_file()
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--variants")
    parser.add_argument("--set", nargs="+")
    parsed = parser.parse_args(words)
    config = parsed.names[0] if parsed.names else "sst2"
    assert config in shipped_configs()
    load_config(config, [setting.partition(":")[2] or setting for setting in parsed.set])


# Files and links


@by_page
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        # The site holds nothing but docs/.
        assert page.name == "README.md" or ROOT / "docs" in target.parents, link


@by_page
def test_named_files_and_configs_exist(page: Path) -> None:
    for code in inline_code(page):
        file = code.split()[0]
        if re.match(r"(textattn|scripts|configs|tests|docs|\.ci)/", file) and "<" not in file:
            assert (ROOT / file).exists(), code


def test_readme_is_short_and_the_index_lists_every_page() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 200
    pages = {page.name for page in PAGES[1:]} - {"index.md"}
    assert set(links(ROOT / "docs" / "index.md")) == pages
    assert {Path(link).name for link in links(PAGES[0])} >= pages


def test_the_tree_of_the_code_is_the_tree_on_disk() -> None:
    (tree,) = re.findall(r"```text\ntextattn/\n(.*?)```", (ROOT / "docs" / "code.md").read_text("utf-8"), re.DOTALL)
    names = [line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")]
    assert set(names) == {
        p.name for p in (ROOT / "textattn").iterdir() if not p.name.startswith(("_", "py.typed", "."))
    }
    layers = [name.removesuffix(".py") for name in names if name != "corpus"]
    assert layers == [layer for layer in LAYERS if layer.strip("_") and layer != "__main__" and "." not in layer]
    assert all((ROOT / line.split()[0]).is_dir() for line in tree.splitlines() if not line.startswith("  "))


def test_named_configs_are_shipped() -> None:
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for section in ("## Accuracy of the shipped configs", "## What it reaches"):
        text = (results if section in results else PAGES[0].read_text(encoding="utf-8")).split(section)[1]
        table = re.findall(r"^\| (\w+) \|", text.split("\n## ")[0].split("\nThe linear")[0], re.MULTILINE)[1:]
        assert len(table) >= 8
        assert set(table) <= set(shipped_configs())
