"""The wheel holds what it needs to work outside the checkout, and every config says what it reached."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Runner

from textattn.config import shipped_configs

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel built from this tree unpacks to."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_works_outside_the_checkout(installed: Path, textattn: Runner, tmp_path: Path) -> None:
    assert (installed / "textattn" / "py.typed").is_file()
    # PYTHONPATH comes before the editable install, and the working directory is none that holds the package.
    env = {"PYTHONPATH": str(installed)}
    script = "import sys, textattn; sys.argv[1:] = ['configs', 'ls']; print(textattn.__file__, flush=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}from textattn.__main__ import run; run()"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    where, *listed = done.stdout.splitlines()
    assert Path(where).is_relative_to(installed)
    assert [line.split()[0] for line in listed] == sorted(shipped_configs())
    checked = textattn("check", "quickstart", "--no-forecast", env=env, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "888" in checked.stdout


def test_the_wheel_holds_every_module(installed: Path) -> None:
    """A pattern of .gitignore is enough to leave out a folder."""
    packed, here = (
        {str(path.relative_to(root)) for path in (root / "textattn").rglob("*.py")} for root in (installed, ROOT)
    )
    assert packed == here


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_a_config_is_headed_by_its_command_and_its_result(name: str) -> None:
    head = "".join(
        line for line in shipped_configs()[name].read_text(encoding="utf-8").splitlines(keepends=True) if line[0] == "#"
    )
    assert f"textattn train {name}" in head
    assert re.search(r"# Reached here: .*\d", head), "the metric it reached and the minutes it took"
