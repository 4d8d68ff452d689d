"""Every command with a model of every kind of task."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from inprocess import Result
from inprocess import run as cli

import textattn
from textattn.cli.app import app
from textattn.explain.methods import method_names

MakeOnce = Callable[[str, Callable[[Path], object]], Path]
ROWS = 160
WORDS = ("awful", "bad", "fair", "good", "great")
# Which commands the functions below run is checked against the commands there are.
RUN: set[str] = set()


class Kind(NamedTuple):
    """A kind of task, and the label of a row whose text has the word WORDS[grade]."""

    settings: tuple[str, ...]
    label: Callable[[int], str]
    metric: str


KINDS = {
    "two labels": Kind((), lambda grade: "pos" if grade > 2 else "neg", "accuracy"),
    "one logit": Kind(("model.output=sigmoid",), lambda grade: "pos" if grade > 2 else "neg", "accuracy"),
    "three labels": Kind((), lambda grade: ["low", "mid", "mid", "mid", "high"][grade], "macro_f1"),
    "several labels": Kind(("data.label_separator=,",), lambda grade: ("", "a", "a,b", "b", "b,c")[grade], "micro_f1"),
    "grades": Kind(("task=ordinal",), lambda grade: f"{grade + 1} stars", "quadratic_kappa"),
    "numbers": Kind(("task=regression",), lambda grade: f"{12.5 * grade - 7:g}", "mae"),
    # Kinds of models that work like no other, whatever the task.
    "a linear model": Kind(
        ("model.linear=only",), lambda grade: ["low", "mid", "mid", "mid", "high"][grade], "macro_f1"
    ),
    "a linear model first": Kind(
        ("model.linear=first",), lambda grade: ["low", "mid", "mid", "mid", "high"][grade], "macro_f1"
    ),
}
SMALL = (
    "recipe=plain", "tokenizer.min_frequency=1", "model.embedding_dim=12", "model.hidden_size=8",
    "training.epochs=10", "training.batch_size=8", "training.learning_rate=0.02", "training.baseline=true",
    "output.audit_examples=24", "output.attention_examples=30",
)  # fmt: skip


def write_data(folder: Path, kind: Kind) -> Path:
    generator = np.random.default_rng(0)
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(ROWS):
            grade = row % len(WORDS)
            others = generator.choice(["the", "film", "plot", "was", "and", "very"], 4)
            writer.writerow([" ".join([*others, WORDS[grade]]), kind.label(grade)])
    return folder / "data.csv"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(kind: str, make_once: MakeOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run of its own for each test, so that commands may add files to it."""

    def make(folder: Path) -> None:
        data = write_data(folder, KINDS[kind])
        done = cli("train", data, *SMALL, *KINDS[kind].settings, f"output.dir={folder / 'run'}")
        assert done.code == 0, done.err

    made = make_once(f"every-task-{kind.replace(' ', '-')}", make)
    monkeypatch.chdir(tmp_path)
    # The run says where its data are; only the run is copied.
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def ok(command: str, *arguments: str | Path, stdin: bytes = b"") -> Result:
    done = cli(command, *arguments, stdin=stdin)
    assert done.code == 0, f"{command} {arguments}: {done.err}"
    assert "nan" not in done.out.lower().split()
    return done


def refused(*arguments: str | Path) -> str:
    """Something that does not apply is an error of the user's that says so, and no bug."""
    done = cli(*arguments)
    assert done.code == 2, done.err
    assert "this is a bug" not in done.err
    return done.err


def values(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return found


TEXTS = ("the film was great", "the plot was awful and bad")


def test_train(run: Path, kind: str) -> None:
    metrics = values(run)
    measured = metrics["test"]
    assert measured["headline"] in (KINDS[kind].metric, "accuracy")
    name = KINDS[kind].metric
    assert measured[name] < 12 if name == "mae" else measured[name] > 0.7
    assert metrics["baseline"]["against"]["split"] == "test"
    assert metrics["audit"]["verdict"]
    assert {"report.html", "README.md", "model.onnx"} <= {path.name for path in run.iterdir()}
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "nan" not in card.split()
    for picture in metrics["plots"]:
        assert (run / "plots" / picture).is_file()
        assert picture in card
    predictions = pq.read_table(run / "predictions" / "test.parquet").to_pylist()
    assert len(predictions) == measured["num_examples"]
    assert all(row["prediction"] is not None for row in predictions)


def test_predict(run: Path, kind: str) -> None:
    model = textattn.load(run)
    answers = model.predict(list(TEXTS))
    lines = ok("predict", "--model", run, *TEXTS).out.splitlines()
    assert lines == [answer.line() for answer in answers]
    found = [json.loads(line) for line in ok("predict", "--model", run, "--json", *TEXTS).out.splitlines()]
    assert [one["score"] for one in found] == [answer.score for answer in answers]
    assert ok("predict", "--model", run, stdin="\n".join(TEXTS).encode()).out.splitlines() == lines
    for number in answers if kind == "numbers" else ():
        assert number.low is not None
        assert number.high is not None
        assert number.low < number.score < number.high
    if kind == "numbers":
        assert answers[0].score > answers[1].score
        for option in ("--top-k=2", "--min-score=0.5"):
            assert "number" in refused("predict", "--model", run, option, *TEXTS)
    else:
        ok("predict", "--model", run, "--top-k", "2", *TEXTS)
        ok("predict", "--model", run, "--min-score", "0.99", *TEXTS)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "txt"])
