"""What to label next: `predict --most-useful` and `Model.most_useful` choose uncertain texts, unlike one another."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import unsealed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inprocess import run as cli
from tasks_of_kinds import task

import textattn
from textattn.errors import ConfigError, InputError
from textattn.inference import most_useful as choosing
from textattn.measure import diverse
from textattn.measure.diverse import distances_to, farthest_first
from textattn.storage.run_dir import TRAINING_CONFIG
from textattn.tasks import Ordinal

WORDS = (
    *("good", "bad", "delicious", "awful", "food", "staff", "soup", "cold", "friendly", "never"),
    *("again", "service", "room", "film", "the", "was", "and", "not"),
)


def pool_of(number: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(number)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(trained_run: Path) -> textattn.Model:
    return textattn.load(trained_run)


# The parts

points = arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(-3, 3).map(float))


@settings(deadline=None)
@given(points, points, st.booleans(), st.integers(1, 14))
def test_farthest_first_is_what_it_says(vectors: Any, others: Any, has_others: bool, number: int) -> None:
    known = [row.astype(float) for row in others] if has_others else []
    distances = distances_to(vectors, others if has_others else others[:0])
    rows, at = farthest_first(vectors, number, distances)
    assert len(set(rows.tolist())) == len(rows) == min(number, len(vectors))
    for row, distance in zip(rows, at, strict=True):

        def nearest(index: int, known: list[Any] = known) -> float:
            return min((float(np.linalg.norm(vectors[index] - one)) for one in known), default=np.inf)

        free = [i for i in range(len(vectors)) if i not in rows[: rows.tolist().index(row)].tolist()]
        best = max(map(nearest, free))
        assert nearest(row) == pytest.approx(best)
        assert distance == pytest.approx(nearest(row))
        assert row == min(i for i in free if nearest(i) == pytest.approx(best))
        known.append(vectors[row].astype(float))


def test_distances_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(30, 8)).astype(np.float32)
    expected = [min(np.linalg.norm(x.astype(float) - y) for y in b) for x in a]
    assert distances_to(a, b) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(diverse, "BLOCK", 60)
    assert distances_to(a, b) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "binary", "multi_label", "ordinal"])
def test_uncertainty_is_largest_in_the_middle_and_none_at_the_ends(kind: str) -> None:
    of = Ordinal(["1", "2", "3"]) if kind == "ordinal" else task(kind)
    count = len(of.labels)
    middle = np.full((1, count), 0.5 if kind == "multi_label" else 1 / count)
    sure = np.eye(count)[:1]
    leaning = 0.7 * sure + 0.3 * middle
    probs = np.concatenate([middle, leaning, sure])
    values = of.uncertainty(probs)
    assert values[0] == pytest.approx(np.log(2) if kind == "multi_label" else np.log(count))
    assert values[0] > values[1] > values[2] == pytest.approx(0)


# From Python


def test_what_is_chosen_is_uncertain_and_unlike(model: textattn.Model) -> None:
    pool = pool_of(600)
    chosen = model.most_useful(pool, 20)
    assert [pool[one.index] for one in chosen] == [one.text for one in chosen]
    assert len({one.text for one in chosen}) == len(chosen) == 20
    probs = np.clip(model.predict_proba(pool), 1e-12, 1)
    entropy = -(probs * np.log(probs)).sum(axis=1)
    assert [one.uncertainty for one in chosen] == pytest.approx(entropy[[one.index for one in chosen]], abs=1e-4)
    assert min(one.uncertainty for one in chosen) >= np.quantile(entropy, 1 - 110 / 600)

    def spread(texts: list[str]) -> float:
        vectors = model.embed(texts)
        return float(
            np.mean([distances_to(vectors[i : i + 1], np.delete(vectors, i, 0))[0] for i in range(len(texts))])
        )

    by_entropy = [pool[i] for i in np.argsort(-entropy)[:20]]
    assert spread([one.text for one in chosen]) > 1.1 * spread(by_entropy)


def test_the_choice_does_not_depend_on_how_the_pool_is_read(
    model: textattn.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(300)
    expected = [one.text for one in model.most_useful(pool, 15)]
    assert [one.text for one in model.most_useful(pool, 15)] == expected
    assert [one.text for one in model.most_useful(pool[::-1], 15)] == expected
    monkeypatch.setattr(choosing, "WINDOW", 7)
    assert [one.text for one in model.most_useful(pool, 15)] == expected
    assert [one.text for one in model.most_useful([*pool, *pool], 15)] == expected
    assert [one.index for one in model.most_useful([*pool, *pool], 15)] == [pool.index(text) for text in expected]


def test_labelled_texts_are_left_out_and_kept_away_from(model: textattn.Model, trained_run: Path) -> None:
    own = [json.loads(line)["text"] for split in ("train", "validation", "test") for line in corpus(split)]
    assert [one.text for one in model.most_useful([*own, "new here"], 50)] == ["new here"]
    pool = pool_of(200)
    first = model.most_useful(pool, 10, labelled=[])
    assert np.isinf(first[0].distance)
    texts = [one.text for one in first]
    second = model.most_useful(pool, 10, labelled=texts)
    assert not {one.text for one in second} & set(texts)
    assert second[0].distance == pytest.approx(
        float(distances_to(model.embed([second[0].text]), model.embed(texts))[0]), rel=1e-4
    )


def corpus(split: str) -> list[str]:
    folder = Path(textattn.__file__).parent / "corpus" / "reviews"
    return (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_small_pool_an_empty_one_and_none(model: textattn.Model) -> None:
    assert sorted(one.index for one in model.most_useful(["a b", "c d"], 10)) == [0, 1]
    assert model.most_useful([], 10) == []
    with pytest.raises(ConfigError, match="number: must be at least 1, got 0"):
        model.most_useful(["a"], 0)
    with pytest.raises(InputError, match=r"texts\[1\] is empty"):
        model.most_useful(["a", " "], 1)


def test_without_the_training_data_a_warning_says_so(trained_run: Path, folder: Path) -> None:
    shutil.copytree(trained_run, "run")
    Path("run", TRAINING_CONFIG).unlink()
    unsealed(Path("run"))
    with pytest.warns(UserWarning, match="the training data cannot be read, so texts like them may be chosen"):
        chosen = textattn.load("run").most_useful(pool_of(30), 3)
    assert len(chosen) == 3
    write_csv(pool_of(30))
    done = cli("predict", "-m", "run", "-i", "pool.csv", "--most-useful", "3")
    assert done.code == 0
    assert "Note: the training data cannot be read, so texts like them may be chosen: " in done.err


# On the command line


def write_csv(texts: list[str], name: str = "pool.csv", first: int = 0) -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([first + i, text] for i, text in enumerate(texts))])


def write(kind: str, texts: list[str], first: int = 0) -> str:
    name = f"pool{first}.{kind}"
    if kind == "csv":
        write_csv(texts, name, first)
    elif kind == "parquet":
        ids = pa.array(range(first, first + len(texts)), pa.int16())
        pq.write_table(pa.table({"id": ids, "text": texts}), name, row_group_size=40)
    else:
        lines = [json.dumps({"id": first + i, "text": text}) for i, text in enumerate(texts)]
        Path(name).write_text("\n".join(lines), encoding="utf-8")
    return name


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("output", ["csv", "jsonl", "parquet"])
def test_rows_keep_their_columns_and_get_the_guess(
    folder: Path, model: textattn.Model, trained_run: Path, kind: str, output: str
) -> None:
    texts = pool_of(150)
    name = write(kind, texts)
    done = cli("predict", "-m", trained_run, "-i", name, "--most-useful", "10", "-o", f"next.{output}")
    assert done.code == 0, done.err
    assert done.err.endswith(f"10 rows chosen, the most useful first: next.{output}\n")
    table = read(f"next.{output}")
    chosen = model.most_useful(texts, 10)
    assert [row["text"] for row in table] == [one.text for one in chosen]
    assert [int(row["id"]) for row in table] == [one.index for one in chosen]
    guesses = model.predict([one.text for one in chosen])
    assert [row["label"] for row in table] == [guess.label for guess in guesses]
    assert [float(row["score:neg"]) for row in table] == pytest.approx(
        [guess.scores["neg"] for guess in guesses], abs=1e-5
    )
    if kind == output == "parquet":
        assert pq.read_schema(f"next.{output}").field("id").type == pa.int16()


def read(name: str) -> list[dict[str, Any]]:
    if name.endswith("parquet"):
        return pq.read_table(name).to_pylist()
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if name.endswith("csv") else [json.loads(line) for line in file]


@pytest.mark.parametrize("kinds", [("csv", "csv"), ("parquet", "parquet"), ("csv", "parquet"), ("jsonl", "parquet")])
def test_several_files_are_one_pool(folder: Path, model: textattn.Model, trained_run: Path, kinds: Any) -> None:
    texts = pool_of(120)
    names = [write(kinds[0], texts[:50]), write(kinds[1], texts[50:], first=50)]
    options = [part for name in names for part in ("-i", name)]
    done = cli("predict", "-m", trained_run, *options, "--most-useful", "12", "-o", "next.parquet")
    assert done.code == 0, done.err
    chosen = model.most_useful(texts, 12)
    rows = read("next.parquet")
    assert [row["text"] for row in rows] == [one.text for one in chosen]
    assert [int(row["id"]) for row in rows] == [one.index for one in chosen]
    assert [row["file"] for row in rows] == [names[one.index >= 50] for one in chosen]


def test_it_prints_without_an_output(folder: Path, model: textattn.Model, trained_run: Path) -> None:
    texts = pool_of(60)
    write_csv(texts)
    chosen = model.most_useful(texts, 4)
    guesses = model.predict([one.text for one in chosen])
    options = ["predict", "-m", trained_run, "--most-useful", "4"]
    expected = [f"{guess.line()}\t{one.text}" for guess, one in zip(guesses, chosen, strict=True)]
    assert cli(*options, "-i", "pool.csv").out.splitlines() == expected
    piped = "\n".join(texts).encode()
    assert cli(*options, stdin=piped).out.splitlines() == expected
    assert cli(*options, "-", stdin=piped).out.splitlines() == expected
    found = [json.loads(line) for line in cli(*options, "-i", "pool.csv", "--json").out.splitlines()]
    assert [one["text"] for one in found] == [one.text for one in chosen]
    assert [one["uncertainty"] for one in found] == pytest.approx([one.uncertainty for one in chosen])
    assert [one["distance"] for one in found] == pytest.approx([one.distance for one in chosen])
    streamed = cli(*options, "-i", "pool.csv", "-o", "-").out.splitlines()
    assert [json.loads(line)["text"] for line in streamed] == [one.text for one in chosen]


def test_rows_without_text_and_too_few_rows(folder: Path, trained_run: Path) -> None:
    write_csv(["good", "", "bad", "bad"])
    options = ["predict", "-m", trained_run, "-i", "pool.csv", "--most-useful", "9"]
    stopped = cli(*options)
    assert (stopped.code, stopped.out) == (3, "")
    assert "pool.csv:3: column 'text' is empty; expected a text" in stopped.err
    done = cli(*options, "--on-error", "skip", "-o", "next.csv")
    assert done.code == 0, done.err
    assert "Warning: pool.csv:3: column 'text' is empty; expected a text; skipped" in done.err
    assert "Note: there are only 2 different texts that are not labelled" in done.err
    assert {row["id"] for row in read("next.csv")} == {"0", "2"}
    write_csv([])
    empty = cli(*options, "-o", "empty.csv")
    assert empty.code == 0, empty.err
    assert Path("empty.csv").read_text().startswith("id,text,label,score,")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--most-useful", "0"], "Input should be greater than or equal to 1"),
        (["--most-useful", "3", "text"], "give either texts or --input, not both"),
        (["--most-useful", "3", "--resume", "-o", "n.csv"], "--most-useful does not go with --resume"),
        (["--most-useful", "3", "--top-k", "2"], "--most-useful does not go with --top-k"),
        (["--most-useful", "3", "--min-score", "0.9"], "--most-useful does not go with --min-score"),
        (["--most-useful", "3", "-o", "pool.csv", "-f"], "pool.csv is the input; nothing was changed"),
        (["--most-useful", "3", "-o", "folder.csv"], "folder.csv is a folder"),
        (["--most-useful", "3", "-o", "there.csv"], "there.csv exists; nothing was changed"),
        (["--most-useful", "3", "-o", "x.docx"], "x.docx has none of the suffixes"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(folder: Path, trained_run: Path, options: list[str], problem: str) -> None:
    write_csv(pool_of(20))
    Path("there.csv").write_text("mine")
    Path("folder.csv").mkdir()
    done = cli("predict", "-m", trained_run, "-i", "pool.csv", *options)
    assert done.code == 2, done.err
    assert problem in done.err
    assert Path("there.csv").read_text() == "mine"
    assert "--most-useful needs --input" in cli("predict", "-m", trained_run, "--most-useful", "3", "text").err


def test_texts_that_a_model_of_formulas_cannot_read_are_not_chosen(folder: Path) -> None:
    rows = [
        f"{metal}{number}O2,{'yes' if number > 2 else 'no'}" for metal in ("Fe", "Cu", "Ni") for number in range(1, 6)
    ]
    Path("train.csv").write_text("\n".join(["text,label", *rows]))
    done = cli(
        "train", "train.csv", "tokenizer.type=formula", "training.epochs=1", "model.hidden_size=8",
        "model.embedding_dim=8", "output.plots=false", "output.audit_examples=0", "output.dir=run",
    )  # fmt: skip
    assert done.code == 0, done.err
    chosen = textattn.load("run").most_useful(["hello there", "Mn2O3", "Zn5O2"], 5)
    assert {one.text for one in chosen} == {"Mn2O3", "Zn5O2"}
