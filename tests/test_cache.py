"""What is kept between runs: found again for the same content and settings, and never for others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import run as cli

import textattn
from textattn.runs import data_cache as prepared
from textattn.storage import cache
from textattn.tokens import skipgram, train_tokenizer, vectors

REVIEWS = [
    {"text": f"{word} {noun} number {i}", "label": label, "why": [word]}
    for i, (word, label) in enumerate([("good", "pos"), ("bad", "neg")] * 20)
    for noun in ("film", "meal")
]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    monkeypatch.chdir(tmp_path)
    write(REVIEWS)
    return folder


def write(rows: list[dict[str, Any]], name: str = "reviews.jsonl") -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def train(out: str, *overrides: str) -> str:
    """SHA-256 of the weights."""
    run = textattn.train(
        {
            "data": {"path": "reviews.jsonl", "evidence": "why"},
            "tokenizer": {"min_frequency": 1, "max_length": 3},
            "model": {"embedding_dim": 8, "hidden_size": 8, "vectors": {"source": "skipgram", "epochs": 1}},
            "training": {"epochs": 1, "attention_supervision": 0.5},
            "output": {"audit_examples": 0, "plots": False, "dir": out},
        },
        overrides,
    )
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was not found and had to be computed."""
    done: list[str] = []
    for module, name in ((train_tokenizer, "train_tokenizer"), (skipgram, "train_skipgram")):
        function = getattr(module, name)

        def counted(*arguments: Any, function: Any = function, name: str = name, **more: Any) -> Any:
            done.append(name)
            return function(*arguments, **more)

        user = "prepare" if name == "train_tokenizer" else "vectors"
        monkeypatch.setattr(f"textattn.runs.{user}.{name}", counted)
    return done


BOTH = ["train_tokenizer", "train_skipgram"]


