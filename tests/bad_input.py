"""What the battery of bad input shares: a folder as a user has it, one thing in it broken, and what comes of it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import MakeOnce
from inprocess import Result
from inprocess import run as cli

import textattn

GOOD, BAD = ("fine", "great", "tasty", "fresh"), ("awful", "cold", "rude", "stale")
REVIEWS = "text,label\n" + "".join(
    f"{words[i % 4]} {words[(i + i // 4) % 4]} food {i},{label}\n"
    for i in range(16)
    for words, label in ((GOOD, "pos"), (BAD, "neg"))
)
MINE = """\
data:
  path: reviews.csv
  validation_fraction: 0.25
tokenizer:
  min_frequency: 1
  max_length: 20
model:
  embedding_dim: 8
  hidden_size: 8
  attention_size: 8
training:
  epochs: 1
  batch_size: 8
  device: cpu
output:
  dir: runs/new
  prediction_splits: [validation]
  audit_examples: 0
recipe: plain
"""
MEND = "mend the rows, or leave them out with data.on_bad_row=skip"
ANYTHING = "***"
# A command that hangs is a failure, not an endless test.
SECONDS = 30
Content = str | bytes | Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One kind of bad input, the command that meets it, and all that may come of it."""

    name: str
    files: Mapping[str, Content]
    """What is put into the folder: content, or a function that makes it at its path."""
    command: str
    code: int
    error: str
    """All that follows `Error: `; *** stands for words of a library or the system."""
    hint: str | None = None
    """All that follows `Hint: `; None: there is no such line."""
    out: str = ""
    """What stands on stdout."""
    before: str = ""
    """What stands on stderr before the error."""
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    within: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """Around the command."""
    leaves: str | None = None
    """What the command may change, because that is what it says it does: this folder and no other."""


@pytest.fixture(scope="session")
def world(make_once: MakeOnce) -> Path:
    """The data, the config and the finished run of a user; tests take a copy."""
    return make_once("world", make_world)


def make_world(folder: Path) -> Path:
    (folder / "reviews.csv").write_text(REVIEWS)
    (folder / "mine.yaml").write_text(MINE)
    before = Path.cwd()
    os.chdir(folder)
    try:
        textattn.train("mine.yaml", ["output.dir=runs/earlier"])
    finally:
        os.chdir(before)
    return folder


def copy(world: Path, folder: Path) -> None:
    shutil.copytree(world, folder, dirs_exist_ok=True)
    # As if it had been trained in the copy; otherwise its data would be found in the original.
    environment = folder / "runs/earlier/environment.json"
    environment.write_text(environment.read_text().replace(json.dumps(str(world)), json.dumps(str(folder))))


def unusable(*problems: str, of: int) -> str:
    """The message about rows that cannot be used."""
    return "\n".join([*problems, f"{len(problems)} of {of} rows cannot be used"])


def put(folder: Path, files: Mapping[str, Content]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def contents(folder: Path, without: str | None = None) -> dict[str, tuple[str, int]]:
    """Of everything in a folder its content and when that was last changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if without is not None and (name == without or name.startswith(f"{without}/")):
            continue
        if path.is_symlink():
            content = str(path.readlink())
        else:
            content = (
                hashlib.sha256(path.read_bytes()).hexdigest() if os.access(path, os.R_OK) and path.is_file() else ""
            )
        # That of a folder tells of files that came and went; the one that holds what is left may change, and so may
        # those of runs and of unfinished answers, which are locked while it is found out what is wrong.
        is_locked = path.is_dir() and (name == "runs" or name.startswith("runs/") or name.endswith(".partial"))
        may_change = is_locked or (without is not None and without.startswith(f"{name}/"))
        changed = 0 if may_change else path.lstat().st_mtime_ns
        found[name] = (content, changed)
    return found


def as_pattern(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split(ANYTHING))


def run(case: Case, folder: Path) -> Result:
    words = shlex.split(case.command)
    # Without what is told meanwhile, so that all of stderr can be compared; these two tell nothing.
    quiet = [] if words[0] in ("predict", "explain") else ["-q"]
    with alarm(), case.within():
        return cli(*quiet, *words, stdin=case.stdin, **case.env)


def check(case: Case, world: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code, every word on stderr and stdout, and that nothing else is other than before."""
    copy(world, folder)
    temporary = folder.with_name(f"{folder.name}-tmp")
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(folder)
    put(folder, case.files)
    before = contents(folder, case.leaves)
    done = run(case, folder)
    after = contents(folder, case.leaves)
    expected = f"{case.before}Error: {case.error}\n" + (f"Hint: {case.hint}\n" if case.hint is not None else "")
    assert re.fullmatch(as_pattern(expected), done.err, re.DOTALL if case.before else 0), done.err
    assert re.fullmatch(as_pattern(case.out), done.out, re.DOTALL), done.out
    assert done.code == case.code
    assert after == before
    assert list(temporary.iterdir()) == []


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"no answer in {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow larger: a full disk, as far as a process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def permissions_count() -> Iterator[None]:
    """Root, too, is bound by the permissions of files: its power to pass over them is laid down meanwhile."""
    if os.geteuid() != 0:
        yield
        return

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if not hasattr(libc, "capget") or libc.capget(ctypes.byref(header), sets):
        pytest.skip("root, and this system cannot lay down what makes it so")
    effective = sets[0]
    sets[0] = effective & ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(ctypes.byref(header), sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(ctypes.byref(header), sets) == 0
