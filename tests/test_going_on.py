"""Going on from a finished model: what stays, what is added, and that no row is measured that was trained on."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import MakeOnce, digest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import Result
from inprocess import run as cli
from stopped_runs import Killed, Killer, outcome
from tokenizers import Tokenizer

import textattn
from textattn.config import config_from_mapping, load_config
from textattn.config.data_section import DataConfig
from textattn.config.model_section import TokenizerConfig
from textattn.data.join import join
from textattn.data.known_labels import KnownLabels
from textattn.data.read import Corpus, Split
from textattn.data.texts import Texts
from textattn.errors import ConfigError, InputError
from textattn.report import Report
from textattn.runs.prepare import prepare
from textattn.runs.setup import Setup, build
from textattn.runs.train import train
from textattn.tasks import Binary, MultiLabel, Ordinal, SingleLabel, Task
from textattn.tokens.backend_check import check_backend
from textattn.tokens.grow import grow_tokenizer
from textattn.tokens.train_tokenizer import train_tokenizer
from textattn.training.placement import Placement

WORDS = {
    "neg": ["bad", "awful", "poor"], "pos": ["good", "great", "nice"], "ask": ["why", "how", "who"],
    "0": ["none"], "1": ["one"], "2": ["two"], "3": ["three"],
}  # fmt: skip
FILLERS = {"old": ["film", "plot", "actor", "scene", "story"], "new": ["music", "score", "film", "plot", "choir"]}
FEW = [
    "tokenizer.min_frequency=1", "tokenizer.max_length=20", "model.embedding_dim=8", "model.hidden_size=8",
    "model.ngram_buckets=512", "model.vectors.source=random", "training.epochs=4", "training.batch_size=8",
    "training.learning_rate=0.02", "output.audit_examples=0", "output.plots=false", "output.report=false",
]  # fmt: skip
QUIET = ["output.audit_examples=0", "output.plots=false", "output.report=false"]
Row = tuple[str, str]


def rows_of(labels: Sequence[str], number: int, kind: str, seed: int) -> list[Row]:
    """Texts whose last word but one tells the label; with several labels (`a,b`) there is a word of each."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(number):
        label = labels[i % len(labels)]
        fillers = generator.choice(FILLERS[kind], 3)
        telling = [str(generator.choice(WORDS[part])) for part in label.split(",")]
        rows.append((" ".join([*fillers, *telling, f"{kind}{seed}x{i}"]), label))
    return rows


OLD = rows_of(["neg", "pos"], 120, "old", 1)
SAME = rows_of(["neg", "pos"], 60, "new", 2)
FOURTH = rows_of(["ask"], 60, "new", 3)
SEVERAL = rows_of(["neg", "pos", "neg,pos"], 120, "old", 4)
MORE_SEVERAL = rows_of(["ask,pos", "ask", "neg"], 60, "new", 5)
GRADES = rows_of(["0", "1", "2"], 120, "old", 6)
NUMBERS = [(text, f"{10 * int(label) + 3}") for text, label in GRADES]
MORE_NUMBERS = [(text, f"{10 * int(label) + 3}") for text, label in rows_of(["0", "3"], 60, "new", 8)]
HIGHER = rows_of(["2", "3"], 60, "new", 7)


