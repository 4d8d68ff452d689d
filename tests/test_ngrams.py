"""`model.ngrams`: the linear part is what its equations say, learns what the network cannot, and is in explanations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import unsealed
from explain_models import TEXTS as SENTENCES
from explain_models import attribute, ids_of, logits, model_of, odds, split_of, targets_of
from explain_models import build as classifier_of
from export_runs import close
from inprocess import run as cli
from reference import classify, of_ngrams
from small_models import MECHANISMS, TEXTS, UNK, build, padded

import textattn
from textattn.config.schema import TrainingConfig
from textattn.explain.attention_checks import check_attention
from textattn.export import graph
from textattn.inference.onnx_session import OnnxSession
from textattn.model.classifier import TextClassifier
from textattn.training.optimizer import build_optimizers

# Unknown tokens first, in the middle and last, one alone, and texts shorter than the longest run.
WITH_UNKNOWN = [*TEXTS, [UNK, 2, 3], [4, UNK, 5, 6], [7, 8, UNK], [UNK], [9, UNK]]
RUNTIMES = ("onnx", "torch")
every_length = pytest.mark.parametrize("longest", [1, 2, 3])


def model_with(longest: int, attention: str = "additive", **more: Any) -> TextClassifier:
    return build(attention, ngrams=longest, ngram_buckets=97, **more)


@pytest.mark.parametrize("attention", MECHANISMS)
@every_length
def test_torch_equals_the_equations_whatever_the_padding(attention: str, longest: int) -> None:
    model = model_with(longest, attention).double()
    with torch.no_grad():
        tight, wide = model(*padded(WITH_UNKNOWN)), model(*padded(WITH_UNKNOWN, 12))
    for row, text in enumerate(WITH_UNKNOWN):
        expected = classify(model, text)["logits"]
        np.testing.assert_allclose(tight.logits[row].numpy(), expected, atol=1e-10)
        np.testing.assert_allclose(wide.logits[row].numpy(), expected, atol=1e-10)


@every_length
@pytest.mark.parametrize("int8", [False, True])
def test_the_graph_computes_what_torch_computes(longest: int, int8: bool) -> None:
    model = model_with(longest)
    proto = graph.build_graph(model, {"textattn": "{}"}, int8=int8)
    session = OnnxSession(proto.SerializeToString(), "model.onnx")
    for texts in (WITH_UNKNOWN, [[7]], [[UNK]], [[7, 8]], [[3, 4, 5, 6] * 20, [9, 9]]):
        ids, mask = padded(texts)
        with torch.no_grad():
            expected = model(ids, mask).logits.numpy()
        close(session.run(ids.numpy(), mask.numpy()).logits, expected, 0.05 * abs(expected).max() if int8 else 1e-5)


def test_a_vocabulary_of_any_size_stays_within_64_bits() -> None:
    """Ids as large as any vocabulary: what overflowed would be another bucket than that of numbers without end."""
    model = model_with(3).double()
    assert model.ngrams is not None
    texts = [[2**29 - 1, 2**29 - 2, 2**29 - 3]]
    ids, mask = padded(texts)
    with torch.no_grad():
        found = model.ngrams(ids, mask)[0].numpy()
    np.testing.assert_allclose(found, of_ngrams(model.ngrams.weights.weight.detach().numpy(), texts[0], 3, UNK))


@every_length
def test_what_each_token_contributes_sums_to_the_part(longest: int) -> None:
    model = model_with(longest).double()
    assert model.ngrams is not None
    ids, mask = padded(WITH_UNKNOWN, 9)
    with torch.no_grad():
        shares = model.ngram_contributions(ids, mask)
        torch.testing.assert_close(shares.sum(dim=1), model.ngrams(ids, mask))
    assert not shares[ids == UNK].any()
    assert not shares[mask == 0].any()


def test_without_ngrams_nothing_is_contributed() -> None:
    assert not build().ngram_contributions(*padded(TEXTS)).any()


def test_sparse_steps_are_the_dense_ones() -> None:
    """Where torch has no sparse gradients (several processes, MPS), the same model is trained."""
    trained = []
    for sparse in (True, False):
        model = model_with(2).train()
        assert model.ngrams is not None
        model.ngrams.weights.sparse = sparse
        optimizers = build_optimizers(model, TrainingConfig())
        for step in range(4):
            ids, mask = padded(WITH_UNKNOWN[step : step + 5])
            loss = torch.nn.functional.cross_entropy(model(ids, mask).logits, torch.tensor([0, 1, 2, 0, 1]))
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            gradient = model.ngrams.weights.weight.grad
            assert gradient is not None
            assert gradient.is_sparse == sparse
            for optimizer in optimizers:
                optimizer.step()
        trained.append({name: tensor.detach() for name, tensor in model.named_parameters()})
    for name, tensor in trained[0].items():
        torch.testing.assert_close(tensor, trained[1][name], atol=1e-6, rtol=1e-5)


# Explanations: the contributions are exact.


def with_ngrams(**more: Any) -> Any:
    return classifier_of(double=True, ngrams=2, ngram_buckets=61, **more)


@pytest.mark.parametrize("output", [(2, "softmax", False), (3, "softmax", False), (2, "sigmoid", False)])
def test_integrated_gradients_sum_to_the_change_of_the_whole_model(output: tuple[int, str, bool]) -> None:
    classifier = with_ngrams(output=output)
    tokens = classifier.tokenizer.encode(split_of(SENTENCES))
    targets = targets_of(classifier, [1] * len(tokens))
    found = attribute(classifier, tokens, targets, "integrated_gradients")
    unknown = classifier.tokenizer.unk_id
    for row, scores in enumerate(found.scores):
        ids = ids_of(classifier, SENTENCES[row])
        given, empty = (odds(classifier.config, logits(classifier, text), 1) for text in (ids, [unknown] * len(ids)))
        assert scores.sum() == pytest.approx(given - empty, rel=0.011, abs=6e-4)


def test_gradient_x_input_has_the_contributions_as_they_are() -> None:
    """With two labels the log-odds are a difference of logits, so what n-grams add to them is added to the scores."""
    classifier = with_ngrams(output=(2, "softmax", False))
    tokens = classifier.tokenizer.encode(split_of(SENTENCES))
    targets = targets_of(classifier, [1] * len(tokens))
    found = attribute(classifier, tokens, targets, "gradient_x_input").scores
    model = model_of(classifier)
    table = model.ngrams.weights.weight
    kept = table.detach().clone()
    with torch.no_grad():
        table.zero_()
    without = attribute(classifier, tokens, targets, "gradient_x_input").scores
    with torch.no_grad():
        table.copy_(kept)
    for row, (with_them, alone) in enumerate(zip(found, without, strict=True)):
        ids = torch.tensor([ids_of(classifier, SENTENCES[row])])
        shares = model.ngram_contributions(ids, torch.ones_like(ids))[0].detach().numpy()
        np.testing.assert_allclose(with_them - alone, shares[:, 1] - shares[:, 0], atol=1e-9)
        assert np.abs(shares).max() > 0.01


@pytest.mark.parametrize("output", [(3, "softmax", False), (2, "sigmoid", False), (3, "sigmoid", True)])
@pytest.mark.parametrize("against", [None, 0])
def test_the_method_of_their_own(output: tuple[int, str, bool], against: int | None) -> None:
    """By the equations: the part of all n-grams in the label's logit, less that in the other, or in the mean of the
    others; the model has nothing but them, for the network's last layer is 0.
    """
    classifier = with_ngrams(output=output)
    model = model_of(classifier)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
    tokens = classifier.tokenizer.encode(split_of(SENTENCES))
    targets = targets_of(classifier, [1] * len(tokens), against)
    for row, scores in enumerate(attribute(classifier, tokens, targets, "ngrams").scores):
        x = logits(classifier, ids_of(classifier, SENTENCES[row]))
        if len(x) == 1:
            expected = x[0]
        elif against is not None:
            expected = x[1] - x[against]
        else:
            expected = x[1] if output[1] == "sigmoid" else x[1] - (x[0] + x[2]) / 2
        assert scores.sum() == pytest.approx(expected, abs=1e-6)


def test_a_model_without_them_says_so(trained_run: Path) -> None:
    done = cli("explain", "fine", "--model", str(trained_run), "--method", "ngrams")
    assert done.code == 2
    assert "ngrams: this model has no linear part (model.ngrams)" in done.err


def test_the_uniform_control_of_a_mean_is_the_model_itself() -> None:
    """Only if what the n-grams add is there when weights are exchanged."""
    classifier = with_ngrams(attention="mean", output=(3, "softmax", False))
    tokens = classifier.tokenizer.encode(split_of(SENTENCES))
    probs = classifier.probabilities(tokens)
    found = check_attention(classifier, tokens, probs, seed=0)
    np.testing.assert_allclose(found.uniform, probs, atol=1e-6)
    np.testing.assert_allclose(found.permuted, 0, atol=1e-6)


# Training.


def test_it_learns_what_embeddings_alone_cannot_tell_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The same words in every text; the label is whether `a` comes right before `b`, which a mean cannot see."""
    generator = np.random.default_rng(0)
    file = tmp_path / "rows.jsonl"
    rows = []
    for _ in range(400):
        words = [*generator.permutation(["c", "d", "e", "f", "g", "h"])]
        label = bool(generator.integers(2))
        words[3:3] = ["a", "b"] if label else ["b", "a"]
        rows.append({"text": " ".join(map(str, words)), "label": str(label)})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def trained(longest: int, *settings: str) -> tuple[Path, float]:
        run = textattn.train(
            {
                "data": {"path": str(file), "validation_fraction": 0.3},
                "model": {
                    "encoder": "none", "attention": "mean", "embedding_dim": 8, "ngrams": longest,
                    "ngram_buckets": 4096,
                },
                "training": {"epochs": 5, "batch_size": 16},
                "output": {"dir": str(tmp_path / f"run{longest}"), "audit_examples": 0, "plots": False},
            },
            settings,
        )  # fmt: skip
        return run, float(json.loads((run / "metrics.json").read_text())["validation"]["accuracy"])

    assert trained(1)[1] < 0.7
    run, accuracy = trained(2)
    assert accuracy == 1
    # Words that carry the label are found in it, by hand and by what is shown.
    by_onnx, by_torch = (textattn.load(run, runtime=name).predict_proba(["c a b d", "c b a d"]) for name in RUNTIMES)
    np.testing.assert_allclose(by_onnx, by_torch, atol=1e-5)
    for method in ("gradient_x_input", "ngrams"):
        done = cli("explain", "c d a b e", "--model", str(run), "--method", method, "--json")
        assert done.code == 0
        shown = sorted(json.loads(done.out)["words"], key=lambda word: -float(word["weight"]))
        assert {word["word"] for word in shown[:2]} == {"a", "b"}
    done = cli("info", "--model", str(run))
    assert "n-grams of up to 2 tokens" in done.out
    # A table of another size is not taken for the model's.
    config = json.loads((run / "config.json").read_text())
    config["architecture"]["ngram_buckets"] = 10**12
    (unsealed(run) / "config.json").write_text(json.dumps(config))
    done = cli("predict", "x", "--model", str(run), "--runtime", "torch")
    assert done.code == 3
    assert "ngrams.weights.weight" in done.err or "not the architecture" in done.err
