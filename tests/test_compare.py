"""`textattn compare` against the definitions: McNemar's test by its sum, the paired bootstrap by hand."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli
from sklearn.metrics import f1_score

from textattn.errors import InputError
from textattn.measure.compare import compare_runs
from textattn.measure.metrics import compute_metrics

LABELS = ["neg", "pos"]


def write_run(
    run: Path,
    truth: np.ndarray[Any, Any],
    probs: np.ndarray[Any, Any],
    labels: list[str],
    texts: list[str] | None = None,
) -> Path:
    """What a finished run holds of its test split."""
    multi_label = truth.ndim == 2
    thresholds = [0.5] * len(labels) if multi_label else None
    decided = (probs >= 0.5).astype(int) if multi_label else probs.argmax(axis=1)

    def names(ids: Any) -> list[Any]:
        if multi_label:
            return [[labels[i] for i in np.flatnonzero(row)] for row in ids]
        return [labels[i] for i in ids]

    (run / "predictions").mkdir(parents=True)
    columns = {
        "row": list(range(len(truth))), "text": texts or [f"text {i}" for i in range(len(truth))],
        "label": names(truth), "prediction": names(decided), "score": probs.max(axis=1),
        **{f"score:{label}": probs[:, i] for i, label in enumerate(labels)},
    }  # fmt: skip
    table = pa.table(columns)
    table = table.set_column(1, "text", table["text"].cast(pa.large_string()))
    pq.write_table(table, run / "predictions" / "test.parquet")
    metrics = compute_metrics(truth, probs, labels, headline="macro_f1", thresholds=thresholds)
    (run / "metrics.json").write_text(json.dumps({"test": metrics}))
    # What marks a folder as a model.
    (run / "config.json").write_text("{}")
    (run / "model.safetensors").write_bytes(b"")
    return run


def answers(truth: np.ndarray[Any, Any], share: float, seed: int) -> np.ndarray[Any, Any]:
    """Probabilities of two labels that are right for that share of the texts."""
    generator = np.random.default_rng(seed)
    right = generator.random(len(truth)) < share
    sure = 0.5 + generator.random(len(truth)) / 2
    chosen = np.where(right, truth, 1 - truth)
    return np.where(np.arange(2)[None, :] == chosen[:, None], sure[:, None], 1 - sure[:, None])


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    truth = np.random.default_rng(0).integers(0, 2, 300)
    probs = [answers(truth, 0.7, 1), answers(truth, 0.8, 2)]
    a, b = (write_run(tmp_path / name, truth, p, LABELS) for name, p in zip("ab", probs, strict=True))
    return a, b, truth, probs


def test_counts_difference_and_mcnemar(
    two: tuple[Path, Path, np.ndarray[Any, Any], list[np.ndarray[Any, Any]]],
) -> None:
    a, b, truth, probs = two
    found = compare_runs([a, b])
    (pair,) = found["pairs"]
    right = [p.argmax(axis=1) == truth for p in probs]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert (pair["only_a_right"], pair["only_b_right"]) == (only_a, only_b)
    assert pair["both_right"] + pair["both_wrong"] + only_a + only_b == 300
    # Two-sided, exact: the tails of a fair coin's tosses.
    n, k = only_a + only_b, min(only_a, only_b)
    assert pair["mcnemar_p"] == pytest.approx(min(1, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n), rel=1e-9)
    expected = [f1_score(truth, p.argmax(axis=1), average="macro") for p in probs]
    assert found["metric"] == "macro_f1"
    assert pair["difference"] == pytest.approx(expected[1] - expected[0], abs=1e-12)


def test_interval_is_that_of_the_same_texts_for_both(
    two: tuple[Path, Path, np.ndarray[Any, Any], list[np.ndarray[Any, Any]]],
) -> None:
    a, b, truth, probs = two
    rows = np.random.default_rng(99).integers(0, 300, (2000, 300))
    values = [macro_f1(truth[rows], p.argmax(axis=1)[rows]) for p in probs]
    assert values[0][0] == pytest.approx(f1_score(truth[rows[0]], probs[0].argmax(axis=1)[rows[0]], average="macro"))
    (pair,) = compare_runs([a, b])["pairs"]
    assert pair["interval_95"] == pytest.approx(np.percentile(values[1] - values[0], [2.5, 97.5]), abs=0.012)


def macro_f1(truth: np.ndarray[Any, Any], answers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(samples,) of two labels, from (samples, texts): a call of scikit-learn for each sample would take seconds."""
    of_label = []
    for label in (0, 1):
        right = ((truth == label) & (answers == label)).sum(axis=1)
        of_label.append(2 * right / ((truth == label).sum(axis=1) + (answers == label).sum(axis=1)))
    return np.asarray(np.mean(of_label, axis=0))


