"""The Python API: `textattn.train`, `textattn.load` and what a loaded model answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import textattn
from textattn.api import Model
from textattn.errors import ConfigError, InputError
from textattn.model.classifier import Architecture, TextClassifier
from textattn.tasks import SingleLabel

TEXTS = [
    "The film was a joy.",
    "Cold soup, rude waiter, and a bill that was wrong twice.",
    "ok",
    "?",
    "Ein schönes Buch 😀\u200d👍🏽, " + "really " * 100,
]
FOUR = {"data": {"path": "bundled:four_sentences"}, "training": {"epochs": 1}}


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Model:
    return textattn.load(trained_run)


def test_the_example_of_the_package_works(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = textattn.load(trained_run).predict(["The film was a joy."])[0]
    assert prediction.label in ("neg", "pos")
    monkeypatch.setenv("TEXTATTN_MODEL", str(trained_run))
    assert textattn.load().predict(["The film was a joy."]) == [prediction]


def test_predictions_say_the_most_probable_label(model: Model) -> None:
    probs = model.predict_proba(TEXTS)
    assert model.labels == ["neg", "pos"]
    assert probs.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    for prediction, row in zip(model.predict(TEXTS), probs, strict=True):
        assert prediction.scores == {"neg": row[0], "pos": row[1]}
        assert prediction.label == ("neg" if row[0] > row[1] else "pos")
        assert prediction.score == row.max()
        assert prediction.labels == [prediction.label]


def test_one_text_or_many_in_any_order_give_the_same(model: Model) -> None:
    together = model.predict_proba(TEXTS)
    np.testing.assert_allclose(np.concatenate([model.predict_proba(text) for text in TEXTS]), together, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(reversed(TEXTS))[::-1], together, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(text for text in TEXTS * 50)[-len(TEXTS) :], together, atol=1e-6)


def test_probabilities_are_those_of_the_weights_in_the_file(model: Model, trained_run: Path) -> None:
    """Built anew from config.json and model.safetensors, one text at a time, without a batch or padding."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    config = json.loads((trained_run / "config.json").read_text())
    network = TextClassifier(Architecture(**config["architecture"])).eval()
    network.load_state_dict(load_file(trained_run / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(trained_run / "tokenizer.json"))
    for text, probs in zip(TEXTS[:3], model.predict_proba(TEXTS), strict=False):
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])
        with torch.no_grad():
            logits = network(ids, torch.ones_like(ids)).logits[0].double() / config["temperature"]
            expected = torch.softmax(logits, 0).numpy()
        np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_predictions_are_those_that_were_measured(model: Model, trained_run: Path) -> None:
    table = pq.read_table(trained_run / "predictions" / "test.parquet").to_pydict()
    np.testing.assert_allclose(model.predict_proba(table["text"])[:, 1], table["score:pos"], atol=1e-6)


def test_explanations_cover_the_text(model: Model) -> None:
    for text, explanation in zip(TEXTS, model.explain(TEXTS), strict=True):
        assert explanation.text == text
        assert explanation.prediction.label == model.predict(text)[0].label
        assert explanation.target == explanation.prediction.label
        assert explanation.method == "contributions"
        assert len(explanation.tokens) == len(explanation.offsets) == len(explanation.weights)
        assert sum(explanation.attention_weights) == pytest.approx(1, abs=1e-5)
        assert sum(explanation.word_attention) == pytest.approx(1, abs=1e-5)
        assert sum(explanation.weights) == pytest.approx(sum(word.weight for word in explanation.words), abs=1e-5)
        for word in explanation.words:
            assert text[word.start : word.end] == word.text
        for before, after in zip(explanation.words, explanation.words[1:], strict=False):
            assert before.end <= after.start
        assert explanation.truncated == (len(text) > 100)


def test_attention_is_the_same_alone_and_in_a_batch(model: Model) -> None:
    for explanation in model.explain(TEXTS, method="attention"):
        alone = model.explain(explanation.text, method="attention")[0]
        np.testing.assert_allclose(alone.weights, explanation.weights, atol=1e-6)


def test_by_default_contributions_add_up_to_the_answer(model: Model) -> None:
    for text, explanation in zip(TEXTS, model.explain(TEXTS), strict=True):
        assert explanation.method == "contributions"
        assert explanation.total is not None
        score = model.predict(text)[0].score
        answer = explanation.total.bias + sum(explanation.weights)
        assert answer / model.config.temperature == pytest.approx(np.log(score / (1 - score)), abs=1e-3)


def test_a_target_is_one_of_the_labels(model: Model) -> None:
    assert [e.target for e in model.explain(TEXTS, target="neg")] == ["neg"] * len(TEXTS)
    with pytest.raises(ConfigError) as caught:
        model.explain(TEXTS, target="bad")
    assert caught.value.message == "unknown label 'bad'; labels are: neg, pos"


