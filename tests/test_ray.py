"""`predict --engine ray`: the same file as one process writes, also when a machine is lost."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli

WORDS = ("the", "film", "plot", "was", "and", "very", "awful", "bad", "fair", "good", "great", "soup", "waiter")


def write_csv(path: Path, first: int, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for i in range(first, first + rows):
            words = [WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(3 + i % 9)]
            writer.writerow([f"{i:07d}", " ".join(words), "mine"])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_run: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTATTN_MODEL", str(trained_run))


def test_what_does_not_go_with_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(Path("in.csv"), 0, 3)

    def refused(*arguments: str) -> str:
        done = cli("predict", *arguments, "--engine", "ray")
        assert done.code == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]
        return done.err

    assert "--engine ray needs files" in refused("good")
    assert "--engine ray needs files" in refused("--input", "-", "--output", "out.csv")
    assert "--engine ray needs a file to write to" in refused("--input", "in.csv")
    assert "--engine ray needs a file to write to" in refused("--input", "in.csv", "--output", "-")
    assert "does not go with --resume" in refused("--input", "in.csv", "--output", "out.csv", "--resume")
    monkeypatch.setitem(sys.modules, "ray", None)
    said = refused("--input", "in.csv", "--output", "out.csv")
    assert "--engine ray needs the package ray[data]" in said
    assert "pip install 'textattn[ray]'" in said
    done = cli("predict", "--input", "in.csv", "--output", "out.csv", "--engine", "spark")
    assert done.code == 2
    assert "--engine: must be local or ray, got 'spark'" in done.err


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of one processor each, as processes of this machine."""
    pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = nodes.address
    yield nodes
    if before is None:
        del os.environ["RAY_ADDRESS"]
    nodes.shutdown()


def both(textattn: Any, *arguments: str, suffix: str) -> tuple[Any, Any, Path, Path]:
    local, remote = Path(f"local{suffix}"), Path(f"ray{suffix}")
    on_ray = textattn("predict", *arguments, "--output", remote, "--engine", "ray")
    return textattn("predict", *arguments, "--output", local), on_ray, local, remote


def said(done: Any) -> list[str]:
    """What was written on stderr, without the lines of Ray's own logger."""
    return [line for line in done.stderr.splitlines() if not line.startswith("[")]


@pytest.mark.slow
def test_ray_writes_the_same_files(cluster: Any, textattn: Any) -> None:
    for number in range(3):
        write_csv(Path(f"in{number}.csv"), 10_000 * number, 9_000)  # more than a chunk each
    alone, on_ray, local, remote = both(textattn, "--input", "in*.csv", suffix=".csv")
    assert alone.returncode == on_ray.returncode == 0, on_ray.stderr
    assert local.read_bytes() == remote.read_bytes()
    assert local.read_bytes().count(b"\n") == 27_001
    assert "27,000 rows answered" in on_ray.stderr
    assert sorted(path.name for path in Path().glob("*.partial")) == []

    # The machines fetch what is elsewhere, and errors name it as the user did.
    here = Path().resolve().as_uri()
    elsewhere = ("--input", f"{here}/in*.csv", "--output", f"{here}/url.jsonl", "--engine", "ray")
    done = textattn("predict", *elsewhere)
    assert done.returncode == 0, done.stderr
    done = textattn("predict", "--input", f"{here}/in*.csv", "--output", "local.jsonl")
    assert done.returncode == 0, done.stderr
    assert Path("url.jsonl").read_bytes() == Path("local.jsonl").read_bytes()

    table = pa.table({"id": range(50), "text": [f"good film {i}" for i in range(50)], "n": [i / 3 for i in range(50)]})
    pq.write_table(table, "in.parquet")
    alone, on_ray, local, remote = both(textattn, "--input", "in.parquet", "--attention", suffix=".parquet")
    assert pq.read_table(local) == pq.read_table(remote), on_ray.stderr
    # Unknown words and the like are counted as in one process.
    assert said(on_ray)[0].split(" in ")[0] == said(alone)[0].split(" in ")[0]


@pytest.mark.slow
def test_a_damaged_row_is_the_same_error(cluster: Any, textattn: Any) -> None:
    write_csv(Path("in1.csv"), 0, 50)
    write_csv(Path("in2.csv"), 50, 50)
    lines = Path("in2.csv").read_bytes().splitlines(keepends=True)
    lines[7] = b"0000056,,mine\r\n"
    lines[30] = b"0000079\r\n"
    Path("in2.csv").write_bytes(b"".join(lines))
    alone, on_ray, *_ = both(textattn, "--input", "in*.csv", suffix=".csv")
    assert alone.returncode == on_ray.returncode == 3
    assert "in2.csv:8: column 'text' is empty; expected a text" in on_ray.stderr
    assert said(on_ray)[0] == said(alone)[0]  # its hint differs, for one process keeps what it has answered
    assert not Path("ray.csv").exists() and not Path("ray.csv.partial").exists()

    alone, on_ray, local, remote = both(
        textattn, "--input", "in*.csv", "--on-error", "skip", "--overwrite", suffix=".jsonl"
    )
    assert alone.returncode == on_ray.returncode == 0, on_ray.stderr
    assert local.read_bytes() == remote.read_bytes()
    assert [line for line in said(on_ray) if "skipped" in line][:2] == [
        line for line in said(alone) if "skipped" in line
    ][:2]


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_row_and_doubles_none(cluster: Any, textattn: Any) -> None:
    for number in range(60):
        write_csv(Path(f"in{number:02d}.csv"), 1_000 * number, 1_000)
    victim = cluster.add_node(num_cpus=1)
    arguments = ["predict", "--input", "in*.csv", "--engine", "ray", "--output", "ray.csv"]
    process = subprocess.Popen([sys.executable, "-m", "textattn", *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(Path("ray.csv.partial").glob("*.csv"))) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cluster.remove_node(victim, allow_graceful=False)
    assert not Path("ray.csv").exists()  # it was in the middle
    _, said = process.communicate(timeout=170)
    assert process.returncode == 0, said
    done = textattn("predict", "--input", "in*.csv", "--output", "local.csv")
    assert done.returncode == 0
    assert Path("local.csv").read_bytes() == Path("ray.csv").read_bytes()
    with Path("ray.csv").open(encoding="utf-8", newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert ids == [f"{i:07d}" for i in range(60_000)]
