"""Training with word vectors from elsewhere, from files and from the Hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import ALL, DIM, WORDS, write_binary, write_fasttext, write_glove, write_spacy, write_static
from inprocess import run
from safetensors.numpy import load_file
from stopped_runs import Killed, Killer

import textattn
from textattn.checks.check import describe
from textattn.config import load_config
from textattn.config.model_section import VectorsConfig
from textattn.report import Report
from textattn.runs.train import train as train_config
from textattn.tokens.mapping import fill_missing
from textattn.tokens.vectors import WordVectors

COMMIT = "a" * 40
SETTINGS = [
    "recipe=plain",
    "data.test_fraction=0.2",
    "data.validation_fraction=0.2",
    "tokenizer.min_frequency=1",
    "model.encoder=none",
    "training.epochs=1",
    "output.plots=false",
    "output.report=false",
    "output.audit_examples=0",
]
EVERY = ALL | {"fastText": write_fasttext}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of work with few texts, most words of which have vectors."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{'good' if i % 2 else 'bad'} film the naïve xyzzy {WORDS[i % 10]},{i % 2}" for i in range(40)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return tmp_path


def train(*words: str, name: str = "run") -> Path:
    done = run("train", "data.csv", *SETTINGS, f"output.dir={name}", *words)
    assert done.code == 0, done.err
    return Path(name)


def facts_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "environment.json").read_text())["word_vectors"]
    return found


@pytest.mark.parametrize("name", EVERY)
def test_every_format_trains_a_model_of_its_size(name: str, data: Path) -> None:
    EVERY[name](data / "vectors")
    path = train("model.vectors.source=file", "model.vectors.path=vectors")
    assert load_config(str(path / "training_config.yaml")).model.embedding_dim == DIM
    assert load_file(path / "model.safetensors")["embedding.weight"].shape[1] == DIM
    found = facts_of(path)
    assert found["format"] and found["source"] == "file"
    # Sub-words know every word.
    missing = [] if name == "fastText" else ["xyzzy"]
    assert found["frequent_missing"] == missing and found["missing"] == len(missing)
    answer = textattn.load(path).predict(["good film"])
    assert len(answer) == 1


@pytest.mark.parametrize("command", ["train", "check"])
def test_the_words_without_vectors_are_named(command: str, data: Path) -> None:
    write_glove(data / "v.txt")
    words = ["model.vectors.source=file", "model.vectors.path=v.txt"]
    done = run(command, "data.csv", *SETTINGS, "output.dir=run", *words)
    assert "have word vectors (file); 1 word has none: xyzzy\n" in done.err
    rows = [f"{' '.join(f'rare{j}' for j in range(i, 20))} good,{i % 2}" for i in range(20)]
    (data / "data.csv").write_text("\n".join(["text,label", *rows * 3]))
    done = run(command, "data.csv", *SETTINGS, "output.dir=again", *words)
    assert "; 20 words have none, the most frequent: rare19, rare18, rare17, rare16, rare15, rare14, " in done.err


def test_vectors_are_scaled_to_the_spread(data: Path) -> None:
    write_glove(data / "v.txt")
    words = ["model.vectors.source=file", "model.vectors.path=v.txt", "model.vectors.freeze=true"]
    for spread in (VectorsConfig().spread, 2.0, None):
        path = train(*words, f"model.vectors.spread={'null' if spread is None else spread}", name=f"run{spread}")
        weight = load_file(path / "model.safetensors")["embedding.weight"]
        vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
        rows = [vocabulary[word.lower()] for word in WORDS if word.lower() in vocabulary]
        found = weight[rows].std(dtype=np.float64)
        raw = np.array([line.split()[1:] for line in (data / "v.txt").read_text().splitlines()], np.float64)
        assert found == pytest.approx(raw.std() if spread is None else spread, rel=0.02)


def test_the_size_that_is_given_must_be_that_of_the_file(data: Path) -> None:
    write_binary(data / "v.bin")
    words = ["model.vectors.source=file", "model.vectors.path=v.bin", "model.embedding_dim=9"]
    done = run("train", "data.csv", *SETTINGS, "output.dir=run", *words)
    assert done.code == 3
    assert f"v.bin: model.vectors.path: vectors of {DIM} numbers, but model.embedding_dim is 9" in done.err
    assert f"Hint: model.embedding_dim={DIM}" in done.err


def test_a_run_is_resumed_without_the_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is in the config of the run, and its vectors are in the checkpoint."""
    write_glove(data / "v.txt")
    words = ["model.vectors.source=file", "model.vectors.path=v.txt", "training.checkpoint_steps=1"]
    whole = train(*words, "training.epochs=2", name="whole")
    config = load_config("data.csv", [*SETTINGS, *words, "training.epochs=2", "output.dir=stopped"])
    with pytest.raises(Killed):
        train_config(config, report=Killer(step=2))
    stopped = Path("stopped")
    (data / "v.txt").unlink()
    done = run("train", "data.csv", *SETTINGS, "output.dir=stopped", *words, "training.epochs=2", "--resume")
    assert done.code == 0, done.err
    assert load_file(stopped / "model.safetensors").keys() == load_file(whole / "model.safetensors").keys()
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert np.array_equal(load_file(stopped / "model.safetensors")[name], tensor), name