def test_vectors_are_what_the_last_layer_reads(model: Model, trained_run: Path) -> None:
    from safetensors.numpy import load_file

    weights = load_file(trained_run / "model.safetensors")
    vectors = model.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 64)  # 32 units in both directions
    logits = (vectors @ weights["classifier.weight"].T + weights["classifier.bias"]) / model.config.temperature
    np.testing.assert_allclose(SingleLabel(model.labels).probabilities(logits), model.predict_proba(TEXTS), atol=1e-6)


def test_no_texts_give_no_answers(model: Model) -> None:
    assert model.predict([]) == []
    assert model.explain([]) == []
    assert model.predict_proba([]).shape == (0, 2)
    assert model.embed([]).shape == (0, 64)


def test_a_lone_surrogate_is_an_unknown_character(model: Model) -> None:
    """Python strings can hold them, JSON escapes too; UTF-8 and tokenizers cannot."""
    np.testing.assert_array_equal(model.predict_proba("good \ud83d film"), model.predict_proba("good \ufffd film"))


def test_an_unknown_device_is_refused(trained_run: Path) -> None:
    with pytest.raises(ConfigError, match="device: must be cpu, cuda, cuda:N, mps or auto, got 'gpu'"):
        textattn.load(trained_run, device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_device_is_refused(trained_run: Path) -> None:
    with pytest.raises(ConfigError, match="device 'cuda' is not available here"):
        textattn.load(trained_run, device="cuda")


# Evaluation


def test_the_own_splits_measure_what_the_run_measured(model: Model, trained_run: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert model.evaluate(split=split) == metrics[split] | {"split": split}


def test_other_data_are_matched_by_the_names_of_labels(model: Model, tmp_path: Path) -> None:
    texts = ["a joy", "a bore", "a joy"]
    right = [p.label for p in model.predict(texts)]
    wrong = ["pos" if label == "neg" else "neg" for label in right]
    file = tmp_path / "own.csv"
    # The first label in the file is not the first of the model.
    rows = zip(texts, [right[0], right[1], wrong[2]], strict=True)
    file.write_text("review,stars\n" + "".join(f"{text},{label}\n" for text, label in rows))
    metrics = model.evaluate(file, text="review", label="stars")
    assert metrics["num_examples"] == 3
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    file.write_text("text,label\ngood,neutral\n")
    with pytest.raises(InputError, match="neutral"):
        model.evaluate(file)


def test_a_split_that_is_not_there_is_not_made_up(tmp_path: Path) -> None:
    """Trained on one file, a model has no test split; to measure it on its training rows would be a lie."""
    run = textattn.train(
        {"data": {"path": "bundled:four_sentences"}, "training": {"epochs": 1}}, small(tmp_path / "run")
    )
    with pytest.raises(InputError, match="the data have no test split; splits are: train"):
        textattn.load(run).evaluate()


# Training


def small(run: Path, *more: str) -> list[str]:
    return [
        "model.embedding_dim=8",
        "model.hidden_size=8",
        "tokenizer.min_frequency=1",
        f"output.dir={run}",
        *more,
    ]


def test_training_takes_a_mapping_and_leaves_it_alone(tmp_path: Path) -> None:
    settings = {"data": {"path": "bundled:four_sentences"}, "seed": 7}
    run = textattn.train(settings, small(tmp_path / "run"))
    assert settings == {"data": {"path": "bundled:four_sentences"}, "seed": 7}
    assert run == tmp_path / "run"
    assert json.loads((run / "environment.json").read_text())["seed"] == 7


def test_the_default_run_directory_is_runs_config_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("data: {path: 'bundled:four_sentences'}\ntraining: {epochs: 1}\n")
    run = textattn.train(tmp_path / "mine.yaml", ["model.hidden_size=8"])
    assert run.parent == Path("runs/mine")
    assert run.name[:4].isdigit()
    assert textattn.load().path == run


def test_training_leaves_the_random_state_of_the_caller_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    textattn.load(textattn.train(FOUR, small(tmp_path / "run")))
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert np.random.get_state()[1].tolist() == expected[1]  # noqa: NPY002


def test_two_labels_with_one_output_unit(tmp_path: Path) -> None:
    overrides = small(tmp_path / "run", "model.output=sigmoid", "training.epochs=2", "tokenizer.max_length=40")
    run = textattn.train({"recipe": "plain", "data": {"path": "bundled:reviews", "max_train_examples": 200}}, overrides)
    config = json.loads((run / "config.json").read_text())
    assert (config["output"], config["architecture"]["num_outputs"], config["thresholds"]) == ("sigmoid", 1, None)
    model = textattn.load(run)
    probs = model.predict_proba(TEXTS)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    # One logit z: the second label has 1 / (1 + exp(-z)).
    from safetensors.numpy import load_file

    weights = load_file(run / "model.safetensors")
    z = (model.embed(TEXTS) @ weights["classifier.weight"].T + weights["classifier.bias"]).astype(np.float64)[:, 0]
    np.testing.assert_allclose(probs[:, 1], 1 / (1 + np.exp(-z / model.config.temperature)), atol=1e-6)
    assert [p.label for p in model.predict(TEXTS)] == [model.labels[int(v > 0)] for v in z]
    assert json.loads((run / "metrics.json").read_text())["test"]["confusion_matrix"]
