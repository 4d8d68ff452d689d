"""Drift: new texts are compared with the validation split, and only what is certain and not small counts."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, unsealed
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from scipy.stats import ks_2samp

import textattn
from textattn.inference.evaluation import load_split
from textattn.inference.observed import observed, read_reference, reference_of
from textattn.measure.drift import (
    LABELS,
    LENGTHS,
    MODERATE,
    Drift,
    Figures,
    Observed,
    Reference,
    Scale,
    _kolmogorov_smirnov,
    compare,
)
from textattn.measure.multiple_tests import LEVEL

VALUES = st.integers(1, 300).flatmap(lambda n: st.lists(st.integers(0, 20), min_size=n, max_size=n))
FIGURES = {"answers", "scores", "lengths", "unknown", "carriers"}


def figures_of(
    rng: np.random.Generator, n: int, *, longer: float = 0.0, shares: tuple[float, ...] = (0.5, 0.3, 0.2)
) -> Observed:
    """What a model might see in `n` texts."""
    return Observed(
        labels=rng.multinomial(n, shares),
        scores=rng.beta(5, 2, n),
        lengths=np.maximum(1, rng.poisson(20 * (1 + longer), n)),
        unknown=rng.beta(1, 20, n),
        carriers=rng.beta(2, 5, n),
        with_carrier=rng.binomial(n, [0.1, 0.5]),
    )


def reference(seen: Observed, **more: Any) -> Reference:
    figures = Figures(np.zeros(len(seen.labels), np.int64), np.zeros(2, np.int64))
    figures.add(seen)
    return Reference("validation", figures, [5, 7], **more)


@pytest.mark.parametrize(("n", "m"), [(50, 40), (300, 1000), (1000, 100)])
def test_equal_texts_are_called_different_as_rarely_as_promised(n: int, m: int) -> None:
    """The chance that any figure differs is 5 % at most; and there must be no drift at all."""
    rng = np.random.default_rng(n)
    alarms = drifts = 0
    for _ in range(300):
        report = compare(reference(figures_of(rng, n)), _counted(figures_of(rng, m)))
        alarms += any(one.is_certain for one in report.differences.values())
        drifts += bool(report.drifted)
    # 15 are expected at most; 26 would be more than three standard deviations above.
    assert alarms <= 26
    assert drifts <= alarms


def test_a_shift_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    before = reference(figures_of(rng, 500))
    report = compare(before, _counted(figures_of(rng, 500, longer=0.3)))
    assert report.drifted == [LENGTHS]
    assert report.verdict().startswith("Drift: the 500 texts differ from the validation split in tokens of a text (0.")
    report = compare(before, _counted(figures_of(rng, 500, shares=(0.2, 0.3, 0.5))))
    assert report.drifted == [LABELS]
    assert 0.2 < report.differences[LABELS].effect < 0.4


def test_what_is_certain_and_small_is_no_drift() -> None:
    rng = np.random.default_rng(2)
    report = compare(reference(figures_of(rng, 100_000)), _counted(figures_of(rng, 100_000, longer=0.02)))
    assert report.differences[LENGTHS].size == "small"
    assert report.drifted == []
    assert report.verdict() == (
        "No drift: the 100,000 texts differ from the validation split by less than 0.1 in every figure; "
        "there are small ones in tokens of a text."
    )


def test_few_texts_are_said_to_be_too_few() -> None:
    rng = np.random.default_rng(3)
    report = compare(reference(figures_of(rng, 500)), _counted(figures_of(rng, 10)))
    assert report.verdict().startswith("No drift was found, but 10 texts show only differences above 0.")
    assert MODERATE < report.detectable < 1
    # What it promises to see is seen, and what is clearly less is not.
    assert report.detectable < 0.6
    assert _kolmogorov_smirnov(Counter({0: 200, 100: 300}), Counter({0: 10}))[1] * 5 <= LEVEL
    assert _kolmogorov_smirnov(Counter({0: 300, 100: 200}), Counter({0: 10}))[1] * 5 > LEVEL


@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_kolmogorov_smirnov_is_that_of_scipy(a: list[int], b: list[int]) -> None:
    effect, p = _kolmogorov_smirnov(Counter(a), Counter(b))
    expected = ks_2samp(a, b, method="exact" if min(len(a), len(b)) < 100 else "asymp")
    assert effect == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=1e-9)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_texts_are_counted_the_same_in_any_groups(sizes: list[int], num_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = tuple(np.full(num_labels, 1 / num_labels))
    groups = [figures_of(rng, size, shares=shares) for size in sizes]
    before = reference(groups[0])
    one, several = Drift(before), Drift(before)
    for group in groups:
        several.update(group)
    columns = {
        name: np.concatenate([getattr(group, name) for group in groups])
        for name in ("scores", "lengths", "unknown", "carriers")
    }
    sums = {name: np.sum([getattr(group, name) for group in groups], axis=0) for name in ("labels", "with_carrier")}
    one.update(Observed(**columns, **sums))
    assert one.report() == several.report()
    again = Reference.from_json(json.loads(json.dumps(before.to_json())), "x", num_labels)
    assert again.to_json() == before.to_json()
    assert compare(again, _counted(groups[-1])) == compare(before, _counted(groups[-1]))


def test_several_labels_are_tested_each() -> None:
    rng = np.random.default_rng(4)
    before = reference(figures_of(rng, 1000), exclusive=False)
    seen = figures_of(rng, 1000)
    same = Observed(before.figures.labels, seen.scores, seen.lengths, seen.unknown, seen.carriers, seen.with_carrier)
    assert compare(before, _counted(same)).differences[LABELS].effect == 0
    more = before.figures.labels + np.array([0, 0, 300])
    other = Observed(more, seen.scores, seen.lengths, seen.unknown, seen.carriers, seen.with_carrier)
    found = compare(before, _counted(other)).differences[LABELS]
    assert found.size == "large"
    assert found.effect == pytest.approx(0.3)


def test_values_of_any_size_are_counted_in_bounded_memory() -> None:
    scale = Scale.of(np.array([-1000.0, 2000.0]))
    numbers = scale.numbers(np.array([-1e300, -1000.0, 500.0, 2000.0, 1e300, np.nan, np.inf]))
    assert numbers.tolist() == [-500, 0, 250, 500, 1000, 0, 1000]
    assert Scale.of(np.array([0.0, 1.0])) == Scale()


def _counted(seen: Observed) -> Figures:
    figures = Figures(np.zeros_like(seen.labels), np.zeros_like(seen.with_carrier))
    figures.add(seen)
    return figures


# With a trained model


@pytest.fixture(scope="module")
def texts(trained_run: Path) -> list[str]:
    return list(load_split(textattn.load(trained_run), None, "test", {}))


def write(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([text] for text in texts)
    return path


def test_the_record_of_a_run_is_that_of_its_validation_split(trained_run: Path) -> None:
    model = textattn.load(trained_run)
    rows = load_split(model, None, "validation", {})
    tokens = model.tokenizer.encode(rows)
    again = reference_of(model, tokens, model.probabilities(tokens), "validation")
    stored = read_reference(model)
    assert stored is not None
    assert stored.to_json() == again.to_json()
    assert stored.figures.num_texts == len(rows)
    # The texts themselves have not drifted from what they were.
    drift = Drift(stored)
    drift.update(observed(model, tokens, model.probabilities(tokens), stored.carriers))
    assert {one.effect for one in drift.report().differences.values()} == {0.0}
    assert drift.report().num_texts == len(rows)
    drift.reset()
    assert drift.report().num_texts == 0


def test_the_words_that_carry_the_answers_say_something(trained_run: Path) -> None:
    model = textattn.load(trained_run)
    stored = read_reference(model)
    assert stored is not None
    words = [model.tokenizer.backend.id_to_token(token) for token in stored.carriers or []]
    assert 20 < len(words) <= 100
    assert {"great", "good", "bad", "not"} & set(words)
    assert not {"[PAD]", "[UNK]"} & set(words)
    tokens = model.tokenizer.encode(["a great film and a bad, bad cook"])
    seen = observed(model, tokens, model.probabilities(tokens), stored.carriers)
    ids = tokens.ids[:].tolist()
    assert sum(seen.with_carrier) > 0
    assert seen.with_carrier.tolist() == [int(token in ids) for token in stored.carriers or []]
    assert seen.carriers is not None
    assert seen.carriers.tolist() == [sum(token in (stored.carriers or []) for token in ids) / len(ids)]


def test_drift_on_the_command_line(trained_run: Path, texts: list[str], tmp_path: Path) -> None:
    same = write(tmp_path / "same.csv", texts)
    other = write(tmp_path / "other.csv", [f"{text} xyzzy plugh {text}" for text in texts])
    done = cli("drift", "--model", trained_run, "--input", same, "--check")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("No drift")
    done = cli("drift", "--model", trained_run, "--input", other, "--json", "--check")
    assert done.code == 4
    assert "the texts have drifted: " in done.err
    found = json.loads(done.out)
    assert found["drift"]
    assert set(found["figures"]) == FIGURES
    assert found["figures"]["lengths"]["size"] == "large"
    assert found["figures"]["lengths"]["new"] > found["figures"]["lengths"]["reference"]
    assert sum(label["new"] for label in found["labels"].values()) == pytest.approx(1)
    # Rows without text are left out, and lines of stdin are texts.
    blank = write(tmp_path / "blank.csv", [*texts[:5], "", *texts[5:]])
    done = cli("drift", "--model", trained_run, "--input", blank)
    assert f"1 of {len(texts) + 1} rows have no text and were left out" in done.err
    lines = "\n".join(" ".join(text.split()) for text in texts).encode()
    assert (
        cli("drift", "--model", trained_run, "--input", "-", stdin=lines).out
        == cli("drift", "--model", trained_run, "--input", same).out
    )


KINDS: dict[str, tuple[Callable[[int], object], list[str]]] = {
    "regression": (lambda i: 3.5 * (i % 7), ["task=regression"]),
    "ordinal": (lambda i: i % 4 + 1, ["task=ordinal"]),
    "multi_label": (lambda i: [["a"], ["a", "b"], []][i % 3], []),
    "mlp": (lambda i: "yes" if i % 2 else "no", ["model.attention=mlp"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_has_a_reference(kind: str, tmp_path: Path) -> None:
    label, overrides = KINDS[kind]
    words = ["fine", "stale", "warm", "cold", "sweet", "sour", "plain"]
    texts = [f"{words[i % 7]} soup and {words[i // 7 % 6]} bread, {words[i // 42]} tea" for i in range(210)]
    rows = [{"text": text, "label": label(i)} for i, text in enumerate(texts)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [*TINY[1:], "training.epochs=1", "output.report=false", "output.audit_examples=0", *overrides]
    run = textattn.train(
        {"data": {"path": str(tmp_path / "data.jsonl")}}, [*settings, f"output.dir={tmp_path / 'run'}"]
    )
    # The model may be as it likes: the texts of its own validation split are as they were.
    found = json.loads(cli("drift", "--model", run, "--input", tmp_path / "data.jsonl", "--json").out)
    assert not found["drift"], found
    assert set(found["figures"]) == FIGURES - (
        {"answers"} if kind == "regression" else {"carriers"} if kind == "mlp" else set()
    )
    other = write(tmp_path / "other.csv", ["xyzzy " * (3 + i % 5) for i in range(100)])
    found = json.loads(cli("drift", "--model", run, "--input", other, "--json").out)
    assert found["figures"]["unknown"]["size"] == "large"
    printed = cli("drift", "--model", run, "--input", other)
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.startswith("Drift: the 100 texts differ")


def test_a_run_of_an_earlier_version_reads_its_data(trained_run: Path, texts: list[str], tmp_path: Path) -> None:
    same = write(tmp_path / "same.csv", texts)
    old = unsealed(Path(shutil.copytree(trained_run, tmp_path / "old")))
    (old / "reference.json").unlink()
    expected = cli("drift", "--model", trained_run, "--input", same)
    assert cli("drift", "--model", old, "--input", same).out == expected.out
    # Other texts can be named, and without any data there must be some.
    (old / "training_config.yaml").unlink()
    done = cli("drift", "--model", old, "--input", same)
    assert done.code == 3
    assert done.err == (
        f"Error: {old}: the model has no validation figures to compare with\nHint: --reference earlier.csv\n"
    )
    done = cli("drift", "--model", old, "--input", same, "--reference", same, "--json")
    assert {one["effect"] for one in json.loads(done.out)["figures"].values()} == {0.0}


def test_a_bundle_has_the_record(trained_run: Path, texts: list[str], tmp_path: Path) -> None:
    same, bundle = write(tmp_path / "same.csv", texts), tmp_path / "model.zip"
    assert cli("export", "--model", trained_run, "--bundle", bundle).code == 0
    expected = cli("drift", "--model", trained_run, "--input", same)
    assert cli("drift", "--model", bundle, "--input", same) == expected


DAMAGES: dict[str, Any] = {
    "list": lambda value: [value],
    "no texts": lambda value: value | {"num_texts": 0},
    "labels": lambda value: value | {"labels": [1, 2, 3]},
    "token": lambda value: value | {"carriers": [10**6, *value["carriers"][1:]]},
    "negative": lambda value: value | {"carriers": [-1, *value["carriers"][1:]]},
    "counts": lambda value: value | {"values": value["values"] | {"lengths": [[1, 2]]}},
    "words": lambda value: value | {"values": value["values"] | {"scores": "many"}},
    "scale": lambda value: value | {"score_scale": [0, 0]},
    "huge": lambda value: value | {"labels": [10**30, 1]},
    "newer": lambda value: value | {"format_version": 99},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_named(damage: str, trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    value = json.loads((run / "reference.json").read_text())
    (run / "reference.json").write_text(json.dumps(DAMAGES[damage](value)))
    done = cli("drift", "--model", run, "--input", write(tmp_path / "new.csv", ["good food"] * 3))
    assert (done.code, done.out) == (3, "")
    problem = "written by a newer version" if damage == "newer" else "damaged ("
    assert f"{run / 'reference.json'}: {problem}" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Error: --input: no texts are given\nHint: --input new.csv\n"),
        (("--input", "missing.csv"), 3, "missing.csv: no such file"),
        (("--input", "empty.txt"), 3, "empty.txt"),
        (("--input", "new.csv", "--text-column", "body"), 3, "body"),
        (("--input", "new.csv", "--input-format", "doc"), 2, "--input-format"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("new.csv"), ["good food"])
    Path("empty.txt").write_text("")
    done = cli("drift", "--model", trained_run, *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
