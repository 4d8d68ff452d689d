"""`export --bundle`: a bundle answers as the run it was made from, and replaces a file only when asked."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import export_runs
import numpy as np
import pytest
from export_runs import TEXTS, snapshot
from inprocess import Result
from inprocess import run as cli

import textattn as package
from textattn.errors import InputError

# pytest looks for fixtures among the names of a file.
exports, small_run = export_runs.exports, export_runs.small_run


COMMANDS: dict[str, list[str]] = {
    "predict": ["predict", *TEXTS],
    "predict from a pipe": ["predict", "--top-k", "2", "--json"],
    "explain": ["explain", *TEXTS],
    "explain as JSON": ["explain", "--json", *TEXTS],
    "evaluate": ["evaluate"],
    "evaluate as JSON": ["evaluate", "--split", "validation", "--json"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bundle_answers_as_its_run(name: str, exports: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    run, bundle, small, _ = exports

    def answer(model: Path, *options: str) -> Result:
        return cli(*COMMANDS[name], "--model", model, *options, stdin="\n".join(TEXTS).encode())

    expected, found = answer(run), answer(bundle)
    assert (expected.code, found.code) == (0, 0)
    assert found.out == expected.out != ""
    # The small bundle has only the one runtime, so nobody needs to ask for it.
    found = answer(small)
    assert found.out == answer(run, "--runtime", "int8").out
    if "--json" in COMMANDS[name]:  # which has all digits
        assert found.out != expected.out


def test_info_says_of_a_bundle_what_it_says_of_its_run(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, bundle, small, _ = exports
    of_run = json.loads(cli("info", "--model", run, "--json").out)
    for file, graph_file in ((bundle, "model.onnx"), (small, "model.int8.onnx")):
        facts = json.loads(cli("info", "--json", TEXTATTN_MODEL=str(file)).out)
        assert facts.pop("path") == str(file)
        assert facts.pop("size_bytes") == {graph_file: (run / graph_file).stat().st_size}
        assert facts == {name: of_run[name] for name in facts}
        assert {"labels", "architecture", "metrics", "finished"} <= facts.keys()
        text = cli("info", "--model", file)
        assert text.code == 0
        assert "neg, pos" in text.out


def test_a_bundle_is_a_plain_zip_of_what_prediction_needs(
    exports: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    run, bundle, small, _ = exports
    common = {
        "config.json", "tokenizer.json", "tokenizer_config.json", "training_config.yaml", "metrics.json", "README.md",
        "reference.json", "checksums.json",
    } | {str(path.relative_to(run)) for path in run.glob("plots/*.png")}  # fmt: skip
    for file, graph_file in ((bundle, "model.onnx"), (small, "model.int8.onnx")):
        with zipfile.ZipFile(file) as members:
            assert members.testzip() is None
            assert set(members.namelist()) == common | {graph_file}
            checked = json.loads(members.read("checksums.json"))["crc32"]
            assert set(checked) == {"config.json", "tokenizer.json", "tokenizer_config.json", graph_file}
            for name, value in checked.items():
                assert value == f"{zlib.crc32(members.read(name)):08x}"
            for name in common - {"checksums.json"}:
                assert members.read(name) == (run / name).read_bytes()
    assert small.stat().st_size < bundle.stat().st_size / 2


def test_the_same_run_gives_the_same_bundle_whenever_it_is_made(small_run: Path, tmp_path: Path) -> None:
    """Also from a copy with other file times, at another place, in another folder's order."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(small_run.iterdir(), reverse=True):
        if path.is_file():
            shutil.copyfile(path, copy / path.name)
        elif path.name == "plots":
            shutil.copytree(path, copy / path.name, copy_function=shutil.copyfile)
    for run, name in ((small_run, "a.zip"), (copy, "b.zip")):
        assert cli("export", "--model", run, "--bundle", tmp_path / name).code == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_file_in_the_way_of_a_bundle_is_replaced_only_when_asked(small_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_text("mine")
    done = cli("export", "--model", small_run, "--bundle", file)
    assert (done.code, done.out) == (2, "")
    assert f"Error: --bundle: {file} exists; nothing was changed\nHint: --overwrite\n" in done.err
    assert snapshot(tmp_path) == {"model.zip": b"mine"}
    done = cli("export", "--model", small_run, "--bundle", file, "--overwrite")
    assert (done.code, done.out) == (0, f"{file}\n")
    assert cli("predict", "--model", file, "This is a great movie").code == 0
    assert list(snapshot(tmp_path)) == ["model.zip"]
    done = cli("export", "--model", small_run, "--bundle", tmp_path, "--overwrite")
    assert (done.code, done.out) == (2, "")
    assert f"Error: --bundle: {tmp_path} is a folder\nHint: --bundle {file}\n" in done.err


def test_where_a_bundle_cannot_go_nothing_at_all_is_written(
    exports: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(exports[0], tmp_path / "run"))
    (run / "model.int8.onnx").unlink()
    before = snapshot(run)
    done = cli("export", "--model", run, "--int8", "--bundle", exports[1])
    assert (done.code, done.out) == (2, "")
    assert "exists; nothing was changed" in done.err
    assert snapshot(run) == before


def test_a_bundle_that_cannot_be_written_is_the_users_to_mend(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("export", "--model", small_run, "--bundle", tmp_path / "file" / "model.zip")
    assert (done.code, done.out) == (2, "")
    assert f"Error: --bundle: {tmp_path}/file/model.zip cannot be written" in done.err


def test_a_bundle_of_a_model_with_many_labels_can_be_read(small_run: Path, tmp_path: Path) -> None:
    """A confusion matrix is mostly zeros, which compress better than anything else."""
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"] = {"headline": "accuracy", "accuracy": 1.0, "interval_95": {"low": 1.0, "high": 1.0}}
    metrics["test"]["confusion_matrix"] = np.diag([30] * 250).tolist()
    (run / "metrics.json").write_text(json.dumps(metrics, indent=2))
    assert cli("export", "--model", run, "--bundle", tmp_path / "model.zip").code == 0
    done = cli("info", "--model", tmp_path / "model.zip", "--json")
    assert done.code == 0
    assert json.loads(done.out)["metrics"] == metrics


def test_a_bundle_cannot_be_exported_again(exports: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    bundle = exports[1]
    before = bundle.read_bytes()
    done = cli("export", "--model", bundle, "--int8")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: --model: {bundle} is a bundle; export needs the run directory it was made from\n"
    assert bundle.read_bytes() == before


def test_a_bundle_works_from_the_api_after_its_run_is_gone(small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    expected = package.load(run).predict_proba(TEXTS)
    assert cli("export", "--model", run, "--bundle", run / "inside.zip").code == 0
    file = (run / "inside.zip").rename(tmp_path / "any name.model")
    shutil.rmtree(run)
    classifier = package.load(file)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), expected)
    assert classifier.path == file
    with pytest.raises(InputError, match="no such file, so this model has no runtime int8"):
        package.load(file, runtime="int8")
