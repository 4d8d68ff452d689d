"""Compares our recipes with fastText and with TF-IDF and logistic regression, as whole processes. For bench.py."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Name in the table -> name in peer_models.py.
PEERS = {
    "fastText, words": "fasttext",
    "fastText, words and pairs": "fasttext_bigrams",
    "TF-IDF of words and pairs, logistic regression": "tf_idf",
}
# The Python binding of fastText does not support numpy 2.
PACKAGES = ["fasttext-wheel==0.9.2", "scikit-learn==1.7.2", "pyarrow==21.0.0", "numpy<2"]


def peers(arguments: argparse.Namespace, run: Callable[[list[str]], Any]) -> list[dict[str, Any]]:
    """Measure the time from raw parquet files to the accuracy on test. Candidates take turns; results are medians."""
    python = _environment(Path(arguments.environment))
    os.environ["TEXTATTN_CACHE"] = "off"  # The peers have no cache either.
    here = Path(__file__).parent
    results: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.repeat):
            for name, peer in PEERS.items():
                done = run([
                    str(python), str(here / "peer_models.py"), peer, arguments.data, arguments.text, arguments.label
                ])  # fmt: skip
                results.setdefault(name, []).append((json.loads(done.stdout)["accuracy"], done.seconds))
            for config in arguments.configs:
                finished = Path(folder, f"{Path(config).stem}-{number}")
                done = run([
                    sys.executable, "-m", "textattn", "--quiet", "train", config, f"data.path={arguments.data}",
                    *arguments.overrides, f"output.dir={finished}",
                ])  # fmt: skip
                accuracy = json.loads((finished / "metrics.json").read_text())["test"]["accuracy"]
                results.setdefault(f"textattn train {config}", []).append((accuracy, done.seconds))
    return [
        {
            "what": name,
            "accuracy": round(statistics.median(accuracy for accuracy, _ in runs), 4),
            "seconds, whole process": round(statistics.median(seconds for _, seconds in runs), 1),
        }
        for name, runs in results.items()
    ]


def _environment(folder: Path) -> Path:
    """The python of an environment with the packages of the peers, which is created once."""
    python = folder / "bin" / "python"
    installed = folder / "installed"
    wanted = "\n".join(PACKAGES)
    if not installed.is_file() or installed.read_text() != wanted:
        print(f"Installing the peers into {folder} …", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
        installed.write_text(wanted)
    return python
