"""The linear model beside the other: scikit-learn's own pipeline on the same splits, and McNemar's test by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY
from inprocess import run as cli
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

import textattn
from textattn.data.sources import CORPUS

Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def reviews() -> dict[str, tuple[list[str], list[str]]]:
    """Texts and labels by split."""
    rows = {split: read(CORPUS / "reviews" / f"{split}.jsonl") for split in ("train", "validation", "test")}
    return {split: ([row["text"] for row in r], [row["label"] for row in r]) for split, r in rows.items()}


def best_of(reviews: dict[str, tuple[list[str], list[str]]], **settings: Any) -> tuple[float, Any]:
    models = {}
    for c in (1.0, 3.0, 10.0, 30.0):
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, **settings)
        models[c] = make_pipeline(vectorizer, LogisticRegression(C=c, solver="liblinear")).fit(*reviews["train"])
    scores = {
        c: accuracy_score(reviews["validation"][1], m.predict(reviews["validation"][0])) for c, m in models.items()
    }
    best = max(scores, key=lambda c: scores[c])
    return best, models[best]


@pytest.mark.parametrize("characters", [False, True])
def test_it_is_scikit_learn_on_the_same_splits(reviews: Any, characters: bool) -> None:
    overrides = ["tokenizer.type=char"] if characters else []
    done = cli("baseline", "quickstart", *overrides, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    strength, model = best_of(reviews, **({"analyzer": "char"} if characters else {}))
    assert found["C"] == strength
    assert found["num_features"] == len(model[0].vocabulary_)
    for split in ("validation", "test"):
        texts, labels = reviews[split]
        assert found[split]["accuracy"] == pytest.approx(accuracy_score(labels, model.predict(texts)))
        probs = model.predict_proba(texts)
        assert found[split]["log_loss"] == pytest.approx(log_loss(labels, probs, labels=model.classes_), rel=1e-6)


def test_the_strength_goes_on_while_validation_gets_better(tmp_path: Path) -> None:
    """Long texts of many labels, of which few words tell the label, need hardly any regularisation."""
    generator = np.random.default_rng(0)
    rows: Rows = []
    for _ in range(700):
        label = int(generator.integers(20))
        words = [f"word{n}" for n in generator.integers(0, 300, 60)] + [f"cue{label}x{generator.integers(6)}"]
        rows.append({"text": " ".join(generator.permutation(words)), "label": f"label {label}"})
    splits = {"train": rows[:400], "validation": rows[400:600], "test": rows[600:]}
    for split, part in splits.items():
        write(tmp_path / f"{split}.jsonl", part)
    done = cli("baseline", "quickstart", f"data.path={tmp_path}", "data.label=label", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    features = vectorizer.fit_transform(row["text"] for row in splits["train"])
    held_out = vectorizer.transform(row["text"] for row in splits["validation"])
    labels = {name: [row["label"] for row in part] for name, part in splits.items()}
    scores = {}
    for strength in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0):
        model = OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear"))
        scores[strength] = model.fit(features, labels["train"]).score(held_out, labels["validation"])
    assert found["C"] == max(scores, key=lambda strength: scores[strength]) > 30
    assert found["validation"]["accuracy"] == pytest.approx(scores[found["C"]])


def test_what_is_printed() -> None:
    done = cli("baseline", "quickstart")
    first, validation, test = done.out.splitlines()
    assert first.startswith("TF-IDF of words and pairs of them, logistic regression: ")
    assert validation.startswith("validation: accuracy 0.")
    assert test.startswith("test: accuracy 0.")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = cli("train", "quickstart", *TINY, "training.baseline=true", f"output.dir={folder / 'run'}")
    assert done.code == 0, done.err
    (folder / "said.txt").write_text(done.err)
    return folder / "run"


def test_it_stands_beside_the_model(run: Path, reviews: Any, trained_run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    found = metrics["baseline"]
    predictions = pq.read_table(run / "predictions" / "test.parquet").to_pydict()
    _, model = best_of(reviews)
    texts, labels = reviews["test"]
    assert predictions["text"] == texts
    own = np.array(predictions["prediction"]) == np.array(labels)
    linear = model.predict(texts) == np.array(labels)
    against = found["against"]
    assert against["split"] == "test"
    assert against["difference"] == pytest.approx(own.mean() - linear.mean())
    assert against["only_a_right"] == (linear & ~own).sum()
    assert against["only_b_right"] == (own & ~linear).sum()
    assert against["both_wrong"] == (~own & ~linear).sum()
    apart = int((own != linear).sum())
    assert against["mcnemar_p"] == pytest.approx(binomtest(int((own & ~linear).sum()), apart).pvalue)
    for example in against["examples"]["both_wrong"]:
        row = example["row"]
        assert not own[row]
        assert not linear[row]
        assert (example["text"], example["label"], example["said"]) == (
            texts[row],
            labels[row],
            predictions["prediction"][row],
        )
    said = (run.parent / "said.txt").read_text()
    assert f"baseline, test: accuracy {found['test']['accuracy']:.4f}" in said
    assert f"Both misclassify {against['both_wrong']} texts." in said
    card = (run / "README.md").read_text()
    assert "## Comparison with a linear model" in card
    assert f"accuracy {found['test']['accuracy']:.4f}" in card
    # And changes nothing of the model.
    assert (run / "model.safetensors").read_bytes() == (trained_run / "model.safetensors").read_bytes()
    assert "baseline" not in json.loads((trained_run / "metrics.json").read_text())
    assert "linear" not in (trained_run / "README.md").read_text()


def test_several_labels_a_text(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows: Rows = []
    for i in range(300):
        labels = [name for name in "abc" if generator.random() < 0.4]
        words = [*generator.choice(["one", "two", "three"], 5), *(f"cue{label}" for label in labels)]
        rows.append({"text": " ".join(generator.permutation(words)), "label": labels + ["never"] * (i == 250)})
    for split, part in {"train": rows[:200], "validation": rows[200:250], "test": rows[250:]}.items():
        write(tmp_path / f"{split}.jsonl", part)
    rows[0]["label"].append("never")
    write(tmp_path / "train.jsonl", rows[:200])
    done = cli("baseline", "goemotions", f"data.path={tmp_path}", "data.label=label", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["test"]["micro_f1"] > 0.95
    assert len(found["test"]["thresholds"]) == 4
    truth = [[int(name in row["label"]) for name in ("a", "b", "c")] for row in rows[:200]]
    model = OneVsRestClassifier(LogisticRegression(C=found["C"], solver="liblinear"))
    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model.fit(features.fit_transform(row["text"] for row in rows[:200]), np.array(truth))
    probs = model.predict_proba(features.transform(row["text"] for row in rows[250:]))
    counted = [[int(name in row["label"]) for name in ("a", "b", "c")] for row in rows[250:]]
    own = found["test"]["per_class"]
    assert own["never"]["f1"] == 0
    precision = [own[name]["average_precision"] for name in ("a", "b", "c")]
    from sklearn.metrics import average_precision_score

    assert precision == pytest.approx(list(average_precision_score(np.array(counted), probs, average=None)), rel=1e-6)


def test_a_label_that_no_training_text_has_and_no_validation_split(tmp_path: Path) -> None:
    rows = [
        {"text": f"{'good' if i % 2 else 'bad'} thing {i % 7}", "label": "yes" if i % 2 else "no"} for i in range(60)
    ]
    files = {name: write(tmp_path / f"{name}.jsonl", part) for name, part in (("train", rows[:6]), ("test", rows[6:]))}
    overrides = [f"data.files={{train: {files['train']}, test: {files['test']}}}", "data.path=null"]
    names = "data.label_names=[no, perhaps, yes]"
    numbered = [{**row, "label": 2 * int(row["label"] == "yes")} for row in rows]
    for name, part in (("train", numbered[:6]), ("test", numbered[6:])):
        write(files[name], part)
    done = cli("baseline", "quickstart", *overrides, names, "data.validation_fraction=0.01", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert "validation" not in found
    assert found["C"] == 10
    assert found["test"]["accuracy"] == 1
    assert found["test"]["per_class"]["perhaps"]["support"] == 0


def test_texts_without_words_cost_no_model(tmp_path: Path) -> None:
    rows = [{"text": "! ?" if i % 2 else ". ,", "label": "yes" if i % 2 else "no"} for i in range(40)]
    data = write(tmp_path / "data.jsonl", rows)
    done = cli("baseline", "quickstart", f"data.path={data}")
    assert (done.code, done.out) == (3, "")
    assert "Error: the training texts contain no words for the baseline" in done.err
    small = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=1", "output.audit_examples=0"]
    config = {"data": {"path": str(data)}, "training": {"baseline": True}, "tokenizer": {"min_frequency": 1}}
    run = textattn.train(config, [*small, f"output.dir={tmp_path / 'run'}"])
    assert "baseline" not in json.loads((run / "metrics.json").read_text())


def test_formulas_are_read_by_their_characters_as_they_are_written(tmp_path: Path) -> None:
    """As words every formula would be one of its own, and in lower case Co would be CO."""
    pairs = [("CoO", "a"), ("CO", "b"), ("Co2", "a"), ("CO2", "b")] * 10
    rows = [{"text": text, "label": label} for text, label in pairs]
    write(tmp_path / "formulas.jsonl", rows)
    for tokenizer in ("composition", "formula"):
        done = cli("baseline", tmp_path / "formulas.jsonl", f"tokenizer.type={tokenizer}", "--json")
        facts = json.loads(done.out)
        assert "characters" in facts["model"]
        assert facts["validation"]["accuracy"] == 1.0
