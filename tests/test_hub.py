"""Data sets and tokenizers from the Hub, by the real client against a local stand-in; and from folders."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models

COMMIT = "a" * 40
ROWS = {"train": [("good", 1), ("bad", 0), ("fine", 1)], "test": [("poor", 0), ("great", 1)]}
# What a run does with the data sets and tokenizers named on its standard input; answers as JSON.
SCRIPT = """
import json, sys, time
from textattn.config.data_section import DataConfig
from textattn.config.model_section import TokenizerConfig
from textattn.data.read import read_corpus
from textattn.tokens.train_tokenizer import train_tokenizer
from textattn.errors import InputError
def answer(settings):
    if "type" in settings:
        return train_tokenizer(TokenizerConfig(**settings), iter(["x"]), 1).encode_with_offsets(["good bad"])[0].tokens
    corpus = read_corpus(DataConfig(**settings))
    splits, test = corpus.splits(), corpus.test
    return {
        "labels": corpus.labels,
        "revision": corpus.revision,
        "sizes": {name: len(split) for name, split in splits.items()},
        "test": [[text, corpus.labels[i]] for text, i in zip(test, test.labels)][:2] if test else [],
        "first": list(splits["train"])[:20],
        **({"unlabelled": [list(texts) for texts in corpus.unlabelled]} if corpus.unlabelled else {}),
    }
# The client waits between attempts; the waiting is counted, not done.
waited = 0
def wait(seconds):
    global waited
    waited += seconds
time.sleep = wait
answers = {}
for key, settings in json.load(sys.stdin).items():
    start, waited = time.monotonic(), 0
    try:
        answers[key] = answer(settings)
    except InputError as error:
        answers[key] = [error.message, error.hint, time.monotonic() - start + waited]
print(json.dumps(answers))
"""
# Trains by the settings on standard input, and answers what the run recorded of its data and what is read afterwards.
TRAIN_SCRIPT = """
import json, sys
import textattn
from textattn.inference.evaluation import read_labelled
run = textattn.train(json.load(sys.stdin))
model = textattn.load(run)
recorded = json.loads((run / "environment.json").read_text())["dataset"]["splits"]
loaded = {split: read_labelled(model, None, split, {}) for split in recorded}
again = {split: {"num_examples": len(l.rows), "sha256": l.rows.fingerprint()} for split, l in loaded.items()}
changes = [one.change for one in loaded.values()]
metrics = json.loads((run / "metrics.json").read_text())["validation"]
measured = model.evaluate(split="validation")
same = {key: measured[key] == metrics[key] for key in ("num_examples", "accuracy", "log_loss")}
print(json.dumps({"recorded": recorded, "again": again, "changes": changes, "same": same}))
"""
PLAIN = {
    "labels": ["neg", "pos"],
    "revision": COMMIT,
    "sizes": {"train": 3, "test": 2},
    "test": [["poor", "neg"], ["great", "pos"]],
    "first": ["good", "bad", "fine"],
}


def write_repositories(root: Path, shared: Path) -> None:
    for name in ("plain", "subsets", "broken", "script", "many", "lines"):
        (root / "datasets/tiny" / name).mkdir(parents=True)
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    for split, rows in ROWS.items():
        table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, root / f"datasets/tiny/plain/{split}.parquet")
        pq.write_table(table, root / f"datasets/tiny/subsets/{split}.parquet")
    (root / "datasets/tiny/subsets/README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: some\n  data_files:\n  - split: train\n    path: test.parquet\n"
        "- config_name: all\n  data_files:\n  - split: train\n    path: train.parquet\n"
        "  - split: test\n    path: test.parquet\n---\n"
    )
    # Too many rows to be read for the few that are wanted; and no schema.
    for part in range(4):
        rows = [{"text": f"text {part} {i}", "label": i % 2} for i in range(15_000)]
        table = pa.Table.from_pylist(rows)
        pq.write_table(table, root / f"datasets/tiny/many/train-{part}.parquet")
    (root / "datasets/tiny/lines/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:30]))
    (root / "datasets/tiny/broken/train.parquet").write_text("PAR1 and no more")
    (root / "datasets/tiny/script/script.py").write_text("import datasets\n")
    (root / "datasets/real").mkdir()
    for name in ("sst2", "imdb"):
        (root / "datasets/real" / name).symlink_to(shared / "data" / name)
    (root / "models/tiny/tokenizer").mkdir(parents=True)
    (root / "models/tiny/empty").mkdir()
    (root / "models/tiny/empty/README.md").write_text("nothing here")
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good bad": 2}, unk_token="[UNK]"))
    tokenizer.save(str(root / "models/tiny/tokenizer/tokenizer.json"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[str]:
    """The address of a Hub with some data sets and a tokenizer."""
    root = tmp_path_factory.mktemp("hub")
    write_repositories(root, shared)
    command = [sys.executable, str(shared / "tools/local_hub.py"), str(root), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


def ask(endpoint: str, home: Path, questions: dict[str, dict[str, Any]], **variables: str) -> dict[str, Any]:
    """What SCRIPT answers to the questions."""
    return converse(SCRIPT, endpoint, home, questions, **variables)


def converse(script: str, endpoint: str, home: Path, message: dict[str, Any], **variables: str) -> dict[str, Any]:
    """What a script answers in a process of its own, for the client reads its environment when it is imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=Path(__file__).parent.parent,
        input=json.dumps(message), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def texts_without_labels(shared: Path) -> dict[str, dict[str, Any]]:
    """Questions about data sets with texts from elsewhere."""
    trec, plain = {"path": str(shared / "data/trec")}, {"path": "tiny/plain"}
    return {
        "all of the hub": trec | {"unlabelled": plain},
        "a split of the hub": trec | {"unlabelled": plain | {"splits": ["test"]}},
        "a split of its own": plain | {"unlabelled": {"splits": ["test"]}},
        "a local folder": plain | {"unlabelled": trec | {"splits": ["test"]}},
        "streamed": plain | {"unlabelled": {"path": "tiny/many", "splits": ["train"]}, "streaming": True},
        "nothing": trec | {"unlabelled": {"path": "tiny/nothing"}},
        "no subset of texts": trec | {"unlabelled": {"path": "tiny/subsets"}},
        "another column": plain | {"unlabelled": plain | {"text": "content"}},
    }