def test_predict_files(run: Path, kind: str, suffix: str) -> None:
    Path("in.csv").write_text("text,other\n" + "".join(f"{text},1\n" for text in TEXTS), encoding="utf-8")
    output = Path(f"out.{suffix}")
    more = [] if suffix == "txt" else ["--attention"]
    ok("predict", "--model", run, "--input", "in.csv", "--output", output, *more)
    answers = textattn.load(run).predict(list(TEXTS))
    if suffix == "txt":
        assert output.read_text(encoding="utf-8").splitlines() == [answer.line() for answer in answers]
        return
    if suffix == "parquet":
        rows = pq.read_table(output).to_pylist()
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    else:
        rows = list(csv.DictReader(output.open(encoding="utf-8", newline="")))
    name = "predicted_label" if kind == "numbers" else "score"
    assert [float(row[name]) for row in rows] == pytest.approx([answer.score for answer in answers])


def test_what_to_label_next(run: Path, kind: str) -> None:
    model = textattn.load(run)
    pool = ["the film was great", "a plot", "a bad and awful film", "it was very very fair", "the film was great"]
    Path("pool.csv").write_text("\n".join(["text", *pool]), encoding="utf-8")
    chosen = [one.text for one in model.most_useful(pool, 3)]
    assert len(set(chosen)) == 3
    lines = ok("predict", "--model", run, "--input", "pool.csv", "--most-useful", "3").out.splitlines()
    answers = model.predict(chosen)
    assert lines == [f"{answer.line()}\t{text}" for answer, text in zip(answers, chosen, strict=True)]
    ok("predict", "--model", run, "--input", "pool.csv", "--most-useful", "3", "--output", "next.csv")
    assert [row["text"] for row in csv.DictReader(Path("next.csv").read_text(encoding="utf-8").splitlines())] == chosen
    # The guess is accepted, then something else is answered.
    other = "7.25" if kind == "numbers" else model.labels[0]
    enter = "\n" if kind == "several labels" else ""
    done = ok("label", "pool.csv", "--model", run, stdin=f"\n{other}\n{enter}".encode())
    assert "2 labelled now, 2 in all" in done.err
    (file,) = Path().glob("pool.labelled.*")
    lines = file.read_text(encoding="utf-8").splitlines()
    if file.suffix == ".jsonl":
        given = [json.loads(line)["label"] for line in lines]
        assert given[0] == answers[0].labels
    else:
        given = [row["label"] for row in csv.DictReader(lines)]
        assert given == [answers[0].line().split("\t")[0], other]
    settings = {"numbers": "task=regression", "grades": "task=ordinal"}.get(kind)
    if len({str(label) for label in given}) > 1:
        assert f"textattn train {file}{f' {settings}' if settings else ''}\n" in done.err


def test_explain(run: Path, kind: str) -> None:
    for method in method_names():
        if kind == "a linear model" and method.startswith("attention"):
            assert "without attention" in refused("explain", "--model", run, "--method", method, TEXTS[0])
            continue
        found = json.loads(ok("explain", "--model", run, "--method", method, "--json", TEXTS[0]).out)
        assert len(found["weights"]) == len(found["tokens"]) == 4
        strongest = max(found["words"], key=lambda word: word["weight"])
        assert method != "occlusion" or strongest["word"] == "great"
    labels = textattn.load(run).labels
    ok("explain", "--model", run, *TEXTS)
    ok("explain", "--model", run, "--target", labels[-1], TEXTS[0])
    ok("explain", "--model", run, "--split", "test", "--examples", "5", "--html", "page.html")
    ok("explain", "--model", run, "--plot", "weights.svg", TEXTS[0])
    if kind == "numbers":
        assert "number" in refused("explain", "--model", run, "--contrast", labels[0], labels[0], TEXTS[0])
        assert "number" in refused("explain", "--model", run, "--flip", TEXTS[0])
    else:
        ok("explain", "--model", run, "--contrast", labels[0], labels[1], TEXTS[0])
        ok("explain", "--model", run, "--flip", TEXTS[0])


def test_the_contributions_add_up(run: Path) -> None:
    model = textattn.load(run)
    for text in TEXTS:
        (found,) = model.explain([text])
        assert found.total is not None
        parts = found.total.bias + found.total.words + (found.total.ngrams or 0.0)
        assert parts == pytest.approx(found.total.answer, abs=1e-5)
        assert sum(found.weights) == pytest.approx(found.total.answer - found.total.bias, abs=1e-5)
        if found.prediction.is_number:
            # In the unit of the data, but for the limits of the training split.
            assert found.prediction.score == pytest.approx(np.clip(found.total.answer, -7, 43), abs=1e-4)


