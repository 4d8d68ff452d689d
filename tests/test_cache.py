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

from textattn.config import config_from_mapping
from textattn.report import Report
from textattn.runs import data_cache as prepared
from textattn.runs import train as runs
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


def train(out: str, *overrides: str, report: Report | None = None) -> str:
    """SHA-256 of the weights."""
    config = config_from_mapping(
        {
            "data": {"path": "reviews.jsonl", "evidence": "why"},
            "tokenizer": {"min_frequency": 1, "max_length": 3},
            "model": {"embedding_dim": 8, "hidden_size": 8, "vectors": {"source": "skipgram", "epochs": 1}},
            "training": {"epochs": 1, "attention_supervision": 0.5},
            "output": {"audit_examples": 0, "plots": False, "dir": out},
        },
        overrides,
    )
    run = runs.train(config, report=report)
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

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        corpus = read(*arguments, **more)
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


def ignore(note: str) -> None:
    """Receive a note that no test reads."""


def damaged(entry: Path) -> Iterator[None]:
    """The entry with one of its files damaged, each in five ways; one is a single bit, which leaves it readable."""
    whole = entry.with_name("whole")
    shutil.copytree(entry, whole)
    files = sorted(file.name for file in whole.iterdir() if file.stat().st_size)
    assert len(files) > 1
    for name in files:
        content = (whole / name).read_bytes()
        flipped = bytearray(content)
        flipped[len(content) * 3 // 4] ^= 1
        for damage in (content[: len(content) // 2], b"", b"\x00" * 64, bytes(flipped), None):
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
    assert prepared.load(data.name, Report()) is not None
    assert vectors.load_vectors(cache.find("vectors", word_vectors.name, ignore), shape) is not None
    for _ in damaged(data):
        assert prepared.load(data.name, Report()) is None
        assert not data.exists()
    for _ in damaged(word_vectors):
        assert cache.find("vectors", word_vectors.name, ignore) is None
        assert not word_vectors.exists()
    assert train("two") == first
    assert work == BOTH * 2


@pytest.mark.parametrize("name", ["test.arrow", "train.labels.npy", "train.ids", "corpus.json", "matrix.npy"])
def test_a_damaged_file_is_told_and_the_model_is_as_without_a_cache(
    name: str, kept: Path, work: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(REVIEWS[:8], "test.jsonl")
    arguments = ["data.path=null", "data.files.train=reviews.jsonl", "data.files.test=test.jsonl"]
    first = train("one", *arguments)
    (path,) = kept.glob(f"*/*/{name}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    notes: list[str] = []

    class Listening(Report):
        def note(self, text: str) -> None:
            notes.append(text)

    assert train("two", *arguments, report=Listening()) == first
    assert [note for note in notes if "damaged" in note] == [
        f"{path.parent}: damaged ({name} has changed); the entry of the cache is removed and made again"
    ]
    metrics = [json.loads(Path(run, "metrics.json").read_text()) for run in ("one", "two")]
    assert metrics[0]["test"] == metrics[1]["test"]
    assert work == [*BOTH, "train_skipgram" if name == "matrix.npy" else "train_tokenizer"]
    train("three", *arguments)
    assert len(work) == 3  # the entry made again is found


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


def put(letter: str, size: int = 1000) -> Path | None:
    """Store an entry whose key is 64 times this letter."""
    with cache.store("data", letter * 64) as folder:
        if folder is not None:
            (folder / "corpus.json").write_bytes(b"x" * size)
    return cache.find("data", letter * 64, ignore)


def letters(kept: Path) -> str:
    return "".join(sorted(entry.name[0] for entry in kept.glob("data/*")))


def test_the_longest_unused_go_when_there_is_too_much(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 3000)  # their records count as well
    for number, letter in enumerate("abc"):
        entry = put(letter)
        assert entry is not None
        os.utime(entry, (number, number))
    assert letters(kept) == "bc"
    assert cache.find("data", "b" * 64, ignore) is not None  # used just now
    put("d")
    assert letters(kept) == "bd"


def test_what_a_killed_process_left_is_removed_after_a_day(kept: Path) -> None:
    put("a")
    for name, hours in (("old_abcd", 25), ("new_abcd", 1)):
        folder = kept / "data" / f".unfinished-{name}"
        folder.mkdir()
        (folder / "train.arrow").write_text("half")
        os.utime(folder, (time.time() - hours * 3600,) * 2)
    put("b")
    assert sorted(entry.name[:16] for entry in kept.glob("data/*")) == [".unfinished-new_", "a" * 16, "b" * 16]


def test_only_known_names_are_stored(kept: Path) -> None:
    """The cache must know again whatever it stores, or it could never delete it."""

    def keep(kind: str, key: str, name: str) -> None:
        with cache.store(kind, key) as folder:
            assert folder is not None
            (folder / name).write_text("x")

    with pytest.raises(ValueError, match="unknown files"):
        keep("data", "a" * 64, "notes.txt")
    assert not list((kept / "data").iterdir())
    for kind, key in (("data", "a"), ("photos", "a" * 64)):
        with pytest.raises(ValueError, match="not an entry of the cache"):
            keep(kind, key, "corpus.json")


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
    entries = sorted(entry.name[:12] for entry in kept.glob("*/*"))
    cleared = cli("cache", "--clear")
    assert cleared.code == 0
    assert sorted(word for word in cleared.out.split() if len(word) == 12) == entries
    assert "deleted 2 entries, 0 MB in" in cleared.err
    assert not list(kept.glob("*/*"))
    assert "says so" in cli("cache", TEXTATTN_CACHE="off").err