def test_a_run_beside_itself_differs_in_nothing(
    two: tuple[Path, Path, np.ndarray[Any, Any], list[np.ndarray[Any, Any]]],
) -> None:
    (pair,) = compare_runs([two[0], two[0]])["pairs"]
    assert (pair["difference"], pair["interval_95"], pair["mcnemar_p"]) == (0.0, [0.0, 0.0], 1.0)
    assert pair["examples"]["only_a_right"] == pair["examples"]["only_b_right"] == []


def test_examples_are_the_surest_mistakes(
    two: tuple[Path, Path, np.ndarray[Any, Any], list[np.ndarray[Any, Any]]],
) -> None:
    a, b, truth, probs = two
    (pair,) = compare_runs([a, b], examples=4)["pairs"]
    right = [p.argmax(axis=1) == truth for p in probs]
    rows = np.flatnonzero(right[1] & ~right[0])
    surest = rows[np.argsort(-probs[0][rows].max(axis=1))[:4]]
    shown = pair["examples"]["only_b_right"]
    assert [example["row"] for example in shown] == surest.tolist()
    for example in shown:
        assert example["text"] == f"text {example['row']}"
        assert example["label"] == LABELS[truth[example["row"]]] != example["said"]


def test_several_labels_a_text(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, (80, 3))
    probs = [np.abs(truth - generator.random((80, 3)) * scale) for scale in (0.7, 0.6)]
    a, b = (write_run(tmp_path / n, truth, p, ["x", "y", "z"]) for n, p in zip("ab", probs, strict=True))
    (pair,) = compare_runs([a, b])["pairs"]
    right = [((p >= 0.5) == truth).all(axis=1) for p in probs]
    assert pair["only_b_right"] == (right[1] & ~right[0]).sum()
    assert pair["examples"]["only_b_right"][0]["label"] != pair["examples"]["only_b_right"][0]["said"]


def test_three_runs_have_three_pairs(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 2, 50)
    runs = [write_run(tmp_path / str(i), truth, answers(truth, 0.7, i), LABELS) for i in range(3)]
    pairs = [(Path(p["a"]).name, Path(p["b"]).name) for p in compare_runs(runs)["pairs"]]
    assert pairs == [("0", "1"), ("0", "2"), ("1", "2")]


def test_better_is_said_only_after_a_correction_for_all_pairs(tmp_path: Path) -> None:
    """Ten runs that are equally good: some pair looks better by chance, and none is called so."""
    truth = np.random.default_rng(0).integers(0, 2, 400)
    runs = [write_run(tmp_path / str(i), truth, answers(truth, 0.8, i), LABELS) for i in range(10)]
    pairs = compare_runs(runs)["pairs"]
    ps = [pair["p"] for pair in pairs]
    assert min(ps) < 0.05
    # The definition of Holm's procedure, by the smallest p-value.
    assert min(pair["adjusted_p"] for pair in pairs) == pytest.approx(min(1.0, min(ps) * len(ps)))
    assert {pair["better"] for pair in pairs} == {None}
    best = write_run(tmp_path / "best", truth, answers(truth, 0.95, 99), LABELS)
    found = compare_runs([*runs, best])["pairs"]
    assert {pair["better"] for pair in found if str(best) in (pair["a"], pair["b"])} == {str(best)}
    assert not any(line.startswith("  no difference") for line in cli("compare", runs[0], best).out.splitlines())


def test_the_p_value_is_that_of_the_metric(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 2, 300)
    runs = [
        write_run(tmp_path / str(i), truth, answers(truth, share, i), LABELS) for i, share in enumerate((0.75, 0.8))
    ]
    (pair,) = compare_runs(runs)["pairs"]
    low, high = pair["interval_95"]
    z = pair["difference"] / ((high - low) / 2 / 1.96)
    assert pair["p"] == pytest.approx(2 * NormalDist().cdf(-abs(z)), abs=0.03)
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["test"]["headline"] = "accuracy"
        (run / "metrics.json").write_text(json.dumps(metrics))
    (pair,) = compare_runs(runs)["pairs"]
    assert pair["p"] == pair["mcnemar_p"]


def test_settings_that_differ_are_listed(tmp_path: Path) -> None:
    truth = np.arange(40) % 2
    runs = [write_run(tmp_path / n, truth, answers(truth, 0.8, 1), LABELS) for n in "ab"]
    for run, rate, encoder in zip(runs, ("0.001", "2e-3"), ("lstm", "gru"), strict=True):
        (run / "training_config.yaml").write_text(
            f"data: {{path: x.csv}}\nmodel: {{encoder: {encoder}}}\ntraining: {{learning_rate: {rate}}}\n"
            f"output: {{dir: {run}}}\n"
        )
    found = compare_runs(runs)["settings"]
    assert found == {"model.encoder": ["lstm", "gru"], "training.learning_rate": [0.001, 0.002]}
    lines = [line.split() for line in cli("compare", *runs).out.splitlines()]
    assert ["settings", "that", "differ", "a", "b"] in lines
    assert ["model.encoder", "lstm", "gru"] in lines
    assert ["training.learning_rate", "0.001", "0.002"] in lines
    (runs[0] / "training_config.yaml").write_text("data: [")
    done = cli("compare", *runs)
    assert done.code == 3
    assert "training_config.yaml: damaged" in done.err