def test_a_second_run_computes_nothing_twice_and_gives_the_same_bytes(
    work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train("one")
    assert work == BOTH
    assert train("two") == first
    train("three", "training.learning_rate=0.5", "training.batch_size=4")
    assert work == BOTH
    for name in ("dataset", "word_vectors"):
        one, two = (json.loads(Path(run, "environment.json").read_text())[name] for run in ("one", "two"))
        assert one == two
    monkeypatch.setenv(cache.VARIABLE, "off")
    assert train("four") == first
    assert work == BOTH * 2


def test_notes_are_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    told = [
        cli("check", "quickstart", "--no-forecast", "data.path=reviews.jsonl", "tokenizer.max_length=2").err
        for _ in range(2)
    ]
    assert "are set aside" in told[0]
    assert "are truncated" in told[0]
    assert [line for line in told[0].splitlines() if "Tokenising" not in line] == told[1].splitlines()


@pytest.mark.parametrize(
    "change",
    [
        ["tokenizer.max_length=4"],
        ["tokenizer.lowercase=false"],
        ["tokenizer.vocab_size=20"],
        ["data.validation_fraction=0.3"],
        ["data.max_train_examples=40"],
        ["seed=7"],
    ],
)
def test_another_setting_is_another_entry(change: list[str], work: list[str]) -> None:
    train("one")
    train("two", *change)
    assert work.count("train_tokenizer") == 2


@pytest.mark.parametrize("change", ["model.vectors.epochs=2", "model.embedding_dim=4", "model.vectors.window=2"])
def test_other_settings_of_the_vectors_train_them_again(change: str, work: list[str]) -> None:
    train("one")
    train("two", change)
    assert work == [*BOTH, "train_skipgram"]


def test_changed_data_are_never_taken_for_the_old_ones(work: list[str]) -> None:
    """Same name, same size, same date: only the content differs."""
    train("one")
    path = Path("reviews.jsonl")
    before = path.stat()
    write([{**row, "text": row["text"].replace("film", "farm")} for row in REVIEWS])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    train("two")
    assert work == BOTH * 2
    vocabulary = json.loads(Path("two/tokenizer.json").read_text())["model"]["vocab"]
    assert "farm" in vocabulary
    assert "film" not in vocabulary


def test_texts_without_labels_from_elsewhere_count_by_their_content(work: list[str]) -> None:
    write([{"text": "another farm"}], "more.jsonl")
    train("alone")
    assert train("one", "data.unlabelled.path=more.jsonl") == train("again", "data.unlabelled.path=more.jsonl")
    assert work == BOTH * 2
    write([{"text": "another barn"}], "more.jsonl")
    train("two", "data.unlabelled.path=more.jsonl")
    assert work == BOTH * 3


def test_data_that_change_while_they_are_read_are_not_kept(
    kept: Path, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from textattn.runs import prepare

    read = prepare.read_corpus

    def meanwhile(*arguments: Any) -> Any:
        corpus = read(*arguments)
        write(REVIEWS[:60])
        return corpus

    monkeypatch.setattr(prepare, "read_corpus", meanwhile)
    train("one")
    assert not (kept / prepared.KIND).exists()
    monkeypatch.setattr(prepare, "read_corpus", read)
    train("two")
    assert work.count("train_tokenizer") == 2


def test_another_label_alone_is_another_entry(work: list[str]) -> None:
    train("one")
    write([{**row, "label": "neg" if i == 0 else row["label"]} for i, row in enumerate(REVIEWS)])
    train("two")
    assert work.count("train_tokenizer") == 2


def test_other_code_and_other_libraries_are_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache.key_of("x")
    assert cache.key_of("x") == before != cache.key_of("y")
    for name in ("code", "tokenizers", "pyarrow"):
        monkeypatch.setattr(cache, "_versions", lambda name=name: {**cache_versions, name: "other"})
        assert cache.key_of("x") != before


cache_versions = cache._versions()


def test_a_taken_over_tokenizer_counts_by_its_content(work: list[str]) -> None:
    train("one")
    settings = ["tokenizer.type=pretrained", "tokenizer.path=one/tokenizer.json"]
    train("two", *settings)
    train("three", *settings)
    assert work.count("train_tokenizer") == 2
    content = json.loads(Path("one/tokenizer.json").read_text())
    content["model"]["vocab"]["unheard"] = len(content["model"]["vocab"])
    Path("one/tokenizer.json").write_text(json.dumps(content))
    train("four", *settings)
    assert work.count("train_tokenizer") == 3


def damaged(entry: Path) -> Iterator[None]:
    """The entry with one of its files damaged, each in four ways."""
    whole = entry.with_name("whole")
    shutil.copytree(entry, whole)
    files = sorted(file.name for file in whole.iterdir() if file.stat().st_size)
    assert len(files) > 1
    for name in files:
        content = (whole / name).read_bytes()
        for damage in (content[: len(content) // 2], b"", b"\x00" * 64, None):
            shutil.rmtree(entry, ignore_errors=True)
            shutil.copytree(whole, entry)
            (entry / name).unlink()
            if damage is not None:
                (entry / name).write_bytes(damage)
            yield
    shutil.rmtree(whole)


def test_a_damaged_entry_is_as_none(kept: Path, work: list[str]) -> None:
    first = train("one")
    (data,), (word_vectors,) = ((list((kept / kind).iterdir())) for kind in ("data", "vectors"))
    shape = vectors.WordVectors(np.load(word_vectors / "matrix.npy"), np.zeros(0)).matrix.shape
    assert prepared.load(data.name) is not None
    assert vectors.load_vectors(word_vectors, shape) is not None
    for _ in damaged(data):
        assert prepared.load(data.name) is None
        assert not data.exists()
    for _ in damaged(word_vectors):
        assert vectors.load_vectors(word_vectors, shape) is None
    assert train("two") == first
    assert work == BOTH * 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    train("one")


def test_a_disk_that_fills_up_is_no_error(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    first = train("one")
    for entry in kept.glob("*/*"):
        cache.remove(entry)
    monkeypatch.setattr("textattn.data.texts.Texts.write", full)
    assert train("two") == first
    assert not list((kept / prepared.KIND).iterdir())


def test_the_longest_unused_go_when_there_is_too_much(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(key: str) -> None:
        with cache.store("data", key) as folder:
            assert folder is not None
            (folder / "file").write_bytes(b"x" * 1000)

    monkeypatch.setattr(cache, "LARGEST", 2500)
    for number, key in enumerate("abc"):
        put(key)
        for entry in kept.glob("data/*"):
            if entry.name == key:
                os.utime(entry, (number, number))
    assert sorted(entry.name for entry in kept.glob("data/*")) == ["b", "c"]
    assert cache.find("data", "b") is not None  # used just now
    put("d")
    assert sorted(entry.name for entry in kept.glob("data/*")) == ["b", "d"]


def test_what_a_killed_process_left_is_removed_after_a_day(kept: Path) -> None:
    for name, hours in (("old", 25), ("new", 1)):
        folder = kept / "data" / f".unfinished-{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - hours * 3600,) * 2)
    with cache.store("data", "key"):
        pass
    assert sorted(entry.name for entry in kept.glob("data/*")) == [".unfinished-new", "key"]


def test_the_command_shows_and_deletes(kept: Path) -> None:
    assert "nothing is kept yet" in cli("cache").err
    train("one")
    shown = cli("cache")
    assert "data" in shown.out
    assert "vectors" in shown.out
    listed = json.loads(cli("cache", "--json").out)
    assert listed["folder"] == str(kept)
    assert [entry["kind"] for entry in listed["entries"]] == ["data", "vectors"]
    assert all(entry["bytes"] > 0 for entry in listed["entries"])
    assert cli("cache", "--clear").code == 0
    assert not list(kept.glob("*/*"))
    assert "says so" in cli("cache", TEXTATTN_CACHE="off").err
