"""docs/snippets: a model answers without textattn, in Python and in JavaScript, as it does with it."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from test_every_task import KINDS, SMALL, write_data

import textattn

MakeOnce = Callable[[str, Callable[[Path], object]], Path]
Answer = dict[str, Any]
SNIPPETS = Path(__file__).parent.parent / "docs" / "snippets"
PACKAGES = ("onnxruntime-node", "tokenizers")
# Beside the kinds of tasks, the ways in which a text becomes tokens.
TOKENIZERS = {
    f"{kind} {truncation}": [f"tokenizer.type={kind}", f"tokenizer.truncation={truncation}", "tokenizer.max_length=7"]
    for kind, truncation in (
        ("word", "head_tail"), ("char", "tail"), ("wordpiece", "head"), ("bpe", "head_tail"), ("unigram", "tail"),
    )
}  # fmt: skip
MODELS = (*KINDS, *TOKENIZERS, "two columns")
# What tokenizers may read differently: a break, padding, clusters of characters, capitals beyond ASCII, a tab.
PIECES = (
    "the", "film", "Great", "AWFUL", "bad", " ", " ", "\n", "<br />", "<BR/>", "[PAD]", "[UNK]", "don't", "it’s",
    "…", "...",
    "naïve", "e\u0301", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "İ", "ß", "ﬁ", "Ⅷ",
    "한국어",
    "\u1112\u1161\u11ab",
    "\r\n", "\u00a0", "\u200b", "漢字", "क्षि", "🇫🇷🇩🇪", "#️⃣", "1.5", "_", "²", "\x00",
)  # fmt: skip
TEXTS = (
    "the film was great", "AWFUL!<br/>[PAD] don't…", " ".join(["very", "bad", "plot", "and", "good"] * 9), "???",
    "".join(PIECES), *PIECES[:3], "[PAD]", "naïve e\u0301 👍🏽 한국어",
)  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def run(request: pytest.FixtureRequest, make_once: MakeOnce) -> Path:
    name = str(request.param)
    kind = KINDS.get(name, KINDS["three labels"])

    def make(folder: Path) -> None:
        data = write_data(folder, kind)
        settings = [*SMALL, *kind.settings]
        if name not in KINDS:  # trained only so far that tokens matter
            settings = [
                setting for setting in SMALL if not setting.startswith(("training.epochs", "output", "training.b"))
            ]
            settings += ["training.epochs=2", "output.audit_examples=0", "output.report=false", "output.plots=false"]
            settings += TOKENIZERS.get(name, [])
        if name == "two columns":
            rows = data.read_text(encoding="utf-8").splitlines()[1:]
            lines = [f"{row.split()[0]},{row}" for row in rows]
            data.write_text("\n".join(["title,text,label", *lines]), encoding="utf-8")
            settings += ["data.text=[title,text]", "tokenizer.max_length=6", "tokenizer.truncation=head"]
        done = cli("train", data, *settings, f"output.dir={folder / 'run'}")
        assert done.code == 0, done.err

    return make_once(f"every-task-{name.replace(' ', '-')}", make) / "run"


def expected(model: textattn.Model, texts: Sequence[str]) -> list[Answer]:
    """What textattn answers, under the names of the snippets."""
    found: list[Answer] = []
    for prediction in model.predict(texts):
        if prediction.is_number:
            found.append({"number": prediction.score, "low": prediction.low, "high": prediction.high})
        else:
            found.append({name: getattr(prediction, name) for name in ("label", "score", "labels", "scores")})
    return found


def assert_same(found: Sequence[Answer], wanted: Sequence[Answer], texts: Sequence[str]) -> None:
    assert len(found) == len(wanted) == len(texts)
    for ours, theirs, text in zip(wanted, found, texts, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if name in ("label", "labels"):
                # Two labels that are equally probable but for rounding may change places.
                assert theirs[name] == value or is_close_call(ours), text
            elif name == "scores":
                assert list(theirs[name]) == list(value)
                assert np.allclose([*theirs[name].values()], [*value.values()], rtol=0, atol=1e-5), text
            else:
                assert (value is None) == (theirs[name] is None)
                assert value is None or abs(theirs[name] - value) <= 1e-5 * max(1.0, abs(value)), text


def is_close_call(answer: Answer) -> bool:
    scores = sorted(answer["scores"].values())
    return bool(scores[-1] - scores[-2] < 1e-5)


def readable(texts: Sequence[str], model: textattn.Model) -> list[str]:
    """A tab stands between the columns of a model; a text of white space only is none."""
    columns = len(model.config.text_columns)
    texts = [text for text in texts if text.strip()]
    return [text.replace("\t", " ") + "\tgood" for text in texts] if columns == 2 else list(texts)


def python_snippet(run: Path) -> Any:
    return runpy.run_path(str(SNIPPETS / "predict_onnx.py"))["Model"](run)


def test_python_gives_the_same_answers(run: Path) -> None:
    model, alone = textattn.load(run), python_snippet(run)

    @given(st.lists(st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text()), min_size=1))
    @settings(max_examples=15, deadline=None, derandomize=True)
    def answers(drawn: list[str]) -> None:
        texts = readable([*drawn, *TEXTS], model)
        assert_same(alone.predict(texts), expected(model, texts), texts)

    answers()


def test_python_needs_no_textattn_and_reads_an_unpacked_bundle(trained_run: Path, tmp_path: Path) -> None:
    script = SNIPPETS / "predict_onnx.py"
    tree = ast.parse(script.read_text(encoding="utf-8"))
    imports = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imports == {"json", "sys", "pathlib", "numpy", "onnxruntime", "tokenizers"}
    shutil.copytree(trained_run, tmp_path / "run")
    assert cli("export", "--model", tmp_path / "run", "--bundle", tmp_path / "model.zip").code == 0
    with zipfile.ZipFile(tmp_path / "model.zip") as bundle:
        bundle.extractall(tmp_path / "model")
    texts = ["Delicious food, friendly staff.", "The soup was cold."]
    done = subprocess.run(
        [sys.executable, script, tmp_path / "model", *texts], capture_output=True, check=True, cwd=tmp_path
    )
    found = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert_same(found, expected(textattn.load(trained_run), texts), texts)


def test_a_model_of_formulas_is_refused(make_once: MakeOnce, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "LiFePO4,a\nNaCl,b\nMgO,b\nLi2O,a\n" * 10, encoding="utf-8")
    done = cli(
        "train", tmp_path / "data.csv", "recipe=plain", "tokenizer.type=composition", "training.epochs=1",
        f"output.dir={tmp_path / 'run'}", "output.report=false", "output.plots=false",
    )  # fmt: skip
    assert done.code == 0, done.err
    with pytest.raises(SystemExit, match="formulas"):
        python_snippet(tmp_path / "run")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the packages and the script; skips without Node, npm or a registry."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
    # Otherwise it fetches the libraries of CUDA as well.
    environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip", "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *PACKAGES],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("npm install takes too long")
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr.strip()[-300:]}")
    shutil.copy(SNIPPETS / "predict_onnx.mjs", folder)
    (folder / "answer.mjs").write_text(
        'import { readFileSync } from "node:fs";\n'
        'import { Model } from "./predict_onnx.mjs";\n'
        "const model = await Model.load(process.argv[2]);\n"
        'const texts = JSON.parse(readFileSync(0, "utf8"));\n'
        "console.log(JSON.stringify(await model.predict(texts)));\n",
        encoding="utf-8",
    )
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # 300 MB


@pytest.mark.slow
def test_javascript_gives_the_same_answers(run: Path, node: Path) -> None:
    model = textattn.load(run)
    generator = np.random.default_rng(3)
    drawn = ["".join(generator.choice(PIECES, generator.integers(1, 40))) for _ in range(200)]
    texts = readable([*TEXTS, *drawn], model)
    done = subprocess.run(
        ["node", "answer.mjs", run], cwd=node, input=json.dumps(texts).encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert_same(json.loads(done.stdout), expected(model, texts), texts)


@pytest.mark.slow
def test_javascript_on_the_command_line(trained_run: Path, node: Path) -> None:
    texts = ["Delicious food, friendly staff.", "The soup was cold."]
    done = subprocess.run(["node", "predict_onnx.mjs", trained_run, *texts], cwd=node, capture_output=True, check=True)
    found = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert_same(found, expected(textattn.load(trained_run), texts), texts)