def write(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def make(folder: Path) -> None:
    """Models of every kind of task."""
    for name, rows, more in (
        ("labels", OLD, ["recipe=short"]),
        ("single", OLD, ["recipe=plain", "model.output=sigmoid"]),
        ("several", SEVERAL, ["recipe=short", "data.label_separator=,"]),
        ("grades", GRADES, ["recipe=short", "task=ordinal"]),
        ("numbers", NUMBERS, ["recipe=short", "task=regression"]),
        ("pieces", OLD, ["recipe=plain", "tokenizer.type=bpe", "tokenizer.vocab_size=300"]),
    ):
        data = write(folder / f"{name}.csv", rows)
        textattn.train(str(data), [*FEW, *more, f"output.dir={folder / name}"])


@pytest.fixture(scope="session")
def models(make_once: MakeOnce) -> Path:
    """Finished runs, by name; that no test changes them is checked at the end."""
    return make_once("going-on", make)


def go_on(start: Path, rows: Sequence[Row], folder: Path, *more: str, name: str = "on") -> Path:
    data = write(folder / f"{name}.csv", rows)
    return textattn.train(str(data), [*QUIET, f"output.dir={folder / name}", *more], start=start)


def refused(start: Path, rows: Sequence[Row], folder: Path, *more: str) -> Result:
    done = cli("train", write(folder / "new.csv", rows), "--from", start, f"output.dir={folder / 'out'}", *more)
    assert done.code in (2, 3), done.err
    assert not (folder / "out").exists()
    return done


def built(start: Path, rows: Sequence[Row], folder: Path, *more: str) -> Setup:
    """The model before its first step."""
    config = load_config(str(write(folder / "new.csv", rows)), [f"start.model={start}", *more])
    return build(prepare(config, Report()), Placement(torch.device("cpu"), torch.float32), Report())


def config_json(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "config.json").read_text())
    return value


def labels_of(run: Path) -> list[str]:
    return [*config_json(run)["label2id"]]


