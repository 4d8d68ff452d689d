"""`textattn train --seeds`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from conftest import TINY
from inprocess import run as cli
from scipy.stats import t

from textattn.runs.seeds import summarise

FEW = [*(s for s in TINY if "epochs" not in s), "training.epochs=1", "data.max_train_examples=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds") / "three"
    done = cli("train", "quickstart", *FEW, f"output.dir={folder}", "seed=7", "--seeds", "3")
    assert (done.code, done.out) == (0, f"{folder}\n")
    table = [line for line in done.err.splitlines() if line.startswith(("accuracy", "test"))][-2:]
    assert table[0].split()[:3] == ["test", "mean", "std"]
    values = [json.loads((folder / f"seed-{s}" / "metrics.json").read_text())["test"]["accuracy"] for s in (7, 8, 9)]
    assert table[1].split()[-3:] == [f"{value:.4f}" for value in values]
    return folder


def test_each_seed_is_a_run_of_its_own(folder: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["seed-7", "seed-8", "seed-9", "seeds.json"]
    alone = tmp_path / "alone"
    assert cli("train", "quickstart", *FEW, f"output.dir={alone}", "seed=8").code == 0
    assert (folder / "seed-8" / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()


def test_summary_is_mean_deviation_and_students_interval(folder: Path) -> None:
    summary = json.loads((folder / "seeds.json").read_text())
    runs = [folder / f"seed-{seed}" for seed in (7, 8, 9)]
    assert summary == summarise(runs)
    assert summary["runs"] == [str(run) for run in runs]
    for split in ("validation", "test"):
        for metric, found in summary[split].items():
            values = [json.loads((run / "metrics.json").read_text())[split][metric] for run in runs]
            assert found["values"] == values
            assert found["mean"] == pytest.approx(statistics.mean(values))
            assert found["std"] == pytest.approx(statistics.stdev(values))
            half = t.ppf(0.975, 2) * statistics.stdev(values) / 3**0.5
            expected = [statistics.mean(values) - half, statistics.mean(values) + half]
            assert found["interval_95"] == pytest.approx(expected)
    assert len(set(summary["test"]["log_loss"]["values"])) == 3


def test_a_series_goes_on_and_trains_only_what_is_missing(folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.glob("seed-[789]/*")}
    done = cli("train", "quickstart", *FEW, f"output.dir={folder}", "seed=7", "--seeds", "4", "--resume", "--json")
    assert done.code == 0
    value = json.loads(done.out)
    assert value.pop("run") == str(folder)
    assert value == json.loads((folder / "seeds.json").read_text())
    assert len(value["test"]["accuracy"]["values"]) == 4
    assert {path: path.stat().st_mtime_ns for path in folder.glob("seed-[789]/*")} == before


def test_no_series_over_finished_runs(folder: Path) -> None:
    done = cli("train", "quickstart", *FEW, f"output.dir={folder}", "seed=7", "--seeds", "2")
    assert done.code == 2
    assert "already contains a finished run; nothing was changed" in done.err


def test_the_newest_of_a_series_is_found_as_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("train", "quickstart", *FEW, "--seeds", "2", "-q")
    assert (done.code, done.err) == (0, "")
    assert Path(done.out.strip()).parent == Path("runs/quickstart-seeds")
    info = json.loads(cli("info", "--json").out)
    assert info["path"] == str(Path(done.out.strip()) / "seed-43")
