"""Bad input to what uses a model: models that are missing, damaged or of another kind, and wrong requests of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_input
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_input import MEND, REVIEWS, Case, Content, check, permissions_count, room_for, unusable
from conftest import unsealed

from textattn.explain.methods import method_names

world = bad_input.world
FINE = "predict --model runs/bad fine"
OURS = "--model runs/earlier"
PREDICTIONS = "predictions/validation.parquet"
METHODS = f"methods are: {', '.join(method_names())}"


def model(**damage: str | bytes | None) -> Content:
    """A copy of the run, with other content in files of these names (`__` for a dot), or without them."""

    def make(path: Path) -> None:
        unsealed(Path(shutil.copytree(path.parent / "earlier", path)))
        for name, content in damage.items():
            file = path / name.replace("__", ".")
            file.unlink()
            if content is not None:
                file.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def with_predictions(change: Callable[[pa.Table], Any]) -> Content:
    """A copy of the run with other predictions."""

    def make(path: Path) -> None:
        model()(path)  # type: ignore[operator]
        pq.write_table(change(pq.read_table(path / PREDICTIONS)), path / PREDICTIONS)

    return make


def locked(path: Path) -> None:
    shutil.copytree(path.parent / "earlier", path)
    (path / "config.json").chmod(0)


def closed(path: Path) -> None:
    shutil.copytree(path.parent / "earlier", path)
    path.chmod(0)


def of(name: str, made: Content, error: str, hint: str | None = None, command: str = FINE) -> Case:
    """A command with the model runs/bad."""
    return Case(name, {"runs/bad": made}, command, 3, error, hint)


def ask(name: str, command: str, code: int, error: str, hint: str | None = None, **files: Content) -> Case:
    """A command with the finished run, and files of these names (`__` for a dot)."""
    return Case(name, {file.replace("__", "."): content for file, content in files.items()}, command, code, error, hint)


MODELS = [
    Case("no such folder", {}, "predict --model nothing fine", 3, "--model: no such folder: nothing",
         "--model runs/earlier"),
    Case("no such run", {}, "explain --model runs/gone fine", 3, "--model: no such folder: runs/gone",
         "--model runs/earlier"),
    Case("none in the variable", {}, "predict fine", 3, "--model: no such folder: runs/gone",
         "--model runs/earlier", env={"TEXTATTN_MODEL": "runs/gone"}),
    Case("a folder of no runs", {"empty": Path.mkdir}, "evaluate --model empty", 3,
         "empty: this folder contains no model (config.json and model.safetensors missing)"),
    Case("a csv file", {}, "predict --model reviews.csv fine", 3,
         "--model: reviews.csv is a file, but not a textattn bundle", "--model ."),
    Case("a broken bundle", {"bad.zip": b"PK\3\4junk"}, "predict --model bad.zip fine", 3,
         "bad.zip: damaged, or not a textattn bundle (File is not a zip file)"),
    Case("a pipe", {"bad": os.mkfifo}, "predict --model bad fine", 3,
         "--model: bad is neither a folder nor a file",
         "--model runs/earlier"),
    of("of another library", model(config__json='{"model_type": "bert"}'),
       "runs/bad/config.json: not a textattn model (model_type must be 'textattn')"),
    of("of a newer version", model(config__json='{"model_type": "textattn", "format_version": 99}'),
       "runs/bad/config.json: has format version 99, but this version of textattn reads formats up to 1",
       "pip install --upgrade textattn"),
    of("config cut short", model(config__json='{"model'), "runs/bad/config.json: damaged (***)"),
    of("graph cut short", model(model__onnx=b"\x08\x07\x12"),
       "runs/bad/model.onnx: damaged, or not written by textattn (***)"),
    of("weights cut short", model(model__safetensors=b"\x08\0"), "runs/bad/model.safetensors: damaged (***)",
       command=f"{FINE} --runtime torch"),
    of("a pickle for weights", model(model__safetensors=b"\x80\x04\x95", model__onnx=None),
       "runs/bad/model.safetensors: damaged (***)"),
    of("no weights", model(model__safetensors=None, model__onnx=None),
       "runs/bad: this folder contains no model (model.safetensors missing)"),
    of("no tokenizer", model(tokenizer__json=None), "runs/bad/tokenizer.json: no such file"),
    of("no tokenizer in its file", model(tokenizer__json="{}"), "runs/bad/tokenizer.json: not a tokenizer (***)"),
    of("no tokenizer settings", model(tokenizer_config__json=None), "runs/bad/tokenizer_config.json: no such file"),
    of("no training config", model(training_config__yaml=None),
       "runs/bad/training_config.yaml: missing, so the training data are unknown", "textattn evaluate DATA",
       "evaluate --model runs/bad"),
    of("a damaged training config", model(training_config__yaml="seed: ["),
       "runs/bad/training_config.yaml:1:8: *** (damaged)", command="audit --model runs/bad"),
    of("damaged metrics", model(metrics__json="[1]"), "runs/bad/metrics.json: damaged (***)",
       command="info --model runs/bad"),
    of("a damaged environment", model(environment__json='{"dataset": 3}'), "runs/bad/environment.json: damaged (***)",
       command="info --model runs/bad"),
    of("nothing to export", model(model__safetensors="x"), "runs/bad/model.safetensors: damaged (***)",
       command="export --model runs/bad"),
    of("a second model damaged", model(config__json="{}"),
       "runs/bad/config.json: not a textattn model (model_type must be 'textattn')",
       command=f"audit {OURS} --model runs/bad --split validation"),
    Case("no permission", {"runs/bad": locked}, FINE, 3, "runs/bad/config.json: Permission denied",
         within=permissions_count),
    Case("no permission for the folder", {"runs/bad": closed}, FINE, 3, "runs/bad/config.json: Permission denied",
         within=permissions_count),
    ask("no int8", f"predict {OURS} --runtime int8 fine", 3,
        "runs/earlier/model.int8.onnx: no such file, so this model has no runtime int8",
        "textattn export --model runs/earlier --int8"),
    ask("no such runtime", f"predict {OURS} --runtime tf fine", 2, "runtime: must be onnx, int8, torch, got 'tf'",
        "--runtime onnx"),
    ask("no such device", f"predict {OURS} --device gpu fine", 2,
        "device: must be cpu, cuda, cuda:N, mps or auto, got 'gpu'", "--device cpu"),
]  # fmt: skip

BULK = f"predict {OURS} --input reviews.csv"
COMMANDS = [
    ask("predict: no input", f"predict {OURS} --input gone.csv", 3, "gone.csv: no such file"),
    ask("predict: no column", f"predict {OURS} --input new.csv", 3,
        "column 'text' not found in new.csv; columns are: review", "--text-column review", new__csv="review\nfine\n"),
    ask("predict: not UTF-8", f"predict {OURS} --input new.csv --encoding utf-8", 3,
        "new.csv:3: byte 4 of the line (0xe9) is not utf-8", "--encoding cp1252 (or whatever the file was saved in)",
        new__csv="text\nfine\ncafé\n".encode("latin-1")),
    Case("predict: latin-1 on stdin", {}, f"predict {OURS}", 3, "stdin:1: byte 4 of the line is not UTF-8",
         stdin=b"caf\xe9\n"),
    ask("predict: two kinds of file", f"{BULK} --input new.csv", 3,
        "new.csv: columns review, but reviews.csv has text, label", "a job for each kind of file",
        new__csv="review\nfine\n"),
    ask("predict: texts and a file", f"{BULK} fine", 2, "give either texts or --input, not both"),
    ask("predict: onto its input", f"{BULK} --output reviews.csv --overwrite", 2,
        "--output: reviews.csv is the input; nothing was changed", "another name"),
    ask("predict: onto a file", f"{BULK} --output out.csv", 2, "--output: out.csv exists; nothing was changed",
        "--overwrite", out__csv="mine"),
    ask("predict: onto a folder", f"{BULK} --output out.csv", 2, "--output: out.csv is a folder",
        "--output out.csv/predictions.csv", out__csv=Path.mkdir),
    ask("predict: below a file", f"{BULK} --output reviews.csv/out.csv", 2,
        "--output: reviews.csv/out.csv.partial cannot be written: Not a directory", "--output /some/other/file"),
    ask("predict: into /proc", f"{BULK} --output /proc/out.csv", 2,
        "--output: /proc/out.csv.partial cannot be written: No such file or directory", "--output /some/other/file"),
    ask("predict: into somebody's folder", f"{BULK} --output out.csv", 2,
        "out.csv.partial: holds 'thesis', which no prediction left there; nothing was changed",
        "--output another-name", **{"out__csv__partial/thesis": "mine"}),
    ask("predict: no such format", f"{BULK} --output out.doc", 2,
        "--output: out.doc has none of the suffixes .txt, .csv, ***", "--output-format jsonl"),
    ask("predict: on from damage", f"{BULK} --output out.csv --resume", 3, "out.csv.partial/state.json: damaged (***)",
        **{"out__csv__partial/state__json": "{"}),
    Case("predict: no room", {}, f"{BULK} --output out.csv", 1, "out.csv.partial: cannot be written (File too large); "
         "0 rows answered before are kept there", "free some space there, then run the same command with --resume",
         within=lambda: room_for(1000), leaves="out.csv.partial"),
    ask("predict: neither stop nor skip", f"{BULK} --on-error ignore", 2,
        "--on-error: must be stop or skip, got 'ignore'", "--on-error skip"),
    ask("explain: no such method", f"explain {OURS} --method atention fine", 2, f"unknown method 'atention'; {METHODS}",
        "--method attention"),
    ask("explain: no such label", f"explain {OURS} --target good fine", 2,
        "unknown label 'good'; labels are: neg, pos"),
    ask("explain: against itself", f"explain {OURS} --contrast pos pos fine", 2,
        "a label cannot be explained against itself: 'pos'"),
    ask("explain: no such split", f"explain {OURS} --split test", 3,
        "the data have no test split; splits are: train, validation", "--split validation"),
    ask("explain: a page into /proc", f"explain {OURS} --html /proc/a.html fine", 2,
        "--html: /proc/a.html cannot be written: No such file or directory", "--html page.html"),
    ask("explain: no such picture", f"explain {OURS} --plot a.gif fine", 2,
        "--plot: a.gif has none of the suffixes .png, .svg, .pdf", "--plot weights.png"),
    ask("evaluate: no such file", f"evaluate {OURS} gone.csv", 3, "gone.csv: no such file"),
    ask("evaluate: other labels", f"evaluate {OURS} new.csv", 3,
        unusable("new.csv:2: column 'label': unknown label 'good'; labels are: neg, pos", of=1), MEND,
        new__csv="text,label\nfine,good\n"),
    ask("evaluate: no such setting", f"evaluate {OURS} reviews.csv txt=a", 2,
        "config: data.txt: unknown key; did you mean 'text'?", "textattn schema"),
    ask("evaluate: no such metric", f"evaluate {OURS} --fail-under acuracy=1", 2,
        "--fail-under: unknown metric 'acuracy'; did you mean 'accuracy'?", "--fail-under accuracy=0.9"),
    ask("evaluate: the data are gone", f"evaluate {OURS} --split validation", 3,
        "reviews.csv, where the training data of runs/earlier were: no such file here; it was trained in ***",
        reviews__csv=Path.unlink),
    ask("evaluate: the data have changed", f"evaluate {OURS} --split validation", 3,
        "the data of this model have changed: their labels are good, neg, those of the model neg, pos",
        reviews__csv=REVIEWS.replace(",pos", ",good")),
    Case("evaluate: a check that does not hold", {}, f"evaluate {OURS} --split validation --fail-under accuracy=1.1", 4,
         "accuracy is 0.***, asked for 1.1", out="***"),
    ask("audit: no such method", f"audit {OURS} --methods atention", 2, f"unknown method 'atention'; {METHODS}",
        "--method attention"),
    ask("audit: no such split", f"audit {OURS}", 3, "the data have no test split; splits are: train, validation",
        "--split validation"),
    ask("words: no such method", f"words {OURS} --method atention", 2, f"unknown method 'atention'; {METHODS}",
        "--method attention"),
    ask("compare: one run", "compare runs/earlier", 2, "compare needs two or more runs", "textattn compare RUN RUN"),
    of("compare: no predictions", model(), "runs/earlier: the run measured no test split; splits that it measured: "
       "validation", "--split validation", "compare runs/earlier runs/bad"),
    of("compare: other texts", with_predictions(lambda table: table.slice(1)),
       "runs/bad: the validation split is not that of runs/earlier: its texts are different",
       "textattn evaluate --model runs/bad DATA measures it on any data",
       "compare runs/earlier runs/bad --split validation"),
    of("compare: no answers", with_predictions(lambda table: table.drop_columns(["prediction"])),
       "runs/bad/predictions/validation.parquet: damaged (***)", None,
       "compare runs/earlier runs/bad --split validation"),
    ask("export: onto a file", f"export {OURS} --bundle out.zip", 2, "--bundle: out.zip exists; nothing was changed",
        "--overwrite", out__zip="mine"),
    ask("export: into /proc", f"export {OURS} --bundle /proc/out.zip", 2,
        "--bundle: /proc/out.zip cannot be written: No such file or directory", "--bundle /some/other/file.zip"),
    ask("export: of a bundle", "export --model out.zip", 2,
        "--model: out.zip is a bundle; export needs the run directory it was made from", out__zip=b"PK\3\4"),
    Case("export: no room", {}, f"export {OURS} --bundle out.zip", 2,
         "--bundle: out.zip cannot be written: File too large", "--bundle /some/other/file.zip",
         within=lambda: room_for(1000)),
    ask("check: no such file", "check mine.yaml data.path=gone.csv", 3, "gone.csv: no such file"),
    ask("check: a contradiction", "check mine.yaml model.attention_window=4", 2,
        "model.attention_window: must be an odd number of tokens up to 999, got 4", "model.attention_window=5"),
    ask("configs: onto a file", "configs cp quickstart mine.yaml", 2, "mine.yaml exists; nothing was changed",
        "textattn configs cp quickstart mine.yaml --overwrite"),
    ask("configs: no such one", "configs show imbd", 2, "no shipped config 'imbd'; did you mean 'imdb'?",
        "textattn configs ls"),
]  # fmt: skip
# What is wrong with the command line itself is told by Typer, with the usage in front.
USAGE = [
    ("no config", "train", "Missing argument 'CONFIG'."),
    ("no such command", "trian mine.yaml", "No such command 'trian'. Did you mean 'train'?"),
    ("no such option", "train mine.yaml --epochs 3", "No such option: --epochs"),
    ("no seeds", "train mine.yaml --seeds 0",
     "Invalid value for '--seeds': Input should be greater than or equal to 1"),
    ("no labels", f"predict {OURS} --top-k 0 fine",
     "Invalid value for '--top-k' / '-k': Input should be greater than or equal to 1"),
]  # fmt: skip


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_models(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case.name)
def test_commands(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


@pytest.mark.parametrize(("name", "command", "error"), USAGE, ids=[name for name, _, _ in USAGE])
def test_usage(
    name: str, command: str, error: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(Case(name, {}, command, 2, error, before="Usage: textattn ***\n\n"), world, tmp_path, monkeypatch)
