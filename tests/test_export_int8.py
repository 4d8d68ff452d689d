"""`export --int8`: what it reports, when its model answers, and that a metric which falls too far is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import export_runs
import numpy as np
import pytest
from export_runs import TEXTS, snapshot
from inprocess import run as cli
from numpy.typing import NDArray

import textattn as package
from textattn.data.sources import CORPUS
from textattn.model.onnx_graph import OnnxGraph

# pytest looks for fixtures among the names of a file.
exports, small_run = export_runs.exports, export_runs.small_run


def test_int8_reports_sizes_and_the_metric_before_and_after(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, _, _, facts = exports
    said = facts["int8"]
    for runtime, name, size in (("onnx", "before", "bytes_before"), ("int8", "after", "bytes_after")):
        file = run / ("model.onnx" if runtime == "onnx" else "model.int8.onnx")
        assert said[size] == file.stat().st_size
        done = cli("evaluate", "--model", run, "--split", "validation", "--runtime", runtime, "--json")
        assert said[name] == json.loads(done.out)["accuracy"]
    assert said["bytes_before"] / said["bytes_after"] > 3
    assert (said["split"], said["num_examples"], said["metric"]) == ("validation", 216, "accuracy")
    assert said["drop"] == pytest.approx(100 * (said["before"] - said["after"]))
    done = cli("export", "--model", run, "--int8", "--split", "test")
    assert (done.code, done.out) == (0, f"{run}/model.int8.onnx\n")
    metrics = json.loads((run / "metrics.json").read_text())
    times = said["bytes_before"] / said["bytes_after"]
    sizes = [f"{said[name] / 1e6:.2f} MB" for name in ("bytes_before", "bytes_after")]
    assert f"{run}/model.int8.onnx: {' -> '.join(sizes)} ({times:.2f} times smaller), " in done.err
    assert re.search(
        rf"accuracy {metrics['test']['accuracy']:.4f} -> 0\.\d{{4}} on 216 texts \(test\)\n$", done.err, re.M
    )


def test_int8_answers_only_when_asked_where_there_is_fp32(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, _, small, _ = exports
    full, int8 = package.load(run), package.load(run, runtime="int8")
    assert (full.runtime, int8.runtime, package.load(small).runtime) == ("onnx", "int8", "int8")
    rows = [json.loads(line)["text"] for line in (CORPUS / "reviews" / "test.jsonl").read_text("utf-8").splitlines()]
    difference = np.abs(full.predict_proba(rows) - int8.predict_proba(rows))
    assert 1e-5 < difference.mean() < 0.01  # it is another model, but not much of another
    assert difference.max() < 0.1
    done = cli("predict", "--model", run, "--runtime", "int8", "--json", *TEXTS)
    found = [json.loads(line)["score"] for line in done.out.splitlines()]
    assert found == pytest.approx([prediction.score for prediction in int8.predict(TEXTS)], abs=1e-9)
    assert found != pytest.approx([prediction.score for prediction in full.predict(TEXTS)], abs=1e-6)


def test_a_metric_that_falls_too_far_is_refused_and_nothing_is_written(
    exports: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(exports[0], tmp_path / "run"))

    def to_nothing(matrix: NDArray[np.float32], largest: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """As coarse as can be: every weight is 0, and every text gets the same answer."""
        return np.zeros(matrix.shape, np.int8), np.ones((*matrix.shape[:-1], 1), np.float32)

    before = snapshot(run)
    with patch.object(OnnxGraph, "quantise", staticmethod(to_nothing)):
        for limit in ([], ["--max-drop", "0"], ["--bundle", tmp_path / "model.zip"]):
            done = cli("export", "--model", run, "--int8", *limit)
            assert (done.code, done.out) == (4, "")
            assert snapshot(run) == before
        found = re.search(
            r"^Error: .*/model\.int8\.onnx: accuracy goes from 0\.(\d{4}) to 0\.(\d{4}) on validation, "
            r"worse by (\d+\.\d\d) points, but at most 0\.5 is allowed; it was not written\nHint: --max-drop (\S+)$",
            done.err,
            re.M,
        )
        assert found
        assert float(found[3]) == pytest.approx((int(found[1]) - int(found[2])) / 100, abs=0.02)
        assert not (tmp_path / "model.zip").exists()
        # What the hint allows is enough, a tenth of a point less is not.
        assert cli("export", "--model", run, "--int8", "--max-drop", str(float(found[4]) - 0.1)).code == 4
        assert cli("export", "--model", run, "--int8", "--max-drop", found[4]).code == 0
    assert snapshot(run).keys() == before.keys()
    assert (run / "model.int8.onnx").read_bytes() != before["model.int8.onnx"]
    done = cli("export", "--model", run, "--int8", "--max-drop", "-1")
    assert (done.code, done.out) == (2, "")


def test_int8_needs_the_data_of_the_run(small_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_run.parent, tmp_path / "moved"))
    run = folder / "run"
    config = run / "training_config.yaml"
    config.write_text(config.read_text().replace(str(small_run.parent), str(folder)))
    before = snapshot(run)
    done = cli("export", "--model", run, "--int8")
    assert (done.code, done.out) == (3, "")
    assert "Error: the data have no validation split; splits are: train\nHint: --split train\n" in done.err
    assert snapshot(run) == before
    assert cli("export", "--model", run, "--int8", "--split", "train", "--max-drop", "100").code == 0
    (run / "model.int8.onnx").unlink()
    before = snapshot(run)  # checksums.json knows the file that is gone
    (folder / "data.jsonl").rename(folder / "elsewhere.jsonl")
    done = cli("export", "--model", run, "--int8", "--split", "train")
    assert (done.code, done.out) == (3, "")
    assert str(folder / "data.jsonl") in done.err
    assert snapshot(run) == before


def test_a_runtime_without_its_file_is_named_with_the_command_that_makes_it(
    small_run: Path, exports: tuple[Path, Path, Path, dict[str, Any]]
) -> None:
    done = cli("predict", "--model", small_run, "--runtime", "int8", "x")
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        f"Error: {small_run}/model.int8.onnx: no such file, so this model has no runtime int8\n"
        f"Hint: textattn export --model {small_run} --int8\n"
    )
    bundle = exports[1]
    done = cli("predict", "--model", bundle, "--runtime", "torch", "x")
    assert (done.code, done.out) == (3, "")
    assert done.err == f"Error: {bundle}/model.safetensors: no such file, so this model has no runtime torch\n"