def test_check_reads_the_vectors(data: Path) -> None:
    write_glove(data / "v.txt")
    words = ["model.vectors.source=file", "model.vectors.path=v.txt"]
    assert run("check", "data.csv", *SETTINGS, *words).code == 0
    (data / "v.txt").write_bytes(b"3 2\ngood 1 2\n")
    done = run("check", "data.csv", *SETTINGS, *words)
    assert done.code == 3 and "v.txt:2: model.vectors.path: the file ends after 1 of the 3 words" in done.err


def test_predict_does_not_load_the_readers(data: Path) -> None:
    write_glove(data / "v.txt")
    path = train("model.vectors.source=file", "model.vectors.path=v.txt")
    command = [sys.executable, "-X", "importtime", "-m", "textattn", "predict", "good film", "--model", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "textattn.tokens.tokenizer" in done.stderr and "foreign" not in done.stderr


# The Hub


@pytest.fixture(scope="module")
def hub(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a Hub with vectors in every format, and the log of what is asked there."""
    root = tmp_path_factory.mktemp("hub")
    models = root / "models/tiny"
    for name in ("text", "binary", "fasttext", "several", "pickle", "empty"):
        (models / name).mkdir(parents=True)
        (models / name / "README.md").write_text("vectors")
    write_glove(models / "text/glove.txt")
    write_binary(models / "binary/model.bin")
    write_fasttext(models / "fasttext/model.bin")
    for size in (50, 100):
        write_glove(models / f"several/glove.{size}d.txt")
    (models / "pickle/pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (models / "pickle/model.pt").write_bytes(b"\x80\x02}q\x00.")
    write_spacy(models / "spacy")
    (models / "spacy/tagger").mkdir()
    (models / "spacy/tagger/model").write_bytes(b"large")
    write_static(models / "static/0_StaticEmbedding")
    (models / "static/onnx").mkdir()
    (models / "static/onnx/model.onnx").write_bytes(b"large")
    (models / "static/pytorch_model.bin").write_bytes(b"large")
    (models / "disguised").mkdir()
    (models / "disguised/vectors.bin").write_bytes(b"\x80\x02}q\x00.")
    log = root / "log"
    command = [sys.executable, str(shared / "tools/local_hub.py"), str(root), "0", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), log
        server.kill()


def train_from(hub: str, home: Path, name: str, data: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`textattn train` in a process of its own, for the client reads its environment when it is imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": hub, "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    words = ["model.vectors.source=hub", f"model.vectors.path={name}", "output.dir=run"]
    shutil.rmtree(data / "run", ignore_errors=True)
    return subprocess.run(
        [sys.executable, "-m", "textattn", "train", "data.csv", *SETTINGS, *words],
        env=environment | {"PYTHONPATH": str(Path(textattn.__file__).parents[1])}, cwd=data, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "downloaded"),
    [
        ("text", {"glove.txt"}),
        ("binary", {"model.bin"}),
        ("fasttext", {"model.bin"}),
        ("spacy", {"vocab/vectors", "vocab/key2row", "vocab/strings.json"}),
        ("static", {"0_StaticEmbedding/model.safetensors", "0_StaticEmbedding/tokenizer.json"}),
        ("several/glove.50d.txt", {"glove.50d.txt"}),
        ("text@main", {"glove.txt"}),
        (f"binary@{COMMIT}", {"model.bin"}),
    ],
)
def test_vectors_of_the_hub(name: str, downloaded: set[str], hub: tuple[str, Path], data: Path) -> None:
    """Only the files of the vectors are downloaded, the commit is recorded, and the next time needs no network."""
    address, log = hub
    before = len(log.read_text()) if log.exists() else 0
    done = train_from(address, data / "home", f"tiny/{name}", data)
    assert done.returncode == 0, done.stderr
    resolved = [line.split("/resolve/")[1].partition("/")[2] for line in log.read_text()[before:].splitlines()
                if line.startswith("GET") and "/resolve/" in line]  # fmt: skip
    assert set(resolved) == downloaded
    assert f"The source of the word vectors is tiny/{name.split('@')[0].split('/')[0]} from the Hugging" in done.stderr
    found = facts_of(data / "run")
    assert (found["source"], found["commit"]) == ("hub", COMMIT) and found["coverage"] > 0.5
    if name in ("spacy", "static", "text"):
        again = train_from(address, data / "home", f"hf://tiny/{name}", data, HF_HUB_OFFLINE="1")
        assert again.returncode == 0, again.stderr
        assert facts_of(data / "run") == found


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("tiny/pickle", "tiny/pickle on the Hub has no word vectors: expected", None),
        ("tiny/empty", "tiny/empty on the Hub has no word vectors: expected", None),
        ("tiny/disguised", "a pickle written by gensim's `save` or torch", "save_word2vec_format("),
        ("tiny/several", "has 2 files that may be vectors (glove.100d.txt, glove.50d.txt)",
         "model.vectors.path=tiny/several/glove.100d.txt"),
        ("tiny/text/other.txt", "tiny/text on the Hub has no file other.txt", "model.vectors.path=tiny/text"),
        ("tiny/nothing", "could not be read from the Hub: there is no such repository", "hf auth login"),
        ("nothing", "vectors on the Hub are named user/name", None),
    ],
)  # fmt: skip
def test_what_the_hub_does_not_have(
    name: str, message: str, hint: str | None, hub: tuple[str, Path], data: Path
) -> None:
    done = train_from(hub[0], data / "home", name, data)
    assert done.returncode == 3 and message in done.stderr
    assert hint is None or f"Hint: {hint}" in done.stderr


def test_without_network(hub: tuple[str, Path], data: Path) -> None:
    done = train_from(hub[0], data / "home", "tiny/text", data, HF_HUB_OFFLINE="1")
    assert done.returncode == 3 and "HF_HUB_OFFLINE is set, and it is not in the cache" in done.stderr
    assert "Hint: unset HF_HUB_OFFLINE" in done.stderr
    done = train_from("http://127.0.0.1:9", data / "home", "tiny/text", data)
    assert done.returncode == 3 and "tiny/text could not be read from the Hub: " in done.stderr


def test_a_name_of_the_hub_is_no_file(data: Path) -> None:
    words = ["model.vectors.source=file", "model.vectors.path=hf://user/name"]
    done = run("train", "data.csv", *SETTINGS, "output.dir=run", *words)
    assert done.code == 3 and "Hint: model.vectors.source=hub" in done.err


# Words without a vector


def test_missing_words_get_vectors_like_those_of_words_in_the_same_company(data: Path) -> None:
    """Of a space that is turned and scaled, of which every fifth word is missing."""
    generator = np.random.default_rng(0)
    space = generator.normal(size=(200, 8)).astype(np.float32)
    turned = (space @ generator.normal(size=(8, 5)) * 3 + 1).astype(np.float32)
    found = np.arange(200) % 5 > 0
    known = WordVectors(np.where(found[:, None], turned, 0).astype(np.float32), found)
    filled = fill_missing(known, WordVectors(space, np.ones(200, bool)), np.full(200, 10))
    assert filled.found.all() and np.array_equal(filled.matrix[found], turned[found])
    error = np.linalg.norm(filled.matrix[~found] - turned[~found], axis=1)
    assert (error < 0.4 * np.linalg.norm(turned[~found] - turned.mean(0), axis=1)).mean() > 0.9
    assert not known.matrix[~found].any(), "the argument is not changed"


@pytest.mark.parametrize("shared_words", [0, 5])
def test_nothing_is_mapped_by_too_few_words(shared_words: int) -> None:
    found = np.arange(50) < shared_words
    known = WordVectors(np.ones((50, 3), np.float32) * found[:, None], found)
    own = WordVectors(np.ones((50, 4), np.float32), np.ones(50, bool))
    assert fill_missing(known, own, np.ones(50, np.int64)) is known


def test_training_maps_missing_words(data: Path) -> None:
    words = [f"w{i}" for i in range(60)]
    generator = np.random.default_rng(1)
    rows = [" ".join(generator.choice(words, 8)) + f",{i % 2}" for i in range(200)]
    (data / "data.csv").write_text("\n".join(["text,label", *rows]))
    lines = [f"{word} {' '.join(map(str, generator.normal(size=4)))}" for word in words[:50]]
    (data / "v.txt").write_text("\n".join(lines) + "\n")
    fixed = ["model.vectors.source=file", "model.vectors.path=v.txt", "model.vectors.freeze=true"]
    weights = {}
    for missing in ("random", "skipgram"):
        path = train(*fixed, f"model.vectors.missing={missing}", name=missing)
        weights[missing] = load_file(path / "model.safetensors")["embedding.weight"]
        assert facts_of(path)["missing"] == 10
    vocabulary = json.loads((data / "random/tokenizer.json").read_text())["model"]["vocab"]
    rows_of = [vocabulary[word] for word in words]
    same = (weights["random"] == weights["skipgram"]).all(axis=1)[rows_of]
    assert same.tolist() == [True] * 50 + [False] * 10


@pytest.mark.parametrize("missing", ["random", "skipgram"])
def test_the_forecast_knows_what_is_learned_beside_the_file(missing: str, data: Path) -> None:
    write_glove(data / "v.txt")
    words = ["model.vectors.source=file", "model.vectors.path=v.txt", f"model.vectors.missing={missing}"]
    words += ["model.vectors.epochs=2000"]
    config = load_config("data.csv", [*SETTINGS, *words])
    stages = describe(config, Report())["forecast"]["seconds_by_stage"]
    assert stages["word_vectors"] > 0
    assert (stages["word_vectors"] > 0.5) == (missing == "skipgram")