def logits(model: torch.nn.Module, tokenizer: Any, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    model.eval()
    found = []
    with torch.no_grad():
        for text in tokenizer.encode_with_offsets(texts):
            ids = torch.tensor([text.input_ids])
            found.append(model(ids, torch.ones_like(ids)).logits[0].numpy())
    return np.array(found)


# Before the first step


@pytest.mark.parametrize(
    ("name", "rows", "more"),
    [
        ("labels", SAME, []),
        ("labels", [*FOURTH, *SAME], []),
        ("single", SAME, []),
        ("several", MORE_SEVERAL, []),
        ("grades", HIGHER, []),
        ("pieces", [*FOURTH, *SAME], []),
    ],
)
def test_before_the_first_step_the_old_answers_stand(
    name: str, rows: list[Row], more: list[str], models: Path, tmp_path: Path
) -> None:
    old = textattn.load(models / name, runtime="torch")
    # With the old rows a fitted linear part is fitted anew, before the first step.
    setup = built(models / name, rows, tmp_path, "start.replay=0.0", *more)
    known = [text for text, _ in (OLD + SEVERAL + GRADES)[::7]]
    before = logits(old.torch_session.model, old.tokenizer, known)
    after = logits(setup.model, setup.data.tokenizer, known)
    np.testing.assert_array_equal(after[:, : before.shape[1]], before)
    if name == "labels":
        # New words begin as unknown ones; only n-grams, which leave those out, have weights for them.
        setup.model.ngrams = old.torch_session.model.ngrams = None  # type: ignore[assignment]
        new = [text for text, _ in rows]
        found = logits(setup.model, setup.data.tokenizer, new)
        np.testing.assert_allclose(
            found[:, :2], logits(old.torch_session.model, old.tokenizer, new), rtol=1e-5, atol=1e-5
        )
        assert setup.data.tokenizer.vocab_size > old.tokenizer.vocab_size


def test_one_logit_becomes_three_with_the_same_odds(models: Path, tmp_path: Path) -> None:
    old = textattn.load(models / "single", runtime="torch")
    setup = built(models / "single", FOURTH, tmp_path)
    texts = [text for text, _ in OLD[:20]]
    assert old.torch_session.model.architecture.num_outputs == 1
    before = old.uncalibrated().predict_proba(texts)
    after = setup.data.task.probabilities(logits(setup.model, setup.data.tokenizer, texts))
    np.testing.assert_allclose(after[:, 1] / after[:, :2].sum(axis=1), before[:, 1], rtol=1e-4)


def test_numbers_stay_as_they_are_in_another_scale(models: Path, tmp_path: Path) -> None:
    old = textattn.load(models / "numbers", runtime="torch")
    setup = built(models / "numbers", MORE_NUMBERS, tmp_path)
    assert setup.data.task.target.mean != old.task.target.mean  # type: ignore[union-attr]
    texts = [text for text, _ in NUMBERS[::5]]
    before, after = (
        task.scale.mean + task.scale.std * logits(model, tokenizer, texts)  # type: ignore[attr-defined]
        for task, model, tokenizer in (
            (old.task, old.torch_session.model, old.tokenizer),
            (setup.data.task, setup.model, setup.data.tokenizer),
        )
    )
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_going_on_with_numbers(models: Path, tmp_path: Path) -> None:
    run = go_on(models / "numbers", MORE_NUMBERS, tmp_path)
    low, high = (answer.score for answer in textattn.load(run).predict(["music film none", "music film three"]))
    assert high - low > 15
    before = splits_of(models / "numbers")["test"]
    assert splits_of(run)["test"][: len(before)] == before
    found = json.loads(cli("compare", models / "numbers", run, "--json").out)["going_on"][0]
    assert found["own_rows"]["num_examples"] == len(before)
    assert found["other_rows"]["after"] < found["other_rows"]["before"]
    assert "mean error before" in cli("compare", models / "numbers", run).out


TASKS: list[tuple[type[Task], int]] = [(SingleLabel, 3), (MultiLabel, 3), (Ordinal, 3), (Binary, 2)]


@given(st.sampled_from(TASKS), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_old_outputs_keep_their_order_and_new_labels_their_frequency(
    kind: tuple[type[Task], int], more: int, seed: int
) -> None:
    task, number = kind
    generator = np.random.default_rng(seed)
    names = [f"{i}" for i in range(number + more)]
    old, new = task(names[:number]), (SingleLabel if task is Binary and more else task)(names)
    rows = generator.integers(0, len(names), 400)
    labels = np.eye(len(names), dtype=np.uint8)[rows] if task is MultiLabel else rows
    weights, bias = new.outputs_from(old, labels)
    before = generator.normal(size=(5, old.num_outputs))
    after = before @ weights.T + bias
    p, q = old.probabilities(before), new.probabilities(after)
    if task in (SingleLabel, Binary):
        np.testing.assert_allclose(q[:, :number] / q[:, :number].sum(axis=1, keepdims=True), p)
    elif task is MultiLabel:
        np.testing.assert_allclose(q[:, :number], p)
        np.testing.assert_allclose(q[:, number:].mean(axis=0), labels.mean(axis=0)[number:], atol=0.01)
    else:
        np.testing.assert_allclose(q[:, : number - 1], p[:, : number - 1])
        # Of the texts that reach the highest old grade, some have a higher one.
        assert (q[:, number - 1] < p[:, number - 1]).all() or not more


# Labels


def test_labels_keep_their_order_and_new_ones_follow(models: Path, tmp_path: Path) -> None:
    """`ask` is the first in the alphabet, and the new data have no other label."""
    run = go_on(models / "labels", FOURTH, tmp_path)
    assert labels_of(run) == ["neg", "pos", "ask"]
    model = textattn.load(run)
    assert [answer.label for answer in model.predict(["music film why", "film plot great", "actor film awful"])] == [
        "ask", "pos", "neg",
    ]  # fmt: skip
    measured = json.loads((run / "metrics.json").read_text())["test"]
    assert measured["accuracy"] > 0.9
    assert {label: part["support"] for label, part in measured["per_class"].items()} == {
        "neg": 12,
        "pos": 12,
        "ask": 12,
    }


def test_several_labels_a_text(models: Path, tmp_path: Path) -> None:
    run = go_on(models / "several", MORE_SEVERAL, tmp_path)
    assert labels_of(run) == ["neg", "pos", "ask"]
    assert len(config_json(run)["thresholds"]) == 3
    (answer,) = textattn.load(run).predict(["music film how great"])
    assert set(answer.labels) == {"ask", "pos"}


def test_a_higher_grade(models: Path, tmp_path: Path) -> None:
    run = go_on(models / "grades", HIGHER, tmp_path)
    assert labels_of(run) == ["0", "1", "2", "3"]
    assert [a.label for a in textattn.load(run).predict(["film three", "film none", "film two"])] == ["3", "0", "2"]


def test_a_lower_grade_is_refused(models: Path, tmp_path: Path) -> None:
    rows = [(text, "-1" if label == "3" else label) for text, label in HIGHER]
    # -1 is what unlabelled rows have in data sets, so 0.5 stands for a grade in between.
    rows = [(text, "0.5" if label == "-1" else label) for text, label in rows]
    done = refused(models / "grades", rows, tmp_path)
    assert done.code == 2
    assert "0.5: a model of the grades 0, 1, 2 can only be given higher ones" in done.err


CELLS = st.one_of(st.text(max_size=3), st.integers(-3, 5), st.booleans(), st.floats(-2, 2, width=16))
NAMES = st.lists(st.text(min_size=1, max_size=3).map(str.strip).filter(bool), min_size=2, max_size=5, unique=True)


@given(NAMES, st.lists(CELLS, max_size=8), st.booleans())
def test_every_new_value_gets_a_label_and_old_ones_stay(names: list[str], cells: list[Any], several: bool) -> None:
    known = KnownLabels(names, several)
    values = [[cell] for cell in cells] if several else cells
    grown = known.grown(values, None, merged=False)
    assert grown.names[: len(names)] == names
    assert len(set(grown.names)) == len(grown.names)
    for value in [value for value in values if value not in ([-1], -1, -1.0, ["-1"], "-1")]:
        try:
            (label,) = grown.of(value)
        except ValueError as error:  # two of the labels differ only in case, or it is -1 in another spelling
            assert "differs" in str(error) or "unlabelled" in str(error)
        else:
            assert 0 <= label < len(grown.names)
    assert grown.names == known.grown(values[::-1], None, merged=False).names


def test_numbers_with_names_are_matched_by_name() -> None:
    grown = KnownLabels(["neg", "pos"], False).grown([0, 1, 2], ["pos", "new", "neg"], merged=False)
    assert grown.names == ["neg", "pos", "new"]
    assert [grown.of(value) for value in (0, 1, 2)] == [[1], [2], [0]]


# Words


@settings(deadline=None)
@given(
    st.lists(st.text("abc ", max_size=12), min_size=1, max_size=8),
    st.lists(st.text("abcde ", max_size=12), max_size=8),
    st.sampled_from(["word", "char"]),
    st.integers(1, 2),
)
def test_old_words_keep_their_ids(old: list[str], new: list[str], kind: Any, segments: int) -> None:
    config = TokenizerConfig(type=kind, min_frequency=1)
    tokenizer = train_tokenizer(config, old, segments)
    grown = grow_tokenizer(tokenizer, new, config)
    again = Tokenizer.from_str(grown.backend.to_str())  # as it is loaded from a run
    check_backend(grown.backend.to_str().encode())
    before, after = tokenizer.backend.get_vocab(), again.get_vocab()
    assert before.items() <= after.items()
    assert sorted(after.values()) == list(range(grown.vocab_size))
    for text in old:
        joined = "\t".join([text] * segments)
        assert grown.encode([joined]).ids.tolist() == tokenizer.encode([joined]).ids.tolist()
    assert grown.encode(new).num_unknown == sum(not "".join(text.split()) for text in new)
    assert grow_tokenizer(tokenizer, new, TokenizerConfig(vocab_size=10)).vocab_size <= max(10, tokenizer.vocab_size)


def test_pieces_do_not_grow(models: Path, tmp_path: Path) -> None:
    done = cli("train", write(tmp_path / "a.csv", SAME), "--from", models / "pieces", f"output.dir={tmp_path / 'on'}",
               *QUIET, "training.epochs=1")  # fmt: skip
    assert done.code == 0
    assert "the vocabulary stays as it is: a tokenizer of type bpe does not grow" in done.err
    assert (tmp_path / "on" / "tokenizer.json").read_bytes() == (models / "pieces" / "tokenizer.json").read_bytes()


# Rows


def splits_of(run: Path) -> dict[str, list[str]]:
    """The texts of each split, read again."""
    model = textattn.load(run)
    from textattn.inference.evaluation import load_split

    return {split: list(load_split(model, None, split, {})) for split in ("train", "validation", "test")}


def test_old_rows_stay_in_their_split_whatever_file_they_are_in(models: Path, tmp_path: Path) -> None:
    before = splits_of(models / "labels")
    only_new = go_on(models / "labels", FOURTH, tmp_path, name="new")
    together = go_on(models / "labels", OLD + FOURTH, tmp_path, name="together")
    for run in (only_new, together):
        after = splits_of(run)
        for split, texts in before.items():
            assert set(texts) <= set(after[split])
        assert sum(map(len, after.values())) == len(set().union(*after.values())) == len(OLD + FOURTH)
    assert len(splits_of(only_new)["test"]) == 24 + 12


def test_a_file_that_has_grown(models: Path, tmp_path: Path) -> None:
    """As somebody does it who keeps one file: the first run, more rows, the second run, still more rows, the third."""
    data = write(tmp_path / "all.csv", OLD)
    names = ["first", "second", "third"]
    tests: list[set[str]] = []
    for name, start, rows in zip(names, [None, *names], [OLD, OLD + SAME, OLD + SAME + FOURTH], strict=False):
        write(data, rows)
        more = [*FEW, "recipe=short"] if start is None else QUIET
        textattn.train(str(data), [*more, f"output.dir={tmp_path / name}"], start=start and tmp_path / start)
        model = textattn.load(tmp_path / name)
        measured = json.loads((tmp_path / name / "metrics.json").read_text())
        assert model.evaluate()["accuracy"] == measured["test"]["accuracy"]
        tests.append(set(splits_of(tmp_path / name)["test"]))
    assert tests[0] < tests[1] < tests[2]
    assert labels_of(tmp_path / "third") == ["neg", "pos", "ask"]
    record = json.loads((tmp_path / "third" / "environment.json").read_text())["from"]
    assert record["rows"]["read"] == len(OLD + SAME + FOURTH)
    assert record["data"]["earlier"]["earlier"] is None
    found = cli("compare", *(tmp_path / name for name in names), "--json")
    assert found.code == 0, found.err
    assert [Path(entry["old"]).name for entry in json.loads(found.out)["going_on"]] == ["first", "second"]


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_data_that_cannot_be_read_again_are_not_replayed(change: str, models: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "old.csv", OLD)
    old = textattn.train(str(data), [*FEW, "recipe=short", "training.epochs=1", f"output.dir={tmp_path / 'old'}"])
    if change == "gone":
        data.unlink()
    else:
        write(data, [(f"{text} again", label) for text, label in OLD])
    done = cli("train", write(tmp_path / "b.csv", SAME), "--from", old, f"output.dir={tmp_path / 'on'}", *QUIET)
    assert done.code == 0
    reason = "no such file here" if change == "gone" else "changed after"
    assert "the rows that" in done.err and "cannot be read again (" in done.err and reason in done.err
    assert sum(map(len, splits_of(tmp_path / "on").values())) == len(SAME)
    # With the new label alone, all others would be forgotten.
    said = refused(old, FOURTH, tmp_path).err
    assert "the training split has one label only" in said


def corpus_of(texts: dict[str, list[int]], labels: list[str]) -> Corpus:
    splits = {
        role: Split(role, Texts.of(f"text {i}" for i in rows), np.array([i % 2 for i in rows], np.int64))
        for role, rows in texts.items()
    }
    return Corpus(
        splits["train"], splits.get("validation"), splits.get("test"), [], labels, False, 1, "x", None,
    )  # fmt: skip


TEXTS = st.lists(st.integers(0, 120), min_size=2, max_size=90, unique=True)


@settings(deadline=None)
@given(TEXTS, TEXTS, st.floats(0, 1), st.integers(0, 99), st.booleans())
def test_no_row_is_measured_that_was_trained_on(
    old: list[int], new: list[int], replay: float, seed: int, brings_test: bool
) -> None:
    third = max(1, len(old) // 3)
    parts = {"train": old[:third], "validation": old[third : 2 * third], "test": old[2 * third :]}
    earlier = corpus_of({role: rows for role, rows in parts.items() if rows}, ["a", "b"])
    given_test = list(range(200, 210))
    fresh = corpus_of({"train": new} | ({"test": given_test} if brings_test else {}), ["a", "b"])
    data = DataConfig(path="x.csv")
    try:
        joined = join(fresh, earlier, data, seed, replay)
    except InputError as error:
        assert "no row to train on" in error.message
        return
    again = join(fresh, earlier, data, seed, replay)
    found = {role: list(split) for role, split in joined.splits().items()}
    assert found == {role: list(split) for role, split in again.splits().items()}
    everything = [text for texts in found.values() for text in texts]
    assert len(set(everything)) == len(everything)
    trained = {f"text {i}" for i in parts["train"]}
    assert not trained & {*found.get("validation", []), *found.get("test", [])}
    set_aside = {f"text {i}" for i in (parts["validation"] if brings_test else parts["validation"] + parts["test"])}
    assert not set_aside & set(found["train"])
    assert {f"text {i}" for i in new} <= set(everything)
    kept = round(replay * len(set(parts["train"]) - set(new)))
    assert len(set(found["train"]) & trained - {f"text {i}" for i in new}) == kept
    if brings_test:
        assert found["test"] == [f"text {i}" for i in given_test]
    for split in joined.splits().values():
        assert [int(text.split()[1]) % 2 for text in split] == split.labels.tolist()


# Runs


def test_the_same_command_gives_the_same_bytes_and_so_does_its_config(models: Path, tmp_path: Path) -> None:
    runs = [go_on(models / "labels", FOURTH, tmp_path, name=name) for name in ("a", "b")]
    again = textattn.train(str(runs[0] / "training_config.yaml"), [f"output.dir={tmp_path / 'c'}"])
    first, *others = (outcome(run) for run in [*runs, again])
    assert others == [first, first]
    assert "start" not in first["files"]


def killed_and_resumed(models: Path, folder: Path, killer: Killer) -> tuple[Path, Path]:
    """A run that was killed and goes on without the model that it went on from; and a run that was not killed."""
    start = shutil.copytree(models / "labels", folder / "start")
    data = write(folder / "new.csv", FOURTH)

    def config(name: str) -> Any:
        return config_from_mapping(
            {"data": {"path": str(data)}, "start": {"model": str(start)}, "training": {"checkpoint_steps": 3},
             "output": {"dir": str(folder / name), "audit_examples": 0, "plots": False, "report": False}},
        )  # fmt: skip

    whole = train(config("whole"))
    with pytest.raises(Killed):
        train(config("killed"), report=killer)
    shutil.rmtree(start)
    return train(config("killed"), resume=True), whole


@pytest.mark.parametrize("killer", [Killer(step=1), Killer(step=8), Killer(evaluation=20)], ids=["1", "8", "20"])
def test_a_killed_run_goes_on_without_the_first_model(killer: Killer, models: Path, tmp_path: Path) -> None:
    resumed, whole = killed_and_resumed(models, tmp_path, killer)
    assert outcome(resumed) == outcome(whole)
    assert not (resumed / "start").exists()


def test_everything_around_a_run(models: Path, tmp_path: Path) -> None:
    """The card, the report, the audit, the graph and the record of the start."""
    data = write(tmp_path / "new.csv", FOURTH)
    done = cli("train", data, "--from", models / "labels", f"output.dir={tmp_path / 'on'}", "output.audit_examples=5",
               "output.plots=false", "training.epochs=2", "training.baseline=true")  # fmt: skip
    assert done.code == 0, done.err
    run = tmp_path / "on"
    assert f"textattn compare {models / 'labels'} {run}" in done.err
    start = json.loads((run / "environment.json").read_text())["from"]
    old = textattn.load(models / "labels", runtime="torch")
    assert (start["model"], start["fingerprint"]) == (str(models / "labels"), old.fingerprint())
    assert start["labels"] == ["neg", "pos"]
    assert start["num_new_tokens"] == textattn.load(run).tokenizer.vocab_size - old.tokenizer.vocab_size > 0
    assert json.loads((run / "metrics.json").read_text())["audit"]["num_examples"] == 5
    assert (run / "model.onnx").is_file() and (run / "report.html").is_file()
    assert "goes on from" in (run / "README.md").read_text()
    for command in (["evaluate"], ["audit", "--examples", "4", "--methods", "attention"], ["info"],
                    ["explain", "--split", "test", "--examples", "2"]):  # fmt: skip
        assert cli(command[0], "-m", run, *command[1:]).code == 0


def test_compare_says_what_was_won_and_forgotten(models: Path, tmp_path: Path) -> None:
    run = go_on(models / "labels", FOURTH, tmp_path)
    done = cli("compare", models / "labels", run, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    (entry,) = found["going_on"]
    # By hand, from the answers of both models to the rows of the new test split.
    rows = pq.read_table(run / "predictions" / "test.parquet").to_pylist()
    old = [answer.label for answer in textattn.load(models / "labels").predict([row["text"] for row in rows])]
    pairs = [(row["label"], before, row["prediction"]) for row, before in zip(rows, old, strict=True)]
    for name, chosen in (
        ("known_labels", [p for p in pairs if p[0] != "ask"]), ("new_labels", [p for p in pairs if p[0] == "ask"]),
    ):  # fmt: skip
        assert entry[name] == {
            "num_examples": len(chosen),
            "before": pytest.approx(np.mean([truth == before for truth, before, _ in chosen])),
            "after": pytest.approx(np.mean([truth == after for truth, _, after in chosen])),
            "won": sum(before != truth == after for truth, before, after in chosen),
            "forgotten": sum(before == truth != after for truth, before, after in chosen),
        }
    assert entry["own_rows"]["num_examples"] == 24
    assert [label["label"] for label in entry["labels"] if label["is_new"]] == ["ask"]
    assert entry["labels"][2]["f1_before"] is None
    shown = cli("compare", models / "labels", run).out
    assert "went on from" in shown and "texts with new labels" in shown


@pytest.mark.parametrize(("name", "rows"), [("several", MORE_SEVERAL), ("grades", HIGHER), ("labels", SAME)])
def test_compare_takes_every_task(name: str, rows: list[Row], models: Path, tmp_path: Path) -> None:
    run = go_on(models / name, rows, tmp_path, "training.epochs=2")
    found = json.loads(cli("compare", run, models / name, "--json").out)
    assert found["going_on"][0]["new"] == str(run)
    assert cli("compare", models / name, run).code == 0


def test_seeds_and_tune(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write(tmp_path / "new.csv", FOURTH)
    more = ["training.epochs=1", *QUIET, "-q"]
    done = cli("train", data, "--from", models / "labels", "--seeds", "2", "output.dir=seeds", *more)
    assert done.code == 0, done.err
    assert json.loads(Path("seeds/seeds.json").read_text())["test"]["accuracy"]["std"] is not None
    pytest.importorskip("optuna")
    Path("space.yaml").write_text("training.learning_rate: [0.001, 0.01]\n")
    done = cli("tune", data, f"start.model={models / 'labels'}", "--space", "space.yaml", "--trials", "2", "--dir",
               "study", *more)  # fmt: skip
    assert done.code == 0, done.err
    assert cli("train", done.out.strip(), "output.dir=best", "-q").code == 0
    assert labels_of(Path("best")) == ["neg", "pos", "ask"]


def test_check_knows_it(models: Path, tmp_path: Path) -> None:
    done = cli("train", write(tmp_path / "n.csv", FOURTH), "--from", models / "labels", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["labels"] == ["neg", "pos", "ask"]


# What is refused


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.hidden_size=16", "model.hidden_size: {} has 8"),
        ("model.attention=mean", "model.attention: {} has additive"),
        ("model.ngrams=1", "model.ngrams: {} has 2"),
        ("tokenizer.type=char", "tokenizer.type: {} has word"),
        ("tokenizer.nfkc=false", "tokenizer.nfkc: {} has true"),
        ("task=ordinal", "task: {} has classification"),
        ("training.cross_validation=3", "training.cross_validation: {} has seen the rows of all folds"),
    ],
)
def test_another_architecture_is_refused(setting: str, said: str, models: Path, tmp_path: Path) -> None:
    more = ["data.validation_fraction=0"] if "cross" in setting else []
    done = refused(models / "labels", SAME, tmp_path, setting, *more)
    assert done.code == 2
    assert said.format(models / "labels") in done.err


def test_settings_of_the_same_model_are_allowed(models: Path, tmp_path: Path) -> None:
    run = go_on(models / "labels", SAME, tmp_path, "model.hidden_size=8", "model.dropout.words=0.2",
                "tokenizer.max_length=10", "training.epochs=1")  # fmt: skip
    assert config_json(run)["architecture"]["dropout"]["words"] == 0.2
    assert textattn.load(run).tokenizer.max_length == 10


def test_other_refusals(models: Path, tmp_path: Path) -> None:
    start = models / "labels"
    assert "no such folder" in refused(tmp_path / "none", SAME, tmp_path).err
    bundle = tmp_path / "light.zip"
    assert cli("export", "-m", start, "--bundle", bundle).code == 0
    assert "has no model.safetensors" in refused(bundle, SAME, tmp_path).err
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b,label\n" + "".join(f"good {i},film,pos\nbad {i},film,neg\n" for i in range(40)))
    done = cli("train", pairs, "--from", start, "data.text=[a, b]", f"output.dir={tmp_path / 'out'}")
    assert done.code == 2
    assert "reads 1 column of text, but 2 are named" in done.err


def test_a_test_split_of_rows_that_were_trained_on(models: Path, tmp_path: Path) -> None:
    """A test split that the user gives is left as it is, with a warning."""
    trained = splits_of(models / "labels")["train"]
    labels = dict(OLD)
    test = write(tmp_path / "test.csv", [(text, labels[text]) for text in trained[:10]] + SAME[:10])
    data = write(tmp_path / "new.csv", SAME[10:])
    config = tmp_path / "mine.yaml"
    config.write_text(f"data:\n  files: {{train: {data}, test: {test}}}\n")
    done = cli("train", config, "--from", models / "labels", f"output.dir={tmp_path / 'on'}", *QUIET)
    assert done.code == 0, done.err
    assert "the model was trained on 10 of the 20 test rows before: its figures will be too good" in done.err
    found = splits_of(tmp_path / "on")
    assert found["test"] == trained[:10] + [text for text, _ in SAME[:10]]
    assert not set(found["test"]) & set(found["train"])


def test_the_first_model_is_never_written_to(models: Path, tmp_path: Path) -> None:
    start = shutil.copytree(models / "labels", tmp_path / "start")
    before = digest(start)
    done = cli("train", write(tmp_path / "n.csv", SAME), "--from", start, f"output.dir={start}", "--overwrite")
    assert done.code == 2
    assert "is the model that training goes on from" in done.err
    assert digest(start) == before
    go_on(start, SAME, tmp_path, "training.epochs=1")
    assert digest(start) == before


def test_labels_of_another_kind_are_refused(models: Path, tmp_path: Path) -> None:
    said = refused(models / "labels", MORE_SEVERAL, tmp_path, "data.label_separator=,").err
    assert "the data have several labels for each text, but the model that training goes on from has one label" in said
    said = refused(models / "several", SAME, tmp_path, "data.label=label").err
    assert "the data have one label for each text" in said
    with pytest.raises(ConfigError):
        SingleLabel(["a", "b"]).outputs_from(MultiLabel(["a", "b"]), np.array([0, 1]))


def test_a_model_without_its_config(models: Path, tmp_path: Path) -> None:
    """Only what a model consists of: nothing says where its data are."""
    start = shutil.copytree(models / "labels", tmp_path / "bare")
    for name in ("training_config.yaml", "environment.json"):
        (start / name).unlink()
    run = go_on(start, SAME, tmp_path, "training.epochs=1")
    assert replace(textattn.load(run).config, temperature=1.0).architecture["hidden_size"] == 8
    assert json.loads((run / "environment.json").read_text())["from"]["data"] is None
