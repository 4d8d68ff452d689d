"""What several test files share. One thread per process and no network, unless a test asks for more."""

from __future__ import annotations

import os

# Libraries read these when they are imported, and processes that a test starts inherit them. pytest-xdist runs one
# process for each processor; with more threads than one in each they would only wait for each other.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["COLUMNS"] = "100"
os.environ["TEXTATTN_CACHE"] = "off"
for variable in ("TEXTATTN_MODEL", "TEXTATTN_DEBUG", "TEXTATTN_TOKEN", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(variable, None)

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

# The same examples in every run, so that a change fails by itself only. `scripts/test -m hypothesis
# --hypothesis-profile random` looks for new ones.
hypothesis.settings.register_profile("random", derandomize=False)
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile("fixed")

# Before they are imported, so that what is asserted there is explained as in a test file.
pytest.register_assert_rewrite(
    "bad_input",
    "bulk_jobs",
    "damaged_models",
    "export_runs",
    "foreign_files",
    "html_pages",
    "report_runs",
    "serving",
    "small_models",
    "stopped_runs",
)

pytest_plugins = ["browser", "report_runs", "serving"]
# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the processes they start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED = Path(__file__).parent.parent.parent / "shared"

# A model small enough to train in about two seconds, and still better than guessing.
TINY = [
    "data.path=bundled:reviews",
    "tokenizer.vocab_size=2000",
    "tokenizer.max_length=60",
    "model.embedding_dim=32",
    "model.hidden_size=32",
    "training.epochs=3",
    "training.batch_size=32",
    "training.learning_rate=5e-3",
    "output.plots=false",  # the last, for those who want them
]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and tools that stand beside a checkout; without them a test skips, except in CI."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{SHARED} is missing in CI")
        pytest.skip(f"needs the data sets in {SHARED}")
    return SHARED


Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def textattn() -> Runner:
    """Runs the command line as a user does, in a process of its own: textattn("predict", "x", cwd=…, stdin="…")."""

    def run(
        *arguments: str | Path,
        cwd: str | Path | None = None,
        stdin: str | bytes | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONUTF8": "1"}
        for name, value in (env or {}).items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        done = subprocess.run(
            [sys.executable, "-m", "textattn", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            input=(stdin.encode() if isinstance(stdin, str) else stdin) if stdin is not None else b"",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        )

    return run


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


def digest(folder: Path) -> str:
    """Of the names and contents of all files in a folder."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def unsealed(run: Path) -> Path:
    """The run without the checksums of its files: changed on purpose, or a run of an earlier version."""
    (run / "checksums.json").unlink(missing_ok=True)
    return run


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeOnce]:
    """`make_once(name, make)` gives a folder that `make(folder)` filled, once for all processes of pytest-xdist.

    The tests must not change what is in it; this is checked when the tests of a process are done.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder of this process lies in that of all
        root = root.parent
    used: dict[Path, str] = {}

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder = root / "shared" / name
        folder.parent.mkdir(exist_ok=True)
        made = folder.with_name(f"{name}.sha256")
        with FileLock(folder.with_name(f"{name}.lock")):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed to fill it
                folder.mkdir()
                make(folder)
                made.write_text(digest(folder))
        used[folder] = made.read_text()
        return folder

    yield folder_of
    for folder, before in used.items():
        assert digest(folder) == before, f"a test changed a file in {folder}"


@pytest.fixture(scope="session")
def trained_run(make_once: MakeOnce) -> Path:
    """A finished run on the bundled corpus; tests must not change it."""

    def make(folder: Path) -> None:
        import textattn

        textattn.train("quickstart", [*TINY[:-1], f"output.dir={folder / 'run'}"])

    return make_once("trained", make) / "run"


@pytest.fixture(scope="session")
def self_attention(make_once: MakeOnce) -> Path:
    """A finished run whose tokens attend to one another, with two heads; tests must not change it."""

    def make(folder: Path) -> None:
        import textattn

        overrides = ["model.attention=self_attention", "model.num_heads=2", f"output.dir={folder / 'run'}"]
        textattn.train("quickstart", [*TINY, *overrides])

    return make_once("self_attention", make) / "run"
