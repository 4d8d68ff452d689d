"""-q is an option of every command that writes on stderr what is no error."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from inprocess import run as cli

from textattn.cli.app import app

# They only print what was asked for.
SILENT = {"info", "schema", "configs", "compare", "runs"}


def commands() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [name for name in commands() if name not in SILENT])
def test_every_command_takes_it(command: str) -> None:
    assert "-q, --quiet" in cli(command, "--help").out


@pytest.mark.parametrize("option", ["-q", "--quiet"])
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_with_it_a_text_gets_the_same_answer(command: str, option: str, trained_run: Path) -> None:
    plain = cli(command, "--model", trained_run, "good food")
    for arguments in ([option, "good food"], ["good food", option]):
        assert cli(command, "--model", trained_run, *arguments) == plain


def test_with_it_files_are_written_without_a_word(trained_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = cli("explain", "-q", "--model", trained_run, "--html", page, "good food")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert page.exists()
