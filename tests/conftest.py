"""What several test files share. One thread and no network unless a test asks for more."""

from __future__ import annotations

import os

# Read at import time by the libraries, so set before anything else.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["COLUMNS"] = "100"
os.environ["TEXTATTN_CACHE"] = "off"
for variable in ("TEXTATTN_MODEL", "TEXTATTN_DEBUG", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(variable, None)

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# Before they are imported, so that what is asserted there is explained as in a test file.
pytest.register_assert_rewrite(
    "bad_input", "bulk_jobs", "damaged_models", "export_runs", "html_pages", "small_models", "stopped_runs"
)

pytest_plugins = ["browser"]
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


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the bundled corpus; tests must not change it."""
    import textattn

    directory = tmp_path_factory.mktemp("trained") / "run"
    return textattn.train("quickstart", [*TINY[:-1], f"output.dir={directory}"])