@pytest.fixture(scope="module")
def online(hub: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    questions = {
        "plain": {"path": "tiny/plain"},
        "revision": {"path": "tiny/plain", "revision": COMMIT},
        "explicit": {"path": "hf://tiny/plain"},
        "explicit tokenizer": {"type": "pretrained", "path": "hf://tiny/tokenizer"},
        "revision in the name": {"path": "hf://tiny/plain@main"},
        "real": {"path": "real/sst2"},
        "subset": {"path": "tiny/subsets", "name": "all"},
        "no subset": {"path": "tiny/subsets"},
        "unknown subset": {"path": "tiny/plain", "name": "other"},
        "unknown": {"path": "tiny/nothing"},
        "broken": {"path": "tiny/broken"},
        "script": {"path": "tiny/script"},
        "folder": {"path": str(shared / "data/trec")},
        "no folder": {"path": "no/such/folder"},
        "no id": {"path": "not an id"},
        "tokenizer": {"type": "pretrained", "path": "tiny/tokenizer"},
        "no tokenizer": {"type": "pretrained", "path": "tiny/nothing"},
        "no tokenizer.json": {"type": "pretrained", "path": "tiny/empty"},
        "no tokenizer id": {"type": "pretrained", "path": "no/such/folder"},
        **texts_without_labels(shared),
    }
    home = tmp_path_factory.mktemp("home")
    answers = ask(hub, home, questions)
    asked_again = ("plain", "real", "folder", "tokenizer", "no tokenizer", "unknown")
    offline = ask(
        hub, home,
        {key: questions[key] for key in asked_again} | {"streamed": {"path": "tiny/lines", "streaming": True}},
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    return answers | {f"offline {key}": answer for key, answer in offline.items()}


def test_a_data_set_of_the_hub_comes_with_its_labels_and_its_commit(online: dict[str, Any]) -> None:
    assert online["plain"] == online["revision"] == online["subset"] == online["explicit"] == PLAIN
    assert online["revision in the name"][:2] == [
        "data.path: the revision of a data set on the Hub stands in data.revision, got hf://tiny/plain@main",
        "data.path=hf://tiny/plain data.revision=main",
    ]
    real = online["real"]
    assert real["labels"] == ["neg", "pos"] and real["revision"] == COMMIT
    assert real["sizes"] == {"train": 6920, "validation": 872, "test": 1821}


def test_what_was_read_once_is_there_without_a_network(online: dict[str, Any]) -> None:
    for key in ("plain", "real", "folder", "tokenizer"):
        assert online[f"offline {key}"] == online[key]


Streamed = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def streamed(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Streamed:
    """What is answered of data sets that are streamed, and the folder in which the client keeps what it keeps."""
    large = {"path": "tiny/many", "max_train_examples": 50}
    questions = {
        "plain": {"path": "tiny/plain"},
        "real": {"path": "real/sst2"},
        "unknown": {"path": "tiny/nothing"},
        "unknown subset": {"path": "tiny/plain", "name": "other"},
        "broken": {"path": "tiny/broken"},
        "drawn": large,
        "drawn again": large,
        "lines": {"path": "tiny/lines"},
        "one label": {"path": "real/imdb", "max_train_examples": 50},
    }
    home = tmp_path_factory.mktemp("home")
    return ask(hub, home, {key: question | {"streaming": True} for key, question in questions.items()}), home


def test_streamed_it_is_the_same_and_nothing_of_it_is_kept(online: dict[str, Any], streamed: Streamed) -> None:
    found, home = streamed
    for key in ("plain", "real"):
        assert found[key] == online[key]
    for key in ("unknown", "unknown subset"):
        assert found[key][:2] == online[key][:2]
    assert found["broken"][0].startswith("data.path: tiny/broken: ") and "arquet" in found["broken"][0]
    assert not [path for path in home.rglob("*") if path.suffix in (".parquet", ".arrow")]
    assert sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) < 100_000
    assert online["offline streamed"][0].endswith("the Hugging Face Hub was not reached: HF_HUB_OFFLINE is set")


def test_of_a_large_one_what_is_wanted_is_drawn_from_the_first_rows(streamed: Streamed) -> None:
    found, _ = streamed
    assert found["drawn"]["sizes"] == {"train": 50} and found["drawn again"] == found["drawn"]
    rows = [int(text.split()[2]) for text in found["drawn"]["first"]]
    assert rows != sorted(rows) and 1000 < max(rows) < 11_000


@pytest.mark.parametrize(
    ("streaming", "rows"),
    [(True, "random"), (False, "random"), (False, "last"), pytest.param(True, "last", marks=pytest.mark.slow)],
)
def test_evaluation_rebuilds_the_splits_of_training(hub: str, tmp_path: Path, streaming: bool, rows: str) -> None:
    """Whatever the seed draws: a validation row that was trained on would be measured too well."""
    data = {"path": "tiny/many", "streaming": streaming, "max_train_examples": 60, "validation_rows": rows}
    settings = {
        "seed": 7,
        "recipe": "plain",
        "data": data | {"validation_fraction": 0.5, "test_fraction": 0.0},
        "tokenizer": {"vocab_size": 100, "min_frequency": 1},
        "model": {"embedding_dim": 8, "hidden_size": 8},
        "training": {"epochs": 1},
        "output": {"dir": str(tmp_path / "run"), "plots": False, "audit_examples": 0},
    }
    found = converse(TRAIN_SCRIPT, hub, tmp_path / "home", settings)
    assert {split: part["num_examples"] for split, part in found["recorded"].items()} == {"train": 30, "validation": 30}
    assert found["again"] == found["recorded"]
    assert found["changes"] == [None, None]
    assert all(found["same"].values()), found["same"]


def test_texts_without_labels_from_elsewhere(online: dict[str, Any], shared: Path) -> None:
    found = {key: online[key] for key in texts_without_labels(shared)}
    train, test = [[text for text, _ in ROWS[split]] for split in ("train", "test")]
    for key, source, texts in (
        ("all of the hub", "folder", [train, test]),
        ("a split of the hub", "folder", [test]),
        ("a split of its own", "plain", [test]),
    ):
        assert found[key] == online[source] | {"unlabelled": texts}
    (questions,) = found["a local folder"]["unlabelled"]
    assert len(questions) == 500 and found["a local folder"] == online["plain"] | {"unlabelled": [questions]}
    (drawn,) = found["streamed"]["unlabelled"]
    assert len(drawn) > 10_000 and found["streamed"] == online["plain"] | {"unlabelled": [drawn]}
    assert found["nothing"][0].startswith("data.unlabelled.path: 'tiny/nothing' is neither a file")
    assert found["no subset of texts"][1] == "data.unlabelled.name=SUBSET"
    assert found["another column"][0].startswith("column 'content' not found in tiny/plain")
    assert found["another column"][1] == "data.unlabelled.text=text"


def test_streamed_lines_have_their_columns_and_sorted_ones_a_hint(streamed: Streamed) -> None:
    found, _ = streamed
    assert found["lines"]["sizes"] == {"train": 30} and found["lines"]["first"][:2] == ["text 3 0", "text 3 1"]
    message, hint, _ = found["one label"]
    assert message.startswith("the training split has only the label 'neg'") and hint == "data.streaming=false"


def test_a_local_folder_is_a_data_set_without_a_commit(online: dict[str, Any]) -> None:
    folder = online["folder"]
    assert folder["labels"] == ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]
    assert folder["sizes"] == {"train": 5452, "test": 500} and folder["revision"] is None


def test_an_unknown_data_set(online: dict[str, Any]) -> None:
    assert online["unknown"][:2] == [
        "data.path: 'tiny/nothing' is neither a file nor a folder here, nor a data set on the Hub "
        "(private and gated ones need `hf auth login`)",
        "https://huggingface.co/datasets?search=nothing",
    ]
    assert online["no folder"][0] == "data.path: no such file or folder: no/such/folder"
    assert online["no id"][0] == "data.path: no such file or folder: not an id"


def test_a_subset_must_be_named_and_known(online: dict[str, Any]) -> None:
    assert online["unknown subset"][:2] == [
        "data.path: tiny/plain: BuilderConfig 'other' not found. Available: ['default']",
        "data.name=SUBSET",
    ]
    message, hint, _ = online["no subset"]
    assert message.startswith("data.path: tiny/subsets: Config name is missing.") and hint == "data.name=SUBSET"
    assert "['some', 'all']" in message


def test_data_sets_that_cannot_be_read(online: dict[str, Any]) -> None:
    assert online["broken"][0].startswith("data.path: tiny/broken: ") and "arquet" in online["broken"][0]
    assert online["script"][0].startswith("data.path: tiny/script: Dataset scripts are no longer supported")


def test_offline_the_variable_that_forbids_the_network_is_named(online: dict[str, Any]) -> None:
    assert online["offline unknown"][:2] == [
        "data.path: 'tiny/nothing' is no file or folder here, and the Hugging Face Hub was not reached: "
        "HF_HUB_OFFLINE is set",
        "unset HF_HUB_OFFLINE, or give a local copy: data.path=FOLDER_OR_FILE; "
        "offline at once: textattn train quickstart",
    ]
    assert online["offline no tokenizer"][0].endswith("cannot be downloaded from the Hub: HF_HUB_OFFLINE is set")


def test_a_tokenizer_of_the_hub(online: dict[str, Any]) -> None:
    assert online["tokenizer"] == online["explicit tokenizer"] == ["good bad"]
    start = "is not a file or folder, and cannot be downloaded from the Hub:"
    assert online["no tokenizer"][0] == f"tokenizer.path: 'tiny/nothing' {start} no such repository"
    assert online["no tokenizer.json"][0].startswith(f"tokenizer.path: 'tiny/empty' {start} ")
    assert online["no tokenizer id"][0] == "tokenizer.path: no such file or folder: no/such/folder"


def test_where_nobody_answers_the_reason_is_given_in_reasonable_time(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        questions = {
            "data": {"path": "tiny/plain"},
            "tokenizer": {"type": "pretrained", "path": "tiny/tokenizer"},
        }
        answers = ask(endpoint, tmp_path, questions)
    message, hint, seconds = answers["data"]
    assert message.startswith(
        "data.path: 'tiny/plain' is no file or folder here, and the Hugging Face Hub was not reached: no connection ("
    )
    assert hint.startswith("connect, or give a local copy: ") and seconds < 60
    message, _, seconds = answers["tokenizer"]
    assert message.startswith("tokenizer.path: 'tiny/tokenizer' is not a file or folder") and seconds < 60