def test_on_the_command_line(tmp_path: Path) -> None:
    truth = np.arange(200) % 2
    texts = [f"The\nfilm  number {i} " + "is long " * 40 for i in range(200)]
    runs = [write_run(tmp_path / n, truth, answers(truth, s, 3), LABELS, texts) for n, s in (("x", 0.6), ("y", 0.95))]
    done = cli("compare", *runs, "--examples", "1")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["200", "texts", "of", "test", "x", "y"]
    assert any(line.startswith("y against x: macro_f1 +0.") for line in lines)
    assert any(line.startswith("  y is better: more than chance (p = ") for line in lines)
    (example,) = [line for line in lines if line.startswith("  only y: ")]
    assert "The film number" in example
    assert len(example) < 200
    value = json.loads(cli("compare", *runs, "--json").out)
    assert value == compare_runs(runs, examples=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("labels", "its labels are neg, good instead of neg, pos"),
        ("texts", "its texts are different"),
        ("truth", "its texts are the same, but their labels are different"),
    ],
)
def test_runs_of_other_data_are_refused(change: str, message: str, tmp_path: Path) -> None:
    truth = np.arange(40) % 2
    probs = answers(truth, 0.8, 1)
    a = write_run(tmp_path / "a", truth, probs, LABELS)
    b = write_run(
        tmp_path / "b", 1 - truth if change == "truth" else truth, probs,
        ["neg", "good"] if change == "labels" else LABELS,
        [f"other {i}" for i in range(40)] if change == "texts" else None,
    )  # fmt: skip
    done = cli("compare", a, b)
    assert (done.code, done.out) == (3, "")
    assert f"{b}: the test split is not that of {a}: {message}" in done.err


FOLDS = ["training.cross_validation=2", "data.validation_fraction=0.0"]


@pytest.mark.parametrize(
    ("settings", "asked", "message", "hint"),
    [
        (FOLDS, "test", "test split, because the data have none", "train it with data.test_fraction=0.2"),
        ([*FOLDS, "data.test_split=null"], "test", "test split, because the data have none", None),
        ([*FOLDS, "output.prediction_splits=[train]"], "train", "train split", None),
        (
            ["data.test_fraction=0.0"],
            "test",
            "test split; splits that it measured: validation",
            "train it with output.prediction_splits=[validation], and compare with --split validation",
        ),
        (
            ["data.test_fraction=0.0", "output.prediction_splits=[validation]"],
            "test",
            "test split; splits that it measured: validation",
            "--split validation",
        ),
        ([], "dev", "dev split; splits that it measured: validation, test", "--split test"),
    ],
)
def test_a_split_that_the_data_lack_is_told_from_predictions_that_were_not_written(
    settings: list[str], asked: str, message: str, hint: str | None, tmp_path: Path
) -> None:
    data, small = tmp_path / "texts.csv", ["output.audit_examples=0", "output.plots=false", "training.epochs=1"]
    data.write_text("text,label\n" + "".join(f"{['no', 'yes'][row % 2]} word{row},{row % 2}\n" for row in range(80)))

    def compared(name: str, settings: list[str], split: str) -> Any:
        runs = [tmp_path / f"{name} {ngrams}" for ngrams in (1, 2)]
        for ngrams, run in enumerate(runs, 1):
            done = cli("train", data, "--linear-only", *small, *settings, f"output.dir={run}", f"model.ngrams={ngrams}")
            assert done.code == 0, done.err
        return cli("compare", *runs, "--split", split)

    done = compared("run", settings, asked)
    assert done.code == 3
    said = f"{tmp_path / 'run 1'}: the run measured no {message}"
    assert done.err == f"Error: {said}\n" + (f"Hint: {hint}\n" if hint else "")
    if hint is not None:
        more = [word.rstrip(",") for word in hint.split() if "=" in word]
        split = hint.partition("--split ")[2] or asked
        assert compared("as the hint says", [*settings, *more], split).code == 0


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    truth = np.arange(40) % 2
    a = write_run(tmp_path / "a", truth, answers(truth, 0.8, 1), LABELS)
    done = cli("compare", a)
    assert done.code == 2
    assert "needs two or more runs" in done.err
    with pytest.raises(InputError, match="measured no validation split; splits that it measured: test"):
        compare_runs([a, a], "validation")
    (a / "predictions" / "test.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="damaged"):
        compare_runs([a, a])