def test_evaluate(run: Path, kind: str) -> None:
    metric = KINDS[kind].metric
    found = json.loads(ok("evaluate", "--model", run, "--json").out)
    assert found[metric] == pytest.approx(values(run)["test"][metric])
    ok("evaluate", "--model", run, "--split", "validation")
    limit = 0.0001 if metric == "mae" else 1.0001
    done = cli("evaluate", "--model", run, "--fail-under", f"{metric}={limit}")
    assert done.code == 4, done.err


def test_audit_and_words(run: Path, kind: str) -> None:
    done = ok("audit", "--model", run, "--examples", "24", "--methods", "contributions,attention,occlusion")
    assert ("standard deviations" in done.out) == (kind == "numbers")
    words = json.loads(ok("words", "--model", run, "--json").out)["labels"]
    assert set(words) == ({"higher label", "lower label"} if kind == "numbers" else set(textattn.load(run).labels))
    if kind == "numbers":
        assert "great" in [entry["word"] for entry in words["higher label"]][:3]
        assert "awful" in [entry["word"] for entry in words["lower label"]][:3]
    ok("words", "--model", run)


def test_report_info_and_export(run: Path) -> None:
    ok("report", run)
    report = json.loads(ok("report", run, "--json").out)
    assert report["num_examples"] == values(run)["test"]["num_examples"]
    ok("info", run)
    json.loads(ok("info", run, "--json").out)
    ok("export", "--model", run, "--int8", "--max-drop", "100", "--bundle", "model.zip")
    expected = [json.loads(line)["score"] for line in ok("predict", "--model", run, "--json", *TEXTS).out.splitlines()]
    for arguments in (("model.zip",), (run, "--runtime", "torch"), (run, "--runtime", "int8")):
        lines = ok("predict", "--json", *TEXTS, "--model", *arguments).out.splitlines()
        # The bundle has the small graph.
        tolerance = 1e-5 if "torch" in arguments else 0.05
        assert [json.loads(line)["score"] for line in lines] == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_drift_and_push(run: Path) -> None:
    Path("new.csv").write_text("text\n" + "a box of tea\n" * 30, encoding="utf-8")
    found = json.loads(ok("drift", "--model", run, "--input", "new.csv", "--json").out)
    assert found["num_texts"] == 30
    ok("drift", "--model", run, "--input", "new.csv")
    assert "model.safetensors" in ok("push", run, "user/name", "--dry-run").out


def test_compare(run: Path, kind: str) -> None:
    shutil.copytree(run, "other")
    found = json.loads(ok("compare", run, "other", "--json").out)
    assert found["pairs"][0]["difference"] == 0
    assert found["pairs"][0]["better"] is None
    data = json.loads((run / "environment.json").read_text(encoding="utf-8"))["dataset"]["source"]
    ok("train", data, *SMALL, *KINDS[kind].settings, "output.dir=weak", "training.epochs=1", "output.audit_examples=0")
    found = json.loads(ok("compare", run, "weak", "--json").out)
    better = found["pairs"][0]["better"]
    assert better in (None, str(run))
    ok("compare", run, "weak")


def test_before_a_training(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_data(tmp_path, KINDS[kind])
    settings = [data, *SMALL, *KINDS[kind].settings]
    ok("check", *settings)
    json.loads(ok("check", *settings, "--json", "--no-forecast", "--deep").out)
    found = json.loads(ok("baseline", *settings, "--json").out)
    assert found["test"][KINDS[kind].metric] is not None


@pytest.mark.slow
def test_several_trainings(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_data(tmp_path, KINDS[kind])
    settings = [data, *SMALL, *KINDS[kind].settings, "output.audit_examples=0", "training.baseline=false"]
    found = json.loads(ok("train", *settings, "--seeds", "2", "--json", "output.dir=seeds").out)
    assert KINDS[kind].metric in found["test"]
    folds = ["training.cross_validation=3", "data.validation_fraction=0.0", "output.dir=folds"]
    metrics = json.loads(ok("train", *settings, *folds, "--json").out)
    assert metrics["cross_validation"]["num_folds"] == 3
    ok("report", "folds")
    answers = textattn.load("folds").predict(list(TEXTS))
    assert all((answer.low is not None) == (kind == "numbers") for answer in answers)
    Path("space.yaml").write_text("training.weight_decay: [0.0, 0.01]\n", encoding="utf-8")
    ok("tune", *settings, "--trials", "2", "--space", "space.yaml", "output.dir=study")


def test_no_command_is_forgotten() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    text = Path(__file__).read_text(encoding="utf-8")
    about_models = {name for name in commands if name not in NOT_ABOUT_MODELS}
    missing = {name for name in about_models if f'"{name}"' not in text}
    assert not missing, f"commands that no test here runs: {missing}"


# These ask no model and train none; what `serve` answers is in tests/test_serve.py.
NOT_ABOUT_MODELS = {"configs", "schema", "cache", "runs", "pull", "serve"}
